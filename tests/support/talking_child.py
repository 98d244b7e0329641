"""A child process that does what its settings say: reports facts, then ends, fails or stays.

python -m talking_child
"""

from __future__ import annotations

import logging
import signal

from anzoth import child


def main() -> None:
    settings = child.begin("talker")
    print("a library's own words", flush=True)
    logging.info("half", extra={"progress": 0.5})
    if "impossible" in settings:
        raise child.fail_config("talker", settings["impossible"], settings)
    if "status" in settings:
        raise SystemExit(settings["status"])
    signal.pause()


main()

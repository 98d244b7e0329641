"""How does a bulk job of embeddings leave the processor to running chats?

By the system's own scheduling: every thread of the engine's process, also those that it starts
later, gets a lower weight. Where nobody else wants the processor that costs nothing. Of a processor
that a chat wants all the time, `nice` 10 leaves a tenth (weights 110 and 1024).

Linux may weigh whole sessions first ("autogroup", usual on desktops): a process that has one of its
own, as those of a supervisor do, gives its session the same number, or the weight inside it would
mean nothing. Somebody else's session is left alone.

Does not know: what the process computes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from anzoth.config import ConfigError

MAX_NICE = 19
_THREADS = Path("/proc/self/task")
_AUTOGROUP = Path("/proc/self/autogroup")
_TRIES = 10
_PAUSE_S = 0.11
"""The kernel lets one process in the system change its session's weight every 0.1 s."""


def lower_priority(nice: int) -> None:
    """Adds `nice`, 0 to 19, to this process's. Raises ConfigError for another number."""
    if nice > MAX_NICE:
        raise ConfigError(f"embedding_nice is {nice}; expected 0 to {MAX_NICE}")
    if not nice:
        return
    total = os.nice(nice)  # of this thread; Linux gives each its own
    if _THREADS.is_dir():
        for thread in _THREADS.iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), total)
    if os.getsid(0) != os.getpid():
        return
    for _ in range(_TRIES):
        try:
            _AUTOGROUP.write_text(str(total))
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:
            return  # no such thing here
        else:
            return

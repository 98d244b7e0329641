"""How does the retriever process begin and end?

    python -m anzoth.index.process

Settings come from the supervisor (see `anzoth.child`): `socket`, `folder`, `memory_bytes`,
`log_level`, and `save_after_s` where it differs. SIGTERM: what was begun is ended, changed stores
are written to disk, and it exits with 0. When it is killed, what no snapshot has is missing: the
seq that it answers next time says so, and gateways replay it.

Does not know: messages or stores.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from anzoth import child
from anzoth.unix_socket import listen

log = logging.getLogger(__name__)


def main() -> None:
    settings = child.begin("retriever")
    # Read once, when numpy is loaded: a search is too short for its matrix products to be shared
    # out, and threads of other searches have the other cores.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    socket_path = Path(str(settings["socket"]))
    folder = Path(str(settings["folder"]))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = listen(str(socket_path))
    except OSError as error:
        raise child.fail_config("retriever", error, settings) from error
    try:
        uvloop.run(_serve(listener, folder, settings))
    finally:
        listener.close()
        socket_path.unlink(missing_ok=True)
    log.info("the retriever has ended")
    logging.shutdown()
    sys.stderr.flush()
    # A merge may have minutes to go, in native code that nothing interrupts; nobody needs it.
    os._exit(0)


async def _serve(listener: socket.socket, folder: Path, settings: Any) -> None:  # JSON
    from anzoth.index import server

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(child.parent_fd(), stop.set)
    options = {"save_after_s": settings["save_after_s"]} if "save_after_s" in settings else {}
    gc.collect()
    gc.freeze()
    log.info("serving on %s", listener.getsockname())
    await server.serve(listener, folder, int(settings["memory_bytes"]), stop, **options)


if __name__ == "__main__":
    main()

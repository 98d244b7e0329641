"""How is something done every now and then, and at once where somebody asks for it?

Does not know: what is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.errors import AnzothError

RETRY_S = 1.0

_log = logging.getLogger(__name__)


async def sweep_for_ever(
    sweep: Callable[[], Awaitable[object]],
    wanted: asyncio.Event,
    *,
    every_s: float,
    if_not: str,
) -> None:
    """Calls `sweep` now, whenever `wanted` is set, and `every_s` after the last time.

    One that raises what is somebody else's failure (the database's, the retriever's, the disk's) is
    called again after a second; the log says `if_not`: "deleted files were not removed".
    """
    while True:
        pause_s = every_s
        wanted.clear()
        try:
            await sweep()
        except (DatabaseDown, asyncpg.PostgresError, AnzothError, OSError) as error:
            _log.warning("%s: %s", if_not, type(error).__name__)
            pause_s = RETRY_S
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await wanted.wait()

"""How does this process hear at once that something changed in the database?

One connection of its own, for ever: when it is lost it is made again. Notifications that were sent
in between are gone, so whoever listens must not depend on hearing every one.

Does not know: what is announced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import asyncpg

from anzoth.db.pool import APP_ROLE

_CONNECT_TIMEOUT_S = 5
_PAUSES_S = (0.1, 0.25, 0.5, 1.0, 2.0)
_log = logging.getLogger(__name__)


async def listen(
    dsn: str,
    channel: str,
    on_message: Callable[[str], None],
    on_connected: Callable[[], None] = lambda: None,
) -> None:
    """Calls `on_message(payload)` for each notification, until cancelled.

    `on_connected` is called whenever listening begins (again): anything may have been missed.
    """
    failures = 0
    while True:
        try:
            connection = await asyncpg.connect(
                dsn,
                timeout=_CONNECT_TIMEOUT_S,
                server_settings={"role": APP_ROLE, "application_name": "anzoth listener"},
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.log(
                logging.DEBUG if failures else logging.WARNING,
                "cannot listen for changes (%s); trying again",
                type(error).__name__,
            )
            failures += 1
        else:
            failures = 0
            await _listen_on(connection, channel, on_message, on_connected)
        await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])


async def _listen_on(
    connection: asyncpg.Connection,
    channel: str,
    on_message: Callable[[str], None],
    on_connected: Callable[[], None],
) -> None:
    """Returns when the connection is lost."""
    lost = asyncio.Event()
    try:
        connection.add_termination_listener(lambda _connection: lost.set())
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await connection.add_listener(
                channel, lambda _connection, _pid, _channel, payload: on_message(str(payload))
            )
        on_connected()
        await lost.wait()  # unbounded: silence is normal here
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _log.warning("lost the connection that listens (%s)", type(error).__name__)
    finally:
        connection.terminate()

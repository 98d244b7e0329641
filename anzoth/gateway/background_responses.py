"""What makes responses whose callers do not wait for them, and when does it stop?

    queued ─▶ in_progress ─▶ completed | incomplete | failed          what came of it
       │           ├───────▶ cancelled                                somebody asked for that
       └───────────┴───────▶ failed                                   its gateway ended, or died

The gateway that was asked makes it, and claims it for a while, again and again. One that ends says
so of what it was making. One that dies says nothing: its claims pass, and what it was making has
failed for everybody who reads it (see `stored_responses`); nobody makes it anew, since its tools
may have done something. A claim that passed is never renewed, so what has failed stays so.

Where a response was cancelled or deleted through another gateway, this one hears of it when it
renews its claims.

Does not know: how a response is made, or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.errors import AnzothError
from anzoth.gateway.files import FileOwner
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.stored_responses import LOST, StoredResponse, StoredResponses, failed
from anzoth.gateway.tenant_crypt import CannotOpen

CLAIM_S = 30.0
RENEW_S = 2.0
_RETRY_S = 1.0
_LAST_WORDS_S = 2.0
"""For a gateway that ends to say so of its responses."""
_AWAY = (DatabaseDown, asyncpg.PostgresError, AnzothError, CannotOpen)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    owner: FileOwner
    task: asyncio.Task[None]
    is_begun: bool = False


class BackgroundResponses:
    """Of one gateway. `run` must be running."""

    def __init__(self, stored: StoredResponses) -> None:
        self._stored = stored
        self._group = asyncio.TaskGroup()
        self._running: dict[str, _Running] = {}
        """By id; not those that are about to end."""
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; what is being made is then ended with it."""
        async with self._group:
            while True:
                self._wanted.clear()
                await self.renew()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_S):
                        await self._wanted.wait()

    async def add(self, owner: FileOwner, queued: StoredResponse) -> None:
        """It must be started next. Raises DatabaseDown, KeyRevoked, and InvalidValue for one that
        is too large to be kept."""
        await self._stored.add_running(owner, queued, CLAIM_S)

    def start(
        self, owner: FileOwner, queued: StoredResponse, work: Callable[[], Awaitable[None]]
    ) -> None:
        """`work` makes it, and ends it."""
        task = self._group.create_task(self._make(owner, queued, work))
        self._running[queued.id] = _Running(owner, task)

    def begun(self, id: str) -> None:
        """There is something of it."""
        running = self._running.get(id)
        if running is not None and not running.is_begun:
            running.is_begun = True
            self._wanted.set()

    def stop(self, id: str) -> None:
        """It was cancelled or deleted. Does nothing where another gateway makes it."""
        running = self._running.pop(id, None)
        if running is not None:
            running.task.cancel()

    async def end(self, owner: FileOwner, ended: StoredResponse) -> bool:
        """What came of it. False: it was cancelled, deleted or given up before; or the database is
        away for so long that it is."""
        loop = asyncio.get_running_loop()
        self._running.pop(ended.id, None)
        until_s = loop.time() + CLAIM_S
        while True:
            try:
                return await self._stored.try_end(owner, ended)
            except _AWAY as error:
                _log.warning("a response was not kept: %s", type(error).__name__)
                if not isinstance(error, DatabaseDown) or loop.time() > until_s:
                    return False
            await asyncio.sleep(_RETRY_S)

    async def renew(self) -> None:
        """All claims; what is not this gateway's any more is stopped."""
        ids: dict[TenantHandle, list[str]] = {}
        for id, running in self._running.items():
            ids.setdefault(running.owner.tenant, []).append(id)
        for tenant, own in ids.items():
            begun = [id for id in own if (at := self._running.get(id)) and at.is_begun]
            try:
                held = await self._stored.renew(tenant, own, begun, CLAIM_S)
            except _AWAY as error:
                _log.warning("responses are made without a claim: %s", type(error).__name__)
                continue
            for id in own:
                if id not in held:
                    self.stop(id)

    async def _make(
        self, owner: FileOwner, queued: StoredResponse, work: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            with suppress(*_AWAY, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._stored.try_end(owner, failed(queued, LOST))
            raise
        except Exception as error:  # noqa: BLE001  # the edge of a response: its claim passes
            _log.error("a response was not ended: %s", type(error).__name__)
        finally:
            self._running.pop(queued.id, None)

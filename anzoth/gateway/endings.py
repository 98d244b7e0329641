"""What does a running gateway do when a tenant is deleted or a key revoked?

It ends their requests and takes no more of them; of a tenant it also has every engine forget what
it cached. It hears of an end from the database at once. What it may have missed it looks up:
whenever it listens again, and every second while requests run, so that a connection that died
without a word delays no end by more than that.

Does not know: how a key is checked (see `auth`: nothing new comes in with it), or how an engine is
made to forget (see `purging`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.pool import Database
from anzoth.db.store import key_rows, tenant_rows
from anzoth.gateway.backends import Backends
from anzoth.gateway.keys import Pepper
from anzoth.gateway.purging import Purges

TENANTS_CHANNEL = "anzoth_tenants"
KEYS_CHANNEL = "anzoth_revoked_keys"
_RETRY_S = 0.25
_LOOK_S = 1.0

_log = logging.getLogger(__name__)


class Endings:
    """One per gateway. `run` must be running for ends to be heard of."""

    def __init__(
        self,
        database: Database,
        dsn: str,
        pepper: Pepper,
        purges: Purges,
        backends: Backends | None = None,
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._pepper = pepper
        self._purges = purges
        self._backends = Backends() if backends is None else backends
        self._known: set[UUID] = set()
        self._missed = asyncio.Event()

    async def run(self) -> None:
        """Hears of ends until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_up())
            group.create_task(self._look_regularly())
            for channel, ended in (
                (TENANTS_CHANNEL, lambda id: self._deleted({UUID(id)})),
                (KEYS_CHANNEL, lambda id: self._revoked({UUID(id)})),
            ):
                group.create_task(listen(self._dsn, channel, ended, self._missed.set))

    async def _look_regularly(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._backends.num_running or any(
                engine.num_live_requests for engine in self._purges.engines()
            ):
                self._missed.set()

    async def _look_up(self) -> None:
        """All ends that there are, whenever some may have been missed."""
        while True:
            await self._missed.wait()
            self._missed.clear()
            try:
                async with self._database.ended() as connection:
                    deleted = await tenant_rows.list_deleted_tenants(connection)
                    revoked = await key_rows.list_revoked_keys(connection)
            except DatabaseDown as error:
                _log.warning("deleted tenants and revoked keys cannot be read: %s", error)
                self._missed.set()
                await asyncio.sleep(_RETRY_S)
            else:
                self._deleted(set(deleted))
                self._revoked(set(revoked))

    def _revoked(self, keys: Collection[UUID]) -> None:
        fresh = {key for key in keys if key not in self._known}
        if not fresh:
            return
        self._known |= fresh
        self._backends.end_owners(fresh)
        for engine in self._purges.engines():
            engine.end_owners(fresh)

    def _deleted(self, tenants: Collection[UUID]) -> None:
        fresh = {tenant for tenant in tenants if tenant not in self._known}
        if not fresh:
            return
        self._known |= fresh
        self._backends.end_owners(fresh)
        for engine in self._purges.engines():
            # Before it is asked to forget, on one connection: nothing of theirs runs then.
            engine.end_owners(fresh)
        self._purges.forget_tenants(self._pepper.cache_salt(tenant) for tenant in fresh)

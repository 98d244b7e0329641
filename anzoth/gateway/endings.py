"""What does a running gateway do when a tenant is deleted or a key revoked?

It ends their requests and takes no more of them; of a tenant it also has every engine forget what
it cached. It hears of an end from the database at once. What it may have missed it looks up:
whenever it listens again, and every second while requests run, so that a connection that died
without a word delays no end by more than that. An engine that is away is asked when it is back: if
only the connection was lost, its cache is still there.

Does not know: how a key is checked (see `auth`: nothing new comes in with it), or what a cache is.
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
from anzoth.errors import CapacityUnavailable, ModelUnavailable
from anzoth.gateway.backends import Backends
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.keys import Pepper
from anzoth.gateway.models import ModelRegistry

TENANTS_CHANNEL = "anzoth_tenants"
KEYS_CHANNEL = "anzoth_revoked_keys"
_RETRY_S = 0.25
_LOOK_S = 1.0

_log = logging.getLogger(__name__)


class _Purge:
    """What one engine still has to forget."""

    __slots__ = ("engine", "salts", "wanted")

    def __init__(self, engine: EngineClient) -> None:
        self.engine = engine
        self.salts: set[str] = set()
        self.wanted = asyncio.Event()

    async def run(self) -> None:
        while True:
            await self.wanted.wait()
            salts = frozenset(self.salts)
            try:
                purged = await self.engine.purge(salts)
            except (ModelUnavailable, CapacityUnavailable):
                await asyncio.sleep(_RETRY_S)
                continue
            self.salts -= salts
            if not self.salts:
                self.wanted.clear()
            _log.info(
                "engine %s forgot %d deleted tenant(s): %d KV blocks zeroed, %d still in use",
                self.engine.model,
                len(salts),
                purged.num_blocks,
                purged.num_blocks_in_use,
            )


class Endings:
    """One per gateway. `run` must be running for ends to be heard of."""

    def __init__(
        self,
        database: Database,
        dsn: str,
        pepper: Pepper,
        models: ModelRegistry,
        backends: Backends | None = None,
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._pepper = pepper
        self._models = models
        self._backends = Backends() if backends is None else backends
        self._purges: dict[EngineClient, _Purge] = {}
        self._group: asyncio.TaskGroup | None = None
        self._known: set[UUID] = set()
        self._missed = asyncio.Event()

    async def run(self) -> None:
        """Hears of ends until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
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
                engine.num_live_requests for engine in self._engines()
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
        for engine in self._engines():
            engine.end_owners(fresh)

    def _deleted(self, tenants: Collection[UUID]) -> None:
        fresh = {tenant for tenant in tenants if tenant not in self._known}
        if not fresh:
            return
        self._known |= fresh
        self._backends.end_owners(fresh)
        salts = {self._pepper.cache_salt(tenant) for tenant in fresh}
        for engine in self._engines():
            # In this order on one connection: nothing of theirs runs when the purge arrives.
            engine.end_owners(fresh)
            purge = self._purge_of(engine)
            purge.salts |= salts
            purge.wanted.set()

    def _engines(self) -> Collection[EngineClient]:
        """Of the models that are served now, each once: they come and go."""
        return {model.engine: None for model in self._models}.keys()

    def _purge_of(self, engine: EngineClient) -> _Purge:
        purge = self._purges.get(engine)
        if purge is None:
            purge = self._purges[engine] = _Purge(engine)
            assert self._group is not None, "ends are heard of while `run` runs"
            self._group.create_task(purge.run())
        return purge

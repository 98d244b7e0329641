"""What does a running gateway do when a tenant is deleted?

It ends the tenant's requests, takes no more of them, and has every engine forget what it cached of
the tenant. It hears of a deletion from the database at once; those that it may have missed while it
could not listen it looks up whenever it listens again. An engine that is away is asked when it is
back: if only the connection was lost, its cache is still there.

Does not know: keys (see `auth`: they were revoked in the same transaction), or what a cache is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.pool import Database
from anzoth.db.store import tenant_rows
from anzoth.errors import CapacityUnavailable, ModelUnavailable
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.keys import Pepper
from anzoth.gateway.models import ModelRegistry

CHANNEL = "anzoth_tenants"
_RETRY_S = 0.25

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


class DeletedTenants:
    """One per gateway. `run` must be running for deletions to be heard of."""

    def __init__(self, database: Database, dsn: str, pepper: Pepper, models: ModelRegistry) -> None:
        self._database = database
        self._dsn = dsn
        self._pepper = pepper
        self._purges = [_Purge(model.engine) for model in models]
        self._known: set[UUID] = set()
        self._missed = asyncio.Event()

    async def run(self) -> None:
        """Hears of deletions until cancelled."""
        async with asyncio.TaskGroup() as group:
            for purge in self._purges:
                group.create_task(purge.run())
            group.create_task(self._look_up())
            group.create_task(
                listen(self._dsn, CHANNEL, lambda id: self._deleted({UUID(id)}), self._missed.set)
            )

    async def _look_up(self) -> None:
        """All deletions there are, whenever some may have been missed."""
        while True:
            await self._missed.wait()
            self._missed.clear()
            try:
                async with self._database.deleted_tenants() as connection:
                    deleted = await tenant_rows.list_deleted_tenants(connection)
            except DatabaseDown as error:
                _log.warning("deleted tenants cannot be read: %s", error)
                self._missed.set()
                await asyncio.sleep(_RETRY_S)
            else:
                self._deleted(set(deleted))

    def _deleted(self, tenants: Collection[UUID]) -> None:
        fresh = {tenant for tenant in tenants if tenant not in self._known}
        if not fresh:
            return
        self._known |= fresh
        salts = {self._pepper.cache_salt(tenant) for tenant in fresh}
        for purge in self._purges:
            # In this order on one connection: nothing of theirs runs when the purge arrives.
            purge.engine.end_tenants(fresh)
            purge.salts |= salts
            purge.wanted.set()

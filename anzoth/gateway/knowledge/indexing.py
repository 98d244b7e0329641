"""How does a store of the database come into this node's retriever, and when does it leave it?

    opened ──▶ the retriever's Store: the tenant's key for indexes, the least generation, a replay
    on_change ─▶ what was committed is told in the background: speed only, a search makes it good
    saved ─────▶ the generation of a snapshot is written down: an older one is refused from then on

A store that nobody used for some minutes is closed; the retriever may then forget its key.

Does not know: what a search asks, or which stores and files there are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import chunk_rows
from anzoth.db.store.chunk_rows import IndexedStore
from anzoth.errors import AnzothError
from anzoth.gateway.knowledge.replay import ReplayedStore, Replayer
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.retriever_client import (
    DeleteFile,
    PutFile,
    RetrieverClient,
    Store,
    StoreSpec,
)
from anzoth.gateway.tenant_crypt import CannotOpen, TenantKeys

INDEX_PURPOSE = "index"
"""Of the subkey that an index is sealed with."""
IDLE_S = 300.0
MAX_OPEN = 4096
"""Beyond which the store that nobody used for longest is closed."""
_LOOK_S = 30.0
_RETRY_S = 1.0
_MAX_CHANGES = 10_000
"""That wait to be told. Those beyond are left to the next search's replay."""

_log = logging.getLogger(__name__)

_Key = tuple[UUID, str]


@dataclass(slots=True, eq=False)
class _Open:
    """A store that the retriever may have open for this gateway."""

    tenant: TenantHandle
    store: Store
    num_users: int = 0
    used_at_s: float = 0.0


class Indexes:
    """The stores that this node's retriever knows. One per gateway; `run` must be running."""

    def __init__(
        self,
        database: Database,
        keys: TenantKeys,
        socket_path: Path,
        gateway: UUID,
        *,
        idle_s: float = IDLE_S,
        max_open: int = MAX_OPEN,
    ) -> None:
        """`gateway`: who it is also after a restart (`Ledger.writer`), as is its retriever."""
        self.client = RetrieverClient(socket_path, self._saved)
        self.gateway = gateway
        self._database = database
        self._keys = keys
        self._replayer = Replayer(database, keys)
        self._idle_s = idle_s
        self._max_open = max_open
        self._open: OrderedDict[_Key, _Open] = OrderedDict()
        """The one that was used last is last."""
        self._unwritten: dict[_Key, tuple[TenantHandle, int]] = {}
        """Generations that the database does not know yet."""
        self._has_unwritten = asyncio.Event()
        self._changes: dict[tuple[UUID, str, str], TenantHandle] = {}
        self._has_changes = asyncio.Event()

    @asynccontextmanager
    async def opened(self, tenant: TenantHandle, row: IndexedStore) -> AsyncIterator[Store]:
        """The store, which is not closed for the duration of the block.

        `row`: read for this tenant. Raises KeyRevoked, CannotOpen and DatabaseDown.
        """
        cipher = await self._keys.cipher(tenant)
        key = (tenant.id, row.id)
        _, unwritten = self._unwritten.get(key, (tenant, 0))
        spec = StoreSpec(
            row.id,
            row.dimensions,
            row.analyzer,
            cipher.subkey(INDEX_PURPOSE),
            max(row.generation, unwritten),
        )
        replayed = ReplayedStore(tenant, row.id, row.dimensions)
        store = self.client.store(tenant, spec, partial(self._replayer.replay, replayed))
        entry = self._open.get(key)
        if entry is None or entry.store is not store:
            entry = self._open[key] = _Open(tenant, store)
        self._open.move_to_end(key)
        entry.num_users += 1
        try:
            yield store
        finally:
            entry.num_users -= 1
            entry.used_at_s = time.monotonic()
            self._close_unused(len(self._open) - self._max_open, float("inf"))

    def open_stores(self) -> set[_Key]:
        """Tenants and ids."""
        return set(self._open)

    async def forget(self, tenant_id: UUID, store_id: str | None = None) -> None:
        """Deletes the index of a store, or of all of a tenant's, from this node's memory and disk.
        Nobody needs to be the tenant for that: it tells nothing, and what is still there of the
        store comes again with its next search.

        Raises RetrieverUnavailable: then it may or may not have happened.
        """
        for key in [k for k in self._open if k[0] == tenant_id and store_id in (None, k[1])]:
            del self._open[key]
        await self.client.forget(tenant_id, store_id)

    def on_change(self, tenant: TenantHandle, store_id: str, file_id: str) -> None:
        """A change of this file was committed. Never waits and never raises."""
        if len(self._changes) < _MAX_CHANGES:
            self._changes[tenant.id, store_id, file_id] = tenant
            self._has_changes.set()

    async def run(self) -> None:
        """Keeps the connection, tells changes, writes generations, closes what is idle; for
        ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client.run())
            group.create_task(self._tell_changes())
            group.create_task(self._write_generations())
            group.create_task(self._close_idle())

    # --- changes ----------------------------------------------------------------------------------

    async def _tell_changes(self) -> None:
        while True:
            await self._has_changes.wait()
            while self._changes:
                key = next(iter(self._changes))
                tenant = self._changes.pop(key)
                try:
                    await self._tell(tenant, *key[1:])
                except (AnzothError, DatabaseDown, asyncpg.PostgresError, CannotOpen) as error:
                    _log.debug("a change is left to a replay: %s", type(error).__name__)
            self._has_changes.clear()

    async def _tell(self, tenant: TenantHandle, store_id: str, file_id: str) -> None:
        async with self._database.tenant(tenant) as connection:
            found = await chunk_rows.find_stores(
                connection, tenant.id, None, [store_id], self.gateway
            )
        row = found.get(store_id)
        if row is None or row.is_expired:
            return
        cipher = await self._keys.cipher(tenant)
        async with self.opened(tenant, row) as store:

            async def apply(change: PutFile | DeleteFile) -> None:
                await (store.put(change) if isinstance(change, PutFile) else store.delete(change))

            replayed = ReplayedStore(tenant, row.id, row.dimensions)
            await self._replayer.tell(replayed, cipher, file_id, apply)

    # --- generations ------------------------------------------------------------------------------

    def _saved(self, tenant: str, store: str, generation: int) -> None:
        """The tenant's handle comes from the store that it opened, not from what the frame says."""
        key = (UUID(tenant), store)
        entry = self._open.get(key)
        if entry is not None:
            self._unwritten[key] = (entry.tenant, generation)
            self._has_unwritten.set()

    async def _write_generations(self) -> None:
        while True:
            await self._has_unwritten.wait()
            self._has_unwritten.clear()
            for key, (tenant, generation) in list(self._unwritten.items()):
                try:
                    async with self._database.tenant(tenant) as connection:
                        await chunk_rows.set_generation(
                            connection, tenant.id, key[1], self.gateway, generation
                        )
                except (DatabaseDown, asyncpg.PostgresError) as error:
                    _log.warning("a generation is not written yet: %s", type(error).__name__)
                    self._has_unwritten.set()
                    await asyncio.sleep(_RETRY_S)
                    break
                if self._unwritten[key][1] == generation:
                    del self._unwritten[key]

    # --- idle stores ------------------------------------------------------------------------------

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_S, self._idle_s))
            self._close_unused(len(self._open), time.monotonic() - self._idle_s)

    def _close_unused(self, most: int, before_s: float) -> None:
        """Up to so many that nobody uses, and used last before then; the longest unused first."""
        if most <= 0:
            return
        for key, entry in list(self._open.items()):
            if most <= 0:
                break
            if not entry.num_users and entry.used_at_s < before_s:
                del self._open[key]
                entry.store.close()
                most -= 1

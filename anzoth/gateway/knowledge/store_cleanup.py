"""When does what is not searched any more leave the database?

A store that is deleted, or has expired, is marked first: from that moment nobody searches it. What
is in it is deleted soon after, in small steps, and the row of a deleted one an hour later, so that
a list that was at this store can go on behind it. The chunks of files that were taken out of a
store, were cancelled or failed go the same way.

Each gateway does this, for all tenants: that others do the same does no harm. Each one says by
`on_gone` which stores have ended, so that its own copies of them go, too.

Does not know: what is in a store.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from anzoth.db.pool import Connection, Database, act_in_tenant
from anzoth.db.store import store_file_rows, vector_store_rows
from anzoth.db.store.vector_store_rows import OutdatedStore
from anzoth.gateway.sweeping import sweep_for_ever

REMEMBERED_S = 3600
"""For how long the row of a deleted store stays."""
_INTERVAL_S = 60.0
_MAX_ROWS = 100
"""Stores, or files, looked at together."""
_MAX_CHUNKS = 500
"""In one transaction: tens of milliseconds."""
_OVERLAP_S = 60.0
"""A transaction may be that old when its deletion is seen."""

OnGone = Callable[[UUID, str], Awaitable[None]]
"""Told a tenant and a store of it that nobody searches any more. May be told twice. Raises
AnzothError to be told again."""


async def _nothing(_tenant_id: UUID, _store_id: str) -> None: ...


class StoreCleanup:
    """One per gateway. `run` must be running."""

    def __init__(self, database: Database, on_gone: OnGone = _nothing) -> None:
        self._database = database
        self._on_gone = on_gone
        self._wanted = asyncio.Event()
        self._told_at_s: float | None = None
        """When `on_gone` had been told of all that had ended. None: never."""
        self._told: set[tuple[UUID, str]] = set()
        """Those that ended a short time before that."""

    def wake(self) -> None:
        """Something was deleted just now."""
        self._wanted.set()

    async def run(self) -> None:
        """Cleans up for ever."""
        await sweep_for_ever(
            self.sweep,
            self._wanted,
            every_s=_INTERVAL_S,
            if_not="vector stores were not cleaned up",
        )

    async def sweep(self) -> None:
        """All that there is to do now. Raises DatabaseDown, and what `on_gone` raises."""
        has_progress = True
        while has_progress:
            async with self._database.outdated_stores() as connection:
                stores = await vector_store_rows.outdated_stores(
                    connection, REMEMBERED_S, _MAX_ROWS
                )
            has_progress = False
            for store in stores:
                has_progress |= await self._advance(store)
        await self._empty_files()
        await self._tell()

    async def _advance(self, store: OutdatedStore) -> bool:
        """One step of the way out. False when there was nothing to do any more."""
        tenant_id, id = store.tenant_id, store.id
        if store.is_empty:
            async with self._acting_for(tenant_id) as connection:
                return await vector_store_rows.forget_store(connection, tenant_id, id, REMEMBERED_S)
        async with self._acting_for(tenant_id) as connection:
            await store_file_rows.cancel_files(connection, tenant_id, id)
        await self._delete(vector_store_rows.delete_chunks, store)
        if store.is_deleted:
            await self._delete(vector_store_rows.delete_files, store)
        async with self._acting_for(tenant_id) as connection:
            return await vector_store_rows.set_empty(connection, tenant_id, id)

    async def _delete(
        self,
        some: Callable[[Connection, UUID, str, int], Awaitable[int]],
        store: OutdatedStore,
    ) -> None:
        num_deleted = _MAX_CHUNKS
        while num_deleted == _MAX_CHUNKS:
            async with self._acting_for(store.tenant_id) as connection:
                num_deleted = await some(connection, store.tenant_id, store.id, _MAX_CHUNKS)

    async def _empty_files(self) -> None:
        left = True
        while left:
            async with self._database.outdated_stores() as connection:
                left = await store_file_rows.left_over_files(connection, _MAX_ROWS)
            for file in left:
                await empty_file(
                    lambda file=file: self._acting_for(file.tenant_id),
                    *(file.tenant_id, file.store_id, file.file_id),
                )

    async def _tell(self) -> None:
        now_s = time.monotonic()
        last_s = None if self._told_at_s is None else now_s - self._told_at_s + _OVERLAP_S
        async with self._database.outdated_stores() as connection:
            ended = set(await vector_store_rows.ended_stores(connection, last_s))
        for tenant_id, id in ended - self._told:
            await self._on_gone(tenant_id, id)
            self._told.add((tenant_id, id))
        self._told_at_s, self._told = now_s, ended

    @contextlib.asynccontextmanager
    async def _acting_for(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        """A transaction of the tenant whose store it is."""
        async with self._database.outdated_stores() as connection:
            await act_in_tenant(connection, tenant_id)
            yield connection


async def empty_file(
    transaction: Callable[[], AbstractAsyncContextManager[Connection]],
    tenant_id: UUID,
    store_id: str,
    file_id: str,
) -> None:
    """Deletes the chunks of a file that is not searched, a few in each transaction; none when it
    is wanted again. Raises DatabaseDown."""
    of = (tenant_id, store_id, file_id)
    num_deleted = _MAX_CHUNKS
    while num_deleted == _MAX_CHUNKS:
        async with transaction() as connection:
            if not await store_file_rows.try_lock_left_over(connection, *of):
                return
            num_deleted = await store_file_rows.delete_chunks(connection, *of, _MAX_CHUNKS)
            if num_deleted < _MAX_CHUNKS:
                await store_file_rows.set_emptied(connection, *of)

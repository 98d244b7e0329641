"""When do the indexes of stores and tenants that are gone leave this node?

A tenant's end is heard of from the database, a store's from the gateway that cleans up after it.
Either may be missed: the listener was cut off, another gateway cleaned up, or this node was off for
a month. So what is on the disk here, or open, is compared with what the database has: at the start,
whenever listening begins again, and every few minutes. What the database does not have goes.

Until then nothing of it can be searched, for a search asks the database first; and of a tenant that
was deleted nothing can be read, for its key is gone.

Does not know: what an index is, or when a store is deleted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from uuid import UUID

from anzoth.db.listen import listen
from anzoth.db.pool import Database, act_in_tenant
from anzoth.db.store import chunk_rows
from anzoth.errors import AnzothError
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.sweeping import RETRY_S, sweep_for_ever
from anzoth.gateway.tenant_crypt import TENANTS_CHANNEL
from anzoth.index_frames import is_name

_INTERVAL_S = 300.0

_Gone = tuple[UUID, str | None]


class IndexCleanup:
    """One per gateway. `run` must be running."""

    def __init__(self, database: Database, dsn: str, indexes: Indexes, folder: Path) -> None:
        """`folder`: where this node's retriever keeps its files, a folder for each tenant and in it
        one for each store."""
        self._database = database
        self._dsn = dsn
        self._indexes = indexes
        self._folder = folder
        self._gone: dict[_Gone, None] = {}
        """To be forgotten, in order. A store of None: all of the tenant's."""
        self._has_gone = asyncio.Event()
        self._must_look = asyncio.Event()

    async def gone(self, tenant_id: UUID, store_id: str | None = None) -> None:
        """This store, or tenant, is deleted, which was committed. Returns when it is forgotten
        here; while the retriever is away it is done later."""
        try:
            await self._indexes.forget(tenant_id, store_id)
        except AnzothError:
            self._note(tenant_id, store_id)

    async def run(self) -> None:
        """Hears, looks and forgets, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forget())
            group.create_task(
                sweep_for_ever(
                    self.sweep,
                    self._must_look,
                    every_s=_INTERVAL_S,
                    if_not="indexes of deleted stores are not looked for",
                )
            )
            group.create_task(
                listen(
                    self._dsn,
                    TENANTS_CHANNEL,
                    lambda id: self._note(UUID(id)),
                    self._must_look.set,
                )
            )

    def _note(self, tenant_id: UUID, store_id: str | None = None) -> None:
        self._gone[tenant_id, store_id] = None
        self._has_gone.set()

    async def _forget(self) -> None:
        while True:
            await self._has_gone.wait()
            while self._gone:
                gone = next(iter(self._gone))
                try:
                    await self._indexes.forget(*gone)
                except AnzothError:  # the retriever is away, or its disk fails
                    await asyncio.sleep(RETRY_S)
                else:
                    self._gone.pop(gone, None)
            self._has_gone.clear()

    async def sweep(self) -> None:
        """Has everything forgotten that the database does not have. Raises DatabaseDown, OSError.

        What is here is looked at first, and a store is in the database before it is here.
        """
        here: defaultdict[UUID, set[str]] = defaultdict(set)
        for tenant_id, store_id in self._indexes.open_stores():
            here[tenant_id].add(store_id)
        for tenant_id, store_id in await asyncio.to_thread(_kept_in, self._folder):
            here[tenant_id].add(store_id)
        for tenant_id, store_ids in here.items():
            async with self._database.outdated_stores() as connection:
                await act_in_tenant(connection, tenant_id)
                living = await chunk_rows.living_stores(connection, tenant_id, store_ids)
            for store_id in store_ids - living:
                self._note(tenant_id, store_id)


def _kept_in(folder: Path) -> list[tuple[UUID, str]]:
    """In a thread. Raises OSError."""
    found: list[tuple[UUID, str]] = []
    try:
        tenants = [entry for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    for tenant in tenants:
        try:
            tenant_id = UUID(tenant.name)
        except ValueError:
            continue  # not the retriever's
        names = [store.name for store in tenant.iterdir() if store.is_dir()]
        found += [(tenant_id, name) for name in names if is_name(name)]
    return found

"""Which stores are open, which of them are in memory, and what is written to disk when?

Collections share a budget of memory. Beyond it those that nobody used for longest are put aside: a
snapshot, if they changed, and out. The next use opens them again. Snapshots are also written some
seconds after a change, so that little has to be replayed after an end without warning.

Does not know: connections, messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from anzoth.index.store import (
    Memory,
    Spec,
    Store,
    StoreForgotten,
    StoreName,
    Workers,
    remove,
)
from anzoth.index.threads import Threads

log = logging.getLogger(__name__)

SAVE_AFTER_S = 5.0
"""From a store's first change to its snapshot."""
SAVE_PAUSE = 20
"""And at least so many times what its last one took, because each writes the whole store: one that
is being filled spends a twentieth of the time on that."""
TICK_S = 0.5
SEARCH_THREADS = 4
WRITE_THREADS = 2

OnSaved = Callable[[StoreName, int, int], None]


class Stores:
    """The open stores. All methods run on the event loop; `run` must be running."""

    def __init__(
        self, folder: Path, memory_bytes: int, on_saved: OnSaved, save_after_s: float = SAVE_AFTER_S
    ) -> None:
        """`on_saved` is told the store, and the generation and seq of its snapshot."""
        self._workers = Workers(
            searching=Threads(SEARCH_THREADS, "search"),
            writing=Threads(WRITE_THREADS, "write"),
            merging=Threads(1, "merge"),
            storing=Threads(1, "store"),
            group=asyncio.TaskGroup(),
        )
        self.memory_bytes = memory_bytes
        self.num_snapshots = self.num_evictions = 0
        self._memory = Memory()
        self._folder = folder
        self._on_saved = on_saved
        self._save_after_s = save_after_s
        self._stores: OrderedDict[StoreName, Store] = OrderedDict()
        """The one that was used last is last."""
        self._forgetting: dict[str, asyncio.Event] = {}
        self._num_quarantined = 0
        self._tick = asyncio.Event()

    async def run(self) -> None:
        """Keeps to the budget, writes snapshots and merges, until cancelled."""
        async with self._workers.group as group:
            keeping = group.create_task(self._keep())
            merging = group.create_task(self._merge())
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                keeping.cancel()
                merging.cancel()

    # --- stores -------------------------------------------------------------------------------

    async def open(self, name: StoreName, spec: Spec) -> Store:
        """Raises Unlike. To be closed by whoever opened it."""
        while (going := self._forgetting.get(name.tenant)) is not None:
            await going.wait()
        store = self._stores.get(name)
        if store is None:
            folder = self._folder / name.tenant / name.store
            store = self._stores[name] = Store(name, spec, folder, self._workers, self._memory)
        store.require_like(spec)
        store.num_handles += 1
        return store

    def close(self, store: Store) -> None:
        store.num_handles -= 1
        self._drop_if_unused(store)

    def touch(self, store: Store) -> None:
        """It is being used."""
        if not store.is_forgotten:
            self._stores.move_to_end(store.name)

    def fit(self) -> None:
        """Soon: collections grew."""
        if self.loaded_bytes > self.memory_bytes:
            self._tick.set()

    async def forget(self, tenant: str, only_store: str | None) -> None:
        """Deletes from memory and disk. Whoever opens one meanwhile waits. Raises OSError."""
        while (going := self._forgetting.get(tenant)) is not None:
            await going.wait()
        done = self._forgetting[tenant] = asyncio.Event()
        try:
            named = [
                store
                for name, store in self._stores.items()
                if name.tenant == tenant and only_store in (None, name.store)
            ]
            for store in named:
                store.is_forgotten = True
                del self._stores[store.name]
            for store in named:
                await store.forget()
            folder = self._folder / tenant
            folder = folder if only_store is None else folder / only_store
            await self._workers.storing.run(partial(remove, folder))
        finally:
            del self._forgetting[tenant]
            done.set()

    @property
    def num_stores(self) -> int:
        return len(self._stores)

    @property
    def num_loaded(self) -> int:
        return sum(store.is_loaded for store in self._stores.values())

    @property
    def loaded_bytes(self) -> int:
        return self._memory.loaded_bytes

    @property
    def num_quarantined(self) -> int:
        return self._num_quarantined + sum(s.num_quarantined for s in self._stores.values())

    def _drop_if_unused(self, store: Store) -> None:
        """One that nobody has open and that is cold is not known any more, nor is its data key."""
        if not (store.num_handles or store.is_loaded or store.is_forgotten) and store.is_idle:
            self._num_quarantined += store.num_quarantined
            del self._stores[store.name]

    # --- in the background --------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._tick.wait()
            self._tick.clear()
            await self._make_room()
            for store in list(self._stores.values()):
                if store.changed_at_s is None:
                    continue
                wait_s = max(self._save_after_s, SAVE_PAUSE * store.save_s)
                if time.monotonic() >= store.changed_at_s + wait_s:
                    await self.save(store)

    async def _make_room(self) -> None:
        for store in list(self._stores.values()):
            if self.loaded_bytes <= self.memory_bytes:
                return
            if not store.is_loaded or not store.is_idle:
                continue
            if store.changed_at_s is not None:
                # Without room on the disk it goes all the same: the database has it.
                can_go = not await self.save(store) or store.changed_at_s is None
                if not can_go or not store.is_idle:
                    continue
            store.drop()
            self.num_evictions += 1
            self._drop_if_unused(store)

    async def save(self, store: Store) -> bool:
        """False: it could not be written, which the log says."""
        try:
            seq = await store.save()
        except Exception as error:  # noqa: BLE001  # one store must not end the others
            log.error("a snapshot of %s could not be written: %s", store.name, _why(error))
            store.save_s = max(store.save_s, 1.0)  # it is tried again, but not at once
            return False
        if seq is not None:
            self.num_snapshots += 1
            self._on_saved(store.name, store.generation, seq)
        return True

    async def save_all(self) -> None:
        for store in list(self._stores.values()):
            await self.save(store)

    async def _merge(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for store in list(self._stores.values()):
                if store.merge_due:
                    await self._merge_one(store)

    async def _merge_one(self, store: Store) -> None:
        try:
            await store.merge()
        except StoreForgotten:
            pass
        except Exception as error:  # noqa: BLE001  # one store must not end the others
            store.merge_failed = True
            log.error("the parts of %s could not be merged: %s", store.name, _why(error))


def _why(error: Exception) -> str:
    """Without what it may quote."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__

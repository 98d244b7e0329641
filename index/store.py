"""What does the retriever know of one store, and when is it in memory, on disk, or neither?

    cold ──first use──▶ loaded ──snapshot, then dropped──▶ cold
      └── a snapshot that is refused is put aside, and the store begins at seq 0

Everything here runs on the event loop; what takes long (reading, writing, searching, merging) runs
in threads meanwhile. Changes go in one at a time; searches take the collection as it is.

Does not know: connections, other stores, or when there is too little memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from anzoth.index import snapshot
from anzoth.index.collection import Collection
from anzoth.index.log_position import LogPosition
from anzoth.index.snapshot import Owner, SnapshotRefused
from anzoth.index.threads import Threads

log = logging.getLogger(__name__)

STORE_BYTES = 16 << 10
"""What a loaded store takes besides what its collection counts."""

T = TypeVar("T")


class StoreName(NamedTuple):
    tenant: str
    store: str


class StoreForgotten(Exception):
    """It was deleted while somebody used it."""


class Unlike(ValueError):
    """The store is open with another data key, analyzer or number of dimensions."""


@dataclass(slots=True, frozen=True)
class Spec:
    """What whoever opens a store says about it."""

    owner: Owner
    dimensions: int
    analyzer: str
    generation: int
    """The least that a snapshot must have."""


@dataclass(slots=True, frozen=True)
class Workers:
    """Where long work is done, and tasks that must outlive whoever waits for them."""

    searching: Threads
    writing: Threads
    merging: Threads
    storing: Threads
    group: asyncio.TaskGroup


@dataclass(slots=True, frozen=True)
class Loaded:
    collection: Collection
    opened: int | None
    """The generation that was. None: the collection begins empty."""
    generation: int
    """The highest that was ever there."""
    num_refused: int


@dataclass(slots=True)
class Memory:
    """What the collections of all stores take together. Kept as they change, because it is asked
    for after every search: to add up ten thousand stores takes a third of a millisecond."""

    loaded_bytes: int = 0


class Store:
    """One store of one tenant."""

    def __init__(
        self, name: StoreName, spec: Spec, folder: Path, workers: Workers, memory: Memory
    ) -> None:
        self.name = name
        self.num_handles = 0
        self.num_quarantined = 0
        self.is_forgotten = False
        self.generation = spec.generation
        """Of the newest snapshot."""
        self.changed_at_s: float | None = None
        """When the first change came that no snapshot has. None: there is none."""
        self.save_s = 0.0
        """What the last snapshot took."""
        self.merge_failed = False
        """Then it is not tried again: searches are as right without, and the log says why."""
        self.nbytes = 0
        """That its collection takes in memory, about."""
        self.life = _new_life()
        """Another one whenever changes were lost: a replay that began before is then void."""
        self._on_disk: int | None = None
        """The generation that was saved or opened last."""
        self._spec = spec
        self._folder = folder
        self._workers = workers
        self._memory = memory
        self._collection: Collection | None = None
        self._position = LogPosition()
        self._num_users = 0
        self._loading: asyncio.Future[Collection] | None = None
        self._writing = asyncio.Lock()
        self._saving = asyncio.Lock()

    def require_like(self, spec: Spec) -> None:
        """Raises Unlike. Whoever has another data key is not of this tenant."""
        own = self._spec
        if (own.dimensions, own.analyzer) != (spec.dimensions, spec.analyzer):
            raise Unlike("the store is open with another analyzer or number of dimensions")
        if not hmac.compare_digest(own.owner.data_key, spec.owner.data_key):
            raise Unlike("the store is open with another data key")

    @property
    def dimensions(self) -> int:
        return self._spec.dimensions

    @property
    def is_loaded(self) -> bool:
        return self._collection is not None

    @property
    def is_idle(self) -> bool:
        """Nobody is at work in it now."""
        return not self._num_users and self._loading is None and not self._saving.locked()

    @property
    def merge_due(self) -> bool:
        collection = self._collection
        return collection is not None and collection.merge_due and not self.merge_failed

    # --- using --------------------------------------------------------------------------------

    async def seq(self) -> int:
        """Up to where all changes are in."""
        async with self._used():
            return self._position.seq

    async def search(self, head: int, run: Callable[[Collection], T]) -> tuple[int, T | None]:
        """What `run` finds, and the seq that it saw at least. None: that is before `head`."""
        async with self._used() as collection:
            seq = self._position.seq
            if seq < head:
                return seq, None
            found = await self._workers.searching.run(lambda: run(collection))
            if self.is_forgotten:
                raise StoreForgotten
            return seq, found

    async def change(
        self, file: int, seq: int, run: Callable[[Collection], Any], *, needs_all_before: bool
    ) -> tuple[int, bool]:
        """Applies a change, unless it is no news. Returns the seq afterwards, and False if it could
        not be applied because changes before it are missing (where it `needs_all_before`)."""
        async with self._used() as collection, self._writing:
            if self._position.is_news(file, seq):
                if needs_all_before and self._position.seq != seq - 1:
                    return self._position.seq, False
                await self._workers.writing.run(lambda: run(collection))
                self._weigh()
                self._changed()
            self._position.note(file, seq)
            return self._position.seq, True

    async def advance(self, after: int, seq: int, life: int) -> int:
        """A replay in this life has ended. Returns the seq afterwards."""
        async with self._used(), self._writing:
            if life == self.life:
                self._position.advance(after, seq)
            self._changed()
            return self._position.seq

    async def merge(self) -> None:
        async with self._used() as collection:
            await self._workers.merging.run(collection.merge)
            self._weigh()
            self._changed()

    def _changed(self) -> None:
        if self.changed_at_s is None:
            self.changed_at_s = time.monotonic()

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[Collection]:
        """The collection, which stays in memory for the duration of the block."""
        self._num_users += 1
        try:
            collection = self._collection
            while collection is None:
                if self.is_forgotten:
                    raise StoreForgotten
                if self._loading is None:
                    self._loading = asyncio.get_running_loop().create_future()
                    self._workers.group.create_task(self._load(self._loading))
                # Others wait for the same one: it goes on when one of them gives up.
                collection = await asyncio.shield(self._loading)
            if self.is_forgotten:
                raise StoreForgotten
            yield collection
        finally:
            self._num_users -= 1

    # --- memory and disk ----------------------------------------------------------------------

    async def _load(self, loading: asyncio.Future[Collection]) -> None:
        """Whatever fails is told to those who wait, and ends nothing but their requests."""
        try:
            async with self._saving:
                loaded = await self._workers.searching.run(
                    lambda: load(self._folder, self._spec, self.generation)
                )
            self.num_quarantined += loaded.num_refused
            self.generation = loaded.generation
            if loaded.opened != self._on_disk:
                self.life, self._on_disk = _new_life(), loaded.opened
            self._position = LogPosition(loaded.collection.seq)
            self._collection = loaded.collection
            self._weigh()
            loading.set_result(loaded.collection)
        except Exception as error:  # noqa: BLE001
            loading.set_exception(error)
            loading.exception()  # perhaps nobody waits any more
        finally:
            self._loading = None

    async def save(self) -> int | None:
        """Writes a snapshot of what is there now. Returns its seq; None: nothing has changed.

        Raises OSError; what is in memory stays.
        """
        async with self._saving:
            collection, changed_at_s = self._collection, self.changed_at_s
            if collection is None or changed_at_s is None or self.is_forgotten:
                return None
            generation, seq = self.generation + 1, self._position.seq
            collection.seq = seq
            self.changed_at_s = None
            began_s = time.monotonic()
            try:
                await self._workers.storing.run(
                    lambda: _save(collection, self._folder, self._spec.owner, generation)
                )
            except BaseException:
                self.changed_at_s = changed_at_s
                raise
            self.generation = self._on_disk = generation
            self.save_s = time.monotonic() - began_s
            return seq

    def drop(self) -> None:
        """Out of memory, with what no snapshot has. Only where it `is_idle`."""
        if self.changed_at_s is not None:
            self.life = _new_life()
        self._collection = None
        self._weigh()
        self.changed_at_s = None

    def _weigh(self) -> None:
        """The collection, or its absence, is another one."""
        nbytes = 0 if self._collection is None else _bytes_of(self._collection)
        self._memory.loaded_bytes += nbytes - self.nbytes
        self.nbytes = nbytes

    async def forget(self) -> None:
        """From memory and disk; whoever uses it is told."""
        self.is_forgotten = True
        if self._loading is not None:
            with contextlib.suppress(Exception):
                await asyncio.shield(self._loading)
        async with self._saving:
            self.drop()
            await self._workers.storing.run(lambda: remove(self._folder))


def load(folder: Path, spec: Spec, known_generation: int) -> Loaded:
    """The newest snapshot that is good and not older than one that is known; else nothing, at seq
    0. Those that are refused are put aside. In a thread."""
    num_refused = 0
    found = snapshot.generations(folder)
    least = max(spec.generation, known_generation)
    for generation in reversed(found):
        try:
            if generation < least:
                raise SnapshotRefused(f"generation {generation} is older than {least}")
            collection = snapshot.open_collection(folder, spec.owner, generation)
            its_own = (collection.dimensions, collection.analyzer_name)
            if its_own != (spec.dimensions, spec.analyzer):
                raise SnapshotRefused(f"it is of {its_own}")
            return Loaded(collection, generation, max([least, *found]), num_refused)
        except SnapshotRefused as refused:
            log.error("a snapshot in %s was refused and put aside: %s", folder, refused)
            snapshot.quarantine(folder, generation)
            num_refused += 1
    if least and not found:
        log.error("no snapshot is in %s: it had generation %d", folder, least)
    # Generations only rise, so that nothing that was put aside passes for a newer one.
    collection = Collection(spec.dimensions, spec.analyzer)
    return Loaded(collection, None, max([least, *found]), num_refused)


def remove(folder: Path) -> None:
    """In a thread. Raises OSError."""
    if folder.exists():
        shutil.rmtree(folder)


def _save(collection: Collection, folder: Path, owner: Owner, generation: int) -> None:
    snapshot.save_collection(collection, folder, owner, generation)
    snapshot.prune(folder, generation)


def _new_life() -> int:
    return secrets.randbits(62)


def _bytes_of(collection: Collection) -> int:
    return STORE_BYTES + collection.nbytes

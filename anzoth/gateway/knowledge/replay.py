"""What of the database is an index told, so that it holds what a store holds?

    the store's head, files that changed ──one by one──▶ chunks of each, in pages ──▶ its state now

A file is told as it is when it is read, under the number of its last change then; that may be later
than the head that the replay ends with, which does no harm. What is read in several transactions is
taken only if the file is the same before and after.

Of chunks that say the same in one file the first is told. A file whose rows are damaged, or that
the index cannot hold, is left out, which the log says: the others are searched.

Does not know: when an index needs this, or what it does with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anzoth.db.pool import Database
from anzoth.db.store import chunk_rows
from anzoth.db.store.chunk_rows import ChunkRow, IndexedFile
from anzoth.errors import (
    InvalidValue,
    PayloadTooLarge,
    RetrieverUnavailable,
    VectorStoreNotFound,
)
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec
from anzoth.gateway.knowledge.store_attributes import open_attributes
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.retriever_client import Apply, DeleteFile, PutFile
from anzoth.gateway.tenant_crypt import CannotOpen, TenantCipher, TenantKeys
from anzoth.index_frames import Chunks

PAGE_CHUNKS = 256
"""Read in one transaction: a megabyte or two, and tens of milliseconds to open, in a thread."""
_MAX_TRIES = 5
"""To read a file that changes meanwhile."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class ReplayedStore:
    """A store, and whose it is: what `Replayer` needs to know of it."""

    tenant: TenantHandle
    id: str
    dimensions: int


class Replayer:
    """Reads for indexes. One per gateway."""

    def __init__(self, database: Database, keys: TenantKeys) -> None:
        self._database = database
        self._keys = keys

    async def replay(self, store: ReplayedStore, after: int, apply: Apply) -> int:
        """See `retriever_client.Replay`. Raises VectorStoreNotFound: it is gone; KeyRevoked,
        DatabaseDown, and what `apply` raises of a retriever that is lost or full."""
        cipher = await self._keys.cipher(store.tenant)
        async with self._database.tenant(store.tenant) as connection:
            found = await chunk_rows.changed_files(connection, store.tenant.id, store.id, after)
        if found is None:
            raise VectorStoreNotFound()
        head, file_ids = found
        for file_id in file_ids:
            await self.tell(store, cipher, file_id, apply)
        return head

    async def tell(
        self, store: ReplayedStore, cipher: TenantCipher, file_id: str, apply: Apply
    ) -> None:
        """Applies the file as it is now, if it was ever searched. Raises as `replay`."""
        file = await self._find(store, file_id)
        for _ in range(_MAX_TRIES):
            if file is None or not file.changed_seq:
                return
            try:
                change = await self._change(store, cipher, file_id, file)
                now = await self._find(store, file_id)
                if now == file:
                    await apply(change)
                    return
                file = now
            except (CannotOpen, InvalidValue, PayloadTooLarge) as error:
                reason = error if isinstance(error, CannotOpen) else type(error).__name__
                _log.error(
                    "file %s of store %s is left out of searches: %s", file_id, store.id, reason
                )
                await apply(DeleteFile(file.number, file.changed_seq))
                return
        _log.warning("file %s of store %s changes faster than it is read", file_id, store.id)
        raise RetrieverUnavailable()

    async def _find(self, store: ReplayedStore, file_id: str) -> IndexedFile | None:
        async with self._database.tenant(store.tenant) as connection:
            return await chunk_rows.find_file(connection, store.tenant.id, store.id, file_id)

    async def _change(
        self, store: ReplayedStore, cipher: TenantCipher, file_id: str, file: IndexedFile
    ) -> PutFile | DeleteFile:
        """Raises CannotOpen."""
        if not file.is_searched:
            return DeleteFile(file.number, file.changed_seq)
        attributes = open_attributes(cipher, store.id, file_id, file.attributes)
        opener = _Opener(ChunkCodec(cipher, store.id), 4 * store.dimensions)
        after = -1
        while True:
            async with self._database.tenant(store.tenant) as connection:
                page = await chunk_rows.chunks_to_index(
                    connection, store.tenant.id, store.id, file_id, after, PAGE_CHUNKS
                )
            await asyncio.to_thread(partial(opener.open, page))
            if len(page) < PAGE_CHUNKS:
                break
            after = page[-1].position
        return PutFile(file.number, file.changed_seq, opener.chunks(), attributes)


class _Opener:
    """Collects the chunks of one file, page by page."""

    def __init__(self, codec: ChunkCodec, vector_bytes: int) -> None:
        self._codec = codec
        self._vector_bytes = vector_bytes
        self._digests: set[bytes] = set()
        self._numbers: list[int] = []
        self._texts: list[str] = []
        self._vectors = bytearray()

    def open(self, page: Sequence[ChunkRow]) -> None:
        """Raises CannotOpen."""
        for row in page:
            if row.digest in self._digests:
                continue
            text = self._codec.open_content(row.number, row.content).indexed
            vector = self._codec.open_vector(row.number, row.vector)
            if len(vector) != self._vector_bytes:
                raise CannotOpen(f"a vector has {len(vector)} bytes, not {self._vector_bytes}")
            self._digests.add(row.digest)
            self._numbers.append(row.number)
            self._texts.append(text)
            self._vectors += vector

    def chunks(self) -> Chunks:
        return Chunks(self._numbers, self._texts, bytes(self._vectors))

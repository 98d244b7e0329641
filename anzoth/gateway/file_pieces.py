"""How do the bytes of a file get into the database and out of it, piece by piece?

    file ─▶ parts (one, or those of an upload) ─▶ pieces of 1 MiB, each sealed on its own

Every piece is a transaction of its own, so that no client's pace holds a connection or a lock, and
no more than a piece or two is ever in memory. Nothing is seen of a file before its last transaction
says that it is whole. `layout`, sealed as well, says of which parts it consists and how long they
are: a piece that is missing, moved or cut shows.

Does not know: what a file is called, who may read it, or how it comes over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from anzoth.db.pool import Connection, Database
from anzoth.db.store import file_rows
from anzoth.errors import NotFound, PayloadTooLarge, StorageFull
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import CannotOpen, Label, TenantCipher

T = TypeVar("T")

PIECE_BYTES = 1 << 20
NAME_KIND, LAYOUT_KIND, PIECE_KIND = "file.name", "file.layout", "file.piece"
_INLINE_BYTES = 64 * 1024
"""What is sealed on the loop: tens of microseconds."""
_MAX_CONNECTIONS = 4
_PART = struct.Struct(">IQ")

Layout = Sequence[tuple[int, int]]
"""The parts of a file, in order: number and bytes."""
Prepare = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True, frozen=True)
class Room:
    """What may come in."""

    max_bytes: int
    tenant_bytes: int
    """Of the tenant's files together."""


class PieceConnections:
    """Half of the pool: whatever is sent and fetched, who authenticates finds a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._places = asyncio.Semaphore(_MAX_CONNECTIONS)

    @contextlib.asynccontextmanager
    async def tenant(self, handle: TenantHandle) -> AsyncIterator[Connection]:
        """As `Database.tenant`, when there is a place. Raises DatabaseDown."""
        async with self._places, self._database.tenant(handle) as connection:
            yield connection


class PieceWriter:
    """One part of one file on its way into the database."""

    def __init__(
        self,
        connections: PieceConnections,
        cipher: TenantCipher,
        file_id: str,
        part: int,
        room: Room,
        prepare: Prepare,
        *,
        announced_bytes: int = 0,
    ) -> None:
        """With its first piece it takes as much room as is `announced`: so of files that come at
        the same time those fail which do not fit, and not all that are half there.

        `prepare` begins each piece's transaction: it makes the file's row, or locks what must
        not change meanwhile. It raises where nothing may come in any more."""
        self._connections = connections
        self._cipher = cipher
        self._file_id = file_id
        self._part = part
        self._room = room
        self._prepare = prepare
        self._announced_bytes = announced_bytes
        self._counted_bytes = 0
        self._buffer = bytearray()
        self.num_bytes = 0
        self.num_pieces = 0
        """In the database."""

    async def write(self, data: bytes) -> None:
        """Raises PayloadTooLarge, StorageFull, DatabaseDown, and what `prepare` raises."""
        self.num_bytes += len(data)
        if self.num_bytes > self._room.max_bytes:
            raise PayloadTooLarge(f"The file is larger than {self._room.max_bytes} bytes.")
        self._buffer += data
        while len(self._buffer) >= PIECE_BYTES:
            sealed = await self._seal(PIECE_BYTES)
            async with self._connections.tenant(self._cipher.tenant) as connection:
                await self._insert(connection, sealed, PIECE_BYTES)
            del self._buffer[:PIECE_BYTES]
            self.num_pieces += 1
            self._counted_bytes = self._room_for(0)

    async def finish(self, then: Callable[[Connection], Awaitable[T]]) -> T:
        """Writes the rest and does `then`, in one transaction. Raises as `write` does."""
        num_bytes = len(self._buffer)
        sealed = await self._seal(num_bytes) if num_bytes else None
        async with self._connections.tenant(self._cipher.tenant) as connection:
            if sealed is None:
                await self._prepare(connection)
            else:
                await self._insert(connection, sealed, num_bytes)
            return await then(connection)

    def _room_for(self, more_bytes: int) -> int:
        """What is taken once so many more bytes are there."""
        return max(self.num_pieces * PIECE_BYTES + more_bytes, self._announced_bytes)

    async def _seal(self, num_bytes: int) -> bytes:
        piece = bytes(memoryview(self._buffer)[:num_bytes])
        label = Label(PIECE_KIND, self._file_id, self.num_pieces, self._part)
        if num_bytes <= _INLINE_BYTES:
            return self._cipher.seal(piece, label)
        return await asyncio.to_thread(self._cipher.seal, piece, label)

    async def _insert(self, connection: Connection, sealed: bytes, num_bytes: int) -> None:
        await self._prepare(connection)
        tenant_id = self._cipher.tenant.id
        grows_by = self._room_for(num_bytes) - self._counted_bytes
        if not await file_rows.try_insert_piece(
            connection, tenant_id, self._file_id, self._part, self.num_pieces, sealed, grows_by
        ):
            raise NotFound("This file does not come in any more: it took too long, or was deleted.")
        # The row of the sums is locked by now: nobody fills the same room at the same time.
        if (await file_rows.sums(connection, tenant_id)).num_bytes > self._room.tenant_bytes:
            raise StorageFull()


async def pieces(
    connections: PieceConnections, cipher: TenantCipher, file_id: str, layout: Layout
) -> AsyncIterator[bytes]:
    """The content of a file. Raises NotFound when it is deleted meanwhile, CannotOpen, and
    DatabaseDown."""
    for part, num_bytes in layout:
        for number, start in enumerate(range(0, num_bytes, PIECE_BYTES)):
            async with connections.tenant(cipher.tenant) as connection:
                sealed = await file_rows.find_piece(
                    connection, cipher.tenant.id, file_id, part, number
                )
            if sealed is None:
                raise NotFound("The file was deleted meanwhile.")
            label = Label(PIECE_KIND, file_id, number, part)
            piece = await asyncio.to_thread(cipher.open, sealed, label)
            if len(piece) != min(PIECE_BYTES, num_bytes - start):
                raise CannotOpen("a piece of a file is not as long as it should be")
            yield piece


def seal_layout(cipher: TenantCipher, file_id: str, layout: Layout) -> bytes:
    packed = b"".join(_PART.pack(part, num_bytes) for part, num_bytes in layout)
    return cipher.seal(packed, Label(LAYOUT_KIND, file_id))


def open_layout(cipher: TenantCipher, file_id: str, sealed: bytes) -> Layout:
    """Raises CannotOpen."""
    return list(_PART.iter_unpack(cipher.open(sealed, Label(LAYOUT_KIND, file_id))))

"""What does Anzoth read and write of files on their way into vector stores, and of their chunks?

Does not know: what a chunk says, or who makes its vector.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from anzoth.db import statements
from anzoth.db.pool import Connection
from anzoth.db.store.chunk_rows import ChunkRow

CHANNEL = "anzoth_ingestion"
"""Where it is announced that a file waits."""


@dataclass(slots=True, frozen=True)
class ClaimRow:
    """A file that one gateway, and nobody else, reads into one store for a while."""

    tenant_id: uuid.UUID
    tenant_name: str
    project_id: uuid.UUID
    store_id: str
    file_id: str
    gateway: uuid.UUID
    added_at: datetime
    attempts: int
    """That failed for no fault of the file's."""
    chunking: dict[str, Any]
    """As OpenAI has it: `type` (auto or static), and for static its settings under `static`."""
    model: str
    dimensions: int
    vector_space: str | None

    @property
    def key(self) -> tuple[uuid.UUID, str, str]:
        return self.tenant_id, self.store_id, self.file_id

    @property
    def _named(self) -> tuple[uuid.UUID, str, str, uuid.UUID, datetime]:
        return *self.key, self.gateway, self.added_at


@dataclass(slots=True, frozen=True)
class StoredChunk:
    """One that is in the database, but for its vector."""

    number: int
    position: int
    digest: bytes
    content: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class KnownVector:
    """Of a chunk that says the same as one that is wanted. Sealed for its own place."""

    digest: bytes
    store_id: str
    number: int
    vector: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class ChunkSums:
    """What of a file is in a store."""

    num_chunks: int
    num_bytes: int


# --- in a transaction that sees what waits -------------------------------------------------------


async def next_waiting_tenant(connection: Connection, after: uuid.UUID) -> uuid.UUID | None:
    """The first behind `after` that has a file to be read now."""
    return await connection.fetchval(statements.load()["next_waiting_tenant"], after)


async def has_waiting_file_of_others(connection: Connection, tenant_id: uuid.UUID) -> bool:
    """Than this tenant."""
    return await connection.fetchval(statements.load()["has_waiting_file_of_others"], tenant_id)


async def count_waiting_files(connection: Connection) -> int:
    return await connection.fetchval(statements.load()["count_waiting_files"])


async def tenants_of_claims(connection: Connection, gateway: uuid.UUID) -> list[uuid.UUID]:
    rows = await connection.fetch(statements.load()["tenants_of_claims"], gateway)
    return [row["tenant_id"] for row in rows]


# --- in a transaction of the tenant --------------------------------------------------------------


async def try_claim_file(
    connection: Connection,
    tenant_id: uuid.UUID,
    gateway: uuid.UUID,
    lease_s: float,
    models: Sequence[str],
) -> ClaimRow | None:
    """None: it has no file that waits for one of these models."""
    statement = statements.load()["claim_waiting_file"]
    row = await connection.fetchrow(statement, tenant_id, gateway, lease_s, models)
    if row is None:
        return None
    return ClaimRow(**{**row, "chunking": orjson.loads(row["chunking"])})


async def drop_claims(
    connection: Connection,
    tenant_id: uuid.UUID,
    gateway: uuid.UUID,
    kept: Collection[tuple[uuid.UUID, str, str]],
) -> None:
    """Its files may be claimed again at once; those `kept` (see `ClaimRow.key`) stay claimed."""
    stores = [store for tenant, store, _ in kept if tenant == tenant_id]
    files = [file for tenant, _, file in kept if tenant == tenant_id]
    await connection.execute(statements.load()["drop_claims"], tenant_id, gateway, stores, files)


async def hold_claim(
    connection: Connection, claim: ClaimRow, lease_s: float, num_tokens: int = 0
) -> bool:
    """Until `lease_s` from now; `num_tokens` more were embedded. False: it is lost."""
    statement = statements.load()["hold_claim"]
    return await connection.fetchval(statement, *claim._named, lease_s, num_tokens) is not None


async def let_go_of_claim(
    connection: Connection, claim: ClaimRow, pause_s: float, *, is_attempt: bool
) -> bool:
    """False: it was lost."""
    statement = statements.load()["let_go_of_claim"]
    values = (*claim._named, pause_s, int(is_attempt))
    return await connection.fetchval(statement, *values) is not None


async def fail_file(connection: Connection, claim: ClaimRow, code: str, message: str) -> bool:
    """False: the claim was lost."""
    statement = statements.load()["fail_claimed_file"]
    return await connection.fetchval(statement, *claim._named, code, message) is not None


async def complete_file(connection: Connection, claim: ClaimRow, sums: ChunkSums) -> bool:
    """False: the claim was lost, and the transaction must be given up."""
    statement = statements.load()["complete_claimed_file"]
    values = (*claim._named, sums.num_chunks, sums.num_bytes)
    return await connection.fetchval(statement, *values) is not None


async def chunks_at(
    connection: Connection, claim: ClaimRow, start: int, end: int
) -> list[StoredChunk]:
    """Of the positions `start` to `end`."""
    rows = await connection.fetch(statements.load()["chunks_between"], *claim.key, start, end)
    return [StoredChunk(**row) for row in rows]


async def known_vectors(
    connection: Connection, claim: ClaimRow, digests: Sequence[bytes]
) -> list[KnownVector]:
    """Those that there are, of the store's model, in any store of the tenant."""
    values = (claim.tenant_id, digests, claim.model, claim.dimensions, claim.vector_space)
    rows = await connection.fetch(statements.load()["known_vectors"], *values)
    return [KnownVector(**row) for row in rows]


async def try_take_chunk_numbers(
    connection: Connection, claim: ClaimRow, count: int
) -> range | None:
    """Numbers that no chunk of the store has had. None: the store was deleted."""
    statement = statements.load()["take_chunk_numbers"]
    last = await connection.fetchval(statement, claim.tenant_id, claim.store_id, count)
    return None if last is None else range(last - count + 1, last + 1)


async def insert_chunks(
    connection: Connection, claim: ClaimRow, chunks: Sequence[ChunkRow]
) -> None:
    await connection.execute(
        statements.load()["insert_chunks"],
        *claim.key,
        [chunk.number for chunk in chunks],
        [chunk.position for chunk in chunks],
        [chunk.digest for chunk in chunks],
        [chunk.content for chunk in chunks],
        [chunk.vector for chunk in chunks],
    )


async def delete_chunks(connection: Connection, claim: ClaimRow, numbers: Sequence[int]) -> None:
    statement = statements.load()["delete_chunks"]
    await connection.execute(statement, claim.tenant_id, claim.store_id, numbers)


async def delete_chunks_from(
    connection: Connection, claim: ClaimRow, position: int, limit: int
) -> int:
    """How many were deleted."""
    statement = statements.load()["delete_chunks_from"]
    status = await connection.execute(statement, *claim.key, position, limit)
    return int(status.rpartition(" ")[2])


async def sum_chunks(connection: Connection, claim: ClaimRow) -> ChunkSums:
    return ChunkSums(**await connection.fetchrow(statements.load()["sum_chunks"], *claim.key))

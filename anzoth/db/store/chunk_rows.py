"""What does Anzoth read of vector stores to search them, and write of how far an index has come?

Does not know: how a chunk is sealed, or how stores and their files come about.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from anzoth.db import statements
from anzoth.db.pool import Connection

Maker = tuple[str, int, str | None]
"""Who makes vectors of one kind: a model by its name, their size, their vector space."""


@dataclass(slots=True, frozen=True)
class IndexedStore:
    """A store that is searched, at one moment."""

    id: str
    model: str
    dimensions: int
    vector_space: str | None
    """Of its model. None: it was never written down."""
    analyzer: str
    head: int
    """Its last change."""
    generation: int
    """Of the last snapshot that this gateway's retriever wrote; 0: none was ever reported."""
    is_expired: bool
    """It cannot be searched any more."""
    is_quiet: bool
    """Nothing was written down of its use for a minute."""

    @property
    def maker(self) -> Maker:
        """Of its vectors."""
        return self.model, self.dimensions, self.vector_space


@dataclass(slots=True, frozen=True)
class IndexedFile:
    """A file of a store, at one moment. Its attributes are sealed."""

    number: int
    changed_seq: int
    """Its last change; 0: it was never searched."""
    attributes: bytes | None = field(repr=False)
    is_searched: bool


@dataclass(slots=True, frozen=True)
class ChunkRow:
    """A chunk, whole. Content and vector are sealed."""

    number: int
    position: int
    digest: bytes
    content: bytes = field(repr=False)
    vector: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class FoundRow:
    """A chunk that a search found. All but numbers and ids is sealed."""

    number: int
    file_id: str
    position: int
    digest: bytes
    content: bytes = field(repr=False)
    attributes: bytes | None = field(repr=False)
    filename: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class ChunkText:
    """What a chunk says, and where in its file. The content is sealed."""

    number: int
    position: int
    content: bytes = field(repr=False)


async def find_stores(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID | None,
    ids: Collection[str],
    gateway: uuid.UUID,
) -> dict[str, IndexedStore]:
    """By id. `project_id` None: of any project, for whoever acts for no caller."""
    rows = await connection.fetch(
        statements.load()["find_indexed_stores"], tenant_id, project_id, list(ids), gateway
    )
    return {row["id"]: IndexedStore(**row) for row in rows}


async def living_stores(
    connection: Connection, tenant_id: uuid.UUID, ids: Collection[str]
) -> set[str]:
    rows = await connection.fetch(statements.load()["living_stores"], tenant_id, list(ids))
    return {row["id"] for row in rows}


async def changed_files(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, after: int
) -> tuple[int, Sequence[str]] | None:
    """The store's head, and the files that changed after `after`. None: there is no such store."""
    rows = await connection.fetch(statements.load()["changed_files"], tenant_id, store_id, after)
    if not rows:
        return None
    return rows[0]["head"], [row["file_id"] for row in rows if row["file_id"] is not None]


async def find_file(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str
) -> IndexedFile | None:
    row = await connection.fetchrow(
        statements.load()["find_indexed_file"], tenant_id, store_id, file_id
    )
    return None if row is None else IndexedFile(**row)


async def chunks_to_index(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    file_id: str,
    after: int,
    limit: int,
) -> Sequence[ChunkRow]:
    """Those behind the position `after`, in order."""
    rows = await connection.fetch(
        statements.load()["chunks_to_index"], tenant_id, store_id, file_id, after, limit
    )
    return [ChunkRow(**row) for row in rows]


async def found_chunks(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    store_id: str,
    numbers: Collection[int],
) -> Sequence[FoundRow]:
    """In any order; without those of files that are not searched any more."""
    rows = await connection.fetch(
        statements.load()["found_chunks"], tenant_id, project_id, store_id, list(numbers)
    )
    return [FoundRow(**row) for row in rows]


async def last_position(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    store_id: str,
    file_id: str,
) -> int | None:
    """None: no such file is searched in the project."""
    return await connection.fetchval(
        statements.load()["last_position"], tenant_id, project_id, store_id, file_id
    )


async def chunks_at(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    file_id: str,
    positions: Collection[int],
) -> Sequence[ChunkText]:
    """In order. For a file that `last_position` has found in the same transaction."""
    rows = await connection.fetch(
        statements.load()["chunks_at"], tenant_id, store_id, file_id, list(positions)
    )
    return [ChunkText(**row) for row in rows]


async def set_generation(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    gateway: uuid.UUID,
    generation: int,
) -> None:
    """Unless a later one is known, or the store is gone."""
    await connection.execute(
        statements.load()["set_generation"], tenant_id, store_id, gateway, generation
    )

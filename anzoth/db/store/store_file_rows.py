"""What does Anzoth read and write of the files in vector stores?

Does not know: what their sealed attributes and chunks say.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from anzoth.db import statements
from anzoth.db.pool import Connection
from anzoth.db.store.chunk_rows import ChunkText
from anzoth.db.store.vector_store_rows import Between

Status = Literal["in_progress", "completed", "cancelled", "failed"]


@dataclass(slots=True, frozen=True)
class StoreFileRow:
    """A file in a store. `attributes` are sealed, `chunking` is JSON."""

    id: str
    created_at: datetime
    status: Status
    error_code: str | None
    error_message: str | None
    attributes: bytes | None = field(repr=False)
    chunking: str
    usage_bytes: int
    num_chunks: int
    is_taken_out: bool


@dataclass(slots=True, frozen=True)
class AddedFile:
    """A file as it comes into a store. `attributes` are sealed, `chunking` is JSON."""

    id: str
    attributes: bytes | None = field(repr=False)
    chunking: str


@dataclass(slots=True, frozen=True)
class StoreFileFilter:
    """Which files of a store are meant."""

    batch_id: str | None = None
    status: str | None = None


@dataclass(slots=True, frozen=True)
class LeftOverFile:
    """One that is not searched and may have chunks, in a store of whatever tenant."""

    tenant_id: uuid.UUID
    store_id: str
    file_id: str


async def share_files(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, ids: Sequence[str]
) -> set[str]:
    """Those among `ids` that are files of the project. They stay so until the transaction ends."""
    statement = statements.load()["share_files"]
    rows = await connection.fetch(statement, tenant_id, project_id, ids)
    return {row["id"] for row in rows}


async def lock_files_of_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    """Nobody adds any of them to a store until the transaction ends."""
    await connection.execute(statements.load()["lock_files_of_tenant"], tenant_id)


async def lock_files(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, ids: Sequence[str]
) -> dict[str, StoreFileRow]:
    """By id; those that were taken out among them."""
    rows = await connection.fetch(statements.load()["lock_store_files"], tenant_id, store_id, ids)
    return {row["id"]: StoreFileRow(**row) for row in rows}


async def count_files(connection: Connection, tenant_id: uuid.UUID, store_id: str) -> int:
    return await connection.fetchval(statements.load()["count_store_files"], tenant_id, store_id)


async def insert_files(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    files: Sequence[AddedFile],
    *,
    last_number: int,
    batch_id: str | None,
) -> None:
    """`last_number`: of these files."""
    await connection.execute(
        statements.load()["insert_store_files"],
        *(tenant_id, store_id, last_number - len(files), batch_id, *_columns(files)),
    )


async def restart_files(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    files: Sequence[AddedFile],
    *,
    batch_id: str | None,
) -> None:
    """They lose the chunks that they have left."""
    statement = statements.load()["delete_chunks_of_files"]
    await connection.execute(statement, tenant_id, store_id, [file.id for file in files])
    await connection.execute(
        statements.load()["restart_store_files"],
        *(tenant_id, store_id, batch_id, *_columns(files)),
    )


async def move_to_batch(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    batch_id: str,
    ids: Sequence[str],
) -> None:
    statement = statements.load()["move_store_files"]
    await connection.execute(statement, tenant_id, store_id, batch_id, ids)


async def announce_waiting(connection: Connection) -> None:
    """Gateways hear of it when the transaction ends."""
    await connection.execute(statements.load()["announce_waiting_files"])


async def set_attributes(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    file_id: str,
    attributes: bytes | None,
    change: int | None,
) -> None:
    """`change`: its number; None: the file is not searched yet."""
    statement = statements.load()["set_file_attributes"]
    await connection.execute(statement, tenant_id, store_id, file_id, attributes, change)


async def take_out(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str, change: int
) -> bool:
    """False when it is not there. `change`: its number."""
    statement = statements.load()["take_out_file"]
    return await connection.fetchval(statement, tenant_id, store_id, file_id, change) is not None


async def find_file(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str
) -> StoreFileRow | None:
    statement = statements.load()["find_store_file"]
    row = await connection.fetchrow(statement, tenant_id, store_id, file_id)
    return None if row is None else StoreFileRow(**row)


async def find_place(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str
) -> datetime | None:
    """Where a list goes on after this file, also if it was just taken out."""
    statement = statements.load()["store_file_place"]
    return await connection.fetchval(statement, tenant_id, store_id, file_id)


async def list_files(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    wanted: StoreFileFilter,
    between: Between,
    limit: int,
) -> list[StoreFileRow]:
    name = "list_store_files_up" if between.is_ascending else "list_store_files_down"
    rows = await connection.fetch(
        statements.load()[name],
        *(tenant_id, store_id, wanted.batch_id, wanted.status),
        *(*(between.low or (None, None)), *(between.high or (None, None)), limit),
    )
    return [StoreFileRow(**row) for row in rows]


async def chunks(
    connection: Connection,
    tenant_id: uuid.UUID,
    store_id: str,
    file: StoreFileRow,
    *,
    behind: int,
    limit: int,
) -> list[ChunkText]:
    """Those behind the position `behind`; none once it is not this completed file any more."""
    rows = await connection.fetch(
        statements.load()["chunks_of_file"],
        *(tenant_id, store_id, file.id, file.created_at, behind, limit),
    )
    return [ChunkText(**row) for row in rows]


async def cancel_files(connection: Connection, tenant_id: uuid.UUID, store_id: str) -> None:
    """Those that are in progress."""
    await connection.execute(statements.load()["cancel_files_of_store"], tenant_id, store_id)


async def left_over_files(connection: Connection, limit: int) -> list[LeftOverFile]:
    """Of all tenants."""
    rows = await connection.fetch(statements.load()["left_over_files"], limit)
    return [LeftOverFile(**row) for row in rows]


async def left_over_of_store(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, ids: Sequence[str]
) -> list[str]:
    """Those among `ids`."""
    statement = statements.load()["left_over_of_store"]
    return [row["file_id"] for row in await connection.fetch(statement, tenant_id, store_id, ids)]


async def try_lock_left_over(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str
) -> bool:
    """Until the transaction ends. False when the file is wanted again, or was emptied."""
    statement = statements.load()["lock_left_over_file"]
    return await connection.fetchval(statement, tenant_id, store_id, file_id) is not None


async def delete_chunks(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str, limit: int
) -> int:
    """How many were deleted."""
    status = await connection.execute(
        statements.load()["delete_chunks_of_file"], tenant_id, store_id, file_id, limit
    )
    return int(status.rpartition(" ")[2])


async def set_emptied(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, file_id: str
) -> None:
    await connection.execute(statements.load()["file_is_emptied"], tenant_id, store_id, file_id)


def _columns(
    files: Sequence[AddedFile],
) -> tuple[list[str], list[bytes | None], list[str]]:
    return (
        [file.id for file in files],
        [file.attributes for file in files],
        [file.chunking for file in files],
    )

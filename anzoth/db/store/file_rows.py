"""What does Anzoth read and write of files and their pieces?

Does not know: how a piece is encrypted, or what a file says.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class FileRow:
    """A file that is there. Name and layout are sealed."""

    id: str
    purpose: str
    filename: bytes = field(repr=False)
    layout: bytes = field(repr=False)
    bytes: int
    created_at: datetime
    expires_at: datetime | None


@dataclass(slots=True, frozen=True)
class FileSums:
    """What a tenant has stored, and what still comes in."""

    num_bytes: int
    num_files: int


@dataclass(slots=True, frozen=True)
class FileFilter:
    """Which files of a project are meant."""

    purpose: str | None = None
    is_ascending: bool = False
    after: tuple[datetime, str] | None = None
    """Time and id of the one before."""


@dataclass(slots=True, frozen=True)
class OutdatedFile:
    """One that is deleted or expired, of whatever tenant."""

    tenant_id: uuid.UUID
    id: str
    bytes: int
    project_id: uuid.UUID
    is_deleted: bool
    was_received: bool


async def try_insert_file(
    connection: Connection,
    tenant_id: uuid.UUID,
    id: str,
    project_id: uuid.UUID,
    *,
    gives_up_after_s: int,
    purpose: str | None = None,
    filename: bytes | None = None,
) -> tuple[datetime, datetime] | None:
    """When it was made, and when it is given up; None: the tenant was deleted."""
    row = await connection.fetchrow(
        statements.load()["insert_file"],
        *(tenant_id, id, project_id, purpose, filename, gives_up_after_s),
    )
    return None if row is None else (row["created_at"], row["expires_at"])


async def sums(connection: Connection, tenant_id: uuid.UUID) -> FileSums:
    row = await connection.fetchrow(statements.load()["file_sums"], tenant_id)
    return FileSums(0, 0) if row is None else FileSums(**row)


async def try_insert_piece(
    connection: Connection,
    tenant_id: uuid.UUID,
    file_id: str,
    part: int,
    piece: int,
    content: bytes,
    grows_by: int,
) -> bool:
    """`grows_by`: how much more room the file takes, in bytes. False when it does not come in any
    more."""
    statement = statements.load()["insert_piece"]
    number = await connection.fetchval(
        statement, tenant_id, file_id, part, piece, content, grows_by
    )
    return number is not None


async def drop_part(
    connection: Connection, tenant_id: uuid.UUID, file_id: str, part: int, num_bytes: int
) -> None:
    """`num_bytes`: what its pieces hold."""
    await connection.execute(statements.load()["drop_part"], tenant_id, file_id, part)
    await connection.execute(statements.load()["shrink_file"], tenant_id, file_id, num_bytes)


async def try_receive_file(
    connection: Connection,
    tenant_id: uuid.UUID,
    id: str,
    *,
    purpose: str,
    filename: bytes,
    layout: bytes,
    num_bytes: int,
    expires_after_s: int | None,
) -> FileRow | None:
    """None when it does not come in any more."""
    row = await connection.fetchrow(
        statements.load()["receive_file"],
        *(tenant_id, id, purpose, filename, layout, num_bytes, expires_after_s),
    )
    return None if row is None else FileRow(**row)


async def drop_other_parts(
    connection: Connection, tenant_id: uuid.UUID, id: str, parts: Sequence[int]
) -> None:
    await connection.execute(statements.load()["drop_other_parts"], tenant_id, id, parts)


async def find_file(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> FileRow | None:
    row = await connection.fetchrow(statements.load()["find_file"], tenant_id, project_id, id)
    return None if row is None else FileRow(**row)


async def find_place(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> datetime | None:
    """Where a list goes on after this file, also if it was just deleted."""
    statement = statements.load()["file_place"]
    return await connection.fetchval(statement, tenant_id, project_id, id)


async def list_files(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    wanted: FileFilter,
    limit: int,
) -> list[FileRow]:
    name = "list_files_up" if wanted.is_ascending else "list_files_down"
    rows = await connection.fetch(
        statements.load()[name],
        *(tenant_id, project_id, wanted.purpose, *(wanted.after or (None, None)), limit),
    )
    return [FileRow(**row) for row in rows]


async def find_piece(
    connection: Connection, tenant_id: uuid.UUID, file_id: str, part: int, piece: int
) -> bytes | None:
    statement = statements.load()["find_piece"]
    return await connection.fetchval(statement, tenant_id, file_id, part, piece)


async def delete_file(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> bool:
    """False when there is none."""
    statement = statements.load()["delete_file"]
    return await connection.fetchval(statement, tenant_id, project_id, id) is not None


async def give_up_file(connection: Connection, tenant_id: uuid.UUID, id: str) -> None:
    await connection.execute(statements.load()["give_up_file"], tenant_id, id)


async def delete_files_of_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    await connection.execute(statements.load()["delete_files_of_tenant"], tenant_id)


async def outdated_files(
    connection: Connection, remembered_s: int, limit: int
) -> list[OutdatedFile]:
    """Of all tenants: expired, or deleted and not yet empty, or deleted `remembered_s` ago."""
    rows: Sequence[Mapping[str, Any]] = await connection.fetch(
        statements.load()["outdated_files"], remembered_s, limit
    )
    return [OutdatedFile(**row) for row in rows]


async def expire_file(connection: Connection, tenant_id: uuid.UUID, id: str) -> bool:
    """False when another gateway was faster."""
    return await connection.fetchval(statements.load()["expire_file"], tenant_id, id) is not None


async def delete_pieces(connection: Connection, tenant_id: uuid.UUID, id: str, limit: int) -> int:
    """How many were deleted."""
    status = await connection.execute(statements.load()["delete_pieces"], tenant_id, id, limit)
    return int(status.rpartition(" ")[2])


async def set_empty(connection: Connection, tenant_id: uuid.UUID, id: str) -> bool:
    """False when it is not, or was said to be before."""
    return await connection.fetchval(statements.load()["file_is_empty"], tenant_id, id) is not None


async def forget_file(
    connection: Connection, tenant_id: uuid.UUID, id: str, remembered_s: int
) -> bool:
    """False when it was not deleted that long ago, or is forgotten."""
    statement = statements.load()["forget_file"]
    return await connection.fetchval(statement, tenant_id, id, remembered_s) is not None

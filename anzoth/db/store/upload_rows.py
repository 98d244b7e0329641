"""What does Anzoth read and write of uploads and their parts?

Does not know: the files that they become (see `file_rows`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class UploadRow:
    """A file that comes in parts. The name is sealed, as its file's; None: that was deleted."""

    id: str
    file_id: str
    bytes: int
    file_expires_after_s: int | None
    status: str
    created_at: datetime
    expires_at: datetime
    is_expired: bool
    purpose: str
    filename: bytes | None = field(repr=False)


@dataclass(slots=True, frozen=True)
class UploadPartRow:
    """A part that has come in whole."""

    id: str
    part: int
    bytes: int


async def insert_upload(
    connection: Connection,
    tenant_id: uuid.UUID,
    file_id: str,
    id: str,
    num_bytes: int,
    file_expires_after_s: int | None,
) -> None:
    statement = statements.load()["insert_upload"]
    await connection.execute(statement, tenant_id, file_id, id, num_bytes, file_expires_after_s)


async def find_upload(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> UploadRow | None:
    row = await connection.fetchrow(statements.load()["find_upload"], tenant_id, project_id, id)
    return None if row is None else UploadRow(**row)


async def try_lock_upload(connection: Connection, tenant_id: uuid.UUID, id: str) -> bool:
    """Until the transaction ends. False when it is not pending any more."""
    return await connection.fetchval(statements.load()["lock_upload"], tenant_id, id) is not None


async def try_begin_part(
    connection: Connection, tenant_id: uuid.UUID, id: str, max_parts: int
) -> int | None:
    """The number of a new part; None when the upload takes no more."""
    statement = statements.load()["begin_upload_part"]
    return await connection.fetchval(statement, tenant_id, id, max_parts)


async def insert_part(
    connection: Connection, tenant_id: uuid.UUID, upload_id: str, row: UploadPartRow
) -> datetime:
    statement = statements.load()["insert_upload_part"]
    return await connection.fetchval(statement, tenant_id, row.id, upload_id, row.part, row.bytes)


async def list_parts(
    connection: Connection, tenant_id: uuid.UUID, upload_id: str
) -> list[UploadPartRow]:
    rows = await connection.fetch(statements.load()["list_upload_parts"], tenant_id, upload_id)
    return [UploadPartRow(**row) for row in rows]


async def end_upload(connection: Connection, tenant_id: uuid.UUID, id: str, status: str) -> None:
    await connection.execute(statements.load()["end_upload"], tenant_id, id, status)

"""What does Anzoth read and write of files that were added to a vector store together?

Does not know: the files themselves (see `store_file_rows`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection
from anzoth.db.store.vector_store_rows import FileSums


@dataclass(slots=True, frozen=True)
class FileBatchRow:
    """A batch, and what became of its files."""

    id: str
    created_at: datetime
    is_cancelled: bool
    files: FileSums


async def insert_batch(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, id: str
) -> None:
    await connection.execute(statements.load()["insert_file_batch"], tenant_id, store_id, id)


async def find_batch(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, id: str
) -> FileBatchRow | None:
    row = await connection.fetchrow(statements.load()["find_file_batch"], tenant_id, store_id, id)
    if row is None:
        return None
    batch_id, created_at, is_cancelled, *sums = row
    return FileBatchRow(batch_id, created_at, is_cancelled, FileSums(*sums))


async def try_cancel_batch(
    connection: Connection, tenant_id: uuid.UUID, store_id: str, id: str
) -> bool:
    """Its files that are in progress; False: none is."""
    of = (tenant_id, store_id, id)
    if not await connection.fetch(statements.load()["cancel_files_of_batch"], *of):
        return False
    await connection.execute(statements.load()["cancel_file_batch"], *of)
    return True

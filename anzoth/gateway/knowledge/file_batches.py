"""What became of files that were added to a vector store together?

A file belongs to the batch that named it last.

Does not know: how a file gets in (see `adding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from anzoth.db.pool import Connection
from anzoth.db.store import file_batch_rows
from anzoth.db.store.file_batch_rows import FileBatchRow
from anzoth.db.store.vector_store_rows import FileSums
from anzoth.errors import NotFound
from anzoth.gateway import audit, files
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge import adding
from anzoth.gateway.knowledge.adding import FileToAdd
from anzoth.gateway.knowledge.listing import ListRequest, Page
from anzoth.gateway.knowledge.store_access import require_store
from anzoth.gateway.knowledge.store_files import StoreFiles, StoreFileView

MAX_FILES = 2_000
"""In one batch (OpenAI)."""

BatchStatus = Literal["in_progress", "completed", "cancelled", "failed"]


@dataclass(slots=True, frozen=True)
class FileBatchView:
    """A batch as the project sees it."""

    id: str
    store_id: str
    created_at: datetime
    status: BatchStatus
    files: FileSums


class FileBatches:
    """The batches of all tenants, each for its own. One per gateway.

    Every method raises what those of `StoreFiles` raise."""

    def __init__(self, store_files: StoreFiles) -> None:
        self._store_files = store_files
        self._database = store_files.database

    async def create(
        self, owner: FileOwner, store_id: str, to_add: Sequence[FileToAdd]
    ) -> FileBatchView:
        """All of them are added, or none. Raises what `adding.add` raises."""
        cipher = await self._store_files.keys.cipher(owner.tenant)
        await adding.clear(self._database, owner, store_id, to_add)
        id = files.new_id("vsfb_")
        async with self._database.tenant(owner.tenant) as connection:
            added = await adding.add(
                *(connection, owner, cipher, store_id, to_add),
                max_files=self._store_files.max_files,
                batch_id=id,
            )
            made = await _find(connection, owner, store_id, id)
            if added.num_waiting:
                details: dict[str, str | int] = {"batch_id": id, "num_files": added.num_waiting}
                event = owner.event("vector_store.file_added", store_id, **details)
                await audit.record(connection, event)
        for file_id in added.changed:
            self._store_files.on_change(owner.tenant, store_id, file_id)
        return _view(store_id, made)

    async def get(self, owner: FileOwner, store_id: str, id: str) -> FileBatchView:
        """Raises NotFound."""
        async with self._database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, store_id, may_be_expired=True)
            return _view(store_id, await _find(connection, owner, store_id, id))

    async def list_files(
        self,
        owner: FileOwner,
        store_id: str,
        id: str,
        asked: ListRequest,
        status: str | None = None,
    ) -> Page[StoreFileView]:
        """Raises NotFound, and InvalidValue for a cursor that is no file of the store."""
        await self.get(owner, store_id, id)
        return await self._store_files.list(owner, store_id, asked, status, batch_id=id)

    async def cancel(self, owner: FileOwner, store_id: str, id: str) -> FileBatchView:
        """What is not read yet will not be. A batch that has ended stays as it is. Raises
        NotFound."""
        async with self._database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, store_id, will_change=True)
            await _find(connection, owner, store_id, id)
            await file_batch_rows.try_cancel_batch(connection, owner.tenant.id, store_id, id)
            return _view(store_id, await _find(connection, owner, store_id, id))


async def _find(connection: Connection, owner: FileOwner, store_id: str, id: str) -> FileBatchRow:
    row = await file_batch_rows.find_batch(connection, owner.tenant.id, store_id, id)
    if row is None:
        raise NotFound("There is no such file batch in this vector store.", param="batch_id")
    return row


def _view(store_id: str, row: FileBatchRow) -> FileBatchView:
    return FileBatchView(row.id, store_id, row.created_at, _status(row), row.files)


def _status(row: FileBatchRow) -> BatchStatus:
    if row.is_cancelled:
        return "cancelled"
    if row.files.in_progress:
        return "in_progress"
    return "failed" if row.files.failed and row.files.failed == row.files.total else "completed"

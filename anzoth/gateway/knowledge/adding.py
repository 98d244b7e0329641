"""How do files get into a vector store?

To add a file that is there changes nothing but the attributes that are given: a client may not have
heard the answer to the first time. One that failed, was cancelled or taken out begins again under
its old number; what is left of it is deleted first.

Does not know: how a file becomes chunks, or who hears that one waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anzoth.db.pool import Connection, Database
from anzoth.db.store import file_batch_rows, store_file_rows, vector_store_rows
from anzoth.db.store.store_file_rows import AddedFile, StoreFileRow
from anzoth.errors import InvalidValue, NotFound, StorageFull
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge import store_cleanup
from anzoth.gateway.knowledge.store_access import require_store
from anzoth.gateway.knowledge.store_attributes import open_attributes, seal_attributes
from anzoth.gateway.tenant_crypt import TenantCipher

AUTO: Mapping[str, Any] = {"type": "auto"}
"""To be cut where the document's structure says so."""
_INLINE_FILES = 50
"""Whose attributes are sealed on the loop: tens of microseconds each."""


@dataclass(slots=True, frozen=True)
class FileToAdd:
    """A file that is to be in a store."""

    file_id: str
    attributes: Mapping[str, Any] | None = field(default=None, repr=False)
    """None: none are given; those that are there stay."""
    chunking: Mapping[str, Any] = field(default_factory=lambda: AUTO)
    """As OpenAI's `chunking_strategy`."""
    param: str = "file_id"
    """The field that errors name."""


@dataclass(slots=True, frozen=True)
class Added:
    """What came of it."""

    num_waiting: int
    """Files that are to be read now."""
    changed: tuple[str, ...]
    """Ids of files that are searched and have other attributes."""


async def clear(
    database: Database, owner: FileOwner, store_id: str, files: Sequence[FileToAdd]
) -> None:
    """Before files are added: deletes what is left of them from another time, in small steps.

    Raises NotFound for the store, InvalidValue where it has expired, and DatabaseDown.
    """
    tenant_id = owner.tenant.id
    async with database.tenant(owner.tenant) as connection:
        await require_store(connection, owner, store_id)
        left = await store_file_rows.left_over_of_store(
            connection, tenant_id, store_id, [file.file_id for file in files]
        )
    for file_id in left:
        await store_cleanup.empty_file(
            lambda: database.tenant(owner.tenant), tenant_id, store_id, file_id
        )


async def add(
    connection: Connection,
    owner: FileOwner,
    cipher: TenantCipher,
    store_id: str,
    files: Sequence[FileToAdd],
    *,
    max_files: int,
    batch_id: str | None = None,
) -> Added:
    """In a transaction that has no locks yet, or has just made the store. Each file once; together
    they are the batch `batch_id`.

    Raises NotFound for a file that is not the project's or a store that is not, InvalidValue for an
    expired store and for another chunking than a file has there, and StorageFull.
    """
    sealed = await _sealed(cipher, store_id, files)
    ids = [file.file_id for file in files]
    known = await store_file_rows.share_files(connection, owner.tenant.id, owner.project_id, ids)
    for file in files:
        if file.file_id not in known:
            raise NotFound("There is no such file.", param=file.param)
    await require_store(connection, owner, store_id, will_change=True)
    of = (connection, owner.tenant.id, store_id)
    there = await store_file_rows.lock_files(*of, ids)
    new = [sealed[id] for id in ids if id not in there]
    again = [sealed[id] for id, row in there.items() if not _stays(row)]
    num_more = len(new) + sum(row.is_taken_out for row in there.values())
    if num_more and await store_file_rows.count_files(*of) + num_more > max_files:
        raise StorageFull(
            f"A vector store can hold {max_files} files, and with these it would have more.",
            rule="stores.full",
        )
    if batch_id is not None:
        await file_batch_rows.insert_batch(*of, batch_id)
    last_number = await vector_store_rows.take_file_numbers(*of, len(new))
    await store_file_rows.insert_files(*of, new, last_number=last_number, batch_id=batch_id)
    await store_file_rows.restart_files(*of, again, batch_id=batch_id)
    staying = {id: row for id, row in there.items() if _stays(row)}
    if batch_id is not None:
        await store_file_rows.move_to_batch(*of, batch_id, list(staying))
    changed = []
    for file in files:
        row = staying.get(file.file_id)
        if row is not None and await _keep(connection, cipher, store_id, file, row):
            changed.append(file.file_id)
    if new or again:
        await store_file_rows.announce_waiting(connection)
    return Added(len(new) + len(again), tuple(changed))


async def change_attributes(
    connection: Connection,
    cipher: TenantCipher,
    store_id: str,
    row: StoreFileRow,
    attributes: Mapping[str, Any],
) -> bool:
    """Of a file that is locked, in a store that is. Whether searches must hear of it."""
    if attributes == open_attributes(cipher, store_id, row.id, row.attributes):
        return False
    of = (connection, cipher.tenant.id, store_id)
    is_searched = row.status == "completed"
    change = await vector_store_rows.next_change(*of) if is_searched else None
    sealed = seal_attributes(cipher, store_id, row.id, attributes)
    await store_file_rows.set_attributes(*of, row.id, sealed, change)
    return is_searched


async def _sealed(
    cipher: TenantCipher, store_id: str, files: Sequence[FileToAdd]
) -> dict[str, AddedFile]:
    def seal() -> dict[str, AddedFile]:
        return {
            file.file_id: AddedFile(
                file.file_id,
                seal_attributes(cipher, store_id, file.file_id, file.attributes),
                orjson.dumps(file.chunking).decode(),
            )
            for file in files
        }

    return seal() if len(files) <= _INLINE_FILES else await asyncio.to_thread(seal)


def _stays(row: StoreFileRow) -> bool:
    return not row.is_taken_out and row.status in ("in_progress", "completed")


async def _keep(
    connection: Connection,
    cipher: TenantCipher,
    store_id: str,
    file: FileToAdd,
    row: StoreFileRow,
) -> bool:
    """Whether searches must hear of it."""
    if orjson.loads(row.chunking) != file.chunking:
        raise InvalidValue(
            "The file is in this vector store with another chunking strategy. Delete it from the "
            "store first.",
            param=file.param,
        )
    if file.attributes is None:
        return False
    return await change_attributes(connection, cipher, store_id, row, file.attributes)

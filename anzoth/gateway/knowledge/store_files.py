"""Which files are in a vector store, what is said about them, and how do they leave?

    attach ─▶ in_progress ─▶ completed: searched          (by whoever reads waiting files)
                         └─▶ failed
      cancelled ◀─ its batch is cancelled, or the store expires

Does not know: how files get in (see `adding`), how one becomes chunks and these are found, or HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from anzoth.db.pool import Database
from anzoth.db.store import store_file_rows, vector_store_rows
from anzoth.db.store.store_file_rows import Status, StoreFileFilter, StoreFileRow
from anzoth.errors import InvalidValue, NotFound
from anzoth.gateway import audit
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge import adding
from anzoth.gateway.knowledge.adding import FileToAdd
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec
from anzoth.gateway.knowledge.listing import ListRequest, Page, page_of
from anzoth.gateway.knowledge.store_access import require_store
from anzoth.gateway.knowledge.store_attributes import open_attributes
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import TenantCipher, TenantKeys

_CHUNKS = 64
"""Read together: some 100 KiB."""

OnChange = Callable[[TenantHandle, str, str], None]
"""Told a store and a file of it which searches must see another way. Neither waits nor raises."""


@dataclass(slots=True, frozen=True)
class StoreFileView:
    """A file in a store as the project sees it."""

    id: str
    store_id: str
    created_at: datetime
    status: Status
    error_code: str | None
    error_message: str | None
    usage_bytes: int
    attributes: Mapping[str, Any] = field(repr=False)
    chunking: Mapping[str, Any]


class StoreFiles:
    """The files in the stores of all tenants, each for its own. One per gateway.

    Every method raises NotFound for a store that is not the owner's, InvalidValue for an expired
    one (whose files may still be listed), DatabaseDown, and KeyRevoked for a deleted tenant.
    """

    def __init__(
        self,
        database: Database,
        keys: TenantKeys,
        max_files: int,
        on_change: OnChange = lambda *_: None,
    ) -> None:
        self.database = database
        self.keys = keys
        self.max_files = max_files
        """In one store."""
        self.on_change = on_change

    async def attach(self, owner: FileOwner, store_id: str, file: FileToAdd) -> StoreFileView:
        """Raises what `adding.add` raises."""
        cipher = await self.keys.cipher(owner.tenant)
        await adding.clear(self.database, owner, store_id, [file])
        async with self.database.tenant(owner.tenant) as connection:
            added = await adding.add(
                connection, owner, cipher, store_id, [file], max_files=self.max_files
            )
            row = await store_file_rows.find_file(
                connection, owner.tenant.id, store_id, file.file_id
            )
            assert row is not None, "it was added"
            if added.num_waiting:
                event = owner.event("vector_store.file_added", store_id, file_id=row.id)
                await audit.record(connection, event)
        for file_id in added.changed:
            self.on_change(owner.tenant, store_id, file_id)
        return _view(cipher, store_id, row)

    async def get(self, owner: FileOwner, store_id: str, file_id: str) -> StoreFileView:
        """Raises NotFound."""
        cipher, row = await self._find(owner, store_id, file_id, may_be_expired=True)
        return _view(cipher, store_id, row)

    async def list(
        self,
        owner: FileOwner,
        store_id: str,
        asked: ListRequest,
        status: str | None = None,
        *,
        batch_id: str | None = None,
    ) -> Page[StoreFileView]:
        """Of one status, of one batch; None: of any. Raises InvalidValue for a cursor that is no
        file of the store. One that was just taken out is fine."""
        cipher = await self.keys.cipher(owner.tenant)
        wanted = StoreFileFilter(batch_id, status)
        async with self.database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, store_id, may_be_expired=True)
            of = (connection, owner.tenant.id, store_id)
            page = await page_of(
                asked,
                lambda id: store_file_rows.find_place(*of, id),
                lambda between, limit: store_file_rows.list_files(*of, wanted, between, limit),
            )
        return Page([_view(cipher, store_id, row) for row in page.entries], page.has_more)

    async def set_attributes(
        self, owner: FileOwner, store_id: str, file_id: str, attributes: Mapping[str, Any]
    ) -> StoreFileView:
        """It has these and no others. Raises NotFound."""
        cipher = await self.keys.cipher(owner.tenant)
        async with self.database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, store_id, will_change=True)
            of = (connection, owner.tenant.id, store_id)
            row = (await store_file_rows.lock_files(*of, [file_id])).get(file_id)
            if row is None or row.is_taken_out:
                raise unknown_store_file()
            is_change = await adding.change_attributes(
                connection, cipher, store_id, row, attributes
            )
            row = await store_file_rows.find_file(*of, file_id)
            assert row is not None, "it is locked"
        if is_change:
            self.on_change(owner.tenant, store_id, file_id)
        return _view(cipher, store_id, row)

    async def detach(self, owner: FileOwner, store_id: str, file_id: str) -> None:
        """It stays a file of the project. Raises NotFound."""
        async with self.database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, store_id, will_change=True, may_be_expired=True)
            of = (connection, owner.tenant.id, store_id)
            change = await vector_store_rows.next_change(*of)
            if not await store_file_rows.take_out(*of, file_id, change):
                raise unknown_store_file()
            event = owner.event("vector_store.file_removed", store_id, file_id=file_id)
            await audit.record(connection, event)
        self.on_change(owner.tenant, store_id, file_id)

    async def content(self, owner: FileOwner, store_id: str, file_id: str) -> AsyncIterator[str]:
        """The text that is searched, in pieces: what is cited is a span of it.

        Raises NotFound, and InvalidValue while it is not completed; the pieces raise NotFound when
        it is taken out meanwhile, and CannotOpen.
        """
        cipher, row = await self._find(owner, store_id, file_id)
        if row.status != "completed":
            raise InvalidValue(
                f"There is no text of a file that is '{row.status}'.", param="file_id"
            )
        return self._text(cipher, store_id, row)

    async def _text(
        self, cipher: TenantCipher, store_id: str, file: StoreFileRow
    ) -> AsyncIterator[str]:
        codec = ChunkCodec(cipher, store_id)
        position, end = -1, 0
        while position < file.num_chunks - 1:
            async with self.database.tenant(cipher.tenant) as connection:
                rows = await store_file_rows.chunks(
                    connection, cipher.tenant.id, store_id, file, behind=position, limit=_CHUNKS
                )
            if not rows:
                raise NotFound("The file was taken out of the vector store meanwhile.")
            contents = await asyncio.to_thread(
                lambda rows=rows: [codec.open_content(row.number, row.content) for row in rows]
            )
            pieces = []
            for content in contents:
                pieces.append(content.behind(end))
                end = max(end, content.end)
            position = rows[-1].position
            yield "".join(pieces)

    async def _find(
        self, owner: FileOwner, store_id: str, file_id: str, *, may_be_expired: bool = False
    ) -> tuple[TenantCipher, StoreFileRow]:
        cipher = await self.keys.cipher(owner.tenant)
        async with self.database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, store_id, may_be_expired=may_be_expired)
            row = await store_file_rows.find_file(connection, owner.tenant.id, store_id, file_id)
        if row is None:
            raise unknown_store_file()
        return cipher, row


def unknown_store_file() -> NotFound:
    """For every id that is not one of a file in this store, whatever else it is."""
    return NotFound("There is no such file in this vector store.", param="file_id")


def _view(cipher: TenantCipher, store_id: str, row: StoreFileRow) -> StoreFileView:
    return StoreFileView(
        id=row.id,
        store_id=store_id,
        created_at=row.created_at,
        status=row.status,
        error_code=row.error_code,
        error_message=row.error_message,
        usage_bytes=row.usage_bytes,
        attributes=open_attributes(cipher, store_id, row.id, row.attributes),
        chunking=orjson.loads(row.chunking),
    )

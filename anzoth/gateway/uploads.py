"""How does a file come in that is too large to be sent at once?

    create ─▶ part, part, … (in any order, also at the same time) ─▶ complete: a file
                                                                  └▶ cancel, or an hour passes: gone

The file's row is there from the beginning, unseen, and each part goes to where it will stay:
completing an upload copies nothing. Parts that the completion does not name are deleted.

Does not know: HTTP, or how a part is stored (see `file_pieces`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db.pool import Connection
from anzoth.db.store import file_rows, upload_rows
from anzoth.db.store.file_rows import FileRow
from anzoth.db.store.upload_rows import UploadPartRow, UploadRow
from anzoth.errors import InvalidValue, NotFound, StorageFull
from anzoth.file_config import MIB
from anzoth.gateway import file_pieces, files
from anzoth.gateway.file_pieces import PIECE_BYTES, Layout, PieceWriter, Room
from anzoth.gateway.files import FileOwner, FileRequest, Files, FileView
from anzoth.gateway.tenant_crypt import TenantCipher

MAX_PART_BYTES = 64 * MIB
MAX_PARTS = 10_000
PENDING, COMPLETED, CANCELLED, EXPIRED = "pending", "completed", "cancelled", "expired"


@dataclass(slots=True, frozen=True)
class UploadView:
    """An upload as its project sees it."""

    id: str
    filename: str = field(repr=False)
    purpose: str
    bytes: int
    status: str
    created_at: datetime
    expires_at: datetime
    file: FileView | None = None
    """What it became."""


@dataclass(slots=True, frozen=True)
class UploadPartView:
    """A part that has come in."""

    id: str
    upload_id: str
    created_at: datetime


class Uploads:
    """The uploads of all tenants, each for its own. One per gateway. Raises as `Files` does."""

    def __init__(self, files: Files) -> None:
        self._files = files

    @property
    def max_bytes(self) -> int:
        """Of one upload."""
        return self._files.config.max_upload_mib * MIB

    async def create(self, owner: FileOwner, request: FileRequest, num_bytes: int) -> UploadView:
        """Raises StorageFull."""
        config = self._files.config
        cipher = await self._files.keys.cipher(owner.tenant)
        id, file_id = files.new_id("upload_"), files.new_id("file-")
        async with self._files.database.tenant(owner.tenant) as connection:
            created_at, expires_at = await files.insert_row(
                connection,
                config,
                owner,
                file_id,
                purpose=request.purpose,
                filename=files.seal_name(cipher, file_id, request.filename),
            )
            stored = await file_rows.sums(connection, owner.tenant.id)
            if stored.num_bytes + num_bytes > config.tenant_mib * MIB:
                raise StorageFull()
            await upload_rows.insert_upload(
                connection, owner.tenant.id, file_id, id, num_bytes, request.expires_after_s
            )
        return UploadView(
            id, request.filename, request.purpose, num_bytes, PENDING, created_at, expires_at
        )

    async def begin_part(self, owner: FileOwner, id: str) -> IncomingPart:
        """Raises NotFound, and InvalidValue when the upload takes no more."""
        cipher = await self._files.keys.cipher(owner.tenant)
        async with self._files.database.tenant(owner.tenant) as connection:
            row = await _find_pending(connection, owner, id)
            part = await upload_rows.try_begin_part(connection, owner.tenant.id, id, MAX_PARTS)
        if part is None:
            raise InvalidValue(f"This upload takes no more parts (at most {MAX_PARTS}).")
        return IncomingPart(self._files, owner, cipher, row, part)

    async def complete(
        self, owner: FileOwner, id: str, part_ids: Sequence[str], md5: str | None
    ) -> UploadView:
        """The parts become the file, in this order. Doing it again, with the same parts, finds it
        done: the answer to the first time may have been lost.

        Raises NotFound; InvalidValue when the upload takes no more, a part is not one of its, they
        are not as long as was announced, or the MD5 (hexadecimal) is another.
        """
        tenant_id = owner.tenant.id
        cipher = await self._files.keys.cipher(owner.tenant)
        async with self._files.database.tenant(owner.tenant) as connection:
            row = await _find(connection, owner, id)
            layout = _layout(row, await upload_rows.list_parts(connection, tenant_id, id), part_ids)
            if row.status == COMPLETED:
                scope = (connection, tenant_id, owner.project_id)
                done = await file_rows.find_file(*scope, row.file_id)
                if done is None or layout != file_pieces.open_layout(
                    cipher, row.file_id, done.layout
                ):
                    raise _takes_no_more(COMPLETED)
                return _view(cipher, row, done)
        _check_pending(row)
        if md5 is not None:
            await self._check_md5(cipher, row, layout, md5)
        async with self._files.database.tenant(owner.tenant) as connection:
            if not await upload_rows.try_lock_upload(connection, tenant_id, id):
                raise _takes_no_more(None)
            await file_rows.drop_other_parts(
                connection, tenant_id, row.file_id, [part for part, _ in layout]
            )
            await upload_rows.end_upload(connection, tenant_id, id, COMPLETED)
            assert row.filename is not None, "the file of a pending upload is there"
            request = FileRequest("", row.purpose, row.file_expires_after_s)
            file = await files.receive(
                connection, owner, cipher, row.file_id, layout, row.filename, request
            )
        return _view(cipher, row, file)

    async def cancel(self, owner: FileOwner, id: str) -> UploadView:
        """Raises NotFound, and InvalidValue when it is not pending."""
        cipher = await self._files.keys.cipher(owner.tenant)
        async with self._files.database.tenant(owner.tenant) as connection:
            row = await _find_pending(connection, owner, id)
            cancelled = _view(cipher, row, status=CANCELLED)
            if not await upload_rows.try_lock_upload(connection, owner.tenant.id, id):
                raise _takes_no_more(None)
            await upload_rows.end_upload(connection, owner.tenant.id, id, CANCELLED)
            await file_rows.give_up_file(connection, owner.tenant.id, row.file_id)
        self._files.cleanup.wake()
        return cancelled

    async def _check_md5(
        self, cipher: TenantCipher, row: UploadRow, layout: Layout, md5: str
    ) -> None:
        """Reads all of it. Raises InvalidValue."""
        self._files.transfers.check(cipher.tenant)
        with self._files.transfers.one_of(cipher.tenant):
            digest = hashlib.md5(usedforsecurity=False)
            content = file_pieces.pieces(self._files.connections, cipher, row.file_id, layout)
            async for piece in content:
                await asyncio.to_thread(digest.update, piece)
        if digest.hexdigest() != md5.lower():
            raise InvalidValue(
                "The parts do not have this MD5 checksum: something was lost or changed on the "
                "way.",
                param="md5",
            )


class IncomingPart:
    """`write` what comes, then `complete`; or `abandon`, which may be called in any case."""

    def __init__(
        self, files: Files, owner: FileOwner, cipher: TenantCipher, upload: UploadRow, part: int
    ) -> None:
        self._files = files
        self._owner = owner
        self._upload = upload
        self._part = part
        self._is_complete = False
        room = Room(MAX_PART_BYTES, files.config.tenant_mib * MIB)
        self._writer = PieceWriter(
            files.connections, cipher, upload.file_id, part, room, self._lock_upload
        )

    async def write(self, data: bytes) -> None:
        """Raises PayloadTooLarge, StorageFull, and InvalidValue when the upload takes no more."""
        await self._writer.write(data)

    async def complete(self) -> UploadPartView:
        """Raises InvalidValue for an empty part, and what `write` raises."""
        if not self._writer.num_bytes:
            raise InvalidValue("The part is empty.", param="data")
        made = await self._writer.finish(self._insert)
        self._is_complete = True
        return made

    def abandon(self) -> None:
        """Has what was stored deleted, unless the part is complete."""
        if not self._is_complete and self._writer.num_pieces:
            # Of a part that is not whole, all pieces that are stored are full ones.
            self._files.cleanup.give_up_part(
                self._owner.tenant,
                self._upload.file_id,
                self._part,
                self._writer.num_pieces * PIECE_BYTES,
            )

    async def _lock_upload(self, connection: Connection) -> None:
        if not await upload_rows.try_lock_upload(
            connection, self._owner.tenant.id, self._upload.id
        ):
            raise _takes_no_more(None)

    async def _insert(self, connection: Connection) -> UploadPartView:
        row = UploadPartRow(files.new_id("part_"), self._part, self._writer.num_bytes)
        created_at = await upload_rows.insert_part(
            connection, self._owner.tenant.id, self._upload.id, row
        )
        return UploadPartView(row.id, self._upload.id, created_at)


async def _find(connection: Connection, owner: FileOwner, id: str) -> UploadRow:
    """Raises NotFound: the same for what is unknown and what is another's."""
    row = await upload_rows.find_upload(connection, owner.tenant.id, owner.project_id, id)
    if row is None:
        raise NotFound("There is no such upload.", param="upload_id")
    return row


async def _find_pending(connection: Connection, owner: FileOwner, id: str) -> UploadRow:
    row = await _find(connection, owner, id)
    _check_pending(row)
    return row


def _check_pending(row: UploadRow) -> None:
    """Raises InvalidValue."""
    status = EXPIRED if row.status == PENDING and row.is_expired else row.status
    if status != PENDING:
        raise _takes_no_more(status)


def _takes_no_more(status: str | None) -> InvalidValue:
    """None: it ended just now, in one way or another."""
    return InvalidValue(f"This upload is {status or 'not pending any more'}.", param="upload_id")


def _layout(row: UploadRow, parts: Sequence[UploadPartRow], part_ids: Sequence[str]) -> Layout:
    """Raises InvalidValue."""
    by_id = {part.id: part for part in parts}
    layout: list[tuple[int, int]] = []
    for index, part_id in enumerate(part_ids):
        part = by_id.pop(part_id, None)  # each once
        if part is None:
            raise InvalidValue(
                f"'part_ids[{index}]' is not a part of this upload, or is named twice.",
                param=f"part_ids[{index}]",
            )
        layout.append((part.part, part.bytes))
    num_bytes = sum(part_bytes for _, part_bytes in layout)
    if num_bytes != row.bytes:
        raise InvalidValue(
            f"The parts have {num_bytes} bytes together, and {row.bytes} were announced.",
            param="part_ids",
        )
    return layout


def _view(
    cipher: TenantCipher, row: UploadRow, file: FileRow | None = None, status: str = COMPLETED
) -> UploadView:
    name = row.filename if file is None else file.filename
    assert name is not None, "it is there, or was found"
    return UploadView(
        id=row.id,
        filename=files.open_name(cipher, row.file_id, name),
        purpose=row.purpose,
        bytes=row.bytes,
        status=status,
        created_at=row.created_at,
        expires_at=row.expires_at,
        file=None if file is None else files.view(cipher, file),
    )

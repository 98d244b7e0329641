"""Which files does a project have, and how does one come in and go?

A file belongs to a project of a tenant; for everybody else it does not exist. Its content and its
name are sealed with the tenant's key (see `tenant_crypt`, `file_pieces`); what lists filter and
sort by (purpose, size, times) is not.

A file that comes in at once is an `IncomingFile`; one that comes in parts, an upload (`uploads`).

Does not know: HTTP, or what is done with a file.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from anzoth.db.pool import Connection, Database
from anzoth.db.store import file_rows
from anzoth.db.store.file_rows import FileFilter, FileRow
from anzoth.errors import InvalidValue, KeyRevoked, NotFound, StorageFull
from anzoth.file_config import MIB, FilesConfig
from anzoth.gateway import audit, file_pieces
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.file_cleanup import FileCleanup
from anzoth.gateway.file_pieces import NAME_KIND, PieceConnections, PieceWriter, Room
from anzoth.gateway.file_transfers import FileTransfers
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.tenant_crypt import Label, TenantCipher, TenantKeys

RECEIVE_S = 3600
"""How long a file may take to come in; what is not whole by then is deleted."""
_INLINE_ROWS = 100

Before = Callable[[Connection, str], Awaitable[None]]


@dataclass(slots=True, frozen=True)
class FileOwner:
    """Whose files are meant, and who acts."""

    tenant: TenantHandle
    project_id: UUID
    actor: Actor
    request_id: str | None = None

    @classmethod
    def of(cls, principal: Principal, ip: str | None, request_id: str) -> FileOwner:
        actor = audit.actor_of(principal, ip)
        return cls(principal.tenant, principal.project_id, actor, request_id)

    def event(self, type: str, id: str, /, **details: str | int) -> AuditEvent:
        return AuditEvent(
            type,
            self.actor,
            self.tenant.id,
            self.project_id,
            target={"id": id},
            details=details,
            request_id=self.request_id,
        )


@dataclass(slots=True, frozen=True)
class FileView:
    """A file as its project sees it."""

    id: str
    filename: str = field(repr=False)
    purpose: str
    bytes: int
    created_at: datetime
    expires_at: datetime | None


@dataclass(slots=True, frozen=True)
class FileRequest:
    """What a file should be. Its fields are checked (see `api.files`)."""

    filename: str = field(repr=False)
    purpose: str
    expires_after_s: int | None


class Files:
    """The files of all tenants, each for its own. One per gateway.

    Every method raises DatabaseDown, and KeyRevoked where the tenant was deleted meanwhile.
    """

    def __init__(self, database: Database, keys: TenantKeys, config: FilesConfig) -> None:
        self.database = database
        self.connections = PieceConnections(database)
        self.keys = keys
        self.config = config
        self.transfers = FileTransfers(config.max_transfers, config.tenant_transfers)
        self.cleanup = FileCleanup(database)

    async def begin(
        self, owner: FileOwner, announced_bytes: int = 0, *, max_mib: int | None = None
    ) -> IncomingFile:
        """A file that comes in at once, of about `announced_bytes` or more. Nothing is stored
        before its first piece is. `max_mib=None`: as large as a file may be that is sent."""
        cipher = await self.keys.cipher(owner.tenant)
        max_bytes = (max_mib or self.config.max_file_mib) * MIB
        return IncomingFile(self, owner, cipher, announced_bytes, max_bytes)

    async def get(self, owner: FileOwner, id: str) -> FileView:
        """Raises NotFound."""
        row, cipher = await self._find(owner, id)
        return view(cipher, row)

    async def list(
        self,
        owner: FileOwner,
        limit: int,
        *,
        purpose: str | None = None,
        is_ascending: bool = False,
        after: str | None = None,
    ) -> Sequence[FileView]:
        """Raises InvalidValue when `after` is no file's id. One that was just deleted is fine: who
        deletes what a page lists still gets the next page."""
        cipher = await self.keys.cipher(owner.tenant)
        place: tuple[datetime, str] | None = None
        async with self.database.tenant(owner.tenant) as connection:
            scope = (connection, owner.tenant.id, owner.project_id)
            if after is not None:
                created_at = await file_rows.find_place(*scope, after)
                if created_at is None:
                    raise InvalidValue("'after' must be the id of a file.", param="after")
                place = (created_at, after)
            wanted = FileFilter(purpose, is_ascending, place)
            rows = await file_rows.list_files(*scope, wanted, limit)
        if len(rows) <= _INLINE_ROWS:
            return [view(cipher, row) for row in rows]
        return await asyncio.to_thread(lambda: [view(cipher, row) for row in rows])

    async def content(self, owner: FileOwner, id: str) -> tuple[FileView, AsyncIterator[bytes]]:
        """The file, and its bytes in pieces. Raises NotFound; for the bytes see `file_pieces`."""
        row, cipher = await self._find(owner, id)
        layout = file_pieces.open_layout(cipher, row.id, row.layout)
        return view(cipher, row), file_pieces.pieces(self.connections, cipher, row.id, layout)

    async def delete(self, owner: FileOwner, id: str) -> None:
        """Raises NotFound."""
        async with self.database.tenant(owner.tenant) as connection:
            if not await file_rows.delete_file(connection, owner.tenant.id, owner.project_id, id):
                raise unknown_file()
            await audit.record(connection, owner.event("file.deleted", id))
        self.cleanup.wake()

    async def _find(self, owner: FileOwner, id: str) -> tuple[FileRow, TenantCipher]:
        cipher = await self.keys.cipher(owner.tenant)
        async with self.database.tenant(owner.tenant) as connection:
            row = await file_rows.find_file(connection, owner.tenant.id, owner.project_id, id)
        if row is None:
            raise unknown_file()
        return row, cipher


class IncomingFile:
    """`write` what comes, then `complete`; or `abandon`, which may be called in any case."""

    def __init__(
        self,
        files: Files,
        owner: FileOwner,
        cipher: TenantCipher,
        announced_bytes: int,
        max_bytes: int,
    ) -> None:
        self._files = files
        self._owner = owner
        self._cipher = cipher
        self._id = new_id("file-")
        self._is_complete = False
        room = Room(max_bytes, files.config.tenant_mib * MIB)
        self._writer = PieceWriter(
            *(files.connections, cipher, self._id, 0, room, self._ensure_row),
            announced_bytes=min(announced_bytes, room.max_bytes),
        )

    async def write(self, data: bytes) -> None:
        """Raises PayloadTooLarge, StorageFull and DatabaseDown."""
        await self._writer.write(data)

    async def complete(self, request: FileRequest, before: Before | None = None) -> FileView:
        """Raises InvalidValue for an empty file, and what `write` raises.

        `before` is done in the transaction that makes it a file, with its id: both happen, or none.
        """
        if not self._writer.num_bytes:
            raise InvalidValue("The file is empty.", param="file")

        async def receive(connection: Connection) -> FileRow:
            if before is not None:
                await before(connection, self._id)
            return await self._receive(connection, request)

        row = await self._writer.finish(receive)
        self._is_complete = True
        return view(self._cipher, row)

    def abandon(self) -> None:
        """Has what was stored deleted, unless the file is complete."""
        if not self._is_complete and self._writer.num_pieces:
            self._files.cleanup.give_up(self._owner.tenant, self._id)

    async def _ensure_row(self, connection: Connection) -> None:
        if not self._writer.num_pieces:
            await insert_row(connection, self._files.config, self._owner, self._id)

    async def _receive(self, connection: Connection, request: FileRequest) -> FileRow:
        layout = [(0, self._writer.num_bytes)]
        name = seal_name(self._cipher, self._id, request.filename)
        return await receive(connection, self._owner, self._cipher, self._id, layout, name, request)


# --- what files and uploads share ----------------------------------------------------------------


async def insert_row(
    connection: Connection,
    config: FilesConfig,
    owner: FileOwner,
    id: str,
    *,
    purpose: str | None = None,
    filename: bytes | None = None,
) -> tuple[datetime, datetime]:
    """A file that nobody sees yet: when it was made, and when it is given up.

    Raises StorageFull when there are too many, and KeyRevoked.
    """
    made = await file_rows.try_insert_file(
        connection,
        owner.tenant.id,
        id,
        owner.project_id,
        gives_up_after_s=RECEIVE_S,
        purpose=purpose,
        filename=filename,
    )
    if made is None:
        raise KeyRevoked("This tenant was deleted.")
    if (await file_rows.sums(connection, owner.tenant.id)).num_files > config.tenant_files:
        raise StorageFull(
            f"Your organization has {config.tenant_files} files, and no more are allowed. Delete "
            "some of them."
        )
    return made


async def receive(
    connection: Connection,
    owner: FileOwner,
    cipher: TenantCipher,
    id: str,
    layout: file_pieces.Layout,
    name: bytes,
    request: FileRequest,
) -> FileRow:
    """From now on it is a file. To be called last in a transaction. Raises NotFound when it does
    not come in any more."""
    num_bytes = sum(part_bytes for _, part_bytes in layout)
    row = await file_rows.try_receive_file(
        connection,
        owner.tenant.id,
        id,
        purpose=request.purpose,
        filename=name,
        layout=file_pieces.seal_layout(cipher, id, layout),
        num_bytes=num_bytes,
        expires_after_s=request.expires_after_s,
    )
    if row is None:
        raise NotFound("This file does not come in any more: it took too long, or was deleted.")
    event = owner.event("file.created", id, purpose=request.purpose, bytes=num_bytes)
    await audit.record(connection, event)
    return row


def new_id(prefix: str) -> str:
    """Unguessable: 128 bits."""
    return prefix + secrets.token_hex(16)


def seal_name(cipher: TenantCipher, file_id: str, filename: str) -> bytes:
    return cipher.seal(filename.encode(), Label(NAME_KIND, file_id))


def open_name(cipher: TenantCipher, file_id: str, sealed: bytes) -> str:
    """Raises CannotOpen."""
    return cipher.open(sealed, Label(NAME_KIND, file_id)).decode()


def view(cipher: TenantCipher, row: FileRow) -> FileView:
    filename = open_name(cipher, row.id, row.filename)
    return FileView(row.id, filename, row.purpose, row.bytes, row.created_at, row.expires_at)


def unknown_file() -> NotFound:
    """For every id that is not one of this project's files, whoever's it is."""
    return NotFound("There is no such file.", param="file_id")

"""When does what nobody can see any more leave the database?

A file that is deleted, has expired or never came in whole is marked first: from that moment nobody
sees it, and its room is free. Its pieces are deleted soon after, a few at a time, and its row an
hour later, so that a list that was at this file can go on behind it.

Each gateway does this, for all tenants: that others do the same does no harm.

Does not know: what is in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anzoth.db.pool import Connection, Database, act_in_tenant
from anzoth.db.store import file_rows
from anzoth.db.store.file_rows import OutdatedFile
from anzoth.gateway import audit
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.sweeping import sweep_for_ever

REMEMBERED_S = 3600
"""For how long the row of a deleted file stays."""
_INTERVAL_S = 60.0
_MAX_FILES = 100
"""Looked at together."""
_MAX_PIECES = 64
"""In one transaction: tens of milliseconds."""
_MAX_GIVEN_UP = 10_000


@dataclass(slots=True, frozen=True)
class _GivenUp:
    """A file, or a part of one, that will not come in whole."""

    tenant: TenantHandle
    file_id: str
    part: int | None = None
    num_bytes: int = 0


class FileCleanup:
    """One per gateway. `run` must be running."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = asyncio.Event()
        # Those that fall out, and those that a crash forgets, expire within the hour.
        self._given_up: deque[_GivenUp] = deque(maxlen=_MAX_GIVEN_UP)

    def wake(self) -> None:
        """Something was deleted just now."""
        self._wanted.set()

    def give_up(self, tenant: TenantHandle, file_id: str) -> None:
        """This file will not come in. Never waits: whoever says so may be cancelled."""
        self._given_up.append(_GivenUp(tenant, file_id))
        self.wake()

    def give_up_part(self, tenant: TenantHandle, file_id: str, part: int, num_bytes: int) -> None:
        """This part of a file will not come in. `num_bytes`: what its pieces hold."""
        self._given_up.append(_GivenUp(tenant, file_id, part, num_bytes))
        self.wake()

    async def run(self) -> None:
        """Cleans up for ever."""
        await sweep_for_ever(
            self.sweep, self._wanted, every_s=_INTERVAL_S, if_not="deleted files were not removed"
        )

    async def sweep(self) -> None:
        """All that there is to do now. Raises DatabaseDown."""
        while self._given_up:
            given_up = self._given_up[0]
            of = (given_up.tenant.id, given_up.file_id)
            async with self._database.tenant(given_up.tenant) as connection:
                if given_up.part is None:
                    await file_rows.give_up_file(connection, *of)
                else:
                    await file_rows.drop_part(connection, *of, given_up.part, given_up.num_bytes)
            self._given_up.popleft()
        has_progress = True
        while has_progress:
            async with self._database.outdated_files() as connection:
                outdated = await file_rows.outdated_files(connection, REMEMBERED_S, _MAX_FILES)
            has_progress = False
            for file in outdated:
                has_progress |= await self._advance(file)

    async def _advance(self, file: OutdatedFile) -> bool:
        """One step of the way out. False when there was nothing to do any more."""
        if not file.is_deleted:
            return await self._expire(file)
        if file.bytes:
            return await self._empty(file)
        async with self._acting_for(file) as connection:
            return await file_rows.forget_file(connection, file.tenant_id, file.id, REMEMBERED_S)

    async def _expire(self, file: OutdatedFile) -> bool:
        async with self._acting_for(file) as connection:
            is_mine = await file_rows.expire_file(connection, file.tenant_id, file.id)
            if is_mine and file.was_received:
                event = AuditEvent(
                    "file.deleted",
                    audit.SYSTEM,
                    file.tenant_id,
                    file.project_id,
                    target={"id": file.id},
                    details={"reason": "expired"},
                )
                await audit.record(connection, event)
        return is_mine

    async def _empty(self, file: OutdatedFile) -> bool:
        while True:
            async with self._acting_for(file) as connection:
                num_deleted = await file_rows.delete_pieces(
                    connection, file.tenant_id, file.id, _MAX_PIECES
                )
                if num_deleted < _MAX_PIECES:
                    return await file_rows.set_empty(connection, file.tenant_id, file.id)

    @contextlib.asynccontextmanager
    async def _acting_for(self, file: OutdatedFile) -> AsyncIterator[Connection]:
        """A transaction of the tenant whose file it is."""
        async with self._database.outdated_files() as connection:
            await act_in_tenant(connection, file.tenant_id)
            yield connection

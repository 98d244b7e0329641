"""What does a tenant see of its own chain?

Does not know: how a page is written down, or another tenant's events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows, project_rows
from anzoth.db.store.audit_rows import AuditFilter, AuditRow
from anzoth.errors import DatabaseUnavailable, NotFound
from anzoth.gateway.principal import TenantHandle

__all__ = ["AuditFilter", "AuditPage", "AuditReader", "AuditRow"]


@dataclass(slots=True, frozen=True)
class AuditPage:
    """Some events, the latest first."""

    rows: Sequence[AuditRow]
    has_more: bool
    project_names: Mapping[UUID, str]


class AuditReader:
    """One per gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        tenant: TenantHandle,
        wanted: AuditFilter,
        limit: int,
        *,
        after: UUID | None = None,
        before: UUID | None = None,
    ) -> AuditPage:
        """The events that follow `after` in the list, or the last ones that precede `before`.

        Raises NotFound when there is no such event, and DatabaseUnavailable.
        """
        try:
            async with self._database.tenant(tenant) as connection:

                async def place(name: str, id: UUID | None) -> int | None:
                    if id is None:
                        return None
                    seq = await audit_rows.find_event(connection, tenant.id, id)
                    if seq is None:
                        raise NotFound(f"There is no event with this '{name}' id.", param=name)
                    return seq

                wanted = replace(
                    wanted,
                    before_seq=await place("after", after),
                    after_seq=await place("before", before),
                )
                rows = await audit_rows.page_of_events(connection, tenant.id, wanted, limit + 1)
                has_more = len(rows) > limit
                rows = rows[:limit] if before is None else rows[-limit:]
                ids = {row.project_id for row in rows if row.project_id is not None}
                names = await project_rows.names_of_projects(connection, ids)
        except DatabaseDown as error:
            raise DatabaseUnavailable("The audit log cannot be read now. Please retry.") from error
        return AuditPage(rows, has_more, names)

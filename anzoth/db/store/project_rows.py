"""What does Anzoth read and write of projects?

Does not know: what a project may do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class ProjectRow:
    """A part of a tenant."""

    id: uuid.UUID
    name: str
    is_default: bool
    created_at: datetime
    archived_at: datetime | None


async def try_insert_project(
    connection: Connection, id: uuid.UUID, tenant_id: uuid.UUID, name: str, *, is_default: bool
) -> ProjectRow | None:
    """None when the tenant has a living project of this name."""
    statement = statements.load()["insert_project"]
    row = await connection.fetchrow(statement, id, tenant_id, name, is_default)
    return None if row is None else ProjectRow(**row)


async def find_project(
    connection: Connection, tenant_id: uuid.UUID, name: str | None
) -> ProjectRow | None:
    """The living project of this name; None as name: the default one."""
    row = await connection.fetchrow(statements.load()["find_project"], tenant_id, name)
    return None if row is None else ProjectRow(**row)


async def names_of_projects(
    connection: Connection, ids: Iterable[uuid.UUID]
) -> dict[uuid.UUID, str]:
    """Archived ones too."""
    rows = await connection.fetch(statements.load()["names_of_projects"], list(ids))
    return {row["id"]: row["name"] for row in rows}

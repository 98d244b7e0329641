"""What does Anzoth read and write of projects?

Does not know: what a project may do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

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


async def list_projects(connection: Connection, tenant_id: uuid.UUID) -> list[ProjectRow]:
    rows = await connection.fetch(statements.load()["list_projects"], tenant_id)
    return [ProjectRow(**row) for row in rows]


async def page_of_projects(
    connection: Connection,
    tenant_id: uuid.UUID,
    after: uuid.UUID | None,
    limit: int,
    *,
    include_archived: bool,
) -> list[ProjectRow]:
    """In the order in which they were made."""
    statement = statements.load()["page_of_projects"]
    rows = await connection.fetch(statement, tenant_id, include_archived, None, after, limit)
    return [ProjectRow(**row) for row in rows]


async def find_project_by_id(
    connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID
) -> ProjectRow | None:
    """An archived one too."""
    statement = statements.load()["page_of_projects"]
    row = await connection.fetchrow(statement, tenant_id, True, id, None, 1)
    return None if row is None else ProjectRow(**row)


async def try_rename_project(connection: Connection, id: uuid.UUID, name: str) -> ProjectRow | None:
    """None when it is gone, or the tenant has a living project of this name."""
    try:
        async with connection.transaction():
            row = await connection.fetchrow(statements.load()["rename_project"], id, name)
    except asyncpg.UniqueViolationError:
        return None
    return None if row is None else ProjectRow(**row)


async def try_archive_project(connection: Connection, id: uuid.UUID) -> ProjectRow | None:
    """None when it was archived before, or is the tenant's default one."""
    row = await connection.fetchrow(statements.load()["archive_project"], id)
    return None if row is None else ProjectRow(**row)


async def is_living(connection: Connection, id: uuid.UUID) -> bool:
    """Whether there is such a project, and it is not archived."""
    return await connection.fetchval(statements.load()["is_living_project"], id)

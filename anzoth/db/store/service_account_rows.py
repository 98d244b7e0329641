"""What does Anzoth read and write of service accounts?

Does not know: what the keys of one may do.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class ServiceAccountRow:
    """A living one."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    name: str
    created_at: datetime


async def insert_service_account(
    connection: Connection, id: uuid.UUID, tenant_id: uuid.UUID, project_id: uuid.UUID, name: str
) -> ServiceAccountRow:
    statement = statements.load()["insert_service_account"]
    return ServiceAccountRow(
        **await connection.fetchrow(statement, id, tenant_id, project_id, name)
    )


async def page_of_service_accounts(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID | None,
    after: uuid.UUID | None,
    limit: int | None,
) -> list[ServiceAccountRow]:
    """In the order in which they were made. `project_id` None: of every project."""
    statement = statements.load()["page_of_service_accounts"]
    rows = await connection.fetch(statement, tenant_id, project_id, None, after, limit)
    return [ServiceAccountRow(**row) for row in rows]


async def find_service_account(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID | None, id: uuid.UUID
) -> ServiceAccountRow | None:
    statement = statements.load()["page_of_service_accounts"]
    row = await connection.fetchrow(statement, tenant_id, project_id, id, None, 1)
    return None if row is None else ServiceAccountRow(**row)


async def rename_service_account(
    connection: Connection, id: uuid.UUID, name: str
) -> ServiceAccountRow | None:
    """None when it is gone."""
    row = await connection.fetchrow(statements.load()["rename_service_account"], id, name)
    return None if row is None else ServiceAccountRow(**row)


async def delete_service_account(connection: Connection, id: uuid.UUID) -> ServiceAccountRow | None:
    """None when it is gone."""
    row = await connection.fetchrow(statements.load()["delete_service_account"], id)
    return None if row is None else ServiceAccountRow(**row)

"""What does Anzoth read and write of tenants?

Does not know: what a tenant owns.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class TenantRow:
    """A tenant."""

    id: uuid.UUID
    name: str
    created_at: datetime
    deleted_at: datetime | None


@dataclass(slots=True, frozen=True)
class TenantListing:
    """A tenant as lists show it."""

    id: uuid.UUID
    name: str
    created_at: datetime
    deleted_at: datetime | None
    num_keys: int


async def lock_directory(connection: Connection) -> None:
    """Serialises transactions that decide by what the directory holds."""
    await connection.execute(statements.load()["lock_directory"])


async def has_any_tenant(connection: Connection) -> bool:
    return await connection.fetchval(statements.load()["any_tenant"])


async def try_insert_tenant(connection: Connection, id: uuid.UUID, name: str) -> TenantRow | None:
    """None when the name is taken."""
    row = await connection.fetchrow(statements.load()["insert_tenant"], id, name)
    return None if row is None else TenantRow(**row)


async def find_tenant(connection: Connection, name: str) -> TenantRow | None:
    row = await connection.fetchrow(statements.load()["find_tenant"], name)
    return None if row is None else TenantRow(**row)


async def list_tenants(connection: Connection) -> list[TenantListing]:
    return [
        TenantListing(**row) for row in await connection.fetch(statements.load()["list_tenants"])
    ]


async def delete_tenant(connection: Connection, id: uuid.UUID) -> datetime | None:
    """When it was deleted; None when it had been before."""
    return await connection.fetchval(statements.load()["delete_tenant"], id)


async def list_deleted_tenants(connection: Connection) -> list[uuid.UUID]:
    rows = await connection.fetch(statements.load()["list_deleted_tenants"])
    return [row["id"] for row in rows]

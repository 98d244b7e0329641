"""What does Anzoth read and write of tenants' data keys?

Does not know: how they are wrapped, or what they encrypt.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class WrappedKey:
    """A tenant's data key, encrypted."""

    wrapped: bytes = field(repr=False)
    master_key_id: str


async def find_key(connection: Connection, tenant_id: uuid.UUID) -> WrappedKey | None:
    row = await connection.fetchrow(statements.load()["find_tenant_key"], tenant_id)
    return None if row is None else WrappedKey(**row)


async def try_insert_key(
    connection: Connection, tenant_id: uuid.UUID, key: WrappedKey
) -> WrappedKey | None:
    """None when the tenant has one already, or was deleted."""
    statement = statements.load()["insert_tenant_key"]
    row = await connection.fetchrow(statement, tenant_id, key.wrapped, key.master_key_id)
    return None if row is None else WrappedKey(**row)


async def destroy_key(connection: Connection, tenant_id: uuid.UUID) -> bool:
    """Whether there was one."""
    statement = statements.load()["delete_tenant_key"]
    return await connection.fetchval(statement, tenant_id) is not None

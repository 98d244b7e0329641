"""What does Anzoth read and write of who belongs to which tenant and project?

Does not know: what a role allows.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection
from anzoth.db.store.project_rows import ProjectRow


@dataclass(slots=True, frozen=True)
class MemberRow:
    """A user as a tenant, or one of its projects, sees them."""

    id: uuid.UUID
    email: str
    name: str
    role: str
    added_at: datetime
    disabled_at: datetime | None
    created_at: datetime


@dataclass(slots=True, frozen=True)
class TenantOfUser:
    """A tenant as a user sees it."""

    id: uuid.UUID
    name: str
    role: str | None
    """None: not a member, but an operator."""


async def lock_members(connection: Connection, tenant_id: uuid.UUID) -> None:
    """Serialises transactions that decide by who belongs to the tenant."""
    await connection.execute(statements.load()["lock_members"], tenant_id)


async def try_insert_membership(
    connection: Connection, tenant_id: uuid.UUID, user_id: uuid.UUID, role: str
) -> bool:
    """False when the user is a member already, whatever the role."""
    statement = statements.load()["insert_membership"]
    return await connection.fetchval(statement, tenant_id, user_id, role) is not None


async def try_set_role(
    connection: Connection, tenant_id: uuid.UUID, user_id: uuid.UUID, role: str
) -> bool:
    """False when the user is no member."""
    statement = statements.load()["set_role"]
    return await connection.fetchval(statement, tenant_id, user_id, role) is not None


async def try_delete_membership(
    connection: Connection, tenant_id: uuid.UUID, user_id: uuid.UUID
) -> bool:
    """False when the user is no member. What the user is in the tenant's projects ends too."""
    statement = statements.load()["delete_membership"]
    return await connection.fetchval(statement, tenant_id, user_id) is not None


async def count_owners(connection: Connection, tenant_id: uuid.UUID, but: uuid.UUID) -> int:
    """Owners who could sign in, without the user `but`."""
    return await connection.fetchval(statements.load()["count_owners"], tenant_id, but)


async def find_member(
    connection: Connection, tenant_id: uuid.UUID, user_id: uuid.UUID
) -> MemberRow | None:
    row = await connection.fetchrow(statements.load()["find_member"], tenant_id, user_id)
    return None if row is None else MemberRow(**row)


async def list_members(
    connection: Connection,
    tenant_id: uuid.UUID,
    emails: Sequence[str] | None,
    after: uuid.UUID | None,
    limit: int,
) -> list[MemberRow]:
    """In the order of joining. `after` a user who is no member there are none."""
    wanted = None if emails is None else list(emails)
    rows = await connection.fetch(
        statements.load()["list_members"], tenant_id, wanted, after, limit
    )
    return [MemberRow(**row) for row in rows]


async def find_tenant_of_user(
    connection: Connection, user_id: uuid.UUID, tenant_id: uuid.UUID
) -> TenantOfUser | None:
    statement = statements.load()["find_tenant_of_user"]
    row = await connection.fetchrow(statement, user_id, tenant_id)
    return None if row is None else TenantOfUser(**row)


async def list_tenants_of_user(connection: Connection, user_id: uuid.UUID) -> list[TenantOfUser]:
    rows = await connection.fetch(statements.load()["list_tenants_of_user"], user_id)
    return [TenantOfUser(**row) for row in rows]


# --- projects ---------------------------------------------------------------------------------


async def find_living_project(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> ProjectRow | None:
    statement = statements.load()["find_living_project"]
    row = await connection.fetchrow(statement, tenant_id, project_id)
    return None if row is None else ProjectRow(**row)


async def insert_project_members(
    connection: Connection,
    tenant_id: uuid.UUID,
    user_id: uuid.UUID,
    roles: Mapping[uuid.UUID, str],
) -> set[uuid.UUID]:
    """Project -> role. The projects that gained the user: not those that are gone or had them."""
    rows = await connection.fetch(
        statements.load()["insert_project_members"],
        tenant_id,
        user_id,
        list(roles),
        list(roles.values()),
    )
    return {row["project_id"] for row in rows}


async def try_set_project_role(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
    role: str,
) -> bool:
    statement = statements.load()["set_project_role"]
    found = await connection.fetchval(statement, tenant_id, project_id, user_id, role)
    return found is not None


async def try_delete_project_member(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, user_id: uuid.UUID
) -> bool:
    statement = statements.load()["delete_project_member"]
    return await connection.fetchval(statement, tenant_id, project_id, user_id) is not None


async def list_project_members(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    after: uuid.UUID | None,
    limit: int,
    user_id: uuid.UUID | None = None,
) -> list[MemberRow]:
    """In the order of joining; or one user alone."""
    rows = await connection.fetch(
        statements.load()["list_project_members"], tenant_id, project_id, user_id, after, limit
    )
    return [MemberRow(**row) for row in rows]

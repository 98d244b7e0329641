"""What does Anzoth read and write of invitations into a tenant?

Does not know: who may invite whom.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class InvitationRow:
    """An invitation."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    email: str
    role: str
    projects: Mapping[uuid.UUID, str]
    """Project -> role there."""
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None


async def insert_invitation(
    connection: Connection,
    id: uuid.UUID,
    tenant_id: uuid.UUID,
    email: str,
    role: str,
    projects: Mapping[uuid.UUID, str],
    digest: bytes,
    expires_at: datetime,
) -> InvitationRow:
    listed = [{"id": str(project), "role": role} for project, role in projects.items()]
    row = await connection.fetchrow(
        statements.load()["insert_invitation"],
        id,
        tenant_id,
        email,
        role,
        orjson.dumps(listed).decode(),
        digest,
        expires_at,
    )
    return _invitation(row)


async def find_invitation(
    connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID
) -> InvitationRow | None:
    row = await connection.fetchrow(statements.load()["find_invitation"], tenant_id, id)
    return None if row is None else _invitation(row)


async def find_invitation_by_secret(connection: Connection, digest: bytes) -> InvitationRow | None:
    row = await connection.fetchrow(statements.load()["find_invitation_by_secret"], digest)
    return None if row is None else _invitation(row)


async def find_invitations_for(
    connection: Connection, tenant_id: uuid.UUID, email: str
) -> list[InvitationRow]:
    rows = await connection.fetch(statements.load()["find_invitations_for"], tenant_id, email)
    return [_invitation(row) for row in rows]


async def try_accept_invitation(
    connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID
) -> bool:
    """False when it was accepted, ran out or was deleted meanwhile."""
    statement = statements.load()["accept_invitation"]
    return await connection.fetchval(statement, tenant_id, id) is not None


async def try_delete_invitation(
    connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID
) -> bool:
    statement = statements.load()["delete_invitation"]
    return await connection.fetchval(statement, tenant_id, id) is not None


async def list_invitations(
    connection: Connection, tenant_id: uuid.UUID, after: uuid.UUID | None, limit: int
) -> list[InvitationRow]:
    """In the order of making. `after` one that does not exist there are none."""
    rows = await connection.fetch(statements.load()["list_invitations"], tenant_id, after, limit)
    return [_invitation(row) for row in rows]


def _invitation(row: Any) -> InvitationRow:  # asyncpg's record
    projects = {uuid.UUID(item["id"]): item["role"] for item in orjson.loads(row["projects"])}
    return InvitationRow(**{**row, "projects": projects})

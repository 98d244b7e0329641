"""What does Anzoth read and write of sessions and of one-time tokens?

Does not know: the secrets, of which it is handed digests.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class SessionRow:
    """One browser, or another client, in which a user signed in."""

    id: uuid.UUID
    user_id: uuid.UUID
    tenant_id: uuid.UUID | None
    awaits_second_factor: bool
    method: str
    peer: str
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


@dataclass(slots=True, frozen=True)
class OneTimeTokenRow:
    """A token that works."""

    user_id: uuid.UUID | None
    """None: it makes a user."""


async def insert_session(
    connection: Connection,
    id: uuid.UUID,
    user_id: uuid.UUID,
    digest: bytes,
    *,
    tenant_id: uuid.UUID | None,
    awaits_second_factor: bool,
    method: str,
    peer: str,
    user_agent: str,
    created_at: datetime,
    expires_at: datetime,
) -> None:
    await connection.execute(
        statements.load()["insert_session"],
        id,
        user_id,
        digest,
        tenant_id,
        awaits_second_factor,
        method,
        peer,
        user_agent,
        created_at,
        expires_at,
    )


async def find_session(connection: Connection, digest: bytes) -> SessionRow | None:
    row = await connection.fetchrow(statements.load()["find_session"], digest)
    return None if row is None else SessionRow(**row)


async def touch_session(connection: Connection, id: uuid.UUID, at: datetime) -> None:
    await connection.execute(statements.load()["touch_session"], id, at)


async def choose_tenant(connection: Connection, id: uuid.UUID, tenant_id: uuid.UUID) -> None:
    await connection.execute(statements.load()["choose_tenant"], id, tenant_id)


async def try_rotate_session(
    connection: Connection, id: uuid.UUID, digest: bytes, fresh: bytes
) -> bool:
    """False when the secret was rotated, or the session ended, meanwhile."""
    statement = statements.load()["rotate_session"]
    return await connection.fetchval(statement, id, digest, fresh) is not None


async def list_sessions(
    connection: Connection, user_id: uuid.UUID, now: datetime
) -> list[SessionRow]:
    rows = await connection.fetch(statements.load()["list_sessions"], user_id, now)
    return [SessionRow(**row) for row in rows]


async def try_delete_session(connection: Connection, user_id: uuid.UUID, id: uuid.UUID) -> bool:
    return await connection.fetchval(statements.load()["delete_session"], user_id, id) is not None


async def delete_sessions(
    connection: Connection, user_id: uuid.UUID, *, but: uuid.UUID | None = None
) -> list[uuid.UUID]:
    """Those that ended."""
    rows = await connection.fetch(statements.load()["delete_sessions"], user_id, but)
    return [row["id"] for row in rows]


async def delete_ended_sessions(
    connection: Connection, user_id: uuid.UUID, now: datetime, idle_since: datetime
) -> None:
    statement = statements.load()["delete_ended_sessions"]
    await connection.execute(statement, user_id, now, idle_since)


# --- one-time tokens --------------------------------------------------------------------------


async def insert_one_time_token(
    connection: Connection,
    digest: bytes,
    purpose: str,
    user_id: uuid.UUID | None,
    expires_at: datetime,
) -> None:
    """It replaces those of the same purpose and user."""
    await connection.execute(statements.load()["delete_one_time_tokens"], purpose, user_id)
    statement = statements.load()["insert_one_time_token"]
    await connection.execute(statement, digest, purpose, user_id, expires_at)


async def find_one_time_token(
    connection: Connection, digest: bytes, purpose: str
) -> OneTimeTokenRow | None:
    """If it works; held until the transaction ends."""
    row = await connection.fetchrow(statements.load()["find_one_time_token"], digest, purpose)
    return None if row is None else OneTimeTokenRow(**row)


async def use_one_time_token(connection: Connection, digest: bytes) -> None:
    await connection.execute(statements.load()["use_one_time_token"], digest)

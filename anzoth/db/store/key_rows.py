"""What does Anzoth read and write of API keys?

Does not know: what a key looks like, or who may make one.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class KeyRow:
    """What authentication needs to know about one key."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    tenant_name: str
    project_id: uuid.UUID
    kid: str
    digest: bytes = field(repr=False)
    hash_alg: str
    pepper_id: str
    scopes: list[str]
    models: list[str] | None
    rpm: int | None
    tpm: int | None
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(slots=True, frozen=True)
class NewKey:
    """A key to be stored."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    kid: str
    name: str
    digest: bytes = field(repr=False)
    hash_alg: str
    pepper_id: str
    redacted: str
    scopes: Sequence[str]
    models: Sequence[str] | None
    rpm: int | None
    tpm: int | None
    expires_at: datetime | None


@dataclass(slots=True, frozen=True)
class KeyListing:
    """A key as lists show it."""

    id: uuid.UUID
    tenant: str
    project: str
    kid: str
    name: str
    redacted: str
    scopes: list[str]
    models: list[str] | None
    rpm: int | None
    tpm: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(slots=True, frozen=True)
class RevokedKey:
    """A key that was just revoked, or had been before."""

    id: uuid.UUID
    kid: str
    name: str
    tenant: str
    revoked_at: datetime
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    was_active: bool
    """Until now."""


async def find_key(connection: Connection, kid: str) -> KeyRow | None:
    row = await connection.fetchrow(statements.load()["find_key"], kid)
    return None if row is None else KeyRow(**row)


async def touch_keys(connection: Connection, used: Mapping[uuid.UUID, datetime]) -> None:
    await connection.execute(statements.load()["touch_keys"], list(used), list(used.values()))


async def try_insert_key(connection: Connection, key: NewKey) -> datetime | None:
    """When it was created; None when the kid is taken."""
    parameters = [getattr(key, name) for name in NewKey.__slots__]
    try:
        async with connection.transaction():
            return await connection.fetchval(statements.load()["insert_key"], *parameters)
    except asyncpg.UniqueViolationError:
        return None


async def list_keys(connection: Connection, tenant: str | None) -> list[KeyListing]:
    rows = await connection.fetch(statements.load()["list_keys"], tenant)
    return [KeyListing(**row) for row in rows]


async def revoke_key(
    connection: Connection, id: uuid.UUID | None, kid: str | None
) -> RevokedKey | None:
    row = await connection.fetchrow(statements.load()["revoke_key"], id, kid)
    return None if row is None else RevokedKey(**row)


async def revoke_keys(connection: Connection, tenant_id: uuid.UUID) -> int:
    """How many of the tenant's keys worked until now."""
    return len(await connection.fetch(statements.load()["revoke_keys"], tenant_id))

"""What does Anzoth read from and write to the database?

The only module that executes `queries.sql`. Each function runs one statement on a connection that
`pool` handed out; which rows it sees is decided there and by the policies in the schema. Rows come
back as the plain dataclasses below.

Does not know: what a key looks like, or what the rows are used for.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from anzoth.db import queries
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class KeyRow:
    """What authentication needs to know about one key."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    tenant_name: str
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


@dataclass(slots=True, frozen=True)
class RevokedKey:
    """A key that was just revoked, or had been before."""

    id: uuid.UUID
    kid: str
    name: str
    tenant: str
    revoked_at: datetime


@dataclass(slots=True, frozen=True)
class UsageRow:
    """One row of the ledger, in the order of the statement's parameters."""

    tenant_id: uuid.UUID
    request_id: str
    started_at: datetime
    key_id: uuid.UUID
    endpoint: str
    model: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str | None
    streamed: bool
    status: int
    error_code: str | None
    ttft_ms: int | None
    duration_ms: int
    end_user: str | None
    metadata: str | None
    """JSON."""


async def find_key(connection: Connection, kid: str) -> KeyRow | None:
    row = await connection.fetchrow(queries.load()["find_key"], kid)
    return None if row is None else KeyRow(**row)


async def touch_keys(connection: Connection, used: Mapping[uuid.UUID, datetime]) -> None:
    await connection.execute(queries.load()["touch_keys"], list(used), list(used.values()))


async def insert_usage(connection: Connection, rows: Iterable[UsageRow]) -> None:
    """Skips rows that are there already."""
    names = UsageRow.__slots__
    parameters = [tuple(getattr(row, name) for name in names) for row in rows]
    await connection.executemany(queries.load()["insert_usage"], parameters)


async def lock_directory(connection: Connection) -> None:
    """Serialises transactions that decide by what the directory holds."""
    await connection.execute(queries.load()["lock_directory"])


async def has_any_tenant(connection: Connection) -> bool:
    return await connection.fetchval(queries.load()["any_tenant"])


async def try_insert_tenant(connection: Connection, id: uuid.UUID, name: str) -> TenantRow | None:
    """None when the name is taken."""
    row = await connection.fetchrow(queries.load()["insert_tenant"], id, name)
    return None if row is None else TenantRow(**row)


async def find_tenant(connection: Connection, name: str) -> TenantRow | None:
    row = await connection.fetchrow(queries.load()["find_tenant"], name)
    return None if row is None else TenantRow(**row)


async def list_tenants(connection: Connection) -> list[TenantListing]:
    return [TenantListing(**row) for row in await connection.fetch(queries.load()["list_tenants"])]


async def delete_tenant(connection: Connection, id: uuid.UUID) -> datetime | None:
    """When it was deleted; None when it had been before."""
    return await connection.fetchval(queries.load()["delete_tenant"], id)


async def list_deleted_tenants(connection: Connection) -> list[uuid.UUID]:
    rows = await connection.fetch(queries.load()["list_deleted_tenants"])
    return [row["id"] for row in rows]


async def try_insert_key(connection: Connection, key: NewKey) -> datetime | None:
    """When it was created; None when the kid is taken."""
    parameters = [getattr(key, name) for name in NewKey.__slots__]
    try:
        async with connection.transaction():
            return await connection.fetchval(queries.load()["insert_key"], *parameters)
    except asyncpg.UniqueViolationError:
        return None


async def list_keys(connection: Connection, tenant: str | None) -> list[KeyListing]:
    rows = await connection.fetch(queries.load()["list_keys"], tenant)
    return [KeyListing(**row) for row in rows]


async def revoke_key(
    connection: Connection, id: uuid.UUID | None, kid: str | None
) -> RevokedKey | None:
    row = await connection.fetchrow(queries.load()["revoke_key"], id, kid)
    return None if row is None else RevokedKey(**row)


async def revoke_keys(connection: Connection, tenant_id: uuid.UUID) -> int:
    """How many of the tenant's keys worked until now."""
    return len(await connection.fetch(queries.load()["revoke_keys"], tenant_id))

"""What does Anzoth read and write of API keys?

Does not know: what a key looks like, or who may make one.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import asyncpg

from anzoth.db import statements
from anzoth.db.pool import Connection

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(slots=True, frozen=True)
class KeyOwner:
    """A user, a service account, or neither: then it is the tenant's own."""

    user_id: uuid.UUID | None = None
    service_account_id: uuid.UUID | None = None


NOBODY = KeyOwner()


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
    endpoints: list[str] | None
    networks: list[Network] | None
    knowledge_bases: list[str] | None
    tools: list[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    predecessor_kid: str | None
    predecessor_digest: bytes | None = field(repr=False)
    predecessor_hash_alg: str | None
    predecessor_pepper_id: str | None
    predecessor_expires_at: datetime | None
    shadow_rules: list[str]
    """The key's and its tenant's."""
    owner_id: uuid.UUID | None
    """Of a user or a service account."""
    default_knowledge_bases: list[str]


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
    endpoints: Sequence[str] | None
    networks: Sequence[Network] | None
    knowledge_bases: Sequence[str] | None
    tools: Sequence[str] | None
    expires_at: datetime | None
    user_id: uuid.UUID | None = None
    service_account_id: uuid.UUID | None = None
    default_knowledge_bases: Sequence[str] = ()


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
    endpoints: list[str] | None
    networks: list[Network] | None
    knowledge_bases: list[str] | None
    tools: list[str] | None
    rpm: int | None
    tpm: int | None
    input_tpm: int | None
    output_tpm: int | None
    concurrency: int | None
    tokens_per_day: int | None
    budget_per_day: int | None
    budget_per_month: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_ip: Address | None
    predecessor_expires_at: datetime | None
    """The secret before the last rotation works until then."""
    predecessor_uses: int
    owner: str | None
    """A user's email or a service account's name."""
    default_knowledge_bases: list[str]


@dataclass(slots=True, frozen=True)
class KeyView:
    """A key that is not revoked, as its tenant sees it, with its owner."""

    id: uuid.UUID
    project_id: uuid.UUID
    kid: str
    name: str
    redacted: str
    scopes: list[str]
    models: list[str] | None
    endpoints: list[str] | None
    networks: list[Network] | None
    knowledge_bases: list[str] | None
    tools: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    predecessor_expires_at: datetime | None
    user_id: uuid.UUID | None
    user_email: str | None
    user_name: str | None
    user_created_at: datetime | None
    user_role: str | None
    """In the key's project, or else in the tenant."""
    service_account_id: uuid.UUID | None
    service_account_name: str | None
    service_account_created_at: datetime | None
    default_knowledge_bases: list[str]


@dataclass(slots=True, frozen=True)
class KeySettings:
    """What of a key can be changed, and whose it is."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    tenant: str
    project_id: uuid.UUID
    kid: str
    name: str
    scopes: list[str]
    models: list[str] | None
    endpoints: list[str] | None
    networks: list[Network] | None
    knowledge_bases: list[str] | None
    tools: list[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    user_id: uuid.UUID | None
    service_account_id: uuid.UUID | None
    default_knowledge_bases: list[str]

    @property
    def owner(self) -> KeyOwner:
        return KeyOwner(self.user_id, self.service_account_id)


@dataclass(slots=True, frozen=True)
class NewSecret:
    """What a rotated key becomes."""

    kid: str
    digest: bytes = field(repr=False)
    hash_alg: str
    pepper_id: str
    redacted: str


@dataclass(slots=True, frozen=True)
class KeyUse:
    """What is written down about the uses of one key since the last time."""

    at: datetime
    """The latest."""
    ip: Address | None
    predecessor_kid: str | None = None
    predecessor_uses: int = 0


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


async def find_kid(connection: Connection, tenant_id: uuid.UUID, key_id: uuid.UUID) -> str | None:
    """Which it is found by now: a rotation gives a key another one."""
    return await connection.fetchval(statements.load()["find_kid"], tenant_id, key_id)


async def touch_keys(connection: Connection, used: Mapping[uuid.UUID, KeyUse]) -> None:
    uses = used.values()
    await connection.execute(
        statements.load()["touch_keys"],
        list(used),
        [use.at for use in uses],
        [use.ip for use in uses],
        [use.predecessor_kid for use in uses],
        [use.predecessor_uses for use in uses],
    )


async def find_tools_of_key(connection: Connection, key_id: uuid.UUID) -> list[str] | None:
    """What it is granted now. None: it works no longer."""
    return await connection.fetchval(statements.load()["find_tools_of_key"], key_id)


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


async def page_of_keys(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID | None,
    after: uuid.UUID | None,
    limit: int,
    *,
    is_descending: bool = False,
) -> list[KeyView]:
    """In the order in which they were made. `project_id` None: the tenant's admin keys, which are
    on no project's list."""
    statement = statements.load()["page_of_keys"]
    rows = await connection.fetch(
        statement, tenant_id, project_id, None, after, is_descending, limit
    )
    return [KeyView(**row) for row in rows]


async def find_listed_key(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID | None, id: uuid.UUID
) -> KeyView | None:
    """As `page_of_keys` has it. None: it is on another list, or on none."""
    statement = statements.load()["page_of_keys"]
    row = await connection.fetchrow(statement, tenant_id, project_id, id, None, False, 1)
    return None if row is None else KeyView(**row)


async def lock_key(
    connection: Connection, id: uuid.UUID | None, kid: str | None
) -> KeySettings | None:
    """None: there is no such key, or it is another tenant's."""
    row = await connection.fetchrow(statements.load()["lock_key"], id, kid)
    return None if row is None else KeySettings(**row)


async def update_key(connection: Connection, key: KeySettings) -> None:
    await connection.execute(
        statements.load()["update_key"],
        key.id,
        key.name,
        key.scopes,
        key.models,
        key.endpoints,
        key.networks,
        key.knowledge_bases,
        key.tools,
        key.expires_at,
        key.default_knowledge_bases,
    )


async def try_rotate_key(
    connection: Connection, id: uuid.UUID, secret: NewSecret, old_until: datetime | None
) -> bool:
    """False when the kid is taken. `old_until` None: the old secret works no more."""
    parameters = [getattr(secret, name) for name in NewSecret.__slots__]
    try:
        async with connection.transaction():
            await connection.execute(statements.load()["rotate_key"], id, *parameters, old_until)
    except asyncpg.UniqueViolationError:
        return False
    return True


async def revoke_key(
    connection: Connection, id: uuid.UUID | None, kid: str | None, *, lets_finish: bool
) -> RevokedKey | None:
    """`lets_finish`: its running requests go on."""
    row = await connection.fetchrow(statements.load()["revoke_key"], id, kid, lets_finish)
    return None if row is None else RevokedKey(**row)


async def revoke_keys(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID | None = None
) -> int:
    """How many of the tenant's keys, or of one project's, worked until now."""
    return len(await connection.fetch(statements.load()["revoke_keys"], tenant_id, project_id))


async def revoke_keys_of(
    connection: Connection,
    owner: KeyOwner,
    tenant_id: uuid.UUID | None,
    project_id: uuid.UUID | None = None,
    beyond: Collection[str] | None = None,
) -> list[RevokedKey]:
    """Those that worked until now. `tenant_id` None: in every tenant that the connection sees.
    `beyond`: only keys with a scope that is not among these."""
    assert owner != NOBODY, "nobody's keys end with nobody"
    rows = await connection.fetch(
        statements.load()["revoke_keys_of_owner"],
        tenant_id,
        owner.user_id,
        owner.service_account_id,
        project_id,
        None if beyond is None else list(beyond),
    )
    return [RevokedKey(**row) for row in rows]


async def list_revoked_keys(connection: Connection) -> list[uuid.UUID]:
    """Of the last day, without those whose requests may finish; in `Database.ended`."""
    return [row["id"] for row in await connection.fetch(statements.load()["list_revoked_keys"])]

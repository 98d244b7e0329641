"""Which tenants and keys exist, and how does an operator make and end them?

These are the functions behind `anzoth tenants` and `anzoth keys`, and behind the first start of a
fresh installation. They act as the operator, across tenants; what serves requests never uses them.

Does not know: how a key is checked when a request comes (see `auth`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db import pool
from anzoth.db.pool import Connection
from anzoth.db.store import key_rows, project_rows, tenant_rows
from anzoth.gateway import audit, keys
from anzoth.gateway.accounts.roles import MANAGEMENT_SCOPES
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.keys import Key, Pepper
from anzoth.gateway.service_tiers import PRIORITY_SCOPE

SCOPES = (
    *("models:read", "chat", "completions", "embeddings", "rerank", PRIORITY_SCOPE),
    *MANAGEMENT_SCOPES,
    "all",
)
"""What a key can be allowed. A new endpoint's scope is added here."""
DEFAULT_SCOPES = ("models:read", "chat", "completions", "embeddings", "rerank")
DEFAULT_TENANT = "default"
DEFAULT_PROJECT = "default"

_MAX_NAME_CHARS = 200
_MAX_LIMIT = 2**31 - 1


class DirectoryError(Exception):
    """The request cannot be met; the message is one sentence for whoever asked."""


@dataclass(slots=True, frozen=True)
class KeyRequest:
    """What a new key should be."""

    tenant: str
    name: str
    project: str | None = None
    """By name; None: the tenant's default one."""
    scopes: Sequence[str] = DEFAULT_SCOPES
    models: Sequence[str] | None = None
    rpm: int | None = None
    tpm: int | None = None
    expires_at: datetime | None = None


@dataclass(slots=True, frozen=True)
class CreatedKey:
    """A new key. `key` is the only place where its secret half will ever be seen."""

    id: uuid.UUID
    key: Key
    request: KeyRequest = field(repr=False)
    created_at: datetime


@dataclass(slots=True, frozen=True)
class DeletedTenant:
    """A tenant that was just deleted."""

    id: uuid.UUID
    name: str
    deleted_at: datetime
    num_revoked_keys: int


async def create_tenant(dsn: str, name: str) -> tenant_rows.TenantRow:
    """Raises DirectoryError when the name is taken or empty, and DatabaseError."""
    _check_name("tenant", name)
    async with pool.operator(dsn) as connection:
        created = await _try_insert_tenant(connection, name)
        if created is None:
            raise DirectoryError(f"there is already a tenant named {name!r}, or was one")
        await audit.record(connection, *_tenant_events("tenant.created", created, audit.operator()))
    return created


async def list_tenants(dsn: str) -> list[tenant_rows.TenantListing]:
    """Raises DatabaseError."""
    async with pool.operator(dsn) as connection:
        return await tenant_rows.list_tenants(connection)


async def delete_tenant(dsn: str, name: str) -> DeletedTenant:
    """Nothing of it is served any more: its keys are revoked, running gateways end its requests and
    have its caches purged. Its usage stays, and so its name is never given to another tenant.

    Raises DirectoryError when there is no such tenant, and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)  # no key may come into being meanwhile
        tenant = await _find_tenant(connection, name)
        num_keys = await key_rows.revoke_keys(connection, tenant.id)
        deleted_at = await tenant_rows.delete_tenant(connection, tenant.id)
        assert deleted_at is not None
        events = _tenant_events(
            "tenant.deleted", tenant, audit.operator(), num_revoked_keys=num_keys
        )
        await audit.record(connection, *events)
    return DeletedTenant(tenant.id, name, deleted_at, num_keys)


async def create_key(dsn: str, pepper: Pepper, request: KeyRequest) -> CreatedKey:
    """Raises DirectoryError when the tenant is unknown or a value impossible, and DatabaseError."""
    _check(request)
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        tenant = await _find_tenant(connection, request.tenant)
        project = await project_rows.find_project(connection, tenant.id, request.project)
        if project is None:
            raise DirectoryError(
                f"the tenant {request.tenant!r} has no project named {request.project!r}"
            )
        created = await _insert_key(connection, pepper, tenant.id, project.id, request)
        await audit.record(
            connection, _key_created(created, tenant.id, project.id, audit.operator())
        )
    return created


async def list_keys(dsn: str, tenant: str | None = None) -> list[key_rows.KeyListing]:
    """All keys, or one tenant's, revoked ones included. Raises DirectoryError, DatabaseError."""
    async with pool.operator(dsn) as connection:
        if tenant is not None and await tenant_rows.find_tenant(connection, tenant) is None:
            raise DirectoryError(f"there is no tenant named {tenant!r}")
        return await key_rows.list_keys(connection, tenant)


async def revoke_key(dsn: str, which: str) -> key_rows.RevokedKey:
    """`which`: a key's id, its kid, or the key itself. Running gateways learn of it at once.

    Raises DirectoryError when there is no such key, and DatabaseError.
    """
    id, kid = _parse_reference(which)
    revoked = None
    if id is not None or kid is not None:
        async with pool.operator(dsn) as connection:
            revoked = await key_rows.revoke_key(connection, id, kid)
            if revoked is not None and revoked.was_active:
                await audit.record(connection, _key_deleted(revoked, audit.operator()))
    if revoked is None:
        # Not quoted: it may be a whole key with a typo.
        raise DirectoryError("there is no such key; `anzoth keys list` shows the ids")
    return revoked


async def ensure_default_tenant_and_key(dsn: str, pepper: Pepper) -> str | None:
    """Makes a first tenant with a first key in an empty installation and returns that key.

    None when there is any tenant already. Raises DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        if await tenant_rows.has_any_tenant(connection):
            return None
        tenant = await _try_insert_tenant(connection, DEFAULT_TENANT)
        if tenant is None:
            return None  # `anzoth tenants create` was faster; whoever ran it makes the keys
        project = await project_rows.find_project(connection, tenant.id, None)
        assert project is not None
        request = KeyRequest(DEFAULT_TENANT, "first key")
        created = await _insert_key(connection, pepper, tenant.id, project.id, request)
        await audit.record(
            connection,
            *_tenant_events("tenant.created", tenant, audit.SYSTEM),
            _key_created(created, tenant.id, project.id, audit.SYSTEM),
        )
    return created.key.text


async def _try_insert_tenant(connection: Connection, name: str) -> tenant_rows.TenantRow | None:
    """With its default project. None when the name is taken."""
    tenant = await tenant_rows.try_insert_tenant(connection, uuid.uuid4(), name)
    if tenant is not None:
        await project_rows.try_insert_project(
            connection, uuid.uuid4(), tenant.id, DEFAULT_PROJECT, is_default=True
        )
    return tenant


async def _find_tenant(connection: Connection, name: str) -> tenant_rows.TenantRow:
    tenant = await tenant_rows.find_tenant(connection, name)
    if tenant is None:
        raise DirectoryError(
            f"there is no tenant named {name!r}; create it with: anzoth tenants create {name}"
        )
    if tenant.deleted_at is not None:
        raise DirectoryError(f"the tenant {name!r} was deleted on {tenant.deleted_at:%Y-%m-%d}")
    return tenant


async def _insert_key(
    connection: Connection,
    pepper: Pepper,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    request: KeyRequest,
) -> CreatedKey:
    while True:
        key = keys.mint()
        row = key_rows.NewKey(
            id=uuid.uuid4(),
            tenant_id=tenant_id,
            project_id=project_id,
            kid=key.kid,
            name=request.name,
            digest=pepper.digest(key),
            hash_alg=keys.HASH_ALG,
            pepper_id=pepper.id,
            redacted=key.redacted,
            scopes=sorted(set(request.scopes)),
            models=None if request.models is None else list(request.models),
            rpm=request.rpm,
            tpm=request.tpm,
            expires_at=request.expires_at,
        )
        created_at = await key_rows.try_insert_key(connection, row)
        if created_at is not None:
            return CreatedKey(row.id, key, request, created_at)


def _tenant_events(
    type: str, tenant: tenant_rows.TenantRow, actor: Actor, **more: int
) -> list[AuditEvent]:
    """In the tenant's own chain and in the installation's, so that it cannot vanish as a whole."""
    target, details = {"id": tenant.id}, {"name": tenant.name, **more}
    return [
        AuditEvent(type, actor, chain, target=target, details=details)
        for chain in (tenant.id, None)
    ]


def _key_created(
    created: CreatedKey, tenant_id: uuid.UUID, project_id: uuid.UUID, actor: Actor
) -> AuditEvent:
    request, expires_at = created.request, created.request.expires_at
    return AuditEvent(
        "api_key.created",
        actor,
        tenant_id,
        project_id,
        target={"id": created.id, "kid": created.key.kid},
        details={
            "name": request.name,
            "scopes": sorted(set(request.scopes)),
            "models": request.models,
            "rpm": request.rpm,
            "tpm": request.tpm,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        },
    )


def _key_deleted(revoked: key_rows.RevokedKey, actor: Actor) -> AuditEvent:
    return AuditEvent(
        "api_key.deleted",
        actor,
        revoked.tenant_id,
        revoked.project_id,
        target={"id": revoked.id, "kid": revoked.kid},
        details={"name": revoked.name},
    )


def _check(request: KeyRequest) -> None:
    _check_name("key", request.name)
    if not request.scopes:
        raise DirectoryError("a key needs at least one scope")
    for scope in request.scopes:
        if scope not in SCOPES:
            raise DirectoryError(f"unknown scope {scope!r}; there are: {', '.join(SCOPES)}")
    for name, limit in (("rpm", request.rpm), ("tpm", request.tpm)):
        if limit is not None and not 1 <= limit <= _MAX_LIMIT:
            raise DirectoryError(f"{name} is {limit}; expected a whole number from 1")


def _check_name(of: str, name: str) -> None:
    if not name.strip() or len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise DirectoryError(f"a {of}'s name must have 1 to {_MAX_NAME_CHARS} printable characters")
    if keys.holds_key(name):
        raise DirectoryError(f"a {of}'s name must not be an API key: names are shown and logged")


def _parse_reference(which: str) -> tuple[uuid.UUID | None, str | None]:
    if (key := keys.try_parse(which)) is not None:
        return None, key.kid
    if keys.is_kid(kid := which.removeprefix(keys.PREFIX)):
        return None, kid
    try:
        return uuid.UUID(which), None
    except ValueError:
        return None, None

"""Which tenants and keys exist, and how does an operator make and end them?

These are the functions behind `anzoth tenants` and `anzoth keys`, and behind the first start of a
fresh installation. They act as the operator, across tenants; what serves requests never uses them.

Does not know: how a key is checked when a request comes (see `auth`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db import pool
from anzoth.db.pool import Connection
from anzoth.db.store import (
    alias_rows,
    conversation_rows,
    file_rows,
    key_rows,
    project_rows,
    response_rows,
    service_account_rows,
    store_file_rows,
    tenant_key_rows,
    tenant_rows,
    tool_rows,
    vector_store_rows,
)
from anzoth.db.store.key_rows import NOBODY, KeyOwner
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.gateway import audit, key_events, keys, limit_directory
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.directory_checks import (
    DirectoryError,
    check_expiry,
    check_name,
    check_scopes,
)
from anzoth.gateway.keys import Key, Pepper
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.principal import Network
from anzoth.gateway.scopes import ADMIN_SCOPE

DEFAULT_SCOPES = (
    *("models:read", "chat", "completions", "embeddings", "rerank"),
    # As OpenAI's ordinary keys can: its SDKs' users expect it.
    *("files:read", "files:write"),
    *("vector_stores:read", "vector_stores:write", "vector_stores:search"),
    *("batches:read", "batches:write"),
)
DEFAULT_TENANT = "default"
DEFAULT_PROJECT = "default"


@dataclass(slots=True, frozen=True)
class KeyRequest:
    """What a new key should be."""

    tenant: str
    name: str
    project: str | None = None
    """By name; None: the tenant's default one."""
    scopes: Sequence[str] = DEFAULT_SCOPES
    models: Sequence[str] | None = None
    limits: Limits = field(default_factory=Limits)
    """For all models together."""
    limits_by_model: Mapping[str, Limits] = field(default_factory=dict)
    expires_at: datetime | None = None
    endpoints: Sequence[str] | None = None
    """Patterns of routes, for example `/v1/chat/*`; None: all."""
    networks: Sequence[Network] | None = None
    """Where it may be used; None: anywhere."""
    knowledge_bases: Sequence[str] | None = None
    """Ids of vector stores; None: all of its project."""
    default_knowledge_bases: Sequence[str] = ()
    """What its chats are answered from where they name none."""
    tools: Sequence[str] | None = None
    """None: none."""


@dataclass(slots=True, frozen=True)
class CreatedKey:
    """A new key. `key` is the only place where its secret half will ever be seen."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    project_id: uuid.UUID
    key: Key
    request: KeyRequest = field(repr=False)
    created_at: datetime
    owner: KeyOwner = NOBODY


@dataclass(slots=True, frozen=True)
class DeletedTenant:
    """A tenant that was just deleted."""

    id: uuid.UUID
    name: str
    deleted_at: datetime
    num_revoked_keys: int
    key_destroyed: bool
    """It had one for its documents; they cannot be read any more (see `tenant_crypt`)."""


async def create_tenant(dsn: str, name: str) -> tenant_rows.TenantRow:
    """Raises DirectoryError when the name is taken or empty, and DatabaseError."""
    check_name("tenant", name)
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
    have its caches purged; the key of its documents is destroyed. Its usage stays, and so its name
    is never given to another tenant.

    Raises DirectoryError when there is no such tenant, and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)  # no key may come into being meanwhile
        tenant = await find_tenant(connection, name)
        num_keys = await key_rows.revoke_keys(connection, tenant.id)
        await alias_rows.delete_aliases(connection, tenant.id)
        await tool_rows.delete_servers(connection, tenant.id)
        await vector_store_rows.lock_stores_of_tenant(connection, tenant.id)
        await store_file_rows.lock_files_of_tenant(connection, tenant.id)
        await vector_store_rows.delete_stores_of_tenant(connection, tenant.id)
        await file_rows.delete_files_of_tenant(connection, tenant.id)
        await response_rows.expire_responses_of_tenant(connection, tenant.id)
        await conversation_rows.expire_conversations_of_tenant(connection, tenant.id)
        key_destroyed = await tenant_key_rows.destroy_key(connection, tenant.id)
        deleted_at = await tenant_rows.delete_tenant(connection, tenant.id)
        assert deleted_at is not None
        events = _tenant_events(
            "tenant.deleted",
            tenant,
            audit.operator(),
            num_revoked_keys=num_keys,
            key_destroyed=key_destroyed,
        )
        await audit.record(connection, *events)
    return DeletedTenant(tenant.id, name, deleted_at, num_keys, key_destroyed)


async def create_key(
    dsn: str, pepper: Pepper, request: KeyRequest, service_account_id: uuid.UUID | None = None
) -> CreatedKey:
    """The tenant's own, or a service account's, which has to be of the request's project.

    Raises DirectoryError when the tenant is unknown or a value impossible, and DatabaseError.
    """
    check(request)
    if service_account_id is not None:
        check_owned(request)
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        tenant = await find_tenant(connection, request.tenant)
        project = await find_project(connection, tenant, request.project)
        if service_account_id is not None and not await service_account_rows.find_service_account(
            connection, tenant.id, project.id, service_account_id
        ):
            raise DirectoryError(
                f"there is no such service account in the project {project.name!r}; "
                f"`anzoth service-accounts list` shows the ids"
            )
        owner = KeyOwner(service_account_id=service_account_id)
        created = await insert_key(connection, pepper, tenant.id, project.id, request, owner)
        await audit.record(connection, key_events.created(created, audit.operator()))
    return created


async def list_keys(dsn: str, tenant: str | None = None) -> list[key_rows.KeyListing]:
    """All keys, or one tenant's, revoked ones included. Raises DirectoryError, DatabaseError."""
    async with pool.operator(dsn) as connection:
        if tenant is not None and await tenant_rows.find_tenant(connection, tenant) is None:
            raise DirectoryError(f"there is no tenant named {tenant!r}")
        return await key_rows.list_keys(connection, tenant)


async def revoke_key(dsn: str, which: str, *, lets_finish: bool = False) -> key_rows.RevokedKey:
    """`which`: a key's id, its kid, or the key itself; both secrets of a key that was rotated end.

    Running gateways learn of it at once and end its running requests, unless `lets_finish`. Again,
    of a key whose requests were to finish: now they end. Raises DirectoryError when there is no
    such key, and DatabaseError.
    """
    id, kid = parse_reference(which)
    revoked = None
    if id is not None or kid is not None:
        async with pool.operator(dsn) as connection:
            revoked = await key_rows.revoke_key(connection, id, kid, lets_finish=lets_finish)
            if revoked is not None and revoked.was_active:
                await audit.record(connection, key_events.deleted(revoked, audit.operator()))
    if revoked is None:
        raise no_such_key()
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
        created = await insert_key(connection, pepper, tenant.id, project.id, request)
        await audit.record(
            connection,
            *_tenant_events("tenant.created", tenant, audit.SYSTEM),
            key_events.created(created, audit.SYSTEM),
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


async def find_tenant(connection: Connection, name: str) -> tenant_rows.TenantRow:
    """A living one. Raises DirectoryError."""
    tenant = await tenant_rows.find_tenant(connection, name)
    if tenant is None:
        raise DirectoryError(
            f"there is no tenant named {name!r}; create it with: anzoth tenants create {name}"
        )
    if tenant.deleted_at is not None:
        raise DirectoryError(f"the tenant {name!r} was deleted on {tenant.deleted_at:%Y-%m-%d}")
    return tenant


async def find_project(
    connection: Connection, tenant: tenant_rows.TenantRow, name: str | None
) -> project_rows.ProjectRow:
    """The living one of this name, or the default one. Raises DirectoryError."""
    project = await project_rows.find_project(connection, tenant.id, name)
    if project is None:
        raise DirectoryError(f"the tenant {tenant.name!r} has no project named {name!r}")
    return project


async def insert_key(
    connection: Connection,
    pepper: Pepper,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    request: KeyRequest,
    owner: KeyOwner = NOBODY,
) -> CreatedKey:
    """Whoever calls has checked the request, and that the project is one of this tenant."""
    while True:
        key = keys.mint(is_admin=ADMIN_SCOPE in request.scopes)
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
            models=request.models,
            endpoints=request.endpoints,
            networks=request.networks,
            knowledge_bases=request.knowledge_bases,
            tools=request.tools,
            expires_at=request.expires_at,
            user_id=owner.user_id,
            service_account_id=owner.service_account_id,
            default_knowledge_bases=request.default_knowledge_bases,
        )
        created_at = await key_rows.try_insert_key(connection, row)
        if created_at is not None:
            subject = LimitSubject(tenant_id, key_id=row.id)
            for model, limits in ((None, request.limits), *request.limits_by_model.items()):
                await limit_directory.replace(connection, subject, model, limits)
            return CreatedKey(row.id, tenant_id, project_id, key, request, created_at, owner)


def _tenant_events(
    type: str, tenant: tenant_rows.TenantRow, actor: Actor, **more: int
) -> list[AuditEvent]:
    """In the tenant's own chain and in the installation's, so that it cannot vanish as a whole."""
    target, details = {"id": tenant.id}, {"name": tenant.name, **more}
    return [
        AuditEvent(type, actor, chain, target=target, details=details)
        for chain in (tenant.id, None)
    ]


def check(request: KeyRequest) -> None:
    """Raises DirectoryError."""
    check_name("key", request.name)
    check_scopes(request.scopes)
    check_expiry(request.scopes, request.expires_at)
    if ADMIN_SCOPE in request.scopes and request.project is not None:
        raise DirectoryError("an admin key stands above projects, and is of none in particular")
    for limits in (request.limits, *request.limits_by_model.values()):
        limit_directory.check(limits)


def check_owned(request: KeyRequest) -> None:
    """Raises DirectoryError for what no service account can have: it belongs to a project, and an
    admin key stands above all of them."""
    if ADMIN_SCOPE in request.scopes:
        raise DirectoryError(f"a service account has no key with the scope {ADMIN_SCOPE}")


def no_such_key() -> DirectoryError:
    # Not quoted: it may be a whole key with a typo.
    return DirectoryError("there is no such key; `anzoth keys list` shows the ids")


def parse_reference(which: str) -> tuple[uuid.UUID | None, str | None]:
    """The id or the kid that `which` names a key by, if it can be one."""
    if (key := keys.try_parse(which)) is not None:
        return None, key.kid
    if keys.is_kid(kid := which.removeprefix(keys.PREFIX)):
        return None, kid
    try:
        return uuid.UUID(which), None
    except ValueError:
        return None, None

"""How does an operator make and end the service accounts of a tenant?

The functions behind `anzoth service-accounts`; they act as the operator.

Does not know: how a tenant does the same over the API (see `organization.service_accounts`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import pool
from anzoth.db.store import project_rows, service_account_rows, tenant_rows
from anzoth.db.store.key_rows import KeyOwner
from anzoth.errors import NotFound
from anzoth.gateway import audit, directory, key_events
from anzoth.gateway.directory import CreatedKey, KeyRequest, find_project, find_tenant
from anzoth.gateway.directory_checks import DirectoryError, check_name
from anzoth.gateway.keys import Pepper
from anzoth.gateway.organization import service_accounts


@dataclass(slots=True, frozen=True)
class ServiceAccountListing:
    """A service account as lists show it."""

    id: uuid.UUID
    name: str
    project: str
    created_at: datetime


@dataclass(slots=True, frozen=True)
class DeletedServiceAccount:
    """A service account that was just deleted."""

    id: uuid.UUID
    num_revoked_keys: int


async def create(
    dsn: str, pepper: Pepper, name: str, request: KeyRequest
) -> tuple[ServiceAccountListing, CreatedKey]:
    """In the request's project, with a first key. Raises DirectoryError and DatabaseError."""
    check_name("service account", name)
    directory.check(request)
    directory.check_owned(request)
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        tenant = await find_tenant(connection, request.tenant)
        project = await find_project(connection, tenant, request.project)
        made = await service_account_rows.insert_service_account(
            connection, uuid.uuid4(), tenant.id, project.id, name
        )
        owner = KeyOwner(service_account_id=made.id)
        key = await directory.insert_key(connection, pepper, tenant.id, project.id, request, owner)
        created = service_accounts.event("service_account.created", audit.operator(), made)
        await audit.record(connection, created, key_events.created(key, audit.operator()))
        return ServiceAccountListing(made.id, name, project.name, made.created_at), key


async def list_all(
    dsn: str, tenant: str, project: str | None = None
) -> list[ServiceAccountListing]:
    """Of one project or (None) all. Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        owner = await find_tenant(connection, tenant)
        of = None if project is None else (await find_project(connection, owner, project)).id
        rows = await service_account_rows.page_of_service_accounts(
            connection, owner.id, of, None, None
        )
        names = await project_rows.names_of_projects(connection, {row.project_id for row in rows})
        return [
            ServiceAccountListing(row.id, row.name, names[row.project_id], row.created_at)
            for row in rows
        ]


async def delete(dsn: str, id: uuid.UUID) -> DeletedServiceAccount:
    """Its keys are revoked, their requests end. Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        try:
            happened = await service_accounts.end(connection, audit.operator(), id)
        except NotFound:
            raise DirectoryError(
                "there is no such service account; `anzoth service-accounts list` shows the ids"
            ) from None
        await audit.record(connection, *happened)
        return DeletedServiceAccount(id, len(happened) - 1)

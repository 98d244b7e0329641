"""How does an operator make, limit and end the projects of a tenant, and limit the tenant itself?

The functions behind `anzoth projects` and `anzoth tenants update`; they act as the operator.

Does not know: what a project's keys may do.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anzoth.db import pool
from anzoth.db.pool import Connection
from anzoth.db.store import key_rows, limit_rows, project_rows, tenant_rows
from anzoth.db.store.limit_rows import LimitListing, LimitSubject
from anzoth.db.store.project_rows import ProjectRow
from anzoth.gateway import audit, key_events, limit_directory
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.directory import find_project, find_tenant
from anzoth.gateway.directory_checks import DirectoryError, check_name
from anzoth.gateway.limit_directory import LimitChange
from anzoth.gateway.limit_rules import Limits, shown


@dataclass(slots=True, frozen=True)
class ArchivedProject:
    """A project that was just archived."""

    project: ProjectRow
    num_revoked_keys: int


async def create_project(dsn: str, tenant: str, name: str, limits: Limits) -> ProjectRow:
    """Raises DirectoryError and DatabaseError."""
    check_name("project", name)
    limit_directory.check(limits)
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        owner = await find_tenant(connection, tenant)
        created = await project_rows.try_insert_project(
            connection, uuid.uuid4(), owner.id, name, is_default=False
        )
        if created is None:
            raise _is_taken(tenant, name)
        subject = LimitSubject(owner.id, project_id=created.id)
        await limit_directory.replace(connection, subject, None, limits)
        details = {"name": name, **key_events.given(limits)}
        await _record(connection, "project.created", subject, details)
        return created


async def list_projects(dsn: str, tenant: str) -> list[ProjectRow]:
    """Archived ones last. Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        owner = await find_tenant(connection, tenant)
        return await project_rows.list_projects(connection, owner.id)


async def update_project(
    dsn: str,
    tenant: str,
    name: str | None,
    *,
    new_name: str | None = None,
    limits: LimitChange,
    model: str | None = None,
) -> tuple[ProjectRow, Limits]:
    """`name` None: the default one. `model`: the limits are those for it alone.

    Raises DirectoryError and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        owner = await find_tenant(connection, tenant)
        project = await find_project(connection, owner, name)
        if new_name is not None:
            check_name("project", new_name)
            renamed = await project_rows.try_rename_project(connection, project.id, new_name)
            if renamed is None:
                raise _is_taken(tenant, new_name)
            project = renamed
        subject = LimitSubject(owner.id, project_id=project.id)
        after = await limit_directory.change(connection, subject, model, limits)
        renamed_to = {} if new_name is None else {"name": new_name}
        details = {**renamed_to, **_limit_details(limits, model)}
        await _record(connection, "project.updated", subject, details)
        return project, after


async def archive_project(dsn: str, tenant: str, name: str) -> ArchivedProject:
    """Its keys are revoked and their requests end. Its usage stays; its name can be given again.

    Raises DirectoryError and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)  # no key may come into being meanwhile
        owner = await find_tenant(connection, tenant)
        project = await find_project(connection, owner, name)
        archived = await project_rows.try_archive_project(connection, project.id)
        if archived is None:
            raise DirectoryError("a tenant's default project cannot be archived")
        num_keys = await key_rows.revoke_keys(connection, owner.id, project.id)
        subject = LimitSubject(owner.id, project_id=project.id)
        details = {"name": name, "num_revoked_keys": num_keys}
        await _record(connection, "project.archived", subject, details)
        return ArchivedProject(archived, num_keys)


async def update_tenant(
    dsn: str, name: str, *, limits: LimitChange, model: str | None = None
) -> Limits:
    """Its limits as they are then. Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        subject = LimitSubject((await find_tenant(connection, name)).id)
        after = await limit_directory.change(connection, subject, model, limits)
        await _record(connection, "organization.updated", subject, _limit_details(limits, model))
        return after


async def list_limits(dsn: str, tenant: str) -> list[LimitListing]:
    """Of a tenant, its projects and its keys. Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        owner = await find_tenant(connection, tenant)
        return await limit_rows.list_limits(connection, owner.id)


def _limit_details(limits: LimitChange, model: str | None) -> dict[str, Any]:
    return {**shown(limits), **({} if model is None else {"limits_of_model": model})}


async def _record(
    connection: Connection, type: str, subject: LimitSubject, details: Mapping[str, Any]
) -> None:
    """In the audit log, about a project or the tenant itself. Last in a transaction."""
    target = {"id": subject.project_id or subject.tenant_id}
    event = AuditEvent(
        type, audit.operator(), subject.tenant_id, subject.project_id, target, details
    )
    await audit.record(connection, event)


def _is_taken(tenant: str, name: str) -> DirectoryError:
    return DirectoryError(f"the tenant {tenant!r} already has a project named {name!r}")

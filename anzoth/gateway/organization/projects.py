"""Which projects does a tenant have, and how does it make, rename and end them itself?

Does not know: how an operator does the same (see `project_directory`), or a project's limits.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from anzoth.db.pool import Connection, Database
from anzoth.db.store import key_rows, project_rows, tenant_rows
from anzoth.db.store.project_rows import ProjectRow
from anzoth.errors import Conflict, InvalidValue, NotFound
from anzoth.gateway import audit
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.directory_checks import DirectoryError, check_name
from anzoth.gateway.principal import Principal, TenantHandle


class Projects:
    """One per gateway. An id of another tenant is NotFound like any other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, principal: Principal, *, include_archived: bool, after: uuid.UUID | None, limit: int
    ) -> list[ProjectRow]:
        async with self._database.tenant(principal.tenant) as connection:
            return await project_rows.page_of_projects(
                connection, principal.tenant.id, after, limit, include_archived=include_archived
            )

    async def find(self, principal: Principal, id: uuid.UUID) -> ProjectRow:
        """An archived one too. Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            return await _find(connection, principal.tenant, id)

    async def create(self, principal: Principal, actor: Actor, name: str) -> ProjectRow:
        """Raises InvalidValue, and Conflict when the name is taken."""
        _check_name(name)
        async with self._database.tenant(principal.tenant) as connection:
            created = await project_rows.try_insert_project(
                connection, uuid.uuid4(), principal.tenant.id, name, is_default=False
            )
            if created is None:
                raise _is_taken()
            await _record(
                connection, "project.created", actor, principal.tenant, created.id, {"name": name}
            )
            return created

    async def rename(
        self, principal: Principal, actor: Actor, id: uuid.UUID, name: str
    ) -> ProjectRow:
        """Raises NotFound, InvalidValue, and Conflict when it is archived or the name taken."""
        _check_name(name)
        async with self._database.tenant(principal.tenant) as connection:
            await tenant_rows.lock_directory(connection)
            if (await _find(connection, principal.tenant, id)).archived_at is not None:
                raise Conflict("An archived project does not change any more.")
            renamed = await project_rows.try_rename_project(connection, id, name)
            if renamed is None:
                raise _is_taken()
            await _record(
                connection, "project.updated", actor, principal.tenant, id, {"name": name}
            )
            return renamed

    async def archive(self, principal: Principal, actor: Actor, id: uuid.UUID) -> ProjectRow:
        """For good: its keys are revoked and their requests end. Its usage stays; its name can be
        given again. One that is archived already stays as it is.

        Raises NotFound, and Conflict for the tenant's default one.
        """
        async with self._database.tenant(principal.tenant) as connection:
            await tenant_rows.lock_directory(connection)  # no key may come into being meanwhile
            found = await _find(connection, principal.tenant, id)
            if found.archived_at is not None:
                return found
            archived = await project_rows.try_archive_project(connection, id)
            if archived is None:
                raise Conflict("The default project cannot be archived.")
            num_keys = await key_rows.revoke_keys(connection, principal.tenant.id, id)
            details = {"name": found.name, "num_revoked_keys": num_keys}
            await _record(connection, "project.archived", actor, principal.tenant, id, details)
            return archived


async def require_living(connection: Connection, tenant: TenantHandle, id: uuid.UUID) -> ProjectRow:
    """Raises NotFound unless it is a project of the tenant's that is not archived."""
    found = await _find(connection, tenant, id)
    if found.archived_at is not None:
        raise no_project()
    return found


def no_project() -> NotFound:
    return NotFound("There is no such project.")


async def _find(connection: Connection, tenant: TenantHandle, id: uuid.UUID) -> ProjectRow:
    found = await project_rows.find_project_by_id(connection, tenant.id, id)
    if found is None:
        raise no_project()
    return found


def _check_name(name: str) -> None:
    try:
        check_name("project", name)
    except DirectoryError as error:
        raise InvalidValue(f"Invalid value for 'name': {error}.", param="name") from None


def _is_taken() -> Conflict:
    return Conflict("There is a project of this name.", param="name")


async def _record(
    connection: Connection,
    type: str,
    actor: Actor,
    tenant: TenantHandle,
    id: uuid.UUID,
    details: Mapping[str, Any],  # JSON
) -> None:
    await audit.record(connection, AuditEvent(type, actor, tenant.id, id, {"id": id}, details))

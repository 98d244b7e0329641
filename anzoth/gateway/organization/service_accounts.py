"""Which programs have keys of a project, and how are they made and ended?

A service account owns keys as a person does, and stays when people go. Deleting it revokes its
keys.

Does not know: how an operator does the same (see `service_account_directory`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from anzoth.db.pool import Connection, Database
from anzoth.db.store import service_account_rows
from anzoth.db.store.key_rows import KeyOwner
from anzoth.db.store.service_account_rows import ServiceAccountRow
from anzoth.errors import InvalidValue, NotFound
from anzoth.gateway import audit, key_minting, key_owners
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.directory_checks import DirectoryError, check_name
from anzoth.gateway.keys import Pepper
from anzoth.gateway.organization.api_keys import require_ordinary, require_readable
from anzoth.gateway.principal import Principal


class ServiceAccounts:
    """One per gateway. An id of another tenant or project is NotFound like any other.

    What changes anything raises as `key_minting.create_key_as`, too: it takes what changing keys
    takes.
    """

    def __init__(self, database: Database, pepper: Pepper) -> None:
        self._database = database
        self._pepper = pepper

    async def list(
        self, principal: Principal, project_id: uuid.UUID, *, after: uuid.UUID | None, limit: int
    ) -> list[ServiceAccountRow]:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            return await service_account_rows.page_of_service_accounts(
                connection, principal.tenant.id, project_id, after, limit
            )

    async def find(
        self, principal: Principal, project_id: uuid.UUID, id: uuid.UUID
    ) -> ServiceAccountRow:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            return await _find(connection, principal, project_id, id)

    async def create(
        self,
        principal: Principal,
        actor: Actor,
        project_id: uuid.UUID,
        name: str,
        key: KeyRequest | None,
        inherits: Collection[str] = (),
    ) -> tuple[ServiceAccountRow, CreatedKey | None]:
        """With its first key, unless that is None."""
        _check_name(name)
        async with self._database.tenant(principal.tenant) as connection:
            await _require_manager(connection, principal, project_id)
            made = await service_account_rows.insert_service_account(
                connection, uuid.uuid4(), principal.tenant.id, project_id, name
            )
            created = event("service_account.created", actor, made)
            if key is None:
                await audit.record(connection, created)
                return made, None
            return made, await self._key(connection, principal, actor, made, key, inherits, created)

    async def create_key(
        self,
        principal: Principal,
        actor: Actor,
        project_id: uuid.UUID,
        id: uuid.UUID,
        key: KeyRequest,
        inherits: Collection[str],
    ) -> CreatedKey:
        async with self._database.tenant(principal.tenant) as connection:
            await _require_manager(connection, principal, project_id)
            account = await _find(connection, principal, project_id, id)
            return await self._key(connection, principal, actor, account, key, inherits)

    async def rename(
        self,
        principal: Principal,
        actor: Actor,
        project_id: uuid.UUID,
        id: uuid.UUID,
        name: str,
    ) -> ServiceAccountRow:
        _check_name(name)
        async with self._database.tenant(principal.tenant) as connection:
            await _require_manager(connection, principal, project_id)
            await _find(connection, principal, project_id, id)
            renamed = await service_account_rows.rename_service_account(connection, id, name)
            if renamed is None:
                raise _unknown()
            await audit.record(connection, event("service_account.updated", actor, renamed))
            return renamed

    async def delete(
        self, principal: Principal, actor: Actor, project_id: uuid.UUID, id: uuid.UUID
    ) -> None:
        """Its keys work no more, and their running requests end."""
        async with self._database.tenant(principal.tenant) as connection:
            await _require_manager(connection, principal, project_id)
            await _find(connection, principal, project_id, id)
            await audit.record(connection, *await end(connection, actor, id))

    async def _key(
        self,
        connection: Connection,
        principal: Principal,
        actor: Actor,
        account: ServiceAccountRow,
        key: KeyRequest,
        inherits: Collection[str],
        *events: AuditEvent,
    ) -> CreatedKey:
        """Recorded behind `events`."""
        require_ordinary(key)
        return await key_minting.create_key_as(
            connection,
            self._pepper,
            principal,
            key,
            account.project_id,
            inherits=inherits,
            service_account_id=account.id,
            ip=actor.ip,
            events=events,
        )


async def end(connection: Connection, actor: Actor, id: uuid.UUID) -> list[AuditEvent]:
    """What is to be recorded. Whoever calls holds the directory's lock. Raises NotFound."""
    deleted = await service_account_rows.delete_service_account(connection, id)
    if deleted is None:
        raise _unknown()
    owner = KeyOwner(service_account_id=id)
    ended = await key_owners.end_keys(connection, actor, owner, deleted.tenant_id)
    return [event("service_account.deleted", actor, deleted), *ended]


def event(type: str, actor: Actor, account: ServiceAccountRow) -> AuditEvent:
    return AuditEvent(
        type,
        actor,
        account.tenant_id,
        account.project_id,
        target={"id": account.id},
        details={"name": account.name},
    )


async def _require_manager(
    connection: Connection, principal: Principal, project_id: uuid.UUID
) -> None:
    await require_readable(connection, principal, project_id)
    await key_minting.require_manager(connection, principal, project_id)


async def _find(
    connection: Connection, principal: Principal, project_id: uuid.UUID, id: uuid.UUID
) -> ServiceAccountRow:
    found = await service_account_rows.find_service_account(
        connection, principal.tenant.id, project_id, id
    )
    if found is None:
        raise _unknown()
    return found


def _check_name(name: str) -> None:
    try:
        check_name("service account", name)
    except DirectoryError as error:
        raise InvalidValue(f"Invalid value for 'name': {error}.", param="name") from None


def _unknown() -> NotFound:
    return NotFound("There is no such service account.")

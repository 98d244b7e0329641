"""Who may give a model which name, and how is that stored?

Behind `/v1/organization/model_aliases` (a key of the tenant) and `anzoth aliases` (the operator). A
tenant may not give the name of a served model to something else: whoever uses that name would be
answered by another model without a sign. The operator may, and has to say so. An alias
that is there keeps its meaning, whatever is served later.

A key can lead an alias only to models that it may use itself. All of its targets are for one
purpose, as far as that is known: of what another server's models are for, nothing is.

Does not know: HTTP, or how a request finds its target.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import alias_rows, tenant_rows
from anzoth.db.store.alias_rows import AliasRow, NewAlias
from anzoth.errors import DatabaseUnavailable, InvalidValue, ModelNotAllowed, NotFound
from anzoth.gateway import audit
from anzoth.gateway.aliases import Target
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.backends import Backends
from anzoth.gateway.directory import DirectoryError
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.principal import Principal
from anzoth.model_kind import ModelKind

AliasView = AliasRow
"""An alias with its id and its times."""
MAX_ALIASES = 1000
"""Of one tenant: all are read together."""


@dataclass(slots=True, frozen=True)
class AliasRequest:
    """What an alias should be; its fields are checked (see `api.model_aliases`)."""

    name: str
    targets: tuple[Target, ...]
    system_prompt: str | None = field(default=None, repr=False)
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)  # JSON
    forced: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sticky: bool = False
    knowledge_bases: tuple[str, ...] = ()
    """Vector stores; whether they are there, and whose they are, shows when a chat comes."""
    tools: tuple[str, ...] = ()
    """Grants of tools; whether these are there shows when a chat comes."""

    def row(self, id: uuid.UUID, tenant_id: uuid.UUID) -> NewAlias:
        targets = [asdict(target) for target in self.targets]
        return NewAlias(
            id, tenant_id, self.name, targets, self.system_prompt, self.defaults, self.forced,
            self.sticky, self.knowledge_bases, self.tools,
        )  # fmt: skip


@dataclass(slots=True, frozen=True)
class Caller:
    """Whose request changes an alias."""

    principal: Principal
    ip: str | None
    request_id: str

    def event(self, type: str) -> AuditEvent:
        tenant_id, actor = self.principal.tenant.id, audit.actor_of(self.principal, self.ip)
        return AuditEvent(type, actor, tenant_id, request_id=self.request_id)


class AliasDirectory:
    """A tenant's own way to its aliases. One per gateway.

    Every method raises DatabaseUnavailable; an id of another tenant is NotFound like any other.
    """

    def __init__(self, database: Database, models: ModelRegistry, backends: Backends) -> None:
        self._database = database
        self._models = models
        self._backends = backends

    async def list(self, principal: Principal) -> Sequence[AliasRow]:
        return await self._as(principal, alias_rows.list_aliases, principal.tenant.id)

    async def get(self, principal: Principal, id: str) -> AliasRow:
        """Raises NotFound."""
        wanted = _uuid(id)
        for row in await self.list(principal):
            if row.id == wanted:
                return row
        raise _unknown()

    async def create(self, by: Caller, request: AliasRequest) -> AliasRow:
        """Raises InvalidValue or ModelNotAllowed."""
        principal = by.principal
        self._check(principal, request)
        if len(await self.list(principal)) >= MAX_ALIASES:
            raise InvalidValue(f"There are {MAX_ALIASES} aliases already, and no more are allowed.")
        new = request.row(uuid.uuid4(), principal.tenant.id)
        row = await self._as(principal, _insert, new, by.event("alias.created"))
        if row is None:
            raise _taken()
        return row

    async def update(self, by: Caller, id: str, request: AliasRequest) -> AliasRow:
        """Raises NotFound, InvalidValue or ModelNotAllowed."""
        principal = by.principal
        before = await self.get(principal, id)
        self._check(principal, request, is_new_name=request.name != before.name)
        new = request.row(before.id, principal.tenant.id)
        try:
            row = await self._as(principal, _update, new, by.event("alias.updated"))
        except LookupError:
            raise _unknown() from None
        if row is None:
            raise _taken()
        return row

    async def delete(self, by: Caller, id: str) -> uuid.UUID:
        """Raises NotFound."""
        before = await self.get(by.principal, id)
        event = by.event("alias.deleted")
        if not await self._as(by.principal, _delete, before.id, before.name, event):
            raise _unknown()
        return before.id

    def _check(
        self, principal: Principal, request: AliasRequest, *, is_new_name: bool = True
    ) -> None:
        if is_new_name and self._models.find(request.name) is not None:
            raise InvalidValue(
                "Invalid value for 'name': a model of this name is served here. Only the operator "
                "can give its name another meaning.",
                param="name",
            )
        require_one_purpose(request, self._kind_of)
        for number, target in enumerate(request.targets):
            if not principal.may_use_model(target.name):
                raise ModelNotAllowed(
                    f"This API key has no access to the model {target.name!r}, so it cannot lead "
                    "an alias there."
                )
            if not self._exists(principal, target):
                raise InvalidValue(
                    f"Invalid value for 'targets[{number}]': there is no such model here.",
                    param=f"targets[{number}]",
                )

    def _kind_of(self, target: Target) -> ModelKind | None:
        model = None if target.backend is not None else self._models.find(target.model)
        return None if model is None else model.kind

    def _exists(self, principal: Principal, target: Target) -> bool:
        if target.backend is None:
            return self._models.find(target.model) is not None
        backend = self._backends.get(target.backend)
        return backend is not None and backend.serves(target.model, principal.tenant.name)

    async def _as(self, principal: Principal, do: Callable[..., Any], *parameters: object) -> Any:
        try:
            async with self._database.tenant(principal.tenant) as connection:
                return await do(connection, *parameters)
        except DatabaseDown:
            raise DatabaseUnavailable(
                "Aliases cannot be read or written because the database is unavailable. Please "
                "retry."
            ) from None


_PURPOSES: Mapping[ModelKind, str] = {
    "generation": "generates text",
    "embedding": "makes embeddings",
    "rerank": "ranks documents",
}


def require_one_purpose(
    request: AliasRequest, kind_of: Callable[[Target], ModelKind | None]
) -> None:
    """Raises InvalidValue for an alias that could not answer some of its requests, or any.

    `kind_of`: None where nobody knows.
    """
    first: tuple[Target, ModelKind] | None = None
    for number, target in enumerate(request.targets):
        kind = kind_of(target)
        if kind is None:
            continue
        first = first or (target, kind)
        if kind != first[1]:
            raise InvalidValue(
                f"Invalid value for 'targets[{number}]': '{target.name}' {_PURPOSES[kind]}, and "
                f"'{first[0].name}' {_PURPOSES[first[1]]}; an alias leads to models for one "
                "purpose.",
                param=f"targets[{number}]",
            )
    if first is None or first[1] == "generation":
        return
    for name in ("system_prompt", "knowledge_bases", "tools"):
        if getattr(request, name):
            raise InvalidValue(
                f"Invalid value for '{name}': '{first[0].name}' {_PURPOSES[first[1]]}, and "
                "takes none.",
                param=name,
            )


def _uuid(id: str) -> uuid.UUID:
    try:
        return uuid.UUID(id)
    except ValueError:
        raise _unknown() from None


def _unknown() -> NotFound:
    return NotFound("There is no such alias.")


def _taken() -> InvalidValue:
    return InvalidValue("Invalid value for 'name': there is an alias of this name.", param="name")


# --- changes, each with its event ----------------------------------------------------------------


async def _insert(connection: Connection, new: NewAlias, event: AuditEvent) -> AliasRow | None:
    row = await alias_rows.try_insert_alias(connection, new)
    if row is not None:
        await audit.record(connection, _about(event, new))
    return row


async def _update(connection: Connection, new: NewAlias, event: AuditEvent) -> AliasRow | None:
    row = await alias_rows.try_update_alias(connection, new)
    if row is not None:
        await audit.record(connection, _about(event, new))
    return row


async def _delete(connection: Connection, id: uuid.UUID, name: str, event: AuditEvent) -> bool:
    assert event.tenant_id is not None
    is_deleted = await alias_rows.delete_alias(connection, event.tenant_id, id)
    if is_deleted:
        await audit.record(connection, replace(event, target={"id": id, "name": name}))
    return is_deleted


def _about(event: AuditEvent, new: NewAlias) -> AuditEvent:
    """Where it leads and what it sets, but not the tenant's own words."""
    return replace(
        event,
        target={"id": new.id, "name": new.name},
        details={
            "targets": [dict(target) for target in new.targets],
            "defaults": sorted(new.defaults),
            "forced": sorted(new.forced),
            "sticky": new.sticky,
            "has_system_prompt": new.system_prompt is not None,
            "knowledge_bases": list(new.knowledge_bases),
            "tools": list(new.tools),
        },
    )


# --- the operator's commands --------------------------------------------------------------------


async def list_of_tenant(dsn: str, tenant: str) -> Sequence[AliasRow]:
    """Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        found = await _tenant(connection, tenant)
        return await alias_rows.list_aliases(connection, found)


async def create_for_tenant(dsn: str, tenant: str, request: AliasRequest) -> AliasRow:
    """Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        new = request.row(uuid.uuid4(), await _tenant(connection, tenant))
        event = AuditEvent("alias.created", audit.operator(), new.tenant_id)
        row = await _insert(connection, new, event)
    if row is None:
        raise DirectoryError(f"the tenant {tenant!r} has an alias named {request.name!r}")
    return row


async def update_for_tenant(
    dsn: str, tenant: str, name: str, change: Callable[[AliasRow], AliasRequest]
) -> AliasRow:
    """Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        before, tenant_id = await _named(connection, tenant, name)
        request = change(before)
        event = AuditEvent("alias.updated", audit.operator(), tenant_id)
        row = await _update(connection, request.row(before.id, tenant_id), event)
    if row is None:
        raise DirectoryError(f"the tenant {tenant!r} has an alias named {request.name!r}")
    return row


async def delete_of_tenant(dsn: str, tenant: str, name: str) -> uuid.UUID:
    """Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        before, tenant_id = await _named(connection, tenant, name)
        event = AuditEvent("alias.deleted", audit.operator(), tenant_id)
        await _delete(connection, before.id, before.name, event)
    return before.id


async def _tenant(connection: Connection, name: str) -> uuid.UUID:
    found = await tenant_rows.find_tenant(connection, name)
    if found is None or found.deleted_at is not None:
        raise DirectoryError(f"there is no tenant named {name!r}")
    return found.id


async def _named(connection: Connection, tenant: str, name: str) -> tuple[AliasRow, uuid.UUID]:
    tenant_id = await _tenant(connection, tenant)
    for row in await alias_rows.list_aliases(connection, tenant_id):
        if row.name == name:
            return row, tenant_id
    raise DirectoryError(f"the tenant {tenant!r} has no alias named {name!r}")

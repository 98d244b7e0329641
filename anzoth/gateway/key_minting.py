"""What may a key do with other keys?

One with the scope `keys:write` makes, changes and revokes keys of its own project; with `admin`
those of its whole tenant. Whatever it makes or changes is within what it has itself: scopes,
models, endpoints, networks, knowledge bases, tools, expiry, and each of its limits. It is compared
with its own row under a lock, not with what authentication saw a second ago; so a key that was just
restricted or revoked passes nothing on.

A user's session does the same by its role: for the whole tenant, and with every inference scope to
give, because a role has none of its own.

Nobody's secret is replaced this way: the application's role in the database cannot.

Every function takes a connection of `Database.tenant(principal.tenant)`: the transaction is the
caller's, and row-level security keeps it inside the tenant. What was done is recorded in the audit
log, with `ip`; so the call comes last in the transaction (see `audit`).

Does not know: JSON, or how an operator does the same without these bounds (see `directory`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from anzoth.db.pool import Connection
from anzoth.db.store import key_rows, limit_rows, project_rows, tenant_rows
from anzoth.db.store.key_rows import KeySettings, RevokedKey
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.errors import Forbidden, InvalidValue, KeyRevoked, NotFound
from anzoth.gateway import audit, directory, key_changes, key_events, limit_directory
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.grants import Grants, excess
from anzoth.gateway.key_changes import KeyChange
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits
from anzoth.gateway.principal import Principal
from anzoth.gateway.scopes import covers

WRITE_SCOPE = "keys:write"
_EVERY_PROJECT_SCOPE = "admin"


@dataclass(slots=True, frozen=True)
class _Maker:
    """Who acts: where, and what it can give."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    grants: Grants
    has_every_project: bool


async def create_key_as(
    connection: Connection,
    pepper: Pepper,
    principal: Principal,
    request: KeyRequest,
    project_id: uuid.UUID | None = None,
    *,
    ip: str | None = None,
) -> CreatedKey:
    """A new key within what `principal` has; in its own project unless `project_id` names another.

    `request.tenant` and `request.project` are not looked at. Raises Forbidden (naming the first
    field that is too much), NotFound (the project), InvalidValue, KeyRevoked.
    """
    maker = await _maker(connection, principal)
    try:
        directory.check(request)
    except DirectoryError as error:
        raise InvalidValue(str(error)) from None
    project_id = _require_project(maker, project_id or maker.project_id)
    if not await project_rows.is_living(connection, project_id):
        raise NotFound()
    wanted = Grants(
        request.scopes,
        request.models,
        request.endpoints,
        request.networks,
        request.knowledge_bases or (),
        request.tools or (),
        request.expires_at,
        {None: request.limits, **request.limits_by_model},
    )
    _require_within(wanted, maker.grants)
    made = await directory.insert_key(connection, pepper, maker.tenant_id, project_id, request)
    await audit.record(connection, key_events.created(made, audit.actor_of(principal, ip)))
    return made


async def update_key_as(
    connection: Connection,
    principal: Principal,
    key_id: uuid.UUID,
    change: KeyChange,
    *,
    ip: str | None = None,
) -> KeySettings:
    """The key as it is after the change: within what `principal` has, whatever it was before.

    Raises Forbidden, NotFound, InvalidValue, KeyRevoked.
    """
    maker = await _maker(connection, principal)
    before = await _find(connection, maker, key_id)
    subject = LimitSubject(before.tenant_id, key_id=before.id)
    try:
        after = key_changes.apply(before, change)
        await limit_directory.change(connection, subject, change.limits_of_model, change.limits)
    except DirectoryError as error:
        raise InvalidValue(str(error)) from None
    _require_within(await _grants(connection, after), maker.grants)
    await key_rows.update_key(connection, after)
    await audit.record(
        connection,
        key_events.updated(
            before,
            after,
            change.limits,
            change.limits_of_model,
            audit.actor_of(principal, ip),
        ),
    )
    return after


async def revoke_key_as(
    connection: Connection,
    principal: Principal,
    key_id: uuid.UUID,
    *,
    lets_finish: bool = False,
    ip: str | None = None,
) -> RevokedKey:
    """Also of a key that has more than `principal`. Raises Forbidden, NotFound, KeyRevoked."""
    maker = await _maker(connection, principal)
    found = await _find(connection, maker, key_id)
    revoked = await key_rows.revoke_key(connection, found.id, None, lets_finish=lets_finish)
    assert revoked is not None
    if revoked.was_active:
        await audit.record(connection, key_events.deleted(revoked, audit.actor_of(principal, ip)))
    return revoked


async def _maker(connection: Connection, principal: Principal) -> _Maker:
    """Raises Forbidden or KeyRevoked."""
    principal.require_scope(WRITE_SCOPE)
    await tenant_rows.lock_directory(connection)
    if principal.key_id is None:
        grants = Grants({*principal.scopes, "all"})
        return _Maker(principal.tenant.id, principal.project_id, grants, has_every_project=True)
    own = await key_rows.lock_key(connection, principal.key_id, None)
    if own is None or own.revoked_at is not None:
        raise KeyRevoked()
    grants = await _grants(connection, own)
    if not covers(grants.scopes, WRITE_SCOPE):
        raise Forbidden(f"This API key lacks the scope {WRITE_SCOPE!r} that this needs.")
    has_every_project = covers(grants.scopes, _EVERY_PROJECT_SCOPE)
    return _Maker(own.tenant_id, own.project_id, grants, has_every_project)


async def _find(connection: Connection, maker: _Maker, key_id: uuid.UUID) -> KeySettings:
    """Raises NotFound, the same for an unknown key and for one of another project."""
    found = await key_rows.lock_key(connection, key_id, None)
    if found is None:
        raise NotFound()
    _require_project(maker, found.project_id)
    return found


async def _grants(connection: Connection, key: KeySettings) -> Grants:
    subject = LimitSubject(key.tenant_id, key_id=key.id)
    limits = {
        row.model: Limits(**{name: getattr(row, name) for name in LIMIT_NAMES})
        for row in await limit_rows.find_limits(connection, subject)
    }
    return Grants(
        key.scopes,
        key.models,
        key.endpoints,
        key.networks,
        key.knowledge_bases or (),
        key.tools or (),
        key.expires_at,
        limits,
    )


def _require_project(maker: _Maker, project_id: uuid.UUID) -> uuid.UUID:
    """Raises NotFound: of other projects a key learns nothing."""
    if project_id != maker.project_id and not maker.has_every_project:
        raise NotFound()
    return project_id


def _require_within(wanted: Grants, own: Grants) -> None:
    field = excess(wanted, own)
    if field is not None:
        raise Forbidden(
            f"This API key cannot give another one more than it has itself: its {field} are less.",
            param=field,
            rule="key.mint",
        )

"""What may a caller do with keys?

A key with the scope `keys:write` makes, changes, rotates and revokes keys of its own project; with
`admin` those of its whole tenant. Whatever it makes, changes or learns the secret of is within what
it has itself: scopes, models, endpoints, networks, knowledge bases, tools, expiry, and each of its
limits. It is compared with its own row under a lock, not with what authentication saw a second ago;
so a key that was just restricted or revoked passes nothing on.

A user's session does the same by the role that the user has now: for the whole tenant, and with
every inference scope to give, because a role has none of its own.

A new key is its maker's: the user's or, if a key made it, that key's owner's. So it ends with them
(see `key_owners`). Keys of a service account are made for it. An operator who does not belong to
the tenant makes keys of the tenant's own, as the operator's commands do.

Every function takes a connection of `Database.tenant(principal.tenant)`: the transaction is the
caller's, and row-level security keeps it inside the tenant. What was done is recorded in the audit
log, with `ip`; so the call comes last in the transaction (see `audit`).

Does not know: JSON, or how an operator does the same without these bounds (see `directory`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from anzoth.db.pool import Connection, act_as_user
from anzoth.db.store import (
    key_rows,
    limit_rows,
    membership_rows,
    project_rows,
    tenant_rows,
    user_rows,
)
from anzoth.db.store.key_rows import NOBODY, KeyOwner, KeySettings, RevokedKey
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.errors import Forbidden, InvalidValue, KeyRevoked, NotFound, NotSignedIn
from anzoth.gateway import audit, directory, key_changes, key_events, limit_directory
from anzoth.gateway.accounts import roles
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.grants import Grants, excess
from anzoth.gateway.key_changes import KeyChange, RotatedKey
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits
from anzoth.gateway.principal import Principal
from anzoth.gateway.scopes import ADMIN_SCOPE, covers

WRITE_SCOPE = "keys:write"
# Of different types, as the fields of a KeyRequest are.
_INHERIT: Mapping[str, Callable[[Grants], Any]] = {
    "scopes": lambda own: tuple(s for s in directory.DEFAULT_SCOPES if covers(own.scopes, s)),
    "models": lambda own: own.models,
    "endpoints": lambda own: own.endpoints,
    "networks": lambda own: own.networks,
    "knowledge_bases": lambda own: own.knowledge_bases,
    "tools": lambda own: own.tools,
    "expires_at": lambda own: own.expires_at,
    "limits": lambda own: own.limits.get(None, Limits()),
    "limits_by_model": lambda own: {m: some for m, some in own.limits.items() if m is not None},
}
INHERITED = tuple(_INHERIT)
"""What of a new key can be what its maker has; of the scopes, those that new keys have anyway."""


@dataclass(slots=True, frozen=True)
class _Maker:
    """Who acts: where, what it can give, and whose the keys are that it makes."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    grants: Grants
    owner: KeyOwner
    has_every_project: bool


async def create_key_as(
    connection: Connection,
    pepper: Pepper,
    principal: Principal,
    request: KeyRequest,
    project_id: uuid.UUID | None = None,
    *,
    inherits: Collection[str] = (),
    service_account_id: uuid.UUID | None = None,
    events: Iterable[AuditEvent] = (),
    ip: str | None = None,
) -> CreatedKey:
    """A new key within what `principal` has; in its own project unless `project_id` names another.

    `request.tenant` and `request.project` are not looked at. `inherits`: which of INHERITED are the
    maker's instead of the request's. `service_account_id`: whose the key is, if not its maker's.
    `events`: what else happened in this transaction, to be recorded first.
    Raises Forbidden (naming the first field that is too much), NotFound (the project),
    InvalidValue, KeyRevoked, NotSignedIn.
    """
    maker = await _maker(connection, principal)
    request = replace(request, **{name: _INHERIT[name](maker.grants) for name in inherits})
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
        request.knowledge_bases,
        request.tools or (),
        request.expires_at,
        {None: request.limits, **request.limits_by_model},
    )
    _require_within(wanted, maker.grants)
    owner = maker.owner
    if service_account_id is not None:
        owner = KeyOwner(service_account_id=service_account_id)
    made = await directory.insert_key(
        connection, pepper, maker.tenant_id, project_id, request, owner
    )
    created = key_events.created(made, audit.actor_of(principal, ip))
    await audit.record(connection, *events, created)
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

    Raises Forbidden, NotFound, InvalidValue, KeyRevoked, NotSignedIn.
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


async def rotate_key_as(
    connection: Connection,
    pepper: Pepper,
    principal: Principal,
    key_id: uuid.UUID,
    grace: timedelta,
    *,
    ip: str | None = None,
) -> RotatedKey:
    """Of a key within what `principal` has, because it learns the secret; and of no other person's,
    because it would still know it when it is gone.

    Raises Forbidden, NotFound, InvalidValue, KeyRevoked, NotSignedIn.
    """
    maker = await _maker(connection, principal)
    found = await _find(connection, maker, key_id)
    if found.revoked_at is not None:
        raise NotFound()
    if found.user_id not in (None, maker.owner.user_id):
        raise Forbidden("A key gets a new secret from the person whose it is.", rule="key.mint")
    _require_within(await _grants(connection, found), maker.grants)
    actor = audit.actor_of(principal, ip)
    try:
        key_changes.check_grace(grace)
        return await key_changes.rotate(connection, pepper, found, grace, actor)
    except DirectoryError as error:
        raise InvalidValue(str(error)) from None


async def revoke_key_as(
    connection: Connection,
    principal: Principal,
    key_id: uuid.UUID,
    *,
    lets_finish: bool = False,
    ip: str | None = None,
) -> RevokedKey:
    """Also of a key that has more than `principal`.

    Raises Forbidden, NotFound, KeyRevoked, NotSignedIn.
    """
    maker = await _maker(connection, principal)
    found = await _find(connection, maker, key_id)
    revoked = await key_rows.revoke_key(connection, found.id, None, lets_finish=lets_finish)
    assert revoked is not None
    if revoked.was_active:
        await audit.record(connection, key_events.deleted(revoked, audit.actor_of(principal, ip)))
    return revoked


async def require_manager(
    connection: Connection, principal: Principal, project_id: uuid.UUID
) -> None:
    """That `principal` may change keys of this project, now. Raises as `create_key_as`."""
    _require_project(await _maker(connection, principal), project_id)


def may_read(principal: Principal, project_id: uuid.UUID) -> bool:
    """Whether the keys of this project are in reach, for who has a scope that reads keys."""
    is_everywhere = principal.user_id is not None or principal.has_scope(ADMIN_SCOPE)
    return is_everywhere or project_id == principal.project_id


async def _maker(connection: Connection, principal: Principal) -> _Maker:
    """Raises Forbidden, KeyRevoked or NotSignedIn."""
    principal.require_scope(WRITE_SCOPE)
    await tenant_rows.lock_directory(connection)  # nobody is removed or loses a role meanwhile
    if principal.key_id is None:
        scopes, owner = await _member(connection, principal)
        if not covers(scopes, WRITE_SCOPE):
            raise Forbidden(f"Your role lacks the scope {WRITE_SCOPE!r} that this needs.")
        grants = Grants({*scopes, "all"})
        return _Maker(principal.tenant.id, principal.project_id, grants, owner, True)
    own = await key_rows.lock_key(connection, principal.key_id, None)
    if own is None or own.revoked_at is not None:
        raise KeyRevoked()
    grants = await _grants(connection, own)
    if not covers(grants.scopes, WRITE_SCOPE):
        raise Forbidden(f"This API key lacks the scope {WRITE_SCOPE!r} that this needs.")
    has_every_project = covers(grants.scopes, ADMIN_SCOPE)
    return _Maker(own.tenant_id, own.project_id, grants, own.owner, has_every_project)


async def _member(connection: Connection, principal: Principal) -> tuple[Collection[str], KeyOwner]:
    """What the user of a session may do now, and whose the keys are that they make."""
    assert principal.user_id is not None, "without a key there is a session"
    await act_as_user(connection, principal.user_id)
    user = await user_rows.find_user(connection, principal.user_id)
    if user is None or user.disabled_at is not None:
        raise NotSignedIn()
    member = await membership_rows.find_member(connection, principal.tenant.id, user.id)
    if member is None and not user.is_operator:
        raise Forbidden("You do not belong to this organization.")
    role = roles.OWNER if user.is_operator or member is None else member.role
    return roles.SCOPES_OF_ROLE[role], NOBODY if member is None else KeyOwner(user.id)


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
        key.knowledge_bases,
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

"""How does a key change without becoming another one?

Its id, its project and what was counted under it stay; what it may do, how much, and its secret can
change. A rotated key's old secret works for a grace, so that whoever uses it can be given the new
one meanwhile; there is never more than one old secret.

These are the functions behind `anzoth keys update` and `rotate`, which act as the operator, and
what they share with those that act for a caller (see `key_minting`).

Does not know: how a key is checked when a request comes (see `auth`).
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from anzoth.db import pool
from anzoth.db.pool import Connection
from anzoth.db.store import key_rows, tenant_rows
from anzoth.db.store.key_rows import KeySettings, NewSecret
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.gateway import audit, key_events, keys, limit_directory
from anzoth.gateway.audit import Actor
from anzoth.gateway.directory import no_such_key, parse_reference
from anzoth.gateway.directory_checks import (
    DirectoryError,
    check_expiry,
    check_name,
    check_scopes,
)
from anzoth.gateway.keys import Key, Pepper
from anzoth.gateway.limit_directory import LimitChange
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.scopes import ADMIN_SCOPE

DEFAULT_GRACE = timedelta(hours=24)
MAX_GRACE = timedelta(days=7)
LISTS = (
    *("scopes", "models", "endpoints", "networks", "knowledge_bases", "default_knowledge_bases"),
    "tools",
)
"""What of a key is a list that can be added to and removed from."""
_NULL_IS_ALL = ("models", "endpoints", "networks", "knowledge_bases")


@dataclass(slots=True, frozen=True)
class KeyChange:
    """What is to change; what is not named stays."""

    values: Mapping[str, Any] = field(default_factory=dict)  # of different types
    """Fields of KeySettings: `name`, `expires_at`, and any of `LISTS` as a whole."""
    added: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """To which of `LISTS` what is added."""
    removed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    limits: LimitChange = field(default_factory=dict)
    limits_of_model: str | None = None
    """`limits` are those for this model alone. None: for all models together."""


@dataclass(slots=True, frozen=True)
class ChangedKey:
    """A key as it is now, and the limits that the change was about."""

    settings: KeySettings
    limits: Limits


@dataclass(slots=True, frozen=True)
class RotatedKey:
    """`key` is the only place where its new secret will ever be seen."""

    id: uuid.UUID
    key: Key
    name: str
    tenant: str
    old_until: datetime | None
    """The old secret works until then; None: it does not work any more."""


async def update_key(dsn: str, which: str, change: KeyChange) -> ChangedKey:
    """`which`: its id, kid, or the key itself. Gateways see it within a second.

    Raises DirectoryError and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        before = await _lock(connection, which)
        settings = apply(before, change)
        await key_rows.update_key(connection, settings)
        subject = LimitSubject(settings.tenant_id, key_id=settings.id)
        limits = await limit_directory.change(
            connection, subject, change.limits_of_model, change.limits
        )
        await audit.record(
            connection,
            key_events.updated(
                before, settings, change.limits, change.limits_of_model, audit.operator()
            ),
        )
        return ChangedKey(settings, limits)


def apply(settings: KeySettings, change: KeyChange) -> KeySettings:
    """`settings` after the change. Raises DirectoryError."""
    after = dataclasses.replace(settings, **change.values)
    for name in LISTS:
        added, removed = change.added.get(name, ()), change.removed.get(name, ())
        if added or removed:
            changed = _edited(name, getattr(after, name), added, removed)
            after = dataclasses.replace(after, **{name: changed})
    check_name("key", after.name)
    check_scopes(after.scopes)
    if (ADMIN_SCOPE in after.scopes) is not (ADMIN_SCOPE in settings.scopes):
        raise DirectoryError(
            f"the scope {ADMIN_SCOPE} is given to a new key or not at all: its kid shows it"
        )
    check_expiry(after.scopes, after.expires_at)
    return after


async def rotate_key(
    dsn: str, pepper: Pepper, which: str, grace: timedelta = DEFAULT_GRACE
) -> RotatedKey:
    """A new secret for the key. A predecessor from an earlier rotation ends now.

    Raises DirectoryError and DatabaseError.
    """
    check_grace(grace)
    async with pool.operator(dsn) as connection:
        settings = await _lock(connection, which)
        return await rotate(connection, pepper, settings, grace, audit.operator())


def check_grace(grace: timedelta) -> None:
    """Raises DirectoryError."""
    if not timedelta(0) <= grace <= MAX_GRACE:
        raise DirectoryError(f"a grace is at most {MAX_GRACE.days} days")


async def rotate(
    connection: Connection, pepper: Pepper, settings: KeySettings, grace: timedelta, actor: Actor
) -> RotatedKey:
    """`settings`: as locked; `grace`: as checked. Comes last in the transaction.

    Raises DirectoryError.
    """
    now = datetime.now(UTC)
    if settings.expires_at is not None and settings.expires_at <= now:
        raise DirectoryError("this key has expired: a new secret would not work either")
    old_until = now + grace if grace else None
    while True:
        key = keys.mint(is_admin=ADMIN_SCOPE in settings.scopes)
        secret = NewSecret(key.kid, pepper.digest(key), keys.HASH_ALG, pepper.id, key.redacted)
        if await key_rows.try_rotate_key(connection, settings.id, secret, old_until):
            break
    await audit.record(connection, key_events.rotated(settings, key.kid, old_until, actor))
    return RotatedKey(settings.id, key, settings.name, settings.tenant, old_until)


async def _lock(connection: Connection, which: str) -> KeySettings:
    """Raises DirectoryError."""
    await tenant_rows.lock_directory(connection)
    id, kid = parse_reference(which)
    settings = None
    if id is not None or kid is not None:
        settings = await key_rows.lock_key(connection, id, kid)
    if settings is None:
        raise no_such_key()
    if settings.revoked_at is not None:
        raise DirectoryError(f"this key was revoked on {settings.revoked_at:%Y-%m-%d}")
    return settings


def _edited(
    name: str, before: Sequence[Any] | None, added: Sequence[Any], removed: Sequence[Any]
) -> list[Any]:
    """Raises DirectoryError."""
    if before is None and name in _NULL_IS_ALL:
        raise DirectoryError(
            f"this key is not restricted to certain {name}: there is nothing to add to or remove "
            f"from; give all that it is to have"
        )
    items = [item for item in before or () if item not in removed]
    for item in removed:
        if item not in (before or ()):
            raise DirectoryError(f"{item} is not among the {name} of this key")
    return items + [item for item in added if item not in items]

"""Which accounts exist, and how does an operator make, change and end them?

These are the functions behind `anzoth users` and `anzoth invites`, and behind the bootstrap link of
the first start. They act as the operator, across tenants; what serves requests never uses them.

Does not know: how a person signs in (see `sign_in`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from anzoth.db import pool
from anzoth.db.pool import Connection
from anzoth.db.store import (
    invitation_rows,
    membership_rows,
    project_rows,
    session_rows,
    tenant_rows,
    user_rows,
)
from anzoth.db.store.invitation_rows import InvitationRow
from anzoth.db.store.key_rows import KeyOwner
from anzoth.db.store.user_rows import UserListing
from anzoth.errors import AnzothError
from anzoth.gateway import audit, key_owners
from anzoth.gateway.accounts import emails, events, members, roles, tokens
from anzoth.gateway.accounts.members import MadeInvitation
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.directory_checks import DirectoryError

BOOTSTRAP_LIFETIME = timedelta(hours=24)
RESET_LIFETIME = timedelta(hours=24)
_PAGE = 1000


@dataclass(slots=True, frozen=True)
class OneTimeToken:
    """What its holder may do once: `token` is the only place where it will ever be seen."""

    user_id: uuid.UUID | None
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(slots=True, frozen=True)
class EndedAccess:
    """What a user could still use until now."""

    num_sessions: int
    num_keys: int


async def ensure_operator_can_be_made(dsn: str, vault: Vault) -> OneTimeToken | None:
    """A fresh bootstrap token, which replaces those before it; None once there is an operator.

    Raises DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        if await user_rows.has_any_operator(connection):
            return None
        return await _one_time_token(connection, vault, tokens.BOOTSTRAP, None, BOOTSTRAP_LIFETIME)


async def create_user(
    dsn: str,
    vault: Vault,
    email: str,
    *,
    name: str = "",
    tenant: str | None = None,
    role: str = roles.MEMBER,
    operator: bool = False,
) -> OneTimeToken:
    """An account without a password, and the link with which its owner sets one.

    Raises DirectoryError and DatabaseError.
    """
    email = _email(email)
    role = _role(role)
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        user_id = uuid.uuid4()
        if not await user_rows.try_insert_user(
            connection, user_id, email, name, None, is_verified=True
        ):
            raise DirectoryError(f"there is already a user with the email {email}")
        if tenant is not None:
            found = await _tenant(connection, tenant)
            await membership_rows.try_insert_membership(connection, found.id, user_id, role)
            added = events.user_added(audit.operator(), found.id, user_id, role)
        else:
            added = events.user_added(audit.operator(), None, user_id, "none")
        made = [added]
        if operator:
            await user_rows.insert_operator(connection, user_id)
            made.append(events.user_added(audit.operator(), None, user_id, "operator"))
        token = await _one_time_token(
            connection, vault, tokens.PASSWORD_RESET, user_id, RESET_LIFETIME
        )
        await audit.record(connection, *made)
        return token


async def list_users(dsn: str, tenant: str | None = None) -> list[UserListing]:
    """All users, or one tenant's. Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        if tenant is not None:
            await _tenant(connection, tenant)
        return await user_rows.list_users(connection, tenant)


async def set_role(dsn: str, email: str, tenant: str, role: str) -> None:
    """Makes the user a member, or changes what they are. Raises DirectoryError, DatabaseError."""
    role = _role(role)
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        user_id, found = await _user(connection, email), await _tenant(connection, tenant)
        await membership_rows.lock_members(connection, found.id)
        if not await membership_rows.try_insert_membership(connection, found.id, user_id, role):
            await membership_rows.try_set_role(connection, found.id, user_id, role)
        updated = events.user_updated(audit.operator(), [found.id], user_id, role=role)
        ended = await key_owners.end_keys_beyond(
            connection, audit.operator(), user_id, found.id, role
        )
        await audit.record(connection, *updated, *ended)


async def reset_password(dsn: str, vault: Vault, email: str) -> OneTimeToken:
    """A link that sets a new password, once. Until it is used the old one works.

    Raises DirectoryError and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        user_id = await _user(connection, email)
        token = await _one_time_token(
            connection, vault, tokens.PASSWORD_RESET, user_id, RESET_LIFETIME
        )
        await _record_update(connection, user_id, password="may be set by a link")
        return token


async def set_disabled(dsn: str, email: str, disabled: bool) -> EndedAccess:
    """A disabled user signs in nowhere; every session ends at once, and every key of theirs.

    Raises DirectoryError and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        await tenant_rows.lock_directory(connection)
        user_id = await _user(connection, email)
        await user_rows.set_user_disabled(connection, user_id, disabled)
        sessions, keys = [], []
        if disabled:
            sessions = await session_rows.delete_sessions(connection, user_id)
            keys = await key_owners.end_keys(connection, audit.operator(), KeyOwner(user_id), None)
        await _record_update(connection, user_id, *keys, disabled=disabled)
        return EndedAccess(len(sessions), len(keys))


async def remove_second_factor(dsn: str, email: str) -> None:
    """For who lost the authenticator and the recovery codes. Raises DirectoryError,
    DatabaseError."""
    async with pool.operator(dsn) as connection:
        user_id = await _user(connection, email)
        await user_rows.set_totp_secret(connection, user_id, None)
        await user_rows.replace_recovery_codes(connection, user_id, [])
        await session_rows.delete_sessions(connection, user_id)
        await _record_update(connection, user_id, second_factor="removed")


async def invite(
    dsn: str, vault: Vault, tenant: str, email: str, role: str, lifetime_s: float
) -> MadeInvitation:
    """Into the tenant and its default project. Raises DirectoryError and DatabaseError."""
    email, role = _email(email), _role(role)
    async with pool.operator(dsn) as connection:
        found = await _tenant(connection, tenant)
        default = await project_rows.find_project(connection, found.id, None)
        assert default is not None, "every tenant has a default project"
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_s)
        made = await members.make_invitation(
            connection, vault, found.id, email, role, {default.id: "member"}, expires_at
        )
        await audit.record(connection, events.invite_sent(audit.operator(), made.row))
        return made


async def list_invitations(dsn: str, tenant: str) -> list[InvitationRow]:
    """Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        found = await _tenant(connection, tenant)
        listed: list[InvitationRow] = []
        while page := await invitation_rows.list_invitations(
            connection, found.id, listed[-1].id if listed else None, _PAGE
        ):
            listed += page
        return listed


async def revoke_invitation(dsn: str, tenant: str, id: uuid.UUID) -> None:
    """Raises DirectoryError and DatabaseError."""
    async with pool.operator(dsn) as connection:
        found = await _tenant(connection, tenant)
        invitation = await invitation_rows.find_invitation(connection, found.id, id)
        if invitation is not None and invitation.accepted_at is not None:
            raise DirectoryError("this invitation was accepted; change the user instead")
        if not await invitation_rows.try_delete_invitation(connection, found.id, id):
            raise DirectoryError("there is no such invitation; `anzoth invites list` shows the ids")
        await audit.record(connection, events.invite_deleted(audit.operator(), found.id, id))


async def _record_update(
    connection: Connection, user_id: uuid.UUID, *more: AuditEvent, **changes: object
) -> None:
    """Of the account as a whole: in the log of the installation and of every tenant of theirs."""
    tenants = await membership_rows.list_tenants_of_user(connection, user_id)
    logs = [None, *(tenant.id for tenant in tenants)]
    updated = events.user_updated(audit.operator(), logs, user_id, **changes)
    await audit.record(connection, *updated, *more)


async def _one_time_token(
    connection: Connection,
    vault: Vault,
    purpose: str,
    user_id: uuid.UUID | None,
    lifetime: timedelta,
) -> OneTimeToken:
    token, expires_at = tokens.mint(), datetime.now(UTC) + lifetime
    await session_rows.insert_one_time_token(
        connection, vault.digest(purpose, token), purpose, user_id, expires_at
    )
    return OneTimeToken(user_id, token, expires_at)


async def _tenant(connection: Connection, name: str) -> tenant_rows.TenantRow:
    tenant = await tenant_rows.find_tenant(connection, name)
    if tenant is None or tenant.deleted_at is not None:
        raise DirectoryError(f"there is no tenant named {name!r}")
    return tenant


async def _user(connection: Connection, email: str) -> uuid.UUID:
    user_id = await user_rows.find_user_id(connection, _email(email))
    if user_id is None:
        raise DirectoryError("there is no user with this email; `anzoth users list` shows them")
    return user_id


def _email(email: str) -> str:
    try:
        return emails.normalised(email)
    except AnzothError as error:
        raise DirectoryError("this is not an email address (ASCII only)") from error


def _role(role: str) -> str:
    try:
        return members.parse_role(role)
    except AnzothError as error:
        raise DirectoryError(f"there is no role {role!r}; {', '.join(roles.ROLES)} are") from error

"""Who belongs to a tenant and to its projects, who is invited, and who may change that?

Everything here acts in the caller's tenant and is written to its audit log. Nobody gives or takes a
role that is more than they have, and a tenant keeps an owner who can sign in. Keys of whoever
leaves or loses a role end with it (see `key_owners`).

Does not know: how an invitation is accepted (see `sign_up`), or what a role allows (see `roles`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from anzoth.account_config import AccountsConfig
from anzoth.db.pool import Connection, Database
from anzoth.db.store import invitation_rows, membership_rows, project_rows, tenant_rows
from anzoth.db.store.invitation_rows import InvitationRow
from anzoth.db.store.key_rows import KeyOwner
from anzoth.db.store.membership_rows import MemberRow
from anzoth.errors import Conflict, Forbidden, InvalidValue, NotFound
from anzoth.gateway import audit, key_owners
from anzoth.gateway.accounts import events, roles, tokens
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.audit import Actor
from anzoth.gateway.principal import Principal


@dataclass(slots=True, frozen=True)
class MadeInvitation:
    """A new invitation. `token` is the only place where it will ever be seen."""

    row: InvitationRow
    token: str = field(repr=False)


class Members:
    """One per gateway."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        config: AccountsConfig,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._vault = vault
        self._lifetime = timedelta(seconds=config.invitation_lifetime_s)
        self._now = now

    # --- members --------------------------------------------------------------------------------

    async def list_members(
        self,
        principal: Principal,
        *,
        emails: Sequence[str] | None,
        after: uuid.UUID | None,
        limit: int,
    ) -> list[MemberRow]:
        async with self._database.tenant(principal.tenant) as connection:
            return await membership_rows.list_members(
                connection, principal.tenant.id, emails, after, limit
            )

    async def find(self, principal: Principal, user_id: uuid.UUID) -> MemberRow:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            return await _member(connection, principal, user_id)

    async def set_role(
        self, principal: Principal, actor: Actor, user_id: uuid.UUID, role: str
    ) -> MemberRow:
        """In force with the user's next request. Raises NotFound, Forbidden, Conflict."""
        async with self._database.tenant(principal.tenant) as connection:
            member = await self._changeable(connection, principal, user_id)
            require_assignable(principal, role)
            if role != roles.OWNER:
                await _require_another_owner(connection, principal, member)
            await membership_rows.try_set_role(connection, principal.tenant.id, user_id, role)
            changed = await _member(connection, principal, user_id)
            updated = events.user_updated(actor, [principal.tenant.id], user_id, role=role)
            ended = await key_owners.end_keys_beyond(
                connection, actor, user_id, principal.tenant.id, role
            )
            await audit.record(connection, *updated, *ended)
            return changed

    async def remove(self, principal: Principal, actor: Actor, user_id: uuid.UUID) -> MemberRow:
        """From the tenant; the account stays. Raises NotFound, Forbidden, Conflict."""
        async with self._database.tenant(principal.tenant) as connection:
            member = await self._changeable(connection, principal, user_id)
            await _require_another_owner(connection, principal, member)
            await membership_rows.try_delete_membership(connection, principal.tenant.id, user_id)
            deleted = events.user_deleted(actor, principal.tenant.id, user_id)
            ended = await key_owners.end_keys(
                connection, actor, KeyOwner(user_id), principal.tenant.id
            )
            await audit.record(connection, deleted, *ended)
            return member

    async def _changeable(
        self, connection: Connection, principal: Principal, user_id: uuid.UUID
    ) -> MemberRow:
        """The member, whom nobody else changes and who makes no key until the transaction ends."""
        await tenant_rows.lock_directory(connection)
        await membership_rows.lock_members(connection, principal.tenant.id)
        member = await _member(connection, principal, user_id)
        require_assignable(principal, member.role)
        return member

    # --- members of a project -------------------------------------------------------------------

    async def list_of_project(
        self, principal: Principal, project_id: uuid.UUID, *, after: uuid.UUID | None, limit: int
    ) -> list[MemberRow]:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await _project(connection, principal, project_id)
            return await membership_rows.list_project_members(
                connection, principal.tenant.id, project_id, after, limit
            )

    async def find_in_project(
        self, principal: Principal, project_id: uuid.UUID, user_id: uuid.UUID
    ) -> MemberRow:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await _project(connection, principal, project_id)
            return await _member_of_project(connection, principal, project_id, user_id)

    async def add_to_project(
        self,
        principal: Principal,
        actor: Actor,
        project_id: uuid.UUID,
        user_id: uuid.UUID,
        role: str,
    ) -> MemberRow:
        """A member of the tenant. Raises NotFound, and Conflict when they are in it already."""
        async with self._database.tenant(principal.tenant) as connection:
            await _project(connection, principal, project_id)
            await _member(connection, principal, user_id)
            added = await membership_rows.insert_project_members(
                connection, principal.tenant.id, user_id, {project_id: role}
            )
            if not added:
                raise Conflict("This user is in the project already.", param="user_id")
            member = await _member_of_project(connection, principal, project_id, user_id)
            await audit.record(
                connection,
                events.project_role(actor, principal.tenant.id, project_id, user_id, role),
            )
            return member

    async def set_project_role(
        self,
        principal: Principal,
        actor: Actor,
        project_id: uuid.UUID,
        user_id: uuid.UUID,
        role: str,
    ) -> MemberRow:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await _project(connection, principal, project_id)
            await membership_rows.try_set_project_role(
                connection, principal.tenant.id, project_id, user_id, role
            )
            member = await _member_of_project(connection, principal, project_id, user_id)
            await audit.record(
                connection,
                events.project_role(actor, principal.tenant.id, project_id, user_id, role),
            )
            return member

    async def remove_from_project(
        self, principal: Principal, actor: Actor, project_id: uuid.UUID, user_id: uuid.UUID
    ) -> None:
        """The user's keys there end. Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await tenant_rows.lock_directory(connection)
            await _project(connection, principal, project_id)
            if not await membership_rows.try_delete_project_member(
                connection, principal.tenant.id, project_id, user_id
            ):
                raise _no_user()
            ended = await key_owners.end_keys(
                connection, actor, KeyOwner(user_id), principal.tenant.id, project_id
            )
            await audit.record(
                connection,
                events.project_role(actor, principal.tenant.id, project_id, user_id, None),
                *ended,
            )

    # --- invitations ----------------------------------------------------------------------------

    async def invite(
        self,
        principal: Principal,
        actor: Actor,
        email: str,
        role: str,
        projects: Mapping[uuid.UUID, str] | None,
    ) -> MadeInvitation:
        """`projects`: what the invited will be in which; None: a member of the default one.

        Raises Forbidden, and NotFound for a project that is not the tenant's.
        """
        require_assignable(principal, role)
        async with self._database.tenant(principal.tenant) as connection:
            if projects is None:
                default = await project_rows.find_project(connection, principal.tenant.id, None)
                assert default is not None, "every tenant has a default project"
                projects = {default.id: "member"}
            for project_id in projects:
                await _project(connection, principal, project_id)
            made = await make_invitation(
                connection,
                self._vault,
                principal.tenant.id,
                email,
                role,
                projects,
                self._now() + self._lifetime,
            )
            await audit.record(connection, events.invite_sent(actor, made.row))
            return made

    async def list_invitations(
        self, principal: Principal, *, after: uuid.UUID | None, limit: int
    ) -> list[InvitationRow]:
        async with self._database.tenant(principal.tenant) as connection:
            return await invitation_rows.list_invitations(
                connection, principal.tenant.id, after, limit
            )

    async def find_invitation(self, principal: Principal, id: uuid.UUID) -> InvitationRow:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            return await _invitation(connection, principal, id)

    async def delete_invitation(self, principal: Principal, actor: Actor, id: uuid.UUID) -> None:
        """Its link works no more. Raises NotFound, and Conflict when it was accepted."""
        async with self._database.tenant(principal.tenant) as connection:
            invitation = await _invitation(connection, principal, id)
            if invitation.accepted_at is not None:
                raise Conflict("This invitation was accepted; remove the user instead.")
            await invitation_rows.try_delete_invitation(connection, principal.tenant.id, id)
            deleted = events.invite_deleted(actor, principal.tenant.id, id)
            await audit.record(connection, deleted)

    def status(self, invitation: InvitationRow) -> str:
        """As OpenAI's API calls it."""
        if invitation.accepted_at is not None:
            return "accepted"
        return "expired" if invitation.expires_at <= self._now() else "pending"


async def make_invitation(
    connection: Connection,
    vault: Vault,
    tenant_id: uuid.UUID,
    email: str,
    role: str,
    projects: Mapping[uuid.UUID, str],
    expires_at: datetime,
) -> MadeInvitation:
    """`connection` may write the tenant's rows."""
    token = tokens.mint()
    row = await invitation_rows.insert_invitation(
        connection,
        uuid.uuid4(),
        tenant_id,
        email,
        role,
        projects,
        vault.digest(tokens.INVITATION, token),
        expires_at,
    )
    return MadeInvitation(row, token)


def require_assignable(principal: Principal, role: str) -> None:
    """Raises Forbidden."""
    if not roles.may_assign(principal.scopes, role):
        raise Forbidden("Only an owner can make, change or remove an owner.")


def parse_role(role: str, param: str = "role") -> str:
    """Raises InvalidValue."""
    role = roles.OTHER_NAMES.get(role, role)
    if role not in roles.ROLES:
        raise InvalidValue(
            f"Invalid value for '{param}': expected one of {', '.join(roles.ROLES)}.", param=param
        )
    return role


async def _member(connection: Connection, principal: Principal, user_id: uuid.UUID) -> MemberRow:
    member = await membership_rows.find_member(connection, principal.tenant.id, user_id)
    if member is None:
        raise _no_user()
    return member


async def _member_of_project(
    connection: Connection, principal: Principal, project_id: uuid.UUID, user_id: uuid.UUID
) -> MemberRow:
    for member in await membership_rows.list_project_members(
        connection, principal.tenant.id, project_id, None, 1, user_id
    ):
        return member
    raise _no_user()


async def _project(connection: Connection, principal: Principal, project_id: uuid.UUID) -> None:
    """Raises NotFound unless it is a living one of the tenant's."""
    if (
        await membership_rows.find_living_project(connection, principal.tenant.id, project_id)
        is None
    ):
        raise NotFound("There is no such project.")


async def _invitation(connection: Connection, principal: Principal, id: uuid.UUID) -> InvitationRow:
    invitation = await invitation_rows.find_invitation(connection, principal.tenant.id, id)
    if invitation is None:
        raise NotFound("There is no such invitation.")
    return invitation


async def _require_another_owner(
    connection: Connection, principal: Principal, member: MemberRow
) -> None:
    """Raises Conflict when `member` is the last owner."""
    if member.role == roles.OWNER and not await membership_rows.count_owners(
        connection, principal.tenant.id, member.id
    ):
        raise Conflict("The last owner cannot be removed or made something else.")


def _no_user() -> NotFound:
    return NotFound("There is no such user.")

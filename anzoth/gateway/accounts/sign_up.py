"""How does an account come into being?

    bootstrap     the first start's one-time token makes the operator
    open sign-up  anybody, with a tenant of their own; where the configuration allows it
    invitation    into a tenant, by the token that one of its administrators made

The server sends no mail: who makes an invitation hands its link over. Holding the link is what
vouches for the address; an account made by open sign-up has an address that nobody vouched for.

Does not know: who may invite (see `members`), or sign-in at a provider (see `single_sign_on`).
"""

from __future__ import annotations

import uuid

from anzoth.account_config import AccountsConfig
from anzoth.db.pool import Connection, Database, act_as_user, act_in_tenant, try_become
from anzoth.db.store import (
    invitation_rows,
    membership_rows,
    project_rows,
    session_rows,
    tenant_rows,
    user_rows,
)
from anzoth.db.store.invitation_rows import InvitationRow
from anzoth.db.store.user_rows import UserRow
from anzoth.errors import Conflict, Forbidden, NotFound, NotSignedIn
from anzoth.gateway import audit
from anzoth.gateway.accounts import events, roles, tokens
from anzoth.gateway.accounts.passwords import Passwords
from anzoth.gateway.accounts.sessions import Client, Session, Sessions, StartedSession
from anzoth.gateway.accounts.sign_in import SignIn, require_good
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.directory import DEFAULT_PROJECT, DEFAULT_TENANT

OPEN, INVITE, CLOSED = "open", "invite", "closed"


class SignUp:
    """One per gateway."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        sessions: Sessions,
        sign_in: SignIn,
        hasher: Passwords,
        config: AccountsConfig,
    ) -> None:
        self._database = database
        self._vault = vault
        self._sessions = sessions
        self._sign_in = sign_in
        self._passwords = hasher
        self._policy = config.sign_up

    async def bootstrap(
        self, token: str, email: str, name: str, password: str, client: Client
    ) -> StartedSession:
        """The operator's account, who also owns the default tenant. Raises NotSignedIn."""
        require_good(password)
        self._sign_in.count_address(client)
        password_hash = await self._passwords.hash(password)
        digest = self._vault.digest(tokens.BOOTSTRAP, token)
        async with self._database.holding(digest) as connection:
            if await session_rows.find_one_time_token(connection, digest, tokens.BOOTSTRAP) is None:
                raise NotSignedIn("This link does not work, or does not work any more.")
            user = await _make_user(connection, email, name, password_hash, is_verified=True)
            await user_rows.insert_operator(connection, user.id)  # while the token still works
            await session_rows.use_one_time_token(connection, digest)
            tenant = await tenant_rows.find_tenant(connection, DEFAULT_TENANT)
            if tenant is not None and tenant.deleted_at is None:
                await act_in_tenant(connection, tenant.id)
                await membership_rows.try_insert_membership(
                    connection, tenant.id, user.id, roles.OWNER
                )
            started = await self._sessions.begin(connection, user, "password", client)
            actor = events.by_user(user.id, client)
            made = [events.user_added(actor, None, user.id, "operator")]
            if started.tenant_id is not None:
                made.append(events.user_added(actor, started.tenant_id, user.id, roles.OWNER))
            signed_in = events.login_succeeded(started, "password", client)
            await audit.record(connection, *made, signed_in)
            return started

    async def open(
        self, email: str, name: str, password: str, organization: str, client: Client
    ) -> StartedSession:
        """A user and a tenant that they own. Raises Forbidden, Conflict."""
        if self._policy != OPEN:
            raise Forbidden(
                "Nobody can sign up here by themselves."
                + (" Ask for an invitation." if self._policy == INVITE else ""),
                code="sign_up_closed",
            )
        require_good(password)
        self._sign_in.count_address(client)
        password_hash = await self._passwords.hash(password)
        tenant_id = uuid.uuid4()
        async with self._database.signing_in(email) as connection:
            user = await _make_user(connection, email, name, password_hash, is_verified=False)
            await act_in_tenant(connection, tenant_id)
            if await tenant_rows.try_insert_tenant(connection, tenant_id, organization) is None:
                raise Conflict("This name of an organization is taken.", param="organization")
            await project_rows.try_insert_project(
                connection, uuid.uuid4(), tenant_id, DEFAULT_PROJECT, is_default=True
            )
            await membership_rows.try_insert_membership(connection, tenant_id, user.id, roles.OWNER)
            started = await self._sessions.begin(connection, user, "password", client)
            actor = events.by_user(user.id, client)
            created = [
                AuditEvent(
                    "tenant.created",
                    actor,
                    chain,
                    target={"id": tenant_id},
                    details={"name": organization},
                )
                for chain in (tenant_id, None)
            ]
            added = events.user_added(actor, tenant_id, user.id, roles.OWNER)
            signed_in = events.login_succeeded(started, "password", client)
            await audit.record(connection, *created, added, signed_in)
            return started

    async def invited(self, token: str, client: Client) -> InvitationRow:
        """What the token invites to. Raises NotFound when it is unknown, used or too old."""
        self._sign_in.count_address(client)
        digest = self._vault.digest(tokens.INVITATION, token)
        async with self._database.holding(digest) as connection:
            return await _open_invitation(connection, digest)

    async def accept_as_new(
        self, token: str, name: str, password: str, client: Client
    ) -> StartedSession:
        """The account that an invitation makes. Raises NotFound, Conflict where the invited person
        has an account already and must sign in first, Forbidden."""
        if self._policy == CLOSED:
            raise Forbidden("New accounts are made by the operator only.", code="sign_up_closed")
        require_good(password)
        self._sign_in.count_address(client)
        password_hash = await self._passwords.hash(password)
        digest = self._vault.digest(tokens.INVITATION, token)
        async with self._database.holding(digest) as connection:
            invitation = await _open_invitation(connection, digest)
            user = await _make_user(
                connection, invitation.email, name, password_hash, is_verified=True
            )
            await join(connection, user, invitation)
            started = await self._sessions.begin(
                connection, user, "password", client, tenant_id=invitation.tenant_id
            )
            signed_in = events.login_succeeded(started, "password", client)
            await audit.record(connection, *events.joined(user.id, invitation, client), signed_in)
            return started

    async def accept_as(self, session: Session, token: str, client: Client) -> StartedSession:
        """An invitation of somebody who has an account. Raises NotFound, and Forbidden for another
        person's."""
        digest = self._vault.digest(tokens.INVITATION, token)
        async with self._database.holding(digest) as connection:
            invitation = await _open_invitation(connection, digest)
            if invitation.email != session.user.email:
                raise Forbidden("This invitation is for another email address.")
            await act_as_user(connection, session.user.id)
            await join(connection, session.user, invitation)
            await user_rows.verify_email(connection, session.user.id)
            await session_rows.choose_tenant(connection, session.id, invitation.tenant_id)
            started = await self._sessions.rotate(connection, session)
            joined = events.joined(session.user.id, invitation, client)
            await audit.record(connection, *joined)
            return started


async def join(connection: Connection, user: UserRow, invitation: InvitationRow) -> None:
    """Accepts. `connection` acts as the user. Raises NotFound when somebody was faster."""
    await act_in_tenant(connection, invitation.tenant_id)
    if not await invitation_rows.try_accept_invitation(
        connection, invitation.tenant_id, invitation.id
    ):
        raise _no_invitation()
    await membership_rows.try_insert_membership(
        connection, invitation.tenant_id, user.id, invitation.role
    )
    await membership_rows.insert_project_members(
        connection, invitation.tenant_id, user.id, invitation.projects
    )


async def _open_invitation(connection: Connection, digest: bytes) -> InvitationRow:
    """Raises NotFound. From here on `connection` acts in the inviting tenant."""
    invitation = await invitation_rows.find_invitation_by_secret(connection, digest)
    if invitation is None:
        raise _no_invitation()
    await act_in_tenant(connection, invitation.tenant_id)
    found = await invitation_rows.find_invitations_for(
        connection, invitation.tenant_id, invitation.email
    )
    if invitation.id not in {row.id for row in found}:
        raise _no_invitation()
    return invitation


async def _make_user(
    connection: Connection, email: str, name: str, password_hash: str, *, is_verified: bool
) -> UserRow:
    """From here on `connection` acts as the new user. Raises Conflict."""
    if await try_become(connection, email) is not None:
        raise _taken()
    user_id = uuid.uuid4()
    await act_as_user(connection, user_id)
    if not await user_rows.try_insert_user(
        connection, user_id, email, name, password_hash, is_verified=is_verified
    ):
        raise _taken()  # somebody was faster
    user = await user_rows.find_user(connection, user_id)
    assert user is not None
    return user


def _taken() -> Conflict:
    return Conflict("There is an account with this email address: sign in.", param="email")


def _no_invitation() -> NotFound:
    return NotFound("This invitation does not exist, or does not hold any more.")

"""Which user's session is this, and what may it do in which tenant?

Nothing about a session is remembered between requests: who was disabled, lost a role or signed out
elsewhere is refused by the next request on every node. Sessions are for people who manage; they are
rare beside requests with keys, and a few statements on each cost nothing that matters.

A session ends when it is idle for too long, at its absolute end, when the user signs out, changes
the password, or is disabled. Its secret changes whenever what it is worth changes.

Does not know: cookies (see `api.cookies`), or how a user proved who they are.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from anzoth.account_config import AccountsConfig
from anzoth.db.pool import Connection, Database, act_as_user, act_in_tenant
from anzoth.db.store import membership_rows, project_rows, session_rows, user_rows
from anzoth.db.store.membership_rows import TenantOfUser
from anzoth.db.store.session_rows import SessionRow
from anzoth.db.store.user_rows import UserRow
from anzoth.errors import Forbidden, NotFound, NotSignedIn, SecondFactorRequired
from anzoth.gateway.accounts import roles, tokens
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import Principal, TenantHandle

_SECOND_FACTOR_TIME = timedelta(minutes=10)
"""For finding the phone."""
_TOUCH_AFTER = timedelta(minutes=1)
_MAX_USER_AGENT_CHARS = 200


@dataclass(slots=True, frozen=True)
class Client:
    """Where a request comes from: what a list of sessions shows."""

    peer: str
    user_agent: str = ""
    device: str | None = field(default=None, repr=False)
    """The cookie of a browser in which somebody has signed in before (see `devices`)."""


@dataclass(slots=True, frozen=True)
class Session:
    """A session that was found to hold, with its user."""

    row: SessionRow
    user: UserRow
    token: str = field(repr=False)
    csrf_token: str = field(repr=False)

    @property
    def id(self) -> uuid.UUID:
        return self.row.id


@dataclass(slots=True, frozen=True)
class StartedSession:
    """What becomes the cookie of a session that began, or whose secret changed."""

    id: uuid.UUID
    user_id: uuid.UUID
    tenant_id: uuid.UUID | None
    token: str = field(repr=False)
    csrf_token: str = field(repr=False)
    awaits_second_factor: bool
    expires_at: datetime


class Sessions:
    """One per gateway."""

    def __init__(
        self,
        database: Database,
        pepper: Pepper,
        config: AccountsConfig,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._pepper = pepper
        self._vault = Vault(pepper)
        self._idle = timedelta(seconds=config.session_idle_s)
        self._lifetime = timedelta(seconds=config.session_lifetime_s)
        self._now = now

    # --- beginning and ending -------------------------------------------------------------------

    async def begin(
        self,
        connection: Connection,
        user: UserRow,
        method: str,
        client: Client,
        *,
        awaits_second_factor: bool = False,
        tenant_id: uuid.UUID | None = None,
    ) -> StartedSession:
        """Always with a fresh secret, whatever the client came with. `connection` acts as the user,
        who has just proved who they are."""
        now = self._now()
        if tenant_id is None:
            tenants = await membership_rows.list_tenants_of_user(connection, user.id)
            tenant_id = tenants[0].id if tenants else None
        token = tokens.mint()
        started = StartedSession(
            id=uuid.uuid4(),
            user_id=user.id,
            tenant_id=tenant_id,
            token=token,
            csrf_token=self._vault.csrf_token(token),
            awaits_second_factor=awaits_second_factor,
            expires_at=now + (_SECOND_FACTOR_TIME if awaits_second_factor else self._lifetime),
        )
        await session_rows.delete_ended_sessions(connection, user.id, now, now - self._idle)
        await session_rows.insert_session(
            connection,
            started.id,
            user.id,
            self._vault.digest(tokens.SESSION, token),
            tenant_id=tenant_id,
            awaits_second_factor=awaits_second_factor,
            method=method,
            peer=client.peer,
            user_agent=client.user_agent[:_MAX_USER_AGENT_CHARS],
            created_at=now,
            expires_at=started.expires_at,
        )
        if not awaits_second_factor:
            await user_rows.touch_user(connection, user.id)
        return started

    async def rotate(self, connection: Connection, session: Session) -> StartedSession:
        """The same session under a new secret. Raises NotSignedIn when it ended meanwhile."""
        token = tokens.mint()
        is_ours = await session_rows.try_rotate_session(
            connection,
            session.id,
            self._vault.digest(tokens.SESSION, session.token),
            self._vault.digest(tokens.SESSION, token),
        )
        if not is_ours:
            raise NotSignedIn()
        return StartedSession(
            id=session.id,
            user_id=session.user.id,
            tenant_id=session.row.tenant_id,
            token=token,
            csrf_token=self._vault.csrf_token(token),
            awaits_second_factor=False,
            expires_at=session.row.expires_at,
        )

    # --- finding --------------------------------------------------------------------------------

    async def find(self, token: str) -> Session:
        """Raises NotSignedIn, SecondFactorRequired while one is awaited, DatabaseDown."""
        async with self.resumed(token) as (_, session):
            return session

    async def try_find(self, token: str) -> Session | None:
        """None where there is no such session any more."""
        try:
            return await self.find(token)
        except NotSignedIn:
            return None

    @asynccontextmanager
    async def resumed(
        self, token: str, *, awaiting_second_factor: bool = False
    ) -> AsyncIterator[tuple[Connection, Session]]:
        """The session, and a transaction that acts as its user. Raises as `find` does."""
        if len(token) > tokens.MAX_CHARS:
            raise NotSignedIn()
        digest = self._vault.digest(tokens.SESSION, token)
        async with self._database.holding(digest) as connection:
            row = await session_rows.find_session(connection, digest)
            now = self._now()
            if row is None or now >= row.expires_at or now - row.last_seen_at >= self._idle:
                raise NotSignedIn()
            await act_as_user(connection, row.user_id)
            user = await user_rows.find_user(connection, row.user_id)
            if user is None or user.disabled_at is not None:
                raise NotSignedIn()
            if row.awaits_second_factor and not awaiting_second_factor:
                raise SecondFactorRequired()
            if now - row.last_seen_at >= _TOUCH_AFTER:
                await session_rows.touch_session(connection, row.id, now)
            yield connection, Session(row, user, token, self._vault.csrf_token(token))

    # --- tenants --------------------------------------------------------------------------------

    async def tenants(self, session: Session) -> list[TenantOfUser]:
        """Those the user belongs to, in the order of joining."""
        async with self.resumed(session.token) as (connection, _):
            return await membership_rows.list_tenants_of_user(connection, session.user.id)

    async def choose_tenant(self, session: Session, tenant_id: uuid.UUID) -> StartedSession:
        """What requests of this session are about from now on. Raises NotFound."""
        async with self.resumed(session.token) as (connection, current):
            await _tenant_of(connection, current.user, tenant_id)
            await session_rows.choose_tenant(connection, session.id, tenant_id)
            return await self.rotate(connection, session)

    async def principal(self, session: Session, tenant_id: uuid.UUID | None) -> Principal:
        """What the user may do in `tenant_id`, or in the tenant that was chosen last.

        Raises Forbidden when the user has no tenant, NotFound for one that is not theirs, and as
        `find` does.
        """
        async with self.resumed(session.token) as (connection, current):
            if tenant_id is not None:
                tenant = await _tenant_of(connection, current.user, tenant_id)
            else:
                tenant = await _chosen_tenant(connection, current)
            await act_in_tenant(connection, tenant.id)
            project = await project_rows.find_project(connection, tenant.id, None)
        assert project is not None, "every tenant has a default project"
        role = roles.OWNER if current.user.is_operator else tenant.role
        assert role is not None, "only an operator sees a tenant without belonging to it"
        return Principal(
            tenant=TenantHandle(tenant.id, tenant.name, self._pepper.cache_salt(tenant.id)),
            project_id=project.id,
            key_id=None,
            user_id=current.user.id,
            scopes=roles.SCOPES_OF_ROLE[role],
            models=None,
            expires_at=current.row.expires_at,
        )

    # --- lists ----------------------------------------------------------------------------------

    async def list_all(self, session: Session) -> list[SessionRow]:
        async with self.resumed(session.token) as (connection, _):
            rows = await session_rows.list_sessions(connection, session.user.id, self._now())
        return [row for row in rows if self._now() - row.last_seen_at < self._idle]


async def _tenant_of(connection: Connection, user: UserRow, tenant_id: uuid.UUID) -> TenantOfUser:
    """Raises NotFound: the same for a tenant that is unknown and for one that is another's."""
    tenant = await membership_rows.find_tenant_of_user(connection, user.id, tenant_id)
    if tenant is None:
        raise NotFound("There is no such organization among yours.")
    return tenant


async def _chosen_tenant(connection: Connection, session: Session) -> TenantOfUser:
    """Or, where the user does not belong to it any more, the first of theirs. Raises Forbidden."""
    user_id, chosen = session.user.id, session.row.tenant_id
    if chosen is not None:
        tenant = await membership_rows.find_tenant_of_user(connection, user_id, chosen)
        if tenant is not None:
            return tenant
    for tenant in await membership_rows.list_tenants_of_user(connection, user_id):
        return tenant
    raise Forbidden("You belong to no organization.")

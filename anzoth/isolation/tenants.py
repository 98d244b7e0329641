"""Which two tenants are made for a verification, and how do they go again?

    isolation-<random>-a    has one of everything
    isolation-<random>-b    tries to see it

This acts as the operator, in the database. Accounts of people cannot be deleted, so the two that a
verification needs are the same each time, and disabled between two of them. One verification runs
at a time; what an earlier one left behind, because it was killed, is deleted when the next begins.

Does not know: what the tenants do.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from anzoth.account_config import AccountsConfig
from anzoth.db import pool
from anzoth.db.pool import Connection, Database
from anzoth.db.store import (
    isolation_rows,
    membership_rows,
    session_rows,
    tenant_rows,
    user_rows,
)
from anzoth.db.store.tenant_rows import TenantRow
from anzoth.gateway import audit, directory
from anzoth.gateway.accounts import events
from anzoth.gateway.accounts.sessions import Client, Sessions, StartedSession
from anzoth.gateway.directory import CreatedKey, DirectoryError, KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.scopes import MANAGEMENT_SCOPES

_NAME = re.compile(r"isolation-[0-9a-f]{12}-[ab]")
_LIFETIME = timedelta(days=1)
"""Of the keys, should this process end without deleting anything."""
_CLIENT = Client("127.0.0.1", "anzoth verify-isolation")


@dataclass(slots=True, frozen=True)
class Party:
    """One of the two tenants, or a second project of the first; and what opens something for it."""

    side: str
    """`a` or `b`; `c` is the project."""
    name: str
    """The tenant's."""
    id: uuid.UUID
    project_id: uuid.UUID
    infers: CreatedKey = field(repr=False)
    """Every inference scope."""
    manages: CreatedKey = field(repr=False)
    """Every management scope."""
    session: StartedSession = field(repr=False)
    """Of a member."""

    @property
    def secrets(self) -> dict[str, str]:
        """What opens something, by name: the half of each that is not public."""
        return {
            "an API key": self.infers.key.text.partition("_")[2],
            "a management key": self.manages.key.text.partition("_")[2],
            "a session": self.session.token,
        }


@contextlib.asynccontextmanager
async def only_run(dsn: str) -> AsyncIterator[None]:
    """Raises DirectoryError while another verification runs on this database."""
    with pool.translated_errors():
        connection = await pool.connect(dsn, timeout_s=15)
    try:
        if not await isolation_rows.try_lock(connection):
            raise DirectoryError("another anzoth verify-isolation is running on this database")
        yield
    finally:
        connection.terminate()


async def leftovers(dsn: str) -> list[str]:
    """Names of tenants that an earlier verification did not delete. Call it within `only_run`."""
    return [
        tenant.name
        for tenant in await directory.list_tenants(dsn)
        if tenant.deleted_at is None and _NAME.fullmatch(tenant.name)
    ]


def new_names() -> tuple[str, str]:
    """Of the one that has, and of the one that tries to see it."""
    token = secrets.token_hex(6)
    return f"isolation-{token}-a", f"isolation-{token}-b"


async def make(dsn: str, pepper: Pepper, config: AccountsConfig, name: str) -> Party:
    """Raises DirectoryError and DatabaseError."""
    tenant = await directory.create_tenant(dsn, name)
    expires_at = datetime.now(UTC) + _LIFETIME
    infers = await directory.create_key(
        dsn, pepper, KeyRequest(name, "isolation", scopes=("all",), expires_at=expires_at)
    )
    scopes = (*MANAGEMENT_SCOPES, "all")
    manages = await directory.create_key(
        dsn, pepper, KeyRequest(name, "isolation", scopes=scopes, expires_at=expires_at)
    )
    session = await _begin_session(dsn, pepper, config, tenant)
    return Party(name[-1], name, tenant.id, infers.project_id, infers, manages, session)


async def in_project(dsn: str, pepper: Pepper, party: Party, project: str) -> Party:
    """The same tenant in another of its projects, with a key that infers and none that manages:
    those stand above projects. Raises DirectoryError and DatabaseError."""
    expires_at = datetime.now(UTC) + _LIFETIME
    request = KeyRequest(party.name, "isolation", project, ("all",), expires_at=expires_at)
    key = await directory.create_key(dsn, pepper, request)
    return replace(party, side="c", project_id=key.project_id, infers=key, manages=key)


async def end(dsn: str, name: str) -> bool:
    """Deletes the tenant and closes its account; False: there is no such tenant, or no more.

    Raises DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        tenant = await tenant_rows.find_tenant(connection, name)
        if tenant is None or tenant.deleted_at is not None:
            return False
        user_id = await user_rows.find_user_id(connection, email_of(name))
        if user_id is not None:
            await session_rows.delete_sessions(connection, user_id)
            await user_rows.set_user_disabled(connection, user_id, True)
            gone = [
                *events.user_updated(audit.operator(), [None], user_id, disabled=True),
                events.user_deleted(audit.operator(), tenant.id, user_id),
            ]
            await membership_rows.try_delete_membership(connection, tenant.id, user_id)
            await audit.record(connection, *gone)
    await directory.delete_tenant(dsn, name)
    return True


def email_of(name: str) -> str:
    """Of the account that belongs to the tenant of this name."""
    return f"isolation-{name[-1]}@anzoth.invalid"


async def _begin_session(
    dsn: str, pepper: Pepper, config: AccountsConfig, tenant: TenantRow
) -> StartedSession:
    database = await Database.open(dsn)  # nothing is asked of it: `begin` is given a connection
    try:
        sessions = Sessions(database, pepper, config)
        async with pool.operator(dsn) as connection:
            await tenant_rows.lock_directory(connection)
            user_id = await _ensure_user(connection, tenant)
            user = await user_rows.find_user(connection, user_id)
            assert user is not None
            session = await sessions.begin(
                connection, user, "operator", _CLIENT, tenant_id=tenant.id
            )
            await audit.record(
                connection,
                events.user_added(audit.operator(), tenant.id, user_id, "member"),
                *events.user_updated(audit.operator(), [None], user_id, disabled=False),
                events.login_succeeded(session, "operator", _CLIENT),
            )
            return session
    finally:
        await database.close()


async def _ensure_user(connection: Connection, tenant: TenantRow) -> uuid.UUID:
    email = email_of(tenant.name)
    user_id = await user_rows.find_user_id(connection, email)
    if user_id is None:
        user_id = uuid.uuid4()
        await user_rows.try_insert_user(
            connection, user_id, email, "anzoth verify-isolation", None, is_verified=True
        )
    await user_rows.set_user_disabled(connection, user_id, False)
    await membership_rows.try_insert_membership(connection, tenant.id, user_id, "member")
    return user_id

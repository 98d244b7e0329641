"""How does the gateway reach the database, and as whom?

Every statement runs inside a transaction that names its tenant, or the key or the person that is
being authenticated, or the usage journal that is being shipped, or asks what has ended, or shares
limits with other gateways; there is no way to get a connection without one. The name is local to
the transaction, so nothing of it is left on a pooled connection, however the block ended.

Does not know: any statement but those that set the name (see `store`).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import asyncpg

from anzoth.db import statements
from anzoth.db.errors import DatabaseDown, DatabaseUnusable

APP_ROLE = "anzoth_app"
OPERATOR_ROLE = "anzoth_operator"

# An alias, because asyncpg's pool hands out proxies of connections.
Connection = Any

_DOWN = (
    OSError,  # includes TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,  # statement_timeout
    asyncpg.InterfaceError,  # the connection was lost under us
    asyncpg.InternalClientError,  # this process was paused while it used one
)


class Tenant(Protocol):
    """What a tenant's transaction asks for: the handle that only authentication makes."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def cache_salt(self) -> str: ...


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Raises DatabaseDown for every way in which the database can be lost."""
    try:
        yield
    except _DOWN as error:
        # The message names the kind only: an address or a role is not for whoever reads this.
        raise DatabaseDown(f"the database is unavailable ({type(error).__name__})") from error


class Database:
    """A pool of connections as the role `anzoth_app`, which row-level security applies to."""

    def __init__(self, pool: asyncpg.Pool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    @classmethod
    async def open(cls, dsn: str, *, max_connections: int = 8, timeout_s: float = 5.0) -> Database:
        """Connects on first use, so a gateway can start while the database is away.

        `timeout_s` bounds each block, from waiting for a connection to the commit.
        """
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=max_connections,
            timeout=timeout_s,
            command_timeout=timeout_s,
            server_settings={
                "role": APP_ROLE,
                "application_name": "anzoth",
                "idle_in_transaction_session_timeout": "60000",
            },
        )
        return cls(pool, timeout_s)

    async def close(self) -> None:
        """Waits a moment for blocks that are still open, then cuts them."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def ping(self) -> None:
        """Returns when the database answers. Raises DatabaseDown."""
        with translated_errors():
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                await connection.execute("SELECT 1")

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Tenant) -> AsyncIterator[Connection]:
        """A transaction that sees and writes this tenant's rows only. Raises DatabaseDown."""
        async with self._transaction("set_tenant", str(handle.id)) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def tenant_or_nobody(self, handle: Tenant | None) -> AsyncIterator[Connection]:
        """As `tenant`; None: a transaction that sees nobody's rows. Raises DatabaseDown."""
        tenant = "" if handle is None else str(handle.id)
        async with self._transaction("set_tenant", tenant) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def authenticating(self, kid: str) -> AsyncIterator[Connection]:
        """A transaction that sees the key `kid` and its tenant only. Raises DatabaseDown."""
        async with self._transaction("set_kid", kid) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def signing_in(self, email: str) -> AsyncIterator[Connection]:
        """A transaction that sees the user with this email only. Raises DatabaseDown."""
        async with self._transaction("set_email", email) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def holding(self, digest: bytes) -> AsyncIterator[Connection]:
        """A transaction that sees the session, the invitation or the one-time token whose secret
        has this digest, and nothing else. Raises DatabaseDown."""
        async with self._transaction("set_secret", digest.hex()) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def vouched_for(self, issuer: str, subject: str) -> AsyncIterator[Connection]:
        """A transaction that sees whose external identity this is. Raises DatabaseDown."""
        async with self._transaction("set_identity", f"{issuer} {subject}") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def ended(self) -> AsyncIterator[Connection]:
        """A transaction that sees which tenants were deleted and which keys revoked, and nothing
        else. Raises DatabaseDown."""
        async with self._transaction("set_ended", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def journal(self, writer_id: uuid.UUID) -> AsyncIterator[Connection]:
        """A transaction that sees the cursor of this usage journal, and no tenant's rows until
        `usage_rows.ship` names the tenants of those that it inserts. Raises DatabaseDown."""
        async with self._transaction("set_journal", str(writer_id)) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def outdated_usage(self) -> AsyncIterator[Connection]:
        """A transaction that may delete outdated sums of all tenants, and nothing else. Raises
        DatabaseDown."""
        async with self._transaction("set_outdated_usage", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def sharing(self) -> AsyncIterator[Connection]:
        """A transaction that sees the gateways and their shares of limits, and no tenant's rows.
        Raises DatabaseDown."""
        async with self._transaction("set_sharing", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def outdated_files(self) -> AsyncIterator[Connection]:
        """A transaction that sees which files of all tenants are deleted or expired, and nothing
        else until it names the tenant of one of them (`act_in_tenant`). Raises DatabaseDown."""
        async with self._transaction("set_outdated_files", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def ingestion(self) -> AsyncIterator[Connection]:
        """A transaction that sees which files of all tenants wait to be read into a vector store,
        and nothing else until it names the tenant of one of them (`act_in_tenant`). Raises
        DatabaseDown."""
        async with self._transaction("set_ingestion", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def outdated_stores(self) -> AsyncIterator[Connection]:
        """A transaction that sees which vector stores of all tenants are deleted or expired, which
        files may have left chunks behind in one, and which left one lately, and nothing else until
        it names the tenant of one of them (`act_in_tenant`). Raises DatabaseDown."""
        async with self._transaction("set_outdated_stores", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def outdated_responses(self) -> AsyncIterator[Connection]:
        """A transaction that sees which responses of all tenants have expired, and nothing else
        until it names the tenant of one of them (`act_in_tenant`). Raises DatabaseDown."""
        async with self._transaction("set_outdated_responses", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def open_batches(self) -> AsyncIterator[Connection]:
        """A transaction that sees on which batches of all tenants there is something to do, and
        nothing else until it names the tenant of one of them (`act_in_tenant`). Raises
        DatabaseDown."""
        async with self._transaction("set_batches", "on") as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _transaction(self, setting: str, value: str) -> AsyncIterator[Connection]:
        with translated_errors():
            async with (
                asyncio.timeout(self._timeout_s),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.execute(statements.load()[setting], value)
                yield connection


async def act_as_user(connection: Connection, user_id: uuid.UUID) -> None:
    """From here on the transaction also sees and writes what belongs to this user.

    Only for a user whom the transaction itself has found, or is making, or whose session it serves.
    """
    await connection.execute(statements.load()["set_user"], str(user_id))


async def act_in_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    """From here on the transaction also sees and writes the rows of this tenant.

    Only for a tenant that the user was found to belong to, was invited into, or is making; or whose
    file or store is outdated, or waits to be read; or whose batch is open.
    """
    await connection.execute(statements.load()["set_tenant"], str(tenant_id))


async def see_tenant(connection: Connection, name: str) -> None:
    """From here on the transaction also sees the tenant of this name, which an operator wrote into
    the configuration."""
    await connection.execute(statements.load()["set_tenant_name"], name)


async def try_become(connection: Connection, email: str) -> uuid.UUID | None:
    """`act_as_user` for the user with this email, whom a secret or a provider named; None: nobody
    has it."""
    await connection.execute(statements.load()["set_email"], email)
    user_id = await connection.fetchval(statements.load()["find_user_id"], email)
    if user_id is not None:
        await act_as_user(connection, user_id)
    return user_id


async def connect(dsn: str, timeout_s: int) -> asyncpg.Connection:
    """A connection as the DSN's own user. Raises DatabaseUnusable where only an operator can help.

    Other errors are left to `translated_errors`. No message quotes the DSN: it may hold a password.
    """
    try:
        return await asyncpg.connect(
            dsn, timeout=timeout_s, server_settings={"application_name": "anzoth"}
        )
    except asyncpg.InvalidAuthorizationSpecificationError:
        raise DatabaseUnusable(
            "the database refuses this user or password; check --database-url"
        ) from None
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnusable(f"{error}; create it, or check --database-url") from None
    except (ValueError, asyncpg.ClientConfigurationError):
        raise DatabaseUnusable(
            "--database-url is not understood; expected postgresql://user:password@host/database"
        ) from None


@contextlib.asynccontextmanager
async def operator(dsn: str, *, timeout_s: int = 15) -> AsyncIterator[Connection]:
    """A transaction on a connection of its own as `anzoth_operator`, which sees every tenant.

    For the commands of whoever runs the installation, never for a request. Raises DatabaseDown.
    """
    with translated_errors():
        async with asyncio.timeout(timeout_s):
            connection = await connect(dsn, timeout_s)
            try:
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL ROLE {OPERATOR_ROLE}")
                    yield connection
            finally:
                connection.terminate()

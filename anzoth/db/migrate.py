"""Is the schema in the database the one that this version needs, and if not, how does it get there?

Migrations are append-only files `NNNN_{pre|post}_what.sql`: a `pre` one works with the version
before it still running, a `post` one may need that version gone. All that are missing are applied
in one transaction under an advisory lock, and recorded with the checksum of their text.

The connecting user owns everything. It must be able to act as `anzoth_app` (the gateway; subject to
row-level security) and `anzoth_operator` (the commands); both are created where that is allowed.

Does not know: what any migration does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import asyncpg

from anzoth.db.errors import DatabaseUnusable
from anzoth.db.pool import APP_ROLE, OPERATOR_ROLE, connect, translated_errors

ROLES = (APP_ROLE, OPERATOR_ROLE)
_LOCK = 0x616E7A6F7468  # "anzoth"
_FILE_NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
_CONNECT_TIMEOUT_S = 15
_OLDEST_POSTGRES = 16
"""The first with `GRANT … WITH INHERIT FALSE`."""
_GRANT_HINT = (
    "as a superuser run: "
    + " ".join(f"CREATE ROLE {role};" for role in ROLES)
    + " GRANT {roles} TO {user} WITH SET TRUE, INHERIT FALSE;"
)


@dataclass(slots=True, frozen=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """All migrations of this version of Anzoth, in order."""
    folder = resources.files("anzoth.db").joinpath("migrations")
    found = []
    for file in folder.iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), file.name, file.read_text()))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(dsn: str) -> list[str]:
    """Applies what is missing and returns the names. Idempotent. Raises DatabaseError."""
    with translated_errors():
        connection = await connect(dsn, _CONNECT_TIMEOUT_S)
        try:
            if connection.get_server_version().major < _OLDEST_POSTGRES:
                raise DatabaseUnusable(
                    f"this is PostgreSQL {connection.get_server_version().major}; "
                    f"Anzoth needs {_OLDEST_POSTGRES} or newer"
                )
            async with connection.transaction():
                # Held to the end of the transaction: a second caller finds nothing left to do.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                return await _apply(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseUnusable(
                f"the database user lacks a right that migrations need ({error}); "
                "it must be allowed to create a schema in this database"
            ) from error
        finally:
            connection.terminate()


async def require_current(dsn: str) -> None:
    """Raises DatabaseUnusable unless every migration is applied. Changes nothing."""
    with translated_errors():
        connection = await connect(dsn, _CONNECT_TIMEOUT_S)
        try:
            missing = await _missing(connection)
        finally:
            connection.terminate()
    if missing:
        raise DatabaseUnusable(
            f"{len(missing)} migration(s) are not applied to this database; run: anzoth migrate"
        )


async def _apply(connection: asyncpg.Connection) -> list[str]:
    missing = await _missing(connection)
    if not missing:
        return []
    for role in ROLES:
        await _ensure_role(connection, role)
    await connection.execute("CREATE SCHEMA IF NOT EXISTS anzoth")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS anzoth.migrations (version integer PRIMARY KEY, "
        "name text NOT NULL, checksum text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for migration in missing:
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO anzoth.migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
    return [migration.name for migration in missing]


async def _missing(connection: asyncpg.Connection) -> list[Migration]:
    """Raises DatabaseUnusable when the database's history is not a beginning of ours."""
    migrations = available()
    applied: list[asyncpg.Record] = []
    if await connection.fetchval("SELECT to_regclass('anzoth.migrations')") is not None:
        applied = await connection.fetch(
            "SELECT version, name, checksum FROM anzoth.migrations ORDER BY version"
        )
    ours = {migration.version: migration for migration in migrations}
    for row in applied:
        migration = ours.pop(row["version"], None)
        if migration is None:
            raise DatabaseUnusable(
                f"the database has the migration {row['name']}, which this version of Anzoth does "
                "not know; it was used by a newer one"
            )
        if row["checksum"] != migration.checksum:
            raise DatabaseUnusable(
                f"the migration {migration.name} was applied with another text than this version "
                "of Anzoth has; migrations are never edited"
            )
    return list(ours.values())


async def _ensure_role(connection: asyncpg.Connection, role: str) -> None:
    """The role exists, is subject to row-level security, and we may act as it."""
    user = await connection.fetchval("SELECT current_user")
    hint = _GRANT_HINT.format(roles=", ".join(ROLES), user=f'"{user}"')
    try:
        found = await connection.fetchrow(
            "SELECT rolsuper OR rolbypassrls AS above FROM pg_roles WHERE rolname = $1", role
        )
        if found is None:
            await _create_role(connection, role)
        elif found["above"]:
            raise DatabaseUnusable(
                f"the role {role} must be neither a superuser nor BYPASSRLS; "
                f"as a superuser run: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS;"
            )
        if not await _can_act_as(connection, role):
            async with connection.transaction():
                # To act as it when asked to, not to have its rights at all times.
                await connection.execute(
                    f"GRANT {role} TO CURRENT_USER WITH SET TRUE, INHERIT FALSE"
                )
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnusable(
            f"the database user {user!r} may not create the role {role} or act as it; {hint}"
        ) from error


async def _create_role(connection: asyncpg.Connection, role: str) -> None:
    """Roles belong to the whole server, so another database's migration may be faster."""
    try:
        async with connection.transaction():
            await connection.execute(f"CREATE ROLE {role} NOLOGIN")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        pass


async def _can_act_as(connection: asyncpg.Connection, role: str) -> bool:
    """Tried rather than looked up: what membership allows differs between versions of Postgres."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(f"SET LOCAL ROLE {role}")
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await savepoint.rollback()  # which also takes the role back
    return True

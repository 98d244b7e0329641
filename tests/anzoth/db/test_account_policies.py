"""Does the database show of people only the one who was named, or who is being themselves?

Everything here runs as the role that the gateway uses. Rows are made through the application.
"""

from __future__ import annotations

import uuid

import asyncpg
import pytest
from accounts_kit import Site, run_site

from anzoth.db import pool
from anzoth.db.pool import Connection

pytestmark = pytest.mark.slow

TABLES = (
    *("users", "operators", "memberships", "project_members", "sessions", "recovery_codes"),
    *("external_identities", "invitations", "one_time_tokens", "tenants", "api_keys", "usage"),
)


async def seen(connection: Connection) -> dict[str, int]:
    """The tables in which there is anything to see."""
    counts = {
        table: await connection.fetchval(f"SELECT count(*) FROM anzoth.{table}") for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


async def two_tenants(site: Site) -> dict[str, uuid.UUID]:
    """acme with ann and bob, and an invitation; eve's own."""
    ann = site.browser()
    await ann.sign_up("ann@example.com", "acme")
    await site.member(ann, "bob@example.com", "member")
    await ann.invite("cy@example.com", "viewer")
    eve = site.browser()
    await eve.sign_up("eve@example.com", "eve")
    async with pool.operator(site.dsn) as connection:
        rows = await connection.fetch("SELECT id, email AS name FROM anzoth.users")
        rows += await connection.fetch("SELECT id, name FROM anzoth.tenants")
        rows += await connection.fetch("SELECT id, email || '!' AS name FROM anzoth.invitations")
    return {row["name"]: row["id"] for row in rows}


def test_whoever_is_not_known_yet_sees_the_row_that_they_name(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await two_tenants(site)
        async with site.database.signing_in("ann@example.com") as connection:
            assert await seen(connection) == {"users": 1}
        async with site.database.signing_in("nobody@example.com") as connection:
            assert await seen(connection) == {}
        browser = site.browser()
        await browser.sign_in("ann@example.com")
        digest = site.vault.digest("session", browser.cookies["anzoth-session"])
        async with site.database.holding(digest) as connection:
            assert await seen(connection) == {"sessions": 1}
        for other in (bytes(32), b""):
            async with site.database.holding(other) as connection:
                assert await seen(connection) == {}
        async with site.database.vouched_for("https://idp", "1") as connection:
            assert await seen(connection) == {}

    run_site(dsn, scenario)


def test_a_user_sees_themselves_and_their_tenants(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ids = await two_tenants(site)
        async with site.database.holding(bytes(32)) as connection:
            await pool.act_as_user(connection, ids["bob@example.com"])
            assert await seen(connection) == {
                "users": 1,
                "memberships": 1,
                "sessions": 1,
                "tenants": 1,
            }
            assert await connection.fetchval("SELECT name FROM anzoth.tenants") == "acme"
        async with site.database.holding(bytes(32)) as connection:
            await pool.act_in_tenant(connection, ids["acme"])
            assert await seen(connection) == {
                "users": 2,
                "memberships": 2,
                "project_members": 1,
                "invitations": 2,
                "tenants": 1,
            }

    run_site(dsn, scenario)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE anzoth.users SET disabled_at = NULL",
        "UPDATE anzoth.users SET email = 'x@example.com'",
        "DELETE FROM anzoth.users",
        "DELETE FROM anzoth.operators",
        "UPDATE anzoth.sessions SET user_id = user_id",
        "UPDATE anzoth.sessions SET expires_at = 'infinity'",
        "UPDATE anzoth.invitations SET email = 'x@example.com'",
        "INSERT INTO anzoth.one_time_tokens (digest, purpose, expires_at) "
        "VALUES ('x', 'bootstrap', 'infinity')",
        "DELETE FROM anzoth.one_time_tokens",
        "INSERT INTO anzoth.tenants (id, name) VALUES (gen_random_uuid(), 'x')",
        "INSERT INTO anzoth.users (id, email, name) VALUES (gen_random_uuid(), 'x@y.z', '')",
    ],
)
def test_what_the_gateway_has_no_reason_to_do_it_cannot(dsn: str, statement: str) -> None:
    async def scenario(site: Site) -> None:
        ids = await two_tenants(site)

        async def attempt() -> None:
            async with site.database.holding(bytes(32)) as connection:
                await pool.act_as_user(connection, ids["ann@example.com"])
                await pool.act_in_tenant(connection, ids["acme"])
                await connection.execute(statement)

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await attempt()

    run_site(dsn, scenario)


def test_nobody_writes_another_users_or_tenants_rows(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ids = await two_tenants(site)
        async with site.database.holding(bytes(32)) as connection:
            await pool.act_as_user(connection, ids["eve@example.com"])
            await pool.act_in_tenant(connection, ids["eve"])
            for statement in (
                "UPDATE anzoth.users SET password_hash = 'x' WHERE email <> 'eve@example.com'",
                "DELETE FROM anzoth.sessions WHERE user_id <> $1",
                "UPDATE anzoth.memberships SET role = 'owner' WHERE user_id <> $1",
                "DELETE FROM anzoth.invitations",
            ):
                given = [ids["eve@example.com"]] if "$1" in statement else []
                assert (await connection.execute(statement, *given)).endswith(" 0")

    run_site(dsn, scenario)

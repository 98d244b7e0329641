"""Is the database a wall between tenants, whatever happens in a transaction?

Everything here runs as the role that the gateway uses, through the pool that it uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import key_rows, limit_rows, project_rows, tenant_rows, usage_rows
from anzoth.db.store.limit_rows import LimitSubject

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USE = key_rows.KeyUse(NOW, None)
TABLES = ("tenants", "api_keys", "usage")


@dataclasses.dataclass(frozen=True)
class Handle:
    """What authentication would have made."""

    id: uuid.UUID
    cache_salt: str = ""


@dataclasses.dataclass(frozen=True)
class Customer:
    handle: Handle
    key: key_rows.NewKey

    def usage(self, request_id: str) -> usage_rows.UsageRow:
        return usage_rows.UsageRow(
            self.handle.id, self.key.project_id, request_id, NOW, self.key.id, "/v1/x", "m", 1, 0,
            2**40, None, False, 200, None, None, 5, None, None,
        )  # fmt: skip


async def add_customer(dsn: str, name: str) -> Customer:
    tenant_id, project_id = uuid.uuid4(), uuid.uuid4()
    key = key_rows.NewKey(
        uuid.uuid4(), tenant_id, project_id, f"kid{name}", name, b"d", "h", "p", "r", ["chat"],
        None, None, None, None, None, None,
    )  # fmt: skip
    async with pool.operator(dsn) as connection:
        assert await tenant_rows.try_insert_tenant(connection, tenant_id, name) is not None
        assert await project_rows.try_insert_project(
            connection, project_id, tenant_id, "default", is_default=True
        )
        assert await key_rows.try_insert_key(connection, key) is not None
    return Customer(Handle(tenant_id), key)


@contextlib.asynccontextmanager
async def opened(dsn: str, **options) -> AsyncIterator[Database]:
    database = await Database.open(dsn, **options)
    try:
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def two_customers(dsn: str, **options) -> AsyncIterator[tuple[Database, Customer, Customer]]:
    one, two = await add_customer(dsn, "one"), await add_customer(dsn, "two")
    async with opened(dsn, **options) as database:
        for customer in (one, two):
            async with database.tenant(customer.handle) as connection:
                await usage_rows.insert_usage(connection, [customer.usage("first")])
        yield database, one, two


async def count_all(connection) -> dict[str, int]:
    return {
        table: await connection.fetchval(f"SELECT count(*) FROM anzoth.{table}") for table in TABLES
    }


def test_every_table_of_a_tenant_has_forced_policies_with_both_clauses(dsn: str) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            tables = await connection.fetch(
                "SELECT oid, relname, relrowsecurity, relforcerowsecurity FROM pg_class "
                "WHERE relnamespace = 'anzoth'::regnamespace AND relkind IN ('r', 'p', 'm', 'v')"
            )
            policies = await connection.fetch(
                "SELECT polrelid, polcmd, polqual, polwithcheck, rolname FROM pg_policy "
                "JOIN pg_roles ON pg_roles.oid = ANY (polroles)"
            )
            may_log_in = await connection.fetchval(
                "SELECT bool_or(rolcanlogin OR rolsuper OR rolbypassrls) FROM pg_roles "
                "WHERE rolname IN ('anzoth_app', 'anzoth_operator')"
            )
        finally:
            await connection.close()
        assert may_log_in is False
        names = {table["relname"] for table in tables}
        assert names >= set(TABLES)
        for table in tables:
            if table["relname"] == "migrations":  # says nothing about any tenant
                continue
            assert table["relrowsecurity"], table["relname"]
            assert table["relforcerowsecurity"], table["relname"]
            for role in (pool.APP_ROLE, pool.OPERATOR_ROLE):
                assert any(
                    policy["polcmd"] == b"*" and policy["polqual"] and policy["polwithcheck"]
                    for policy in policies
                    if policy["polrelid"] == table["oid"] and policy["rolname"] == role
                ), (table["relname"], role)

    asyncio.run(scenario())


def test_without_a_tenant_there_are_no_rows_even_for_the_owner(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn):
            nothing = dict.fromkeys(TABLES, 0)
            connection = await asyncpg.connect(dsn)
            try:
                assert await count_all(connection) == nothing
                await connection.execute(f"SET ROLE {pool.APP_ROLE}")
                assert await count_all(connection) == nothing
                # A setting that ended with its transaction reads '', which is no tenant either.
                async with connection.transaction():
                    await connection.execute("SELECT set_config('app.tenant', $1, true)", "")
                    assert await count_all(connection) == nothing
                assert await count_all(connection) == nothing
            finally:
                await connection.close()

    asyncio.run(scenario())


def test_a_tenant_sees_its_own_rows_and_nothing_else(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, two):
            for me, other in ((one, two), (two, one)):
                async with database.tenant(me.handle) as connection:
                    assert await count_all(connection) == dict.fromkeys(TABLES, 1)
                    rows = await connection.fetch("SELECT tenant_id FROM anzoth.usage")
                    assert [row["tenant_id"] for row in rows] == [me.handle.id]
                    assert await key_rows.find_key(connection, other.key.kid) is None

    asyncio.run(scenario())


def test_a_tenant_cannot_write_as_another(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, two):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.tenant(one.handle) as connection:
                    await usage_rows.insert_usage(connection, [two.usage("forged")])
            # Nor does it learn from a foreign key check that another tenant's key exists.
            mixed = dataclasses.replace(one.usage("mixed"), key_id=two.key.id)
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                async with database.tenant(one.handle) as connection:
                    await usage_rows.insert_usage(connection, [mixed])
            async with database.tenant(one.handle) as connection:
                await key_rows.touch_keys(connection, {two.key.id: USE, one.key.id: USE})
            async with pool.operator(dsn) as connection:
                used = {
                    key.id: key.last_used_at for key in await key_rows.list_keys(connection, None)
                }
            assert used == {one.key.id: NOW, two.key.id: None}

    asyncio.run(scenario())


def test_the_gateway_can_neither_give_a_key_to_another_nor_change_usage(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, _):
            for statement in (
                "UPDATE anzoth.usage SET completion_tokens = 0",
                "DELETE FROM anzoth.usage",
                "UPDATE anzoth.api_keys SET project_id = gen_random_uuid()",
                "UPDATE anzoth.api_keys SET user_id = gen_random_uuid()",
                "UPDATE anzoth.api_keys SET service_account_id = gen_random_uuid()",
                "UPDATE anzoth.service_accounts SET project_id = gen_random_uuid()",
                "DELETE FROM anzoth.service_accounts",
                "UPDATE anzoth.projects SET is_default = true",
                "DELETE FROM anzoth.api_keys",
                "UPDATE anzoth.tenants SET name = 'x'",
                "INSERT INTO anzoth.tenants (id, name) VALUES (gen_random_uuid(), 'x')",
                "SELECT * FROM anzoth.migrations",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with database.tenant(one.handle) as connection:
                        await connection.execute(statement)

    asyncio.run(scenario())


def test_authentication_sees_the_named_key_and_its_tenant_only(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, _):
            async with database.authenticating(one.key.kid) as connection:
                row = await key_rows.find_key(connection, one.key.kid)
                assert row is not None
                assert (row.tenant_name, row.id) == ("one", one.key.id)
                assert await count_all(connection) == {"tenants": 1, "api_keys": 1, "usage": 0}
            async with database.authenticating("unknown") as connection:
                assert await key_rows.find_key(connection, one.key.kid) is None
                assert await count_all(connection) == dict.fromkeys(TABLES, 0)
            # It may read, and that is all.
            async with database.authenticating(one.key.kid) as connection:
                await key_rows.touch_keys(connection, {one.key.id: USE})
            async with pool.operator(dsn) as connection:
                listed = await key_rows.list_keys(connection, "one")
            assert listed[0].last_used_at is None

    asyncio.run(scenario())


def test_one_pooled_connection_forgets_its_tenant_however_the_block_ends(dsn: str) -> None:
    async def failing(database: Database, customer: Customer) -> None:
        async with database.tenant(customer.handle):
            raise KeyError

    async def cancelled(database: Database, customer: Customer) -> None:
        async with asyncio.timeout(0.05), database.tenant(customer.handle) as connection:
            await connection.execute("SELECT pg_sleep(60)")

    async def failing_statement(database: Database, customer: Customer) -> None:
        async with database.tenant(customer.handle) as connection:
            await connection.execute("SELECT 1/0")

    async def scenario() -> None:
        async with two_customers(dsn, max_connections=1) as (database, one, two):
            for accident, expected in (
                (failing, KeyError),
                (cancelled, (TimeoutError, DatabaseDown)),
                (failing_statement, asyncpg.DivisionByZeroError),
            ):
                with pytest.raises(expected):
                    await accident(database, one)
                async with database.authenticating(two.key.kid) as connection:
                    seen = await count_all(connection)
                    assert seen == {"tenants": 1, "api_keys": 1, "usage": 0}, accident.__name__
                    role = await connection.fetchval("SELECT current_user::text")
                    assert role == pool.APP_ROLE
                async with database.tenant(two.handle) as connection:
                    rows = await connection.fetch("SELECT tenant_id FROM anzoth.usage")
                    assert [row["tenant_id"] for row in rows] == [two.handle.id]

    asyncio.run(scenario())


def test_a_failed_block_leaves_no_rows(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, _):

            async def write_and_fail() -> None:
                async with database.tenant(one.handle) as connection:
                    await usage_rows.insert_usage(connection, [one.usage("lost")])
                    raise KeyError

            with pytest.raises(KeyError):
                await write_and_fail()
            async with database.tenant(one.handle) as connection:
                assert (await count_all(connection))["usage"] == 1

    asyncio.run(scenario())


def test_the_same_usage_row_twice_is_one_row(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, _):
            again = dataclasses.replace(one.usage("first"), completion_tokens=9)
            async with database.tenant(one.handle) as connection:
                await usage_rows.insert_usage(connection, [again, one.usage("other")])
                rows = await connection.fetch("SELECT completion_tokens FROM anzoth.usage")
            assert [row["completion_tokens"] for row in rows] == [2**40, 2**40]

    asyncio.run(scenario())


def test_an_absent_database_is_reported_as_down_in_time(data_dir) -> None:
    async def scenario() -> None:
        dsn = f"postgresql://anzoth@/anzoth?host={data_dir}&port=5432"
        async with opened(dsn, timeout_s=1.0) as database:
            with pytest.raises(DatabaseDown):
                await database.ping()

    asyncio.run(scenario())


def test_a_full_pool_is_reported_as_down_in_time(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn, max_connections=1, timeout_s=0.5) as database:
            with pytest.raises(DatabaseDown):
                async with database.authenticating("a"), database.authenticating("b"):
                    pytest.fail("two connections from a pool of one")
            await database.ping()

    asyncio.run(scenario())


def test_deleted_tenants_are_seen_where_they_are_asked_for_and_nowhere_else(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, two):
            async with database.ended() as connection:
                assert await count_all(connection) == {"tenants": 0, "api_keys": 0, "usage": 0}
            async with pool.operator(dsn) as connection:
                assert await tenant_rows.delete_tenant(connection, one.handle.id) is not None
                assert await tenant_rows.delete_tenant(connection, one.handle.id) is None
            async with database.ended() as connection:
                assert await tenant_rows.list_deleted_tenants(connection) == [one.handle.id]
                assert await count_all(connection) == {"tenants": 1, "api_keys": 0, "usage": 0}
            async with database.tenant(two.handle) as connection:
                assert await tenant_rows.list_deleted_tenants(connection) == []
                assert await count_all(connection) == {"tenants": 1, "api_keys": 1, "usage": 1}

    asyncio.run(scenario())


def test_revoked_keys_are_seen_where_ends_are_asked_for_and_nowhere_else(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, two):
            for customer, lets_finish in ((one, False), (two, True)):
                async with pool.operator(dsn) as connection:
                    await key_rows.revoke_key(
                        connection, customer.key.id, None, lets_finish=lets_finish
                    )
            async with database.ended() as connection:
                assert await key_rows.list_revoked_keys(connection) == [one.key.id]
            async with database.tenant(two.handle) as connection:
                assert await key_rows.list_revoked_keys(connection) == []
                await key_rows.revoke_key(connection, one.key.id, None, lets_finish=True)
                await key_rows.revoke_key(connection, two.key.id, None, lets_finish=False)
            async with database.ended() as connection:  # two's requests end now, after all
                revoked = await key_rows.list_revoked_keys(connection)
                assert set(revoked) == {one.key.id, two.key.id}

    asyncio.run(scenario())


def test_authentication_sees_the_limits_that_hold_for_the_named_key_and_no_other(dsn: str) -> None:
    async def scenario() -> None:
        async with two_customers(dsn) as (database, one, two):
            values = (7, *[None] * 7)
            async with pool.operator(dsn) as connection:
                for customer in (one, two):
                    tenant_id = customer.handle.id
                    other = replace(customer.key, id=uuid.uuid4(), kid=f"x{customer.key.kid}")
                    assert await key_rows.try_insert_key(connection, other) is not None
                    other_project = uuid.uuid4()
                    await project_rows.try_insert_project(
                        connection, other_project, tenant_id, "other", is_default=False
                    )
                    for project_id, key_id in (
                        (None, None),
                        (customer.key.project_id, None),
                        (other_project, None),
                        (None, customer.key.id),
                        (None, other.id),
                    ):
                        subject = LimitSubject(tenant_id, project_id, key_id)
                        await limit_rows.replace_limits(connection, subject, None, values)
            async with database.authenticating(one.key.kid) as connection:
                found = await limit_rows.limits_of_named_key(connection)
            assert {(limit.project_id, limit.key_id) for limit in found} == {
                (None, None),
                (one.key.project_id, None),
                (None, one.key.id),
            }
            async with database.tenant(one.handle) as connection:
                assert len(await limit_rows.list_limits(connection, one.handle.id)) == 5
                assert await limit_rows.list_limits(connection, two.handle.id) == []

    asyncio.run(scenario())

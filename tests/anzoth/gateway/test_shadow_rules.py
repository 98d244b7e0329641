"""Watching a rule is the operator's word, for a tenant or a key; gateways read it with the key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from anzoth.db.pool import Database
from anzoth.gateway import directory, shadow_rules
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.directory import CreatedKey, DirectoryError, KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import Principal

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
Authenticate = Callable[[CreatedKey], Awaitable[Principal]]


def run(
    dsn: str, scenario: Callable[[list[CreatedKey], Authenticate, Database], Awaitable[None]]
) -> None:
    """Two keys of one tenant; whoever authenticates reads afresh."""

    async def main() -> None:
        await directory.create_tenant(dsn, "acme")
        created = [
            await directory.create_key(dsn, PEPPER, KeyRequest("acme", name)) for name in "ab"
        ]
        database = await Database.open(dsn)

        async def authenticate(key: CreatedKey) -> Principal:
            authenticator = Authenticator(database, dsn, PEPPER)
            return await authenticator.authenticate(f"Bearer {key.key.text}")

        try:
            await scenario(created, authenticate, database)
        finally:
            await database.close()

    asyncio.run(main())


def test_a_tenants_rules_reach_all_its_keys_and_a_keys_own_only_that_one(dsn: str) -> None:
    async def scenario(keys: list[CreatedKey], authenticate: Authenticate, _: Database) -> None:
        await shadow_rules.set_rules(dsn, "acme", None, ["key.model"])
        await shadow_rules.set_rules(dsn, "acme", str(keys[0].id), ["limit.*"])
        assert (await authenticate(keys[0])).shadow_rules == ("key.model", "limit.*")
        assert (await authenticate(keys[1])).shadow_rules == ("key.model",)
        listed = await shadow_rules.list_rules(dsn, "acme")
        assert [(entry.kid, entry.rules) for entry in listed] == [
            (None, ["key.model"]),
            (keys[0].key.kid, ["limit.*"]),
        ]
        await shadow_rules.set_rules(dsn, "acme", None, [])
        await shadow_rules.set_rules(dsn, "acme", keys[0].key.kid, [])
        assert (await authenticate(keys[0])).shadow_rules == ()
        assert await shadow_rules.list_rules(dsn, None) == []

    run(dsn, scenario)


def test_what_cannot_be_set_is_said(dsn: str) -> None:
    async def scenario(keys: list[CreatedKey], authenticate: Authenticate, _: Database) -> None:
        await directory.create_tenant(dsn, "other")
        for tenant, key, pattern in (
            ("nobody", None, "limit.*"),
            ("other", keys[0].key.kid, "limit.*"),
            ("acme", None, "key.invalid"),
        ):
            with pytest.raises(DirectoryError):
                await shadow_rules.set_rules(dsn, tenant, key, [pattern])

    run(dsn, scenario)


def test_the_gateway_itself_may_not_lift_a_rule(dsn: str) -> None:
    async def scenario(
        keys: list[CreatedKey], authenticate: Authenticate, database: Database
    ) -> None:
        tenant = (await authenticate(keys[0])).tenant
        for table in ("tenants", "api_keys"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.tenant(tenant) as connection:
                    await connection.execute(f"UPDATE anzoth.{table} SET shadow_rules = '{{*}}'")

    run(dsn, scenario)

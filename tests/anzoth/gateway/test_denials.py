"""Are refusals counted, summed up and written, in bounds, and through an outage?"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from principals import make_principal

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows
from anzoth.errors import Forbidden, MissingApiKey, ModelNotAllowed
from anzoth.gateway import directory
from anzoth.gateway.denials import Denials
from anzoth.gateway.principal import Principal, TenantHandle

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"


class Flaky:
    """A real database that is lost as often as the test says."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.num_failures = 0

    @contextlib.asynccontextmanager
    async def tenant_or_nobody(self, handle: Any) -> AsyncIterator[Any]:
        if self.num_failures:
            self.num_failures -= 1
            raise DatabaseDown()
        async with self.database.tenant_or_nobody(handle) as connection:
            yield connection


class Fixture:
    """Two tenants, and a clock that stands still."""

    def __init__(self, dsn: str, flaky: Flaky, principals: list[Principal]) -> None:
        self.dsn = dsn
        self.flaky = flaky
        self.one, self.two = principals
        self.now_s = 1000.0

    def denials(self, **options: Any) -> Denials:
        flaky: Any = self.flaky
        return Denials(flaky, clock=lambda: self.now_s, **options)

    async def written(self) -> list[tuple[Any, ...]]:
        """(tenant, rule, count) of all denials."""
        async with pool.operator(self.dsn) as connection:
            rows = [row async for row in audit_rows.all_events(connection, None)]
        names = {self.one.tenant.id: "one", self.two.tenant.id: "two", None: None}
        return [
            (names[row.tenant_id], row.details["rule"], row.details["count"])
            for row in rows
            if row.type == "denial"
        ]


def run(dsn: str, scenario: Callable[[Fixture], Awaitable[None]]) -> None:
    async def main() -> None:
        database = await Database.open(dsn)
        principals = []
        for name in ("one", "two"):
            tenant = await directory.create_tenant(dsn, name)
            handle = TenantHandle(tenant.id, name, "salt")
            principals.append(make_principal(tenant=handle, key_id=uuid.uuid4()))
        async with asyncio.timeout(30):
            await scenario(Fixture(dsn, Flaky(database), principals))
        await database.close()

    asyncio.run(main())


def test_what_is_refused_again_is_one_event_with_a_count(dsn: str) -> None:
    async def scenario(f: Fixture) -> None:
        denials = f.denials()
        for _ in range(3):
            denials.note(Forbidden(), f.one, CHAT, "192.0.2.1")
        denials.note(ModelNotAllowed(), f.one, CHAT, "192.0.2.1")
        denials.note(Forbidden(), f.two, CHAT, "192.0.2.1")
        denials.note(MissingApiKey(), None, CHAT, "192.0.2.9")
        await denials.flush()
        await denials.flush()
        assert sorted(await f.written(), key=str) == [
            ("one", "key.model", 1),
            ("one", "key.scope", 3),
            ("two", "key.scope", 1),
            (None, "key.missing", 1),
        ]
        async with pool.operator(dsn) as connection:
            rows = await audit_rows.list_events(connection, f.one.tenant.id, None, ["denial"], 9)
        assert {row.target["endpoint"] for row in rows} == {CHAT}
        assert {row.details["status"] for row in rows} == {403}
        assert {(r.actor_kind, r.actor_id, r.actor_ip) for r in rows} == {
            ("api_key", str(f.one.key_id), "192.0.2.1")
        }

    run(dsn, scenario)


def test_what_goes_on_is_summed_up_by_the_minute(dsn: str) -> None:
    async def scenario(f: Fixture) -> None:
        denials = f.denials()
        for _ in range(90):
            denials.note(Forbidden(), f.one, CHAT, None)
            await denials.flush()
            f.now_s += 1
        assert await f.written() == [
            ("one", "key.scope", 1),
            ("one", "key.scope", 60),
        ]
        await denials.close()
        assert (await f.written())[2:] == [("one", "key.scope", 29)]

    run(dsn, scenario)


def test_counts_are_bounded_and_what_is_beyond_is_counted_too(dsn: str) -> None:
    async def scenario(f: Fixture) -> None:
        denials = f.denials(max_groups=2)
        for number in range(5):
            denials.note(Forbidden(), f.one, f"/v1/{number}", None)
        denials.note(Forbidden(), f.two, CHAT, None)
        await denials.flush()
        assert sorted(await f.written()) == [
            ("one", "key.scope", 1),
            ("one", "key.scope", 1),
            ("one", "overflow", 3),
            ("two", "overflow", 1),
        ]

    run(dsn, scenario)


def test_an_outage_loses_no_count(dsn: str) -> None:
    async def scenario(f: Fixture) -> None:
        denials = f.denials()
        f.flaky.num_failures = 2
        for _ in range(3):
            denials.note(Forbidden(), f.one, CHAT, None)
            await denials.flush()
        assert await f.written() == [("one", "key.scope", 3)]

    run(dsn, scenario)


def test_the_writer_writes_by_itself(dsn: str) -> None:
    async def scenario(f: Fixture) -> None:
        denials = f.denials()
        writing = asyncio.create_task(denials.run())
        denials.note(Forbidden(), f.one, CHAT, None)
        while not await f.written():
            pass  # each look takes a moment
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    run(dsn, scenario)


def test_a_user_who_was_refused_is_named(dsn: str) -> None:
    async def scenario(f: Fixture) -> None:
        user_id = uuid.uuid4()
        denials = f.denials()
        for principal in (f.one, replace(f.one, key_id=None, user_id=user_id)):
            denials.note(Forbidden(), principal, "/v1/organization/users", "192.0.2.1")
        await denials.flush()
        async with pool.operator(f.dsn) as connection:
            rows = [row async for row in audit_rows.all_events(connection, f.one.tenant.id)]
        actors = {(r.actor_kind, r.actor_id) for r in rows if r.type == "denial"}
        assert actors == {("api_key", str(f.one.key_id)), ("user", str(user_id))}

    run(dsn, scenario)

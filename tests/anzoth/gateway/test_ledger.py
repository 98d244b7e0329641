"""Is every record written once: in order of tenants, through an outage, at the end?"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from principals import make_principal

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import project_rows
from anzoth.gateway import directory, ledger
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.usage import UsageRecord
from anzoth.price import Price

pytestmark = pytest.mark.slow

PEPPER = Pepper("p", bytes(32))
START = datetime(2026, 1, 1, tzinfo=UTC)


class Flaky:
    """A real database that is lost when the test says so: before a write, or after its commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fail_before = 0
        self.fail_after = 0
        self.num_transactions = 0

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Any) -> AsyncIterator[Any]:
        self.num_transactions += 1
        if self.fail_before:
            self.fail_before -= 1
            raise DatabaseDown()
        async with self.database.tenant(handle) as connection:
            yield connection
        if self.fail_after:
            self.fail_after -= 1
            raise DatabaseDown()


async def principal_of(dsn: str, tenant: str) -> Principal:
    created = await directory.create_tenant(dsn, tenant)
    key = await directory.create_key(dsn, PEPPER, KeyRequest(tenant, "k"))
    handle = TenantHandle(created.id, tenant, "salt")
    async with pool.operator(dsn) as connection:
        project = await project_rows.find_project(connection, created.id, None)
    assert project is not None
    return make_principal(tenant=handle, project_id=project.id, key_id=key.id)


def record(principal: Principal, request_id: str, **fields: Any) -> UsageRecord:
    return UsageRecord(request_id, principal, "/v1/chat/completions", START, **fields)


async def rows(dsn: str) -> list[Any]:
    async with pool.operator(dsn) as connection:
        return await connection.fetch("SELECT * FROM anzoth.usage ORDER BY request_id")


async def ids(dsn: str) -> list[str]:
    return [row["request_id"] for row in await rows(dsn)]


def run(dsn: str, scenario: Callable[[Flaky], Awaitable[None]]) -> None:
    async def main() -> None:
        database = await Database.open(dsn)
        try:
            async with asyncio.timeout(30):
                await scenario(Flaky(database))
        finally:
            await database.close()

    asyncio.run(main())


def ledger_on(database: Any, **options: Any) -> Ledger:
    return Ledger(database, **options)


async def until_written(written: Ledger) -> None:
    for _ in range(1000):
        if not written.num_queued:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the writer does not write")


def test_records_arrive_whole_and_each_with_its_tenant(dsn: str) -> None:
    async def scenario(database: Flaky) -> None:
        one, two = await principal_of(dsn, "one"), await principal_of(dsn, "two")
        written = ledger_on(database)
        usage = record(
            dataclasses.replace(one, user_id=uuid.UUID(int=7)), "a", model="m",
            price=Price(150_000, 75_000, 600_000), service_tier="flex", batch=True,
            prompt_tokens=3, cached_tokens=1, completion_tokens=2**40, reasoning_tokens=2,
            finish_reason="stop", streamed=True, status=200, ttft_ms=7, duration_ms=9,
            end_user="u", metadata={"team": "blue"},
        )  # fmt: skip
        written.record(usage)
        usage.completion_tokens = 0  # what was recorded does not change any more
        for number in range(20):
            written.record(record((one, two)[number % 2], f"b{number:02}"))
        assert await written.close() == 0
        found = await rows(dsn)
        assert len(found) == 21
        assert database.num_transactions == 2
        first = dict(found[0])
        assert orjson.loads(first.pop("metadata")) == {"team": "blue"}
        assert first == {
            "tenant_id": one.tenant.id, "request_id": "a", "started_at": START,
            "key_id": one.key_id, "project_id": one.project_id,
            "endpoint": "/v1/chat/completions", "model": "m",
            "prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 2**40,
            "finish_reason": "stop", "streamed": True, "status": 200, "error_code": None,
            "ttft_ms": 7, "duration_ms": 9, "end_user": "u",
            "reasoning_tokens": 2, "service_tier": "flex", "batch": True,
            "user_id": uuid.UUID(int=7),
            "input_price": 150_000, "cached_input_price": 75_000, "output_price": 600_000,
            "input_cost": 300, "cached_input_cost": 75, "output_cost": 2**40 * 600,
        }  # fmt: skip
        owners = {row["request_id"]: row["tenant_id"] for row in found}
        assert owners["b00"] == one.tenant.id
        assert owners["b01"] == two.tenant.id

    run(dsn, scenario)


def test_the_writer_writes_by_itself_within_a_moment(dsn: str) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        written = ledger_on(database)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(written.run())
            for request in ("a", "b"):
                written.record(record(who, request))
                await until_written(written)
                assert request in await ids(dsn)
            task.cancel()

    run(dsn, scenario)


@pytest.mark.parametrize("when", ["fail_before", "fail_after"])
def test_an_outage_neither_loses_nor_doubles(
    dsn: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_FLUSH_INTERVAL_S", 0.01)
    monkeypatch.setattr(ledger, "_PAUSES_S", (0.01,))

    async def scenario(database: Flaky) -> None:
        one, two = await principal_of(dsn, "one"), await principal_of(dsn, "two")
        written = ledger_on(database)
        setattr(database, when, 5)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(written.run())
            for number in range(40):
                written.record(record((one, two)[number % 2], f"{number:02}"))
                await asyncio.sleep(0.002)
            await until_written(written)
            task.cancel()
        assert getattr(database, when) == 0
        assert await ids(dsn) == [f"{number:02}" for number in range(40)]
        assert written.num_refused == written.num_rejected == 0

    run(dsn, scenario)


def test_one_impossible_record_takes_no_other_with_it(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        stranger = dataclasses.replace(who, key_id=uuid.uuid4())
        written = ledger_on(database)
        for request, by, status in (("a", who, 200), ("b", stranger, 200), ("c", who, 10**9)):
            written.record(record(by, request, status=status, end_user="canary"))
        written.record(record(who, "d"))
        assert await written.close() == 0
        assert await ids(dsn) == ["a", "d"]
        assert written.num_rejected == 2

    run(dsn, scenario)
    assert caplog.text.count("usage record lost") == 2
    assert "canary" not in caplog.text


def test_what_callers_can_send_can_be_stored(dsn: str) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        written = ledger_on(database)
        odd = "a\0b\ud800c"
        written.record(record(who, "a", model=odd, end_user=odd, metadata={odd: odd}))
        assert await written.close() == 0
        (row,) = await rows(dsn)
        assert row["end_user"] == "a\ufffdb?c"
        assert orjson.loads(row["metadata"]) == {"a\ufffdb?c": "a\ufffdb?c"}

    run(dsn, scenario)


def test_a_full_queue_refuses_counts_and_logs(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        written = ledger_on(database, max_queued=2)
        for request in ("a", "b", "c"):
            written.record(record(who, request, completion_tokens=17))
        assert (written.num_queued, written.num_refused) == (2, 1)
        assert await written.close() == 0
        assert await ids(dsn) == ["a", "b"]

    run(dsn, scenario)
    assert "request=c" in caplog.text
    assert "completion=17" in caplog.text


def test_closing_without_a_database_ends_in_time_and_says_what_is_lost(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        database.fail_before = 10**6
        written = ledger_on(database)
        written.record(record(who, "a"))
        async with asyncio.timeout(5):
            assert await written.close(deadline_s=0.1) == 1

    run(dsn, scenario)
    assert "request=a" in caplog.text

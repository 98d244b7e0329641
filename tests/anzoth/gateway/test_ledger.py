"""Is every request written down once: through crashes, outages, full disks, replays?"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import shutil
import stat
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from api_harness import until
from principals import make_principal

from anzoth.config import ConfigError, JournalConfig
from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import project_rows
from anzoth.errors import CapacityUnavailable, LedgerUnavailable
from anzoth.gateway import directory, journal_shipper
from anzoth.gateway import journal as journals
from anzoth.gateway import ledger as ledgers
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.journal import segment_numbers
from anzoth.gateway.journal_counts import COMPLETION, DELIVERED
from anzoth.gateway.keys import Pepper
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.usage import UsageRecord
from anzoth.price import Price
from anzoth.telemetry import Metrics

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
    async def journal(self, writer: uuid.UUID) -> AsyncIterator[Any]:
        self.num_transactions += 1
        if self.fail_before:
            self.fail_before -= 1
            raise DatabaseDown()
        async with self.database.journal(writer) as connection:
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


async def cursor(dsn: str) -> tuple[int, int]:
    async with pool.operator(dsn) as connection:
        return tuple(
            await connection.fetchrow('SELECT segment, "offset" FROM anzoth.journal_cursors')
        )


def run(dsn: str, scenario: Callable[[Flaky], Awaitable[None]]) -> None:
    async def main() -> None:
        database = await Database.open(dsn)
        try:
            async with asyncio.timeout(30):
                await scenario(Flaky(database))
        finally:
            await database.close()

    asyncio.run(main())


def killed(ledger: Ledger) -> None:
    """What a killed process leaves: its files, and the lock that the kernel takes back."""
    ledger.abandon()


async def opened(database: Any, data_dir: Path, **config: Any) -> Ledger:
    options = {"max_segment_bytes": config.pop("max_segment_bytes", 1 << 20)}
    return await Ledger.open(database, data_dir, JournalConfig(**config), Metrics(), **options)


@contextlib.asynccontextmanager
async def running(database: Any, data_dir: Path, **config: Any) -> AsyncIterator[Ledger]:
    ledger = await opened(database, data_dir, **config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ledger.run())
        yield ledger
        task.cancel()
    await ledger.close()


def test_records_arrive_whole_and_each_with_its_tenant(dsn: str, tmp_path: Path) -> None:
    async def scenario(database: Flaky) -> None:
        one, two = await principal_of(dsn, "one"), await principal_of(dsn, "two")
        ledger = await opened(database, tmp_path)
        usage = record(
            dataclasses.replace(one, owner_id=uuid.UUID(int=7)), "a", model="m",
            price=Price(150_000, 75_000, 600_000), service_tier="flex", batch=True,
            prompt_tokens=3, cached_tokens=1, completion_tokens=2**40, reasoning_tokens=2,
            finish_reason="stop", streamed=True, status=200, ttft_ms=7, duration_ms=9,
            end_user="u", metadata={"team": "blue"}, rule="limit.key.rpm", refusal="too\0fast",
            shadow_rules=("key.model",), target="m2", attempts=("m1 model_unavailable", "m2 ok"),
        )  # fmt: skip
        ledger.begin(usage, 10)
        ledger.record(usage)
        usage.completion_tokens = 0  # what was recorded does not change any more
        for number in range(20):
            ledger.record(record((one, two)[number % 2], f"b{number:02}"))
        assert ledger.num_unshipped == 21
        assert await ledger.close() == 0
        found = await rows(dsn)
        assert len(found) == 21
        assert database.num_transactions == 2  # the cursor is looked up, then everything
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
            "rule": "limit.key.rpm", "refusal": "too\ufffdfast", "shadow_rules": ["key.model"],
            "target": "m2", "attempts": ["m1 model_unavailable", "m2 ok"],
            "retrieval": None,
        }  # fmt: skip
        owners = {row["request_id"]: row["tenant_id"] for row in found}
        assert owners["b00"] == one.tenant.id
        assert owners["b01"] == two.tenant.id

    run(dsn, scenario)


def test_what_was_found_for_a_request_is_kept_with_it_unless_it_is_killed(
    dsn: str, tmp_path: Path
) -> None:
    async def scenario(database: Flaky) -> None:
        one = await principal_of(dsn, "one")
        ledger = await opened(database, tmp_path)
        for name in ("done", "killed"):
            usage = record(one, name, retrieval='{"stores": ["vs_1"]}')
            ledger.begin(usage, 10)
            if name == "done":
                ledger.record(usage)
        ledger.record(record(one, "plain"))
        await ledger.commit()
        ledger.abandon()
        ledger = await opened(database, tmp_path)
        assert await ledger.close() == 0
        assert {row["request_id"]: row["retrieval"] for row in await rows(dsn)} == {
            "done": '{"stores": ["vs_1"]}',
            "killed": None,
            "plain": None,
        }

    run(dsn, scenario)


def test_it_has_caught_up_when_what_the_last_process_left_is_in_the_database(
    dsn: str, tmp_path: Path
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        ledger = await opened(database, tmp_path)
        assert ledger.is_caught_up
        usage = record(who, "a")
        ledger.begin(usage, 10)  # it runs when the process is killed
        ledger.record(record(who, "b"))
        await ledger.commit()
        killed(ledger)
        database.fail_before = 1
        async with running(database, tmp_path) as ledger:
            assert not ledger.is_caught_up
            await until(lambda: ledger.is_caught_up)
            assert await ids(dsn) == ["a", "b"]
        ledger = await opened(database, tmp_path)
        assert not ledger.is_caught_up  # the cursor knows better, and is not read yet
        await ledger.close()
        assert ledger.is_caught_up

    run(dsn, scenario)


def test_it_ships_by_itself_within_a_moment(dsn: str, tmp_path: Path) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        async with running(database, tmp_path) as ledger:
            for request in ("a", "b"):
                usage = record(who, request)
                ledger.begin(usage, 10)
                await ledger.begun(usage)
                ledger.record(usage)
                await until(lambda: not ledger.num_unshipped)
                assert request in await ids(dsn)

    run(dsn, scenario)


def test_what_ran_when_the_process_was_killed_is_settled_once_with_what_was_counted(
    dsn: str, tmp_path: Path
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        ledger = await opened(database, tmp_path)
        for name in "abc":
            usage = record(who, name, streamed=True)
            ledger.begin(usage, 10)
            usage.counts[COMPLETION] = 5
            usage.counts[DELIVERED] = 4
            if name == "b":
                usage.completion_tokens, usage.status = 5, 200
                ledger.record(usage)
        killed(ledger)
        again = await opened(database, tmp_path)
        killed(again)  # right after it has recovered, before it ships
        third = await opened(database, tmp_path)
        assert third.num_unshipped == 3
        assert await third.close() == 0
        found = [
            (r["request_id"], r["completion_tokens"], r["error_code"]) for r in await rows(dsn)
        ]
        assert found == [("a", 5, "gateway_crashed"), ("b", 5, None), ("c", 5, "gateway_crashed")]

    run(dsn, scenario)


@pytest.mark.parametrize("when", ["fail_before", "fail_after"])
def test_an_outage_neither_loses_nor_doubles(
    dsn: str, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_shipper, "_INTERVAL_S", 0.01)
    monkeypatch.setattr(journal_shipper, "_PAUSES_S", (0.01,))

    async def scenario(database: Flaky) -> None:
        one, two = await principal_of(dsn, "one"), await principal_of(dsn, "two")
        async with running(database, tmp_path, max_segment_bytes=2000) as ledger:
            setattr(database, when, 5)
            for number in range(40):
                ledger.record(record((one, two)[number % 2], f"{number:02}"))
                await asyncio.sleep(0.002)
            await until(lambda: not ledger.num_unshipped)
            assert getattr(database, when) == 0
            assert await ids(dsn) == [f"{number:02}" for number in range(40)]
            assert ledger.num_lost == ledger.num_rejected == 0

    run(dsn, scenario)


def test_an_outage_that_fills_the_quota_refuses_what_is_new_and_keeps_what_runs(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        database.fail_before = 10**6
        ledger = await opened(database, tmp_path, max_backlog_mib=1)
        running_since = record(who, "running")
        ledger.begin(running_since, 10)
        names = [f"{number:05}" for number in itertools.takewhile(
            lambda _: ledger.is_accepting, itertools.count()
        ) if ledger.record(record(who, f"{number:05}", end_user="e" * 400)) is None]  # fmt: skip
        with pytest.raises(LedgerUnavailable):
            ledger.begin(record(who, "refused"), 10)
        ledger.record(record(who, "refused", status=503))
        assert ledger.num_lost == 1
        ledger.record(running_since)
        assert await ledger.close(0.1) == len(names) + 1
        database.fail_before = 0
        again = await opened(database, tmp_path, max_backlog_mib=1)
        assert not again.is_accepting
        assert await again.close() == 0
        assert again.is_accepting
        assert await ids(dsn) == [*names, "running"]

    run(dsn, scenario)


def test_serving_without_writing_down_must_be_asked_for_and_is_logged(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Ledger, "is_full", True)

    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        ledger = await opened(database, tmp_path, when_full="serve")
        assert ledger.is_accepting
        usage = record(who, "a", completion_tokens=17, end_user="canary")
        ledger.begin(usage, 10)
        await ledger.begun(usage)
        ledger.record(usage)
        await ledger.close()
        assert (await ids(dsn), ledger.num_lost) == ([], 1)

    run(dsn, scenario)
    assert "request=a" in caplog.text
    assert "completion=17" in caplog.text
    assert "canary" not in caplog.text


def test_one_impossible_record_takes_no_other_with_it_and_is_kept(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        stranger = dataclasses.replace(who, key_id=uuid.uuid4())
        ledger = await opened(database, tmp_path)
        for request, by, status in (("a", who, 200), ("b", stranger, 200), ("c", who, 10**9)):
            ledger.record(record(by, request, status=status, end_user="canary"))
        ledger.record(record(who, "d"))
        assert await ledger.close() == 0
        assert await ids(dsn) == ["a", "d"]
        assert ledger.num_rejected == 2

    run(dsn, scenario)
    kept = tmp_path / "journal" / "rejected.jsonl"
    lines = kept.read_bytes().splitlines()
    assert sorted(orjson.loads(line)["row"]["request_id"] for line in lines) == ["b", "c"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "canary" not in caplog.text


def test_what_callers_can_send_can_be_stored(dsn: str, tmp_path: Path) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        ledger = await opened(database, tmp_path)
        odd = "a\0b\ud800c"
        ledger.record(record(who, "a", model=odd, end_user=odd, metadata={odd: odd}))
        assert await ledger.close() == 0
        (row,) = await rows(dsn)
        assert row["end_user"] == "a\ufffdb?c"
        assert orjson.loads(row["metadata"]) == {"a\ufffdb?c": "a\ufffdb?c"}

    run(dsn, scenario)


def test_closing_without_a_database_ends_in_time_and_keeps_everything(
    dsn: str, tmp_path: Path
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        database.fail_before = 10**6
        ledger = await opened(database, tmp_path)
        ledger.record(record(who, "a"))
        async with asyncio.timeout(5):
            assert await ledger.close(deadline_s=0.1) == 1
        database.fail_before = 0
        assert await (await opened(database, tmp_path)).close() == 0
        assert await ids(dsn) == ["a"]

    run(dsn, scenario)


def test_shipped_in_any_order_and_any_number_of_times_the_rows_are_the_same(
    dsn: str, tmp_path: Path
) -> None:
    """As after restores of backups: parts of the journal come again, older ones after newer."""
    chosen = random.Random(3)

    async def scenario(database: Flaky) -> None:
        one, two = await principal_of(dsn, "one"), await principal_of(dsn, "two")
        original = tmp_path / "original"
        original.mkdir()
        database.fail_before = 10**6
        ledger = await opened(database, original, max_segment_bytes=900)
        for number in range(24):
            usage = record((one, two)[number % 2], f"{number:02}", completion_tokens=number)
            ledger.begin(usage, 10)
            if number % 5:
                ledger.record(usage)
            if number % 3 == 0:
                await ledger.commit()
        killed(ledger)
        await (await opened(database, original)).close(0)
        database.fail_before = 0
        segments = segment_numbers(original / "journal")
        assert len(segments) > 5
        for round in range(12):
            data_dir = tmp_path / f"{round}"
            (data_dir / "journal").mkdir(parents=True)
            for number in chosen.sample(segments, chosen.randint(1, len(segments))):
                name = journals.segment_path(Path(), number).name
                shutil.copy(original / "journal" / name, data_dir / "journal" / name)
            shutil.copy(original / "journal" / "writer", data_dir / "journal")
            if round == 11:
                shutil.rmtree(data_dir)
                shutil.copytree(original, data_dir)
            again = await opened(database, data_dir)
            assert await again.close() == 0
        found = await rows(dsn)
        assert [row["request_id"] for row in found] == [f"{number:02}" for number in range(24)]

    run(dsn, scenario)


def test_segments_go_when_they_are_shipped_and_no_running_request_needs_them(
    dsn: str, tmp_path: Path
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        folder = tmp_path / "journal"
        async with running(database, tmp_path, max_segment_bytes=1500) as ledger:
            long = record(who, "long")
            ledger.begin(long, 10)
            for number in range(20):
                ledger.record(record(who, f"{number:02}"))
                await ledger.commit()
            await until(lambda: not ledger.num_unshipped)
            assert segment_numbers(folder)[0] == 1
            ledger.record(long)
            await until(lambda: not ledger.num_unshipped)
            await until(lambda: len(segment_numbers(folder)) == 1)
            assert ledger.backlog_bytes == 0
            at = await cursor(dsn)
            assert at[0] >= segment_numbers(folder)[0] - 1
        assert len(await ids(dsn)) == 21

    run(dsn, scenario)


def test_a_start_goes_on_where_the_cursor_is_and_distrusts_one_from_the_future(
    dsn: str, tmp_path: Path
) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        first = await opened(database, tmp_path)
        first.record(record(who, "a"))
        assert await first.close() == 0
        backup = tmp_path / "backup"
        shutil.copytree(tmp_path / "journal", backup / "journal")
        second = await opened(database, tmp_path)
        assert second.num_unshipped == 1  # as far as it knows before it can ask
        second.record(record(who, "b"))
        before = database.num_transactions
        assert await second.close() == 0
        assert database.num_transactions - before == 2
        third = await opened(database, tmp_path)
        third.record(record(who, "c"))
        assert await third.close() == 0
        old = await opened(database, backup)
        old.record(record(who, "d"))
        assert await old.close() == 0
        assert await ids(dsn) == ["a", "b", "c", "d"]

    run(dsn, scenario)


def test_two_gateways_cannot_write_one_journal(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "_LOCK_TIMEOUT_S", 0.0)

    async def scenario(database: Flaky) -> None:
        ledger = await opened(database, tmp_path)
        with pytest.raises(ConfigError, match="another gateway"):
            await opened(database, tmp_path)
        await ledger.close()
        await (await opened(database, tmp_path)).close()

    run(dsn, scenario)


def test_more_requests_than_slots_are_refused(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "NUM_SLOTS", 1)

    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        ledger = await opened(database, tmp_path)
        first, second = record(who, "a"), record(who, "b")
        ledger.begin(first, 10)
        ledger.begin(first, 10)  # the same again
        with pytest.raises(CapacityUnavailable):
            ledger.begin(second, 10)
        ledger.record(first)
        ledger.begin(second, 10)
        ledger.record(second)
        assert await ledger.close() == 0
        assert await ids(dsn) == ["a", "b"]

    run(dsn, scenario)


def test_nothing_secret_and_no_prompt_is_in_the_journal(dsn: str, tmp_path: Path) -> None:
    async def scenario(database: Flaky) -> None:
        who = await principal_of(dsn, "one")
        who = dataclasses.replace(
            who, tenant=TenantHandle(who.tenant.id, who.tenant.name, "canary-salt")
        )
        ledger = await opened(database, tmp_path)
        usage = record(who, "a", end_user="u")
        ledger.begin(usage, 10)
        ledger.record(usage)
        killed(ledger)

    run(dsn, scenario)
    folder = tmp_path / "journal"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert b"canary" not in path.read_bytes()

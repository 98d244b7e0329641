"""Is every request written down once, whole, with its tenant, and with nothing secret?"""

from __future__ import annotations

import dataclasses
import stat
import uuid
from pathlib import Path

import orjson
import pytest
from api_harness import until
from running_ledger import (
    START,
    Flaky,
    cursor,
    ids,
    killed,
    opened,
    principal_of,
    record,
    rows,
    run,
    running,
)

from anzoth.config import ConfigError
from anzoth.errors import CapacityUnavailable
from anzoth.gateway import ledger as ledgers
from anzoth.gateway.journal import segment_numbers
from anzoth.gateway.principal import TenantHandle
from anzoth.price import Price

pytestmark = pytest.mark.slow


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

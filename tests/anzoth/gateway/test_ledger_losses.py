"""Is every request written down once, whatever is killed, lost, full or shipped again?"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from pathlib import Path

import pytest
from api_harness import until
from running_ledger import (
    Flaky,
    ids,
    killed,
    opened,
    principal_of,
    record,
    rows,
    run,
    running,
)

from anzoth.errors import LedgerUnavailable
from anzoth.gateway import journal as journals
from anzoth.gateway import journal_shipper
from anzoth.gateway.journal import segment_numbers
from anzoth.gateway.journal_counts import COMPLETION, DELIVERED
from anzoth.gateway.ledger import Ledger

pytestmark = pytest.mark.slow


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

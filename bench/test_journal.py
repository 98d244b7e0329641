"""What the usage journal costs a request: the loop's time, and how long a first byte may wait.

The wait depends on the disk: `fdatasync_ms` is what one costs when nothing else happens. It counts
only as far as the engine's first token is faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from principals import make_principal

from anzoth.config import JournalConfig
from anzoth.db.errors import DatabaseDown
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.usage import UsageRecord
from anzoth.telemetry import Metrics

REQUESTS_PER_S = 500
SECONDS = 4.0


class Away:
    """A database that is down: shipping is not what is measured."""

    @contextlib.asynccontextmanager
    async def journal(self, writer: object) -> AsyncIterator[None]:
        raise DatabaseDown()
        yield


def usage(number: int) -> UsageRecord:
    return UsageRecord(f"req_{number:024x}", make_principal(), "/v1/chat/completions", model="m")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    away: Any = Away()
    made = asyncio.run(Ledger.open(away, tmp_path, JournalConfig(), Metrics()))
    yield made
    made.abandon()


def test_the_loops_time_for_one_request(benchmark, ledger: Ledger) -> None:
    numbers = itertools.count()

    def one_request() -> None:
        record = usage(next(numbers))
        ledger.begin(record, 100)
        ledger.record(record)

    benchmark(one_request)


def test_the_wait_for_the_disk_at_a_stated_rate(benchmark, ledger: Ledger, tmp_path: Path) -> None:
    """Open loop: a request begins every 2 ms, whatever became of the others."""
    waits_s: list[float] = []

    async def one_request(number: int) -> None:
        record = usage(number)
        began_s = time.perf_counter()
        ledger.begin(record, 100)
        await ledger.begun(record)
        waits_s.append(time.perf_counter() - began_s)
        ledger.record(record)

    async def load() -> None:
        async with asyncio.TaskGroup() as group:
            background = group.create_task(ledger.run())
            began_s = time.perf_counter()
            async with asyncio.TaskGroup() as requests:
                for number in range(int(REQUESTS_PER_S * SECONDS)):
                    due_s = began_s + number / REQUESTS_PER_S
                    await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                    requests.create_task(one_request(number))
            background.cancel()

    benchmark.pedantic(lambda: asyncio.run(load()), rounds=1)
    waits_s.sort()
    benchmark.extra_info["wait_ms_p50"] = round(statistics.median(waits_s) * 1000, 3)
    benchmark.extra_info["wait_ms_p99"] = round(waits_s[int(len(waits_s) * 0.99)] * 1000, 3)
    benchmark.extra_info["fdatasync_ms"] = round(_fdatasync_ms(tmp_path / "alone"), 3)


def _fdatasync_ms(path: Path) -> float:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    took_s: list[float] = []
    for _ in range(50):
        os.write(fd, bytes(600))
        began_s = time.perf_counter()
        os.fdatasync(fd)
        took_s.append(time.perf_counter() - began_s)
    os.close(fd)
    return statistics.median(took_s) * 1000

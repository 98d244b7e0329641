"""End to end: output tokens per second through sockets, gateway and engine, bundled model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from installation import Installation, installation
from load import Load, closed_loop, summary


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    with installation() as server:
        server.start()
        yield Load(server.url, key_of(server), prompt_tokens=64, max_tokens=48)


def key_of(server: Installation) -> str:
    return server.create_key("bench")


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_end_to_end_throughput(benchmark, load: Load, concurrency: int) -> None:
    """One round is `2 * concurrency` requests (at least 4) in a closed loop."""
    summaries = []

    def round_of_requests() -> None:
        started_s = time.perf_counter()
        outcomes = asyncio.run(closed_loop(load, concurrency, max(4, 2 * concurrency)))
        summaries.append(summary(outcomes, time.perf_counter() - started_s))

    benchmark.pedantic(round_of_requests, rounds=5, warmup_rounds=1)
    assert not any(one["failed"] for one in summaries), summaries
    middle = sorted(summaries, key=lambda one: float(str(one["output_tokens_per_s"])))
    benchmark.extra_info.update(middle[len(middle) // 2])

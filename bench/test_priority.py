"""What does a bulk job of embeddings cost a running chat, with and without the engines' priority?

    .venv/bin/pytest bench/test_priority.py --benchmark-only -s

Two installations, alike but for `embedding_nice` (0 and the default), measured in turn within each
round; whoever is not measured is idle. In each, one chat streams alone and then beside a bulk job.
What counts is the ratio within one run: the chat's tokens per second beside the job over those
alone. On one line of JSON, with the job's own texts per second, whose loss is the price.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from anzoth.model_config import EngineConfig
from installation import Installation, installation
from load import Load, closed_loop, summary

NUM_TEXTS = 16
NUM_BULK_CLIENTS = 4
NUM_CHATS = 3
ROUNDS = 5


@dataclass(slots=True)
class Bulk:
    """A job that sends texts until it is told to stop."""

    load: Load
    num_texts: int = 0

    async def run(self) -> None:
        address = urlsplit(self.load.url)
        text = "The invoice of 3 May is due within thirty days of receipt. " * 4
        body = json.dumps(
            {"model": "anzoth-embed", "input": [text] * NUM_TEXTS, "encoding_format": "base64"}
        ).encode()
        request = (
            f"POST /v1/embeddings HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {self.load.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body
        while True:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(request)
                answer = await reader.read(-1)
            finally:
                writer.close()
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            self.num_texts += NUM_TEXTS

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.run()) for _ in range(NUM_BULK_CLIENTS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    raise RuntimeError("the job did not go on to its end") from ended


@dataclass(slots=True)
class Measured:
    """One installation's rounds."""

    ratios: list[float] = field(default_factory=list)
    texts_per_s: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[int, Load]]:
    """By `embedding_nice`; both engines of each are ready."""
    with contextlib.ExitStack() as stack:
        made: dict[int, Load] = {}
        for nice in (0, EngineConfig().embedding_nice):
            environment = {"ANZOTH_EMBEDDINGS": "true", "ANZOTH_ENGINE_EMBEDDING_NICE": str(nice)}
            server = stack.enter_context(installation(**environment))
            server.start()
            _wait_until_ready(server)
            key = server.create_key("bench")
            made[nice] = Load(server.url, key, prompt_tokens=64, max_tokens=128)
        yield made


def _wait_until_ready(server: Installation) -> None:
    deadline_s = time.monotonic() + 120
    with server.client(None) as client:
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline_s, server.log()
            time.sleep(0.1)


async def chat_tokens_per_s(load: Load) -> float:
    started_s = time.perf_counter()
    outcomes = await closed_loop(load, 1, NUM_CHATS)
    measured = summary(outcomes, time.perf_counter() - started_s)
    assert not measured["failed"], measured
    return float(str(measured["output_tokens_per_s"]))


async def measure(load: Load, into: Measured) -> None:
    alone = await chat_tokens_per_s(load)
    bulk = Bulk(load)
    started_s = time.perf_counter()
    async with bulk.running():
        beside = await chat_tokens_per_s(load)
        into.texts_per_s.append(bulk.num_texts / (time.perf_counter() - started_s))
    into.ratios.append(beside / alone)


def test_a_bulk_job_of_embeddings_beside_a_chat(benchmark, servers: dict[int, Load]) -> None:
    measured = {nice: Measured() for nice in servers}

    def one_round() -> None:
        for nice, load in servers.items():
            asyncio.run(measure(load, measured[nice]))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=0)
    for nice, one in measured.items():
        benchmark.extra_info[f"nice {nice}"] = {
            "chat tokens/s beside the job over alone": _spread(one.ratios),
            "texts/s of the job": _spread(one.texts_per_s),
        }
    print(json.dumps(benchmark.extra_info))


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }

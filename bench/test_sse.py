"""What does one streamed token cost the gateway, from the engine's frame to the bytes of its event?

The ceiling is `orjson` rendering the text alone between two constants. The dispatch bench feeds
one `Step` frame of 64 rows to the engine client, which decodes it, finds 64 generations and makes
each write one event: everything the gateway does per engine step but the sockets themselves.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import orjson
import pytest
from api_stand_ins import PRINCIPAL
from checkpoints import write_checkpoint
from pytest_benchmark.fixture import BenchmarkFixture

from anzoth.api.answers import Identity
from anzoth.api.streams import ChatChunks
from anzoth.frames import (
    PROTOCOL,
    Admitted,
    Hello,
    PromptRow,
    Row,
    SamplingParams,
    Stats,
    Step,
    encode,
)
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.engine_connection import EngineConnection
from anzoth.gateway.generation import Generation
from anzoth.gateway.generation_request import GenerationRequest
from anzoth.gateway.limits import Limiter
from anzoth.gateway.models import ServedModel, load_model
from anzoth.gateway.output_budget import OutputBudget
from anzoth.gateway.usage import UsageRecord
from anzoth.model_config import ModelConfig
from anzoth.telemetry import Metrics

STREAMS = 64
STEPS = 100
HELLO = Hello(PROTOCOL, "m", 1 << 20, 300, (1,), 64, 16, "bfloat16", "cpu", "fp_bench")
IDENTITY = Identity("chatcmpl-" + "0" * 32, 1_760_000_000, "anzoth-default", "fp_bench", None)
STATS = Stats(1, STREAMS, 0, 100, 0, 200, 0, 0.01, STREAMS, 1.0)


class NullTransport(asyncio.Transport):
    """Drops what is written."""

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    directory = write_checkpoint(tmp_path_factory.mktemp("bench"))
    engine = EngineClient("anzoth-default", Path("unused"), Metrics())
    return load_model(ModelConfig("anzoth-default", directory), engine)


def chunks(model: ServedModel, written: list[int]) -> ChatChunks:
    def write(data: bytes) -> None:
        written[0] += 1

    return ChatChunks(write, IDENTITY, 1, model, include_usage=False, has_logprobs=False)


def test_ceiling_one_string_between_two_constants(benchmark: BenchmarkFixture) -> None:
    before, after = b"x" * 150, b"y" * 50
    assert benchmark(lambda: before + orjson.dumps(" hello") + after)


def test_one_chat_event(benchmark: BenchmarkFixture, model: ServedModel) -> None:
    written = [0]
    writer = chunks(model, written)
    benchmark(writer.text, 0, " hello", ())
    assert written[0] > 0


def test_one_token_from_row_to_event(benchmark: BenchmarkFixture, model: ServedModel) -> None:
    generation, written = begin(model, Metrics())
    row = Row(1, 0, 10, None, None, None, None)
    benchmark(generation.row, 0, row, time.monotonic())
    assert written[0] > 0


def begin(model: ServedModel, metrics: Metrics) -> tuple[Generation, list[int]]:
    """A running generation that writes events."""
    written = [0]
    generation = Generation(
        model,
        "fp_bench",
        GenerationRequest(([5],), 1, 1 << 16, SamplingParams()),
        OutputBudget(Limiter().reserve(PRINCIPAL, "m", 1, 1), 1, 1),
        UsageRecord(str(uuid.uuid4()), PRINCIPAL, "/v1/chat/completions"),
        time.monotonic(),
        metrics,
    )
    generation._consumer = chunks(model, written)
    return generation, written


class Rows:
    """A generation as the engine client sees it."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation

    def row(self, row: Row, now_s: float) -> None:
        self.generation.row(0, row, now_s)

    def prompt_row(self, row: PromptRow) -> None:
        self.generation.prompt_row(0, row)

    def lost(self, error: Exception) -> None:
        raise error


def test_one_step_dispatched_to_64_streams(benchmark: BenchmarkFixture, model: ServedModel) -> None:
    """Divide by 64 × 100 for one token-event; research puts a good one at 4.7 µs with its write."""
    loop = asyncio.new_event_loop()
    client = EngineClient("anzoth-default", Path("unused"), Metrics())
    connection = EngineConnection(client)
    connection.connection_made(NullTransport())
    connection.data_received(encode(HELLO))
    written = []

    async def submit_all() -> None:
        for _ in range(STREAMS):
            generation, count = begin(model, client._metrics)
            written.append(count)
            task = asyncio.ensure_future(
                client.submit(
                    Rows(generation),
                    [5],
                    num_choices=1,
                    max_tokens=1 << 16,
                    sampling=SamplingParams(),
                    tenant=PRINCIPAL.tenant,
                )
            )
            await asyncio.sleep(0)
            connection.data_received(encode(Admitted(client._next_request - 1)))
            await task

    loop.run_until_complete(submit_all())
    rows = tuple(Row(i + 1, 0, 10 + i, None, None, None, None) for i in range(STREAMS))
    frame = encode(Step(STATS, rows))

    def steps() -> None:
        for _ in range(STEPS):
            connection.data_received(frame)

    benchmark.pedantic(steps, rounds=15, warmup_rounds=2)
    assert all(count[0] >= STEPS for count in written)
    loop.close()

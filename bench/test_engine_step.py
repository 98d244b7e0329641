"""What does the control side of one engine step cost, without any model?

The runner below answers at once, so the time is the engine's own: schedule, account, append,
detect ends, build rows. The ceiling to stay far below is the model's step, 3 to 5 ms for an 8B
model on one H200 (its weights over the memory's bandwidth); the target is 1 ms at 256 running
sequences.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from anzoth.frames import SamplingParams, Step, Submit, encode
from anzoth.model_config import EngineConfig
from anzoth.scheduler.batch import build_batch
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence

MAX_TOKENS = 4096
ROUNDS = 400
WARMUP_ROUNDS = 40
ANSWERS = [SampledToken(number) for number in range(100, 1 << 17)]


@dataclass(frozen=True)
class CountingSpec:
    vocab_size: int = 1 << 17
    eos_token_ids: tuple[int, ...] = (2,)


@dataclass
class CountingRunner:
    """Samples the numbers from 100 on, which never repeat themselves, and reads nothing."""

    num_blocks: int = 60_000
    block_size_tokens: int = 16
    max_model_tokens: int = 65_536
    dtype: str = "bfloat16"
    device: str = "none"
    fingerprint: str = "counting"
    spec: CountingSpec = field(default_factory=CountingSpec)
    answers: Iterator[SampledToken] = field(default_factory=lambda: itertools.cycle(ANSWERS))

    def copy(self, blocks: list[tuple[int, int]]) -> None:
        pass

    def scrub(self, block_ids: list[int]) -> None:
        pass

    def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
        return [[next(self.answers) for _ in item.places] for item in batch]


class TensorRunner(CountingRunner):
    """Also builds what the model would be given."""

    def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
        build_batch(batch, self.block_size_tokens)
        return super().execute(batch)


def make_engine(num_sequences: int, runner: CountingRunner | None = None) -> Engine:
    config = EngineConfig(
        max_running_sequences=num_sequences,
        max_batch_tokens=8192,
        max_queued_requests=1 << 20,
        max_queued_tokens=1 << 30,
    )
    return Engine(runner or CountingRunner(), config, time.monotonic)


def start_decoding(engine: Engine, num_sequences: int, num_waiting: int = 0) -> None:
    """Takes all rows, by sequences of different lengths."""
    for number in range(num_sequences + num_waiting):
        submit(engine, list(range(number, number + 100 + number % 16)))
    while engine.stats().running < num_sequences or engine.stats().batch_tokens > num_sequences:
        engine.step()


def submit(engine: Engine, prompt: list[int], max_tokens: int = MAX_TOKENS) -> int:
    answer = engine.submit(Submit(0, "salt", "t", 1, max_tokens, SamplingParams()), prompt)
    assert isinstance(answer, int)
    return answer


@pytest.mark.parametrize("num_sequences", [64, 256])
@pytest.mark.parametrize("num_waiting", [0, 100])
def test_decode_step(benchmark: BenchmarkFixture, num_sequences: int, num_waiting: int) -> None:
    """All rows are taken by decoding sequences of different lengths; others may wait behind."""
    engine = make_engine(num_sequences)
    start_decoding(engine, num_sequences, num_waiting)
    rows = benchmark.pedantic(engine.step, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
    assert len(rows) == num_sequences


@pytest.mark.parametrize("num_sequences", [64, 256])
def test_host_part_of_a_decode_step(benchmark: BenchmarkFixture, num_sequences: int) -> None:
    """What is done beside the model and the sampler: the step, its tensors, the gateway's frame."""
    engine = make_engine(num_sequences, TensorRunner())
    start_decoding(engine, num_sequences)

    def step() -> bytes:
        return encode(Step(engine.stats(), tuple(engine.step())))

    frame = benchmark.pedantic(step, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
    assert len(frame) > 10 * num_sequences


@pytest.mark.parametrize("num_cached_tokens", [0, 32_000])
def test_admission_of_a_long_prompt(benchmark: BenchmarkFixture, num_cached_tokens: int) -> None:
    """The first step of a 32k-token prompt: hashing, matching, and (if new) 512 fresh blocks."""
    engine = make_engine(8)
    prompt = list(range(num_cached_tokens))
    if prompt:
        submit(engine, prompt, max_tokens=1)
        while engine.has_work:
            engine.step()
    variants = itertools.count(100_000)

    def prepare() -> None:
        for number in list(engine._requests):
            engine.abort(number)
        start = next(variants)
        submit(engine, [*prompt, start] if prompt else [start, *range(31_999)])

    benchmark.pedantic(engine.step, setup=prepare, rounds=20, warmup_rounds=2)
    expected = 1 if num_cached_tokens else 8192
    assert engine.stats().batch_tokens == expected


def test_integrity_check(benchmark: BenchmarkFixture) -> None:
    """The whole check of 60,000 blocks, made after each second without work."""
    engine = make_engine(64)
    for number in range(64):
        submit(engine, [number, *range(8_000)], max_tokens=1)
    while engine.has_work:
        engine.step()
    assert engine.stats().cached_blocks > 30_000
    benchmark.pedantic(engine.check_integrity, rounds=10, warmup_rounds=1)

"""Rows made in other processes are the rows that the trainer would have made itself."""

from __future__ import annotations

import dataclasses
import io
from array import array

import pytest
from tokenizers import Tokenizer

from anzoth.demo.batches import Batch, Batches, Plan
from anzoth.demo.curriculum import example
from anzoth.demo.feed import Feed, FeedError, read_group, write_group
from anzoth.demo.train import Settings, learn_tokenizer

PLAN = Plan(
    seed=3,
    num_steps=100,
    tokens_per_step=1024,
    tokens_per_batch=512,
    max_tokens=2048,
    tokens_per_group=2048,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokenizer(Settings(tokenizer_conversations=200))


def test_a_group_is_read_as_it_was_written(tokenizer: Tokenizer) -> None:
    groups = [Batches(tokenizer, example, PLAN).group(number) for number in (2, 5)]
    stream = io.BytesIO()
    for group in groups:
        write_group(stream, group)
    stream.seek(0)
    for group in groups:
        assert read_group(stream) == group
    assert read_group(stream) is None


def test_half_a_group_is_the_end_of_the_stream() -> None:
    stream = io.BytesIO()
    write_group(stream, [[Batch(array("i", range(16)), 1, 4, 4, num_tokens=4, num_targets=4)]])
    for length in range(len(stream.getvalue())):
        assert read_group(io.BytesIO(stream.getvalue()[:length])) is None


@pytest.mark.slow
@pytest.mark.parametrize("first_step", [0, 5])
def test_workers_make_the_same_steps_wherever_a_run_begins(
    tokenizer: Tokenizer, first_step: int
) -> None:
    here = Feed(tokenizer, PLAN)
    with Feed(tokenizer, PLAN, num_workers=2) as there:
        for step in range(first_step, first_step + 5):
            assert there[step] == here[step]


@pytest.mark.slow
def test_a_worker_that_stops_is_an_error_and_not_a_wait(tokenizer: Tokenizer) -> None:
    broken = dataclasses.replace(PLAN, num_steps=0)
    with Feed(tokenizer, broken, num_workers=1) as feed, pytest.raises(FeedError):
        feed[0]

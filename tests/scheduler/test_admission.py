"""Impossible requests are refused by name, and a full queue says when to come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anzoth.frames import SamplingParams, Submit
from anzoth.scheduler.admission import (
    Limits,
    StartRate,
    Throughput,
    can_queue,
    refuse_impossible,
    refuse_late,
)

LIMITS = Limits(vocab_size=97, max_model_tokens=64, max_queued_requests=3, max_queued_tokens=20)
SUBMIT = Submit(0, "salt", "t", 1, 10, SamplingParams())


def refuse_sampling(**values: Any) -> tuple[str, str] | None:
    submit = replace(SUBMIT, sampling=replace(SamplingParams(), **values))
    refusal = refuse_impossible(submit, [5], LIMITS)
    return refusal and (refusal.code, refusal.message)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"num_choices": 0}, "num_choices"),
        ({"num_choices": 129}, "num_choices"),
        ({"num_choices": True}, "num_choices"),
        ({"num_choices": "2"}, "num_choices"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"priority": 2}, "priority"),
        ({"priority": -3}, "priority"),
        ({"priority": True}, "priority"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": 86_400_001}, "timeout_ms"),
        ({"timeout_ms": 1.5}, "timeout_ms"),
    ],
)
def test_impossible_request_field_is_named(change: dict[str, Any], name: str) -> None:
    refusal = refuse_impossible(replace(SUBMIT, **change), [5], LIMITS)
    assert refusal is not None
    assert refusal.code == "invalid"
    assert name in refusal.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", 0),
        ("top_k", 1.5),
        ("min_p", -0.1),
        ("min_p", 2),
        ("typical_p", 0),
        ("typical_p", 1.1),
        ("seed", 2**64),
        ("seed", None),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repetition_penalty", 0),
        ("num_logprobs", -1),
        ("num_logprobs", 21),
        ("min_tokens", -1),
        ("min_tokens", 11),
        ("ignore_eos", 1),
        ("stop_token_ids", (97,)),
        ("stop_token_ids", ("x",)),
        ("logit_bias", ((97, 1.0),)),
        ("logit_bias", ((-1, 1.0),)),
        ("logit_bias", ((1, float("nan")),)),
        ("logit_bias", ((1, 101.0),)),
    ],
)
def test_impossible_sampling_value_is_refused_by_name(name: str, value: Any) -> None:
    refusal = refuse_sampling(**{name: value})
    assert refusal is not None
    assert refusal[0] == "invalid"
    assert name in refusal[1]


def test_values_at_the_edge_of_their_range_are_accepted() -> None:
    edges = {
        "temperature": (0, 2, 50.0),
        "top_p": (1e-6, 1),
        "top_k": (None, 1, 10**6),
        "min_p": (0, 1),
        "typical_p": (1e-9, 1),
        "seed": (-(2**63), 0, 2**64 - 1),
        "presence_penalty": (-2, 2),
        "frequency_penalty": (-2, 2.0),
        "repetition_penalty": (0.01, 10),
        "num_logprobs": (None, 0, 20),
        "min_tokens": (0, 10),
        "ignore_eos": (True, False),
        "stop_token_ids": ((), (0, 96)),
        "logit_bias": ((), ((0, -100.0), (96, 100.0))),
    }
    for name, values in edges.items():
        for value in values:
            assert refuse_sampling(**{name: value}) is None, (name, value)


@pytest.mark.parametrize("prompt", [[], [97], [-1], [5, 2**31]])
def test_empty_prompt_and_unknown_tokens_are_refused(prompt: list[int]) -> None:
    refusal = refuse_impossible(SUBMIT, prompt, LIMITS)
    assert refusal is not None
    assert refusal.code == "invalid"
    assert "prompt" in refusal.message.lower()


def test_prompt_and_output_together_are_held_against_the_context_length() -> None:
    assert refuse_impossible(SUBMIT, [5] * 54, LIMITS) is None
    refusal = refuse_impossible(SUBMIT, [5] * 55, LIMITS)
    assert refusal is not None
    assert refusal.code == "too_long"
    assert "64" in refusal.message


@pytest.mark.parametrize(
    ("num_tokens", "num_queued_requests", "num_queued_tokens", "expected"),
    [
        (10, 2, 10, True),
        (11, 2, 10, False),
        (1, 3, 3, False),
        (1000, 0, 0, True),
        (1000, 1, 1, False),
    ],
)
def test_queue_is_bounded_but_an_empty_one_takes_anything(
    num_tokens: int, num_queued_requests: int, num_queued_tokens: int, expected: bool
) -> None:
    assert can_queue(num_tokens, num_queued_requests, num_queued_tokens, LIMITS) is expected


def test_retry_time_is_queued_tokens_over_measured_rate_within_bounds() -> None:
    throughput = Throughput()
    assert throughput.retry_after_ms(5000) == 1000
    for _ in range(50):
        throughput.record(num_tokens=100, step_s=0.1)
    assert throughput.retry_after_ms(5000) == pytest.approx(5000, abs=1)
    assert throughput.retry_after_ms(1) == 100
    assert throughput.retry_after_ms(10**9) == 60_000
    for _ in range(1000):
        throughput.record(num_tokens=10, step_s=0.1)
    assert throughput.retry_after_ms(5000) == pytest.approx(50_000, rel=0.01)


def test_a_wait_is_measured_in_starts_and_nothing_is_known_before_the_first() -> None:
    starts = StartRate()
    assert starts.wait_s(1000) == 0
    starts.record(num_started=0, step_s=0.1)
    assert starts.wait_s(10) == pytest.approx(1.0)  # not for ever
    for _ in range(1000):
        starts.record(num_started=1, step_s=0.05)
    assert starts.wait_s(40) == pytest.approx(2.0, rel=0.01)
    assert starts.wait_s(0) == 0
    for _ in range(1000):
        starts.record(num_started=1, step_s=0.5)
    assert starts.wait_s(40) == pytest.approx(20.0, rel=0.05)


def test_who_cannot_start_in_time_is_told_when_to_ask_again() -> None:
    assert refuse_late(wait_s=1.9, left_s=2.0) is None
    refusal = refuse_late(wait_s=2.0, left_s=2.0)
    assert refusal is not None
    assert (refusal.code, refusal.retry_after_ms) == ("late", 2000)

"""Does the estimate follow what answers really took, within its bounds?"""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway import output_estimates
from anzoth.gateway.output_estimates import INITIAL_TOKENS, OutputEstimates

KEY = UUID(int=1)


def test_a_few_answers_tell_nothing_yet() -> None:
    estimates = OutputEstimates()
    for _ in range(7):
        estimates.learn(KEY, "m", 40)
    assert estimates.expect(KEY, "m") == INITIAL_TOKENS
    estimates.learn(KEY, "m", 40)
    assert estimates.expect(KEY, "m") == 40


@pytest.mark.slow
@given(st.lists(st.integers(1, 20_000), min_size=8, max_size=400))
def test_it_is_the_95th_percentile_of_the_latest_answers(lengths: list[int]) -> None:
    estimates = OutputEstimates()
    for length in lengths:
        estimates.learn(KEY, "m", length)
    latest = lengths[-128:]
    expected = estimates.expect(KEY, "m")
    if 16 < expected < 8192:
        assert expected in latest
    covered = sum(length <= max(expected, 16) for length in latest)
    assert expected == 8192 or covered >= 0.95 * len(latest)
    shorter = sum(length < expected for length in latest)
    assert expected == 16 or shorter < 0.95 * len(latest) or expected == 8192


def test_keys_and_models_are_told_apart_and_their_number_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(output_estimates, "_MAX_KNOWN", 3)
    estimates = OutputEstimates()
    for number in range(5):
        for _ in range(8):
            estimates.learn(UUID(int=number), "m", 100 + number)
    assert [estimates.expect(UUID(int=n), "m") for n in range(5)] == [512, 512, 102, 103, 104]
    assert estimates.expect(UUID(int=4), "other") == INITIAL_TOKENS

"""Is an answer without a stated maximum reserved for as it grows, and paid for in full?"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from principals import make_principal

from anzoth.errors import RateLimited
from anzoth.gateway import output_budget
from anzoth.gateway.limits import Limiter
from anzoth.gateway.output_budget import OutputBudget
from anzoth.gateway.output_estimates import OutputEstimates
from anzoth.gateway.principal import Principal

TPM = 10_000


@dataclass
class Clock:
    now_ns: int = 10**18

    def __call__(self) -> int:
        return self.now_ns


def reserve(
    limiter: Limiter, who: Principal, estimates: OutputEstimates | None = None, **more: int
) -> OutputBudget:
    how = {"prompt_tokens": 10, "num_choices": 1, "max_tokens": 5000, "is_stated": False} | more
    return output_budget.reserve(limiter, estimates or OutputEstimates(), who, "m", **how)  # type: ignore[arg-type]  # is_stated


def remaining(limiter: Limiter, who: Principal) -> int:
    reservation = limiter.reserve(who, "m", 0, 0)
    reservation.cancel()
    return int(dict(reservation.headers())["x-ratelimit-remaining-tokens"])


@pytest.mark.slow
@given(st.integers(1, 5000), st.integers(16, 4000))
def test_what_is_reserved_covers_what_is_used_and_at_most_as_much_again(
    num_tokens: int, expected: int
) -> None:
    limiter, who, estimates = Limiter(Clock()), make_principal(tpm=TPM), OutputEstimates()
    for _ in range(8):
        estimates.learn(who.key_id, "m", expected)
    budget = reserve(limiter, who, estimates)
    for used in range(1, num_tokens + 1):
        budget.use()
        held = budget.reservation.reserved_tokens - 10
        assert used <= held <= max(expected, 2 * used, 32)
    budget.reservation.settle(10, num_tokens)
    assert remaining(limiter, who) == max(0, TPM - 10 - num_tokens)


def test_a_stated_maximum_is_reserved_whole_and_never_extended() -> None:
    limiter, who = Limiter(Clock()), make_principal(tpm=TPM)
    budget = reserve(limiter, who, is_stated=True)
    assert remaining(limiter, who) == TPM - 5010
    for _ in range(5000):
        budget.use()
    assert budget.reservation.reserved_tokens == 5010


def test_a_running_answer_goes_on_in_debt_and_newcomers_wait_for_it() -> None:
    clock, who = Clock(), make_principal(tpm=100)
    limiter = Limiter(clock)
    budget = reserve(limiter, who)
    assert budget.reservation.reserved_tokens == 100  # what could ever be granted
    for _ in range(350):
        budget.use()
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(who, "m", 1, 0)
    assert caught.value.retry_after_ms is not None
    budget.reservation.settle(10, 350)
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(who, "m", 1, 0)
    assert caught.value.retry_after_ms == (360 + 1 - 100) * 600
    clock.now_ns += caught.value.retry_after_ms * 10**6
    limiter.reserve(who, "m", 1, 0)


def test_a_cancelled_answer_leaves_nothing_however_often_it_was_extended() -> None:
    limiter, who = Limiter(Clock()), make_principal(tpm=100)
    budget = reserve(limiter, who)
    for _ in range(1000):
        budget.use()
    budget.reservation.cancel()
    assert remaining(limiter, who) == 100


def test_the_guess_for_several_choices_is_for_all_of_them_and_never_too_large_for_ever() -> None:
    who = make_principal(tpm=TPM)
    assert reserve(Limiter(Clock()), who, num_choices=3).reservation.reserved_tokens == 3 * 512 + 10
    small = make_principal(tpm=300, output_tpm=200, tokens_per_day=250, key_id=UUID(int=5))
    assert reserve(Limiter(Clock()), small).reservation.reserved_tokens == 210
    with pytest.raises(RateLimited, match="Waiting will not help"):
        reserve(Limiter(Clock()), small, prompt_tokens=250)


def test_a_key_without_limits_reserves_and_learns_nothing() -> None:
    estimates, who = OutputEstimates(), make_principal()
    budget = reserve(Limiter(Clock()), who, estimates)
    for _ in range(20):
        budget.use()
        budget.choice_ended(7)
    assert estimates.expect(who.key_id, "m") == 512

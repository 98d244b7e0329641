"""Do guesses become slow, and only those?"""

from __future__ import annotations

import pytest

from anzoth.errors import TooManyAttempts
from anzoth.gateway.accounts.throttle import Throttle, network_of


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(num_free=3, longest_pause_s=60, max_subjects=10, clock=clock)


def test_each_attempt_beyond_the_free_ones_doubles_the_pause_up_to_a_bound(
    throttle: Throttle, clock: Clock
) -> None:
    pauses = []
    for _ in range(2):
        throttle.attempt("a")
    for _ in range(9):
        throttle.attempt("a")
        with pytest.raises(TooManyAttempts) as refused:
            throttle.attempt("a")
        assert refused.value.retry_after_ms is not None
        pauses.append(round(refused.value.retry_after_ms / 1000))
        clock.now_s += refused.value.retry_after_ms / 1000
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_waiting_for_as_long_as_was_said_is_enough_and_less_is_not(
    throttle: Throttle, clock: Clock
) -> None:
    for _ in range(3):
        throttle.attempt("a")
    with pytest.raises(TooManyAttempts) as refused:
        throttle.attempt("a")
    assert refused.value.retry_after_ms is not None
    clock.now_s += refused.value.retry_after_ms / 1000 - 0.01
    with pytest.raises(TooManyAttempts):
        throttle.attempt("a")
    clock.now_s += 0.01
    throttle.attempt("a")


def test_a_subject_pays_for_nobody_else(throttle: Throttle) -> None:
    for _ in range(3):
        throttle.attempt("a")
    throttle.attempt("b")
    with pytest.raises(TooManyAttempts):
        throttle.attempt("a")


def test_what_was_right_is_forgotten_and_what_is_taken_back_leaves_the_others(
    throttle: Throttle,
) -> None:
    for _ in range(3):
        throttle.attempt("a")
    throttle.forget("a")
    for _ in range(2):
        throttle.attempt("a")
    for _ in range(5):  # right ones between
        throttle.attempt("a")
        throttle.take_back("a")
    throttle.attempt("a")
    with pytest.raises(TooManyAttempts):
        throttle.attempt("a")


def test_long_ago_counts_for_nothing(throttle: Throttle, clock: Clock) -> None:
    for _ in range(3):
        throttle.attempt("a")
    clock.now_s += 121
    for _ in range(3):
        throttle.attempt("a")


def test_memory_is_bounded_and_who_tries_now_is_remembered(throttle: Throttle) -> None:
    for _ in range(3):
        throttle.attempt("a")
    for number in range(9):
        throttle.attempt(f"other {number}")
    with pytest.raises(TooManyAttempts):
        throttle.attempt("a")
    for number in range(100):
        throttle.attempt(f"further {number}")
    assert len(throttle._subjects) == 10


def test_an_ipv6_customer_is_one_subject() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("unix") == "unix"

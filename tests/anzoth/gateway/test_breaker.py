"""A failing target is left alone, and tried again by one request at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway.breaker import MAX_FAILURES_IN_A_ROW, MAX_PAUSE_S, MIN_PAUSE_S, Breaker


class Clock:
    s = 0.0

    def __call__(self) -> float:
        return self.s


def failing(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(MAX_FAILURES_IN_A_ROW):
        assert breaker.try_begin()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(Clock())
    for _ in range(MAX_FAILURES_IN_A_ROW - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(MAX_FAILURES_IN_A_ROW - 1):
        breaker.failed()
    assert breaker.state == "closed"
    breaker.failed()
    assert (breaker.state, breaker.try_begin()) == ("open", False)


def test_it_opens_when_half_of_the_latest_attempts_fail() -> None:
    breaker = Breaker(Clock())
    for _ in range(4):
        breaker.succeeded()
        breaker.failed()
    assert breaker.state == "closed"
    breaker.succeeded()
    breaker.failed()
    assert breaker.state == "open"


def test_after_the_pause_one_probe_decides() -> None:
    clock = Clock()
    breaker = failing(clock)
    clock.s += MIN_PAUSE_S
    assert breaker.state == "half_open"
    assert breaker.try_begin()
    assert not breaker.try_begin()
    breaker.succeeded()
    assert (breaker.state, breaker.try_begin()) == ("closed", True)


def test_each_failed_probe_doubles_the_pause_up_to_a_limit() -> None:
    clock = Clock()
    breaker, pauses = failing(clock), []
    for _ in range(10):
        pauses.append(breaker.wait_s())
        clock.s += breaker.wait_s()
        assert breaker.try_begin()
        breaker.failed()
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == MAX_PAUSE_S


def test_a_probe_that_nobody_waited_for_leaves_the_next_one_free() -> None:
    clock = Clock()
    breaker = failing(clock)
    clock.s += MIN_PAUSE_S
    assert breaker.try_begin()
    breaker.abandoned()
    assert (breaker.state, breaker.try_begin()) == ("half_open", True)


def test_what_began_before_it_opened_says_nothing_about_now() -> None:
    breaker = failing(Clock())
    breaker.succeeded()
    assert breaker.state == "open"


@given(st.lists(st.sampled_from(["begin", "succeeded", "failed", "abandoned", "wait"])))
def test_whatever_happens_it_asks_again_in_the_end(steps: list[str]) -> None:
    clock = Clock()
    breaker, running = Breaker(clock), 0
    for step in steps:
        if step == "wait":
            clock.s += 0.7
        elif step == "begin":
            running += breaker.try_begin()
        elif running:
            running -= 1
            getattr(breaker, step)()
    for _ in range(running):
        breaker.abandoned()
    clock.s += MAX_PAUSE_S
    assert breaker.try_begin()

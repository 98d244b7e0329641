"""A failing target is left alone, and tried again by one request at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway.breaker import MAX_FAILURES_IN_A_ROW, MAX_PAUSE_S, MIN_PAUSE_S, Breaker, Permit

OUTCOMES = ("succeeded", "failed", "abandoned")


class Clock:
    s = 0.0

    def __call__(self) -> float:
        return self.s


def begun(breaker: Breaker) -> Permit:
    permit = breaker.try_begin()
    assert permit is not None
    return permit


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(begun(breaker))


def failing(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    fail(breaker, MAX_FAILURES_IN_A_ROW)
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(Clock())
    fail(breaker, MAX_FAILURES_IN_A_ROW - 1)
    breaker.succeeded(begun(breaker))
    fail(breaker, MAX_FAILURES_IN_A_ROW - 1)
    assert breaker.state == "closed"
    fail(breaker)
    assert (breaker.state, breaker.try_begin()) == ("open", None)


def test_it_opens_when_half_of_the_latest_attempts_fail() -> None:
    breaker = Breaker(Clock())
    for _ in range(4):
        breaker.succeeded(begun(breaker))
        fail(breaker)
    assert breaker.state == "closed"
    breaker.succeeded(begun(breaker))
    fail(breaker)
    assert breaker.state == "open"


def test_after_the_pause_one_probe_decides() -> None:
    clock = Clock()
    breaker = failing(clock)
    clock.s += MIN_PAUSE_S
    assert breaker.state == "half_open"
    probe = begun(breaker)
    assert breaker.try_begin() is None
    breaker.succeeded(probe)
    assert breaker.state == "closed"
    assert breaker.try_begin()


def test_each_failed_probe_doubles_the_pause_up_to_a_limit() -> None:
    clock = Clock()
    breaker, pauses = failing(clock), []
    for _ in range(10):
        pauses.append(breaker.wait_s())
        clock.s += breaker.wait_s()
        fail(breaker)
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == MAX_PAUSE_S


def test_a_probe_that_nobody_waited_for_leaves_the_next_one_free() -> None:
    clock = Clock()
    breaker = failing(clock)
    clock.s += MIN_PAUSE_S
    breaker.abandoned(begun(breaker))
    assert breaker.state == "half_open"
    assert breaker.try_begin()


def test_what_began_before_it_opened_says_nothing_about_now() -> None:
    clock = Clock()
    for outcome in OUTCOMES:
        breaker = Breaker(clock)
        old = begun(breaker)
        fail(breaker, MAX_FAILURES_IN_A_ROW)
        getattr(breaker, outcome)(old)
        assert (breaker.state, breaker.wait_s()) == ("open", MIN_PAUSE_S)


def test_an_old_attempt_that_ends_during_a_probe_admits_no_second_one() -> None:
    for outcome in OUTCOMES:
        clock = Clock()
        breaker = Breaker(clock)
        old = begun(breaker)
        fail(breaker, MAX_FAILURES_IN_A_ROW)
        clock.s += MIN_PAUSE_S
        probe = begun(breaker)
        getattr(breaker, outcome)(old)
        assert breaker.state == "half_open"
        clock.s += MAX_PAUSE_S
        assert breaker.try_begin() is None
        breaker.succeeded(probe)
        assert breaker.state == "closed"


def test_an_answer_that_breaks_after_it_began_well_counts_twice() -> None:
    clock = Clock()
    breaker = failing(clock)
    clock.s += MIN_PAUSE_S
    probe = begun(breaker)
    breaker.succeeded(probe)
    breaker.failed(probe)
    fail(breaker, MAX_FAILURES_IN_A_ROW - 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


STEPS = st.lists(
    st.one_of(
        st.just("wait"),
        st.just("begin"),
        st.tuples(st.integers(0, 20), st.sampled_from(OUTCOMES)),
    ),
    max_size=80,
)


@given(STEPS)
def test_however_attempts_overlap_one_probe_runs_at_a_time(
    steps: list[str | tuple[int, str]],
) -> None:
    """Then nothing else is admitted; and in the end it asks again."""
    clock = Clock()
    breaker = failing(clock)
    running: list[Permit] = []
    probe: Permit | None = None
    for step in steps:
        if step == "wait":
            clock.s += 0.7
        elif step == "begin":
            is_half_open = breaker.state == "half_open"
            permit = breaker.try_begin()
            if permit is not None:
                assert probe is None
                running.append(permit)
                probe = permit if is_half_open else None
        elif running:
            which, outcome = step
            permit = running.pop(int(which) % len(running))
            getattr(breaker, outcome)(permit)
            probe = None if permit is probe else probe
        if probe is not None:
            assert not breaker.would_admit
    for permit in running:
        breaker.abandoned(permit)
    clock.s += MAX_PAUSE_S
    assert breaker.try_begin()

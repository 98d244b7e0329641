"""Are the limits exact? Every answer is compared with a model in rational arithmetic.

The model keeps the whole history and replays it: what would the bucket hold if each request that
has settled had been charged, at its start, what it used?
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from principals import make_principal

from anzoth.errors import RateLimited
from anzoth.gateway.limit_errors import go_duration
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.gateway.principal import Principal

MINUTE_NS = 60 * 10**9
SECOND_NS = 10**9


def principal(rpm: int | None = None, tpm: int | None = None, key: int = 0) -> Principal:
    return make_principal(key_id=uuid.UUID(int=key), rpm=rpm, tpm=tpm)


@dataclass
class Clock:
    now_ns: int = 10**18

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Model:
    """The token bucket of the definition: [time, charge] of every request, replayed each time."""

    tpm: int
    charges: list[list[int]] = field(default_factory=list)

    def debt(self, now_ns: int) -> Fraction:
        rate, debt, at_ns = Fraction(self.tpm, MINUTE_NS), Fraction(0), 0
        for time_ns, tokens in [*self.charges, [now_ns, 0]]:
            debt = max(Fraction(0), debt - rate * (time_ns - at_ns)) + tokens
            at_ns = time_ns
        return debt

    def fits(self, now_ns: int, tokens: int) -> bool:
        return self.debt(now_ns) + tokens <= self.tpm


def header(headers: list[tuple[str, str]], name: str) -> str:
    return dict(headers)[f"x-ratelimit-{name}"]


# What a test does next: let a part of a minute pass, ask for a part of the limit, or end one of the
# open requests with a part used. Parts in percent, and small ones: what is easy to get wrong are
# requests that overlap while the bucket is neither empty nor full.
STEP = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 30), st.integers(0, 999)),
    st.tuples(st.just("reserve"), st.integers(0, 40), st.just(0)),
    st.tuples(st.just("reserve"), st.integers(90, 110), st.just(0)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 100)),
    st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 1000), st.lists(STEP, min_size=10, max_size=40))
def test_every_decision_is_that_of_the_exact_model(
    tpm: int, steps: list[tuple[str, int, int]]
) -> None:
    clock, model, who = Clock(), Model(tpm), principal(tpm=tpm)
    limiter = Limiter(clock)
    open_: list[tuple[Reservation, list[int]]] = []
    for kind, first, second in steps:
        if kind == "wait":
            clock.now_ns += first * MINUTE_NS // 100 + second
        elif kind == "reserve":
            tokens = -(-tpm * first // 100)
            fits = model.fits(clock.now_ns, tokens)
            try:
                reservation = limiter.reserve(who, "m", tokens // 2, tokens - tokens // 2)
            except RateLimited as error:
                assert not fits
                check_promised_wait(error, model, clock.now_ns, tokens)
                continue
            assert fits
            charge = [clock.now_ns, tokens]
            model.charges.append(charge)
            open_.append((reservation, charge))
            remaining = int(header(reservation.headers(), "remaining-tokens"))
            assert remaining == (tpm - model.debt(clock.now_ns)) // 1
        elif open_:
            reservation, charge = open_.pop(first % len(open_))
            if kind == "cancel":
                reservation.cancel()
                charge[1] = 0
            else:
                used = charge[1] * second // 100
                reservation.settle(used)
                charge[1] = used
            reservation.settle(0)  # the second end of a request changes nothing
            reservation.cancel()


def check_promised_wait(error: RateLimited, model: Model, now_ns: int, tokens: int) -> None:
    if tokens > model.tpm:
        assert error.retry_after_ms is None
        return
    assert error.retry_after_ms is not None
    assert model.fits(now_ns + error.retry_after_ms * 10**6, tokens)
    assert not model.fits(now_ns + (error.retry_after_ms - 1) * 10**6, tokens)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_waiting_as_told_alone_is_enough(rpm: int, tpm: int, data: st.DataObject) -> None:
    clock, who = Clock(), principal(rpm=rpm, tpm=tpm)
    limiter = Limiter(clock)
    for _ in range(data.draw(st.integers(1, 30))):
        tokens = data.draw(st.integers(0, tpm))
        try:
            limiter.reserve(who, "m", tokens, 0)
        except RateLimited as error:
            clock.now_ns += (error.retry_after_ms or 0) * 10**6
            limiter.reserve(who, "m", tokens, 0)
        clock.now_ns += data.draw(st.integers(0, SECOND_NS))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_cancelling_in_any_order_returns_to_the_start(order: tuple[int, ...]) -> None:
    clock, who = Clock(), principal(rpm=10, tpm=100)
    limiter = Limiter(clock)
    held = [limiter.reserve(who, "m", 10 * n, 5) for n in range(1, 4)]
    for index in order:
        clock.now_ns += SECOND_NS
        held[index].cancel()
    limiter.reserve(who, "m", 100, 0)
    headers = Limiter(clock).reserve(who, "m", 100, 0).headers()
    assert header(headers, "remaining-tokens") == "0"
    assert header(headers, "remaining-requests") == "9"


def test_long_streams_cannot_save_up_bursts() -> None:
    clock, who = Clock(), principal(tpm=100)
    limiter = Limiter(clock)
    held = []
    for _ in range(10):  # each one holds the whole minute's worth, and another minute passes
        held.append(limiter.reserve(who, "m", 0, 100))
        clock.now_ns += MINUTE_NS
    for reservation in held:
        reservation.cancel()
    limiter.reserve(who, "m", 100, 0)
    with pytest.raises(RateLimited):
        limiter.reserve(who, "m", 1, 0)


def test_a_request_refused_for_its_tokens_is_not_counted_as_a_request() -> None:
    clock, who = Clock(), principal(rpm=2, tpm=100)
    limiter = Limiter(clock)
    limiter.reserve(who, "m", 90, 0)
    for _ in range(5):
        with pytest.raises(RateLimited, match="100 tokens per minute"):
            limiter.reserve(who, "m", 50, 0)
    assert header(limiter.reserve(who, "m", 10, 0).headers(), "remaining-requests") == "0"
    with pytest.raises(RateLimited, match="2 requests per minute"):
        limiter.reserve(who, "m", 0, 0)


def test_more_than_the_whole_limit_is_refused_without_a_time() -> None:
    limiter = Limiter(Clock())
    with pytest.raises(RateLimited, match="Waiting will not help") as caught:
        limiter.reserve(principal(tpm=100), "m", 60, 41)
    assert caught.value.retry_after_ms is None
    headers = dict(caught.value.headers())
    assert headers["x-should-retry"] == "false"
    assert headers["x-ratelimit-limit-tokens"] == "100"
    limiter.reserve(principal(tpm=100), "m", 60, 40)


def test_headers_exist_only_for_limits_that_exist() -> None:
    limiter = Limiter(Clock())
    assert limiter.reserve(principal(), "m", 10**9, 10**9).headers() == []
    names = {name for name, _ in limiter.reserve(principal(rpm=5), "m", 1, 1).headers()}
    assert names == {
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    }
    headers = limiter.reserve(principal(rpm=5000, key=2), "m", 1, 1).headers()
    assert dict(headers) == {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
    }


def test_used_more_than_reserved_is_charged() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    limiter.reserve(principal(tpm=100), "m", 10, 0).settle(130)
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(principal(tpm=100), "m", 1, 0)
    assert caught.value.retry_after_ms == 31 * 600


def test_a_changed_limit_holds_for_the_next_request() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    limiter.reserve(principal(tpm=100), "m", 100, 0)
    assert (
        header(limiter.reserve(principal(tpm=300), "m", 50, 0).headers(), "remaining-tokens")
        == "150"
    )
    with pytest.raises(RateLimited):
        limiter.reserve(principal(tpm=100), "m", 1, 0)
    clock.now_ns += MINUTE_NS
    limiter.reserve(principal(tpm=100), "m", 50, 0)


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    limiter.reserve(principal(tpm=60), "m", 60, 0)
    clock.now_ns -= 3600 * SECOND_NS
    with pytest.raises(RateLimited):
        limiter.reserve(principal(tpm=60), "m", 1, 0)
    clock.now_ns += 3601 * SECOND_NS
    limiter.reserve(principal(tpm=60), "m", 1, 0)
    with pytest.raises(RateLimited):
        limiter.reserve(principal(tpm=60), "m", 1, 0)


def test_idle_keys_are_forgotten() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for key in range(1000):
        limiter.reserve(principal(rpm=60, key=key), "m", 1, 0)
    assert len(limiter) == 1000
    clock.now_ns += 2 * SECOND_NS
    for _ in range(1100):
        limiter.reserve(principal(rpm=10**6, key=5000), "m", 1, 0)
    assert len(limiter) == 1
    for key in range(1000):  # a thousand keys, one a second: only the newest is not idle
        clock.now_ns += 2 * SECOND_NS
        limiter.reserve(principal(rpm=60, key=key), "m", 1, 0)
    assert len(limiter) <= 2


def test_requests_that_never_settle_are_not_held_for_ever() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    reservation = limiter.reserve(principal(tpm=60), "m", 60, 0)
    clock.now_ns += MINUTE_NS
    limiter.reserve(principal(rpm=1, key=1), "m", 0, 0)
    assert len(limiter) == 1
    reservation.settle(10)
    limiter.reserve(principal(tpm=60), "m", 60, 0)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (3_661_001, "1h1m1.001s"),
    ],
)
def test_durations_read_like_go(ms: int, text: str) -> None:
    assert go_duration(ms * 10**6) == text
    if ms:
        assert go_duration(ms * 10**6 - 1) == text


def test_a_part_of_a_request_counts_its_tokens_and_is_no_request() -> None:
    limiter, who = Limiter(Clock()), make_principal(rpm=1, tpm=100, concurrency=1)
    whole = limiter.reserve(who, "m", 60, 0)
    part = limiter.reserve(who, "n", 30, 0, is_part=True)
    assert header(part.headers(), "remaining-requests") == "0"
    assert header(part.headers(), "remaining-tokens") == "10"
    with pytest.raises(RateLimited, match=r"limit\.key\.tpm"):
        limiter.reserve(who, "n", 11, 0, is_part=True)
    part.settle(25)
    whole.cancel()
    again = limiter.reserve(who, "m", 75, 0)  # neither a request nor a running one is left of it
    assert header(again.headers(), "remaining-tokens") == "0"

"""What does one admission cost? It happens on the gateway's only thread, once per request.

Run with `make bench`. The ceiling is the interpreter's own: a handful of dict and integer
operations, about a microsecond.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from anzoth.gateway.limit_rules import Level, LimitRule, Limits
from anzoth.gateway.limits import Limiter
from anzoth.gateway.principal import Principal, TenantHandle

TENANT = TenantHandle(uuid.uuid4(), "t", "salt")


def principal(rpm: int | None, tpm: int | None) -> Principal:
    key_id, limits = uuid.uuid4(), Limits(rpm=rpm, tpm=tpm)
    rules = (LimitRule("key", key_id, limits),) if limits else ()
    return Principal(TENANT, uuid.uuid4(), key_id, frozenset(), None, None, rules)


@pytest.mark.parametrize(
    ("rpm", "tpm"), [(None, None), (10**9, 10**9)], ids=["unlimited", "rpm and tpm"]
)
def test_reserve_and_settle(benchmark: Any, rpm: int | None, tpm: int | None) -> None:
    limiter, who = Limiter(), principal(rpm, tpm)

    def one_request() -> None:
        limiter.reserve(who, "m", 100, 200).settle(150)

    benchmark(one_request)


@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_nested_limits(benchmark: Any, num_levels: int) -> None:
    """What each level costs that has limits; one without costs nothing, because it is no rule."""
    limits = Limits(rpm=10**9, tpm=10**9)
    levels: tuple[Level, ...] = ("key", "project", "tenant")
    rules = tuple(LimitRule(level, uuid.uuid4(), limits) for level in levels[:num_levels])
    limiter, who = Limiter(), replace(principal(None, None), limits=rules)

    def one_request() -> None:
        limiter.reserve(who, "m", 100, 200).settle(150)

    benchmark(one_request)


@pytest.mark.parametrize("num_open", [1, 64, 1024])
def test_with_many_open_requests_of_one_key(benchmark: Any, num_open: int) -> None:
    """The refund looks at the key's open requests: the cost of being exact."""
    # The clock stands still: otherwise these large limits drain before anything settles.
    limiter, who = Limiter(lambda: 10**18), principal(10**12, 10**12)
    open_ = [limiter.reserve(who, "m", 100, 200) for _ in range(num_open)]

    def one_request() -> None:
        open_.append(limiter.reserve(who, "m", 100, 200))
        open_.pop(0).settle(150)

    benchmark(one_request)


@pytest.mark.parametrize("num_keys", [1, 10_000])
def test_with_many_keys(benchmark: Any, num_keys: int) -> None:
    limiter = Limiter()
    everyone = [principal(10**9, 10**9) for _ in range(num_keys)]
    turn = iter(range(10**12))

    def one_request() -> None:
        limiter.reserve(everyone[next(turn) % num_keys], "m", 100, 200)

    benchmark(one_request)

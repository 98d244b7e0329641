"""Do nested limits decide as the definition does, whatever is charged and settled in which order?

The model is the definition in rational arithmetic: each bucket replays its whole history, in which
every request that has ended stands with what it used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from principals import make_principal

from anzoth.errors import RateLimited
from anzoth.gateway.buckets import WHOLE
from anzoth.gateway.limit_rules import LimitRule, Limits
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.price import Price

MINUTE_NS = 60 * 10**9
DAY_NS = 24 * 60 * MINUTE_NS
RATES: tuple[str, ...] = ("rpm", "tpm", "input_tpm", "output_tpm")
UNITS: tuple[str, ...] = (*RATES, "cost")
QUOTAS = {
    "tokens_per_day": ("%Y-%m-%d", "tpm"),
    "budget_per_day": ("%Y-%m-%d", "cost"),
    "budget_per_month": ("%Y-%m", "cost"),
}
"""What names the period of each, in UTC, and what is counted in it."""
PRICES = {"m": Price(2_000, 500, 3_000), "n": Price(1_300, 2_700, 450)}
"""In nano-units a token: 2, 0.5 and 3; 1.3, 2.7 (cached tokens cost more) and 0.45."""
TENANT, PROJECT, KEY_A, KEY_B = (UUID(int=number) for number in range(101, 105))
SUBJECTS = {TENANT: "tenant", PROJECT: "project", KEY_A: "key", KEY_B: "key"}

small = st.one_of(st.none(), st.integers(1, 300))
LIMITS = st.builds(
    Limits,
    rpm=st.one_of(st.none(), st.integers(1, 12)),
    tpm=small,
    input_tpm=small,
    output_tpm=small,
    concurrency=st.one_of(st.none(), st.integers(1, 4)),
    tokens_per_day=st.one_of(st.none(), st.integers(100, 900)),
    budget_per_day=st.one_of(st.none(), st.integers(100, 2000)),
    budget_per_month=st.one_of(st.none(), st.integers(100, 2000)),
)


@dataclass
class Charge:
    """A reservation or one extension of it: how much of each rate, and since when."""

    at_ns: int
    at: datetime
    """In UTC: what it counts for of days and months."""
    units: dict[str, int]
    is_extension: bool = False


@dataclass
class Request:
    reservation: Reservation
    rules: Sequence[LimitRule]
    price: Price | None
    charges: list[Charge] = field(default_factory=list)

    def total(self, unit: str) -> int:
        return sum(charge.units[unit] for charge in self.charges)


class NestedLimits(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 10**18
        self.wall_offset_ns = 0
        self.limiter = Limiter(lambda: self.now_ns, lambda: self.now_ns + self.wall_offset_ns)
        self.limits: list[LimitRule] = []
        self.charged: dict[LimitRule, list[Charge]] = {}
        self.open: list[Request] = []

    @initialize(
        chosen=st.lists(
            st.tuples(st.sampled_from(list(SUBJECTS)), st.sampled_from([None, "m", "n"]), LIMITS),
            min_size=1,
            max_size=5,
            unique_by=lambda one: one[:2],
        ),
        midnight=st.sampled_from(
            [datetime(2028, 2, 29), datetime(2028, 3, 1), datetime(2029, 1, 1)]
        ),
    )
    def limit(self, chosen: list[tuple[UUID, str | None, Limits]], midnight: datetime) -> None:
        # Close to it, so that a few waits reach the next day, and perhaps the next month.
        midnight_ns = int(midnight.replace(tzinfo=UTC).timestamp()) * 10**9
        self.wall_offset_ns = midnight_ns - 2 * MINUTE_NS - self.now_ns
        for subject, model, limits in chosen:
            level: Any = SUBJECTS[subject]
            self.limits.append(LimitRule(level, subject, limits, model))
        self.charged = {rule: [] for rule in self.limits}

    # --- the definition ---------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp((self.now_ns + self.wall_offset_ns) // 10**9, UTC)

    def debt(self, limit: LimitRule, rate: str, now_ns: int) -> Fraction:
        per_ns = Fraction(getattr(limit.limits, rate), MINUTE_NS)
        debt, at_ns = Fraction(0), 0
        for charge in self.charged[limit]:
            debt = max(Fraction(0), debt - per_ns * (charge.at_ns - at_ns)) + charge.units[rate]
            at_ns = charge.at_ns
        return max(Fraction(0), debt - per_ns * (now_ns - at_ns))

    def of_period(self, limit: LimitRule, quota: str) -> list[Charge]:
        """Those of the present one."""
        name, _ = QUOTAS[quota]
        period = self.now.strftime(name)
        return [charge for charge in self.charged[limit] if charge.at.strftime(name) == period]

    def used(self, limit: LimitRule, quota: str) -> int:
        return sum(charge.units[QUOTAS[quota][1]] for charge in self.of_period(limit, quota))

    def rates_fit(self, rules: Sequence[LimitRule], units: dict[str, int], now_ns: int) -> bool:
        return all(
            self.debt(limit, rate, now_ns) + units[rate] <= getattr(limit.limits, rate)
            for limit in rules
            for rate in RATES
            if getattr(limit.limits, rate) is not None
        )

    def quotas_fit(self, rules: Sequence[LimitRule], units: dict[str, int]) -> bool:
        return all(
            units[unit] == 0 or self.used(limit, quota) + units[unit] <= most
            for limit in rules
            for quota, (_, unit) in QUOTAS.items()
            if (most := getattr(limit.limits, quota)) is not None
        )

    def concurrency_fits(self, rules: Sequence[LimitRule]) -> bool:
        return all(
            sum(limit in request.rules for request in self.open) < limit.limits.concurrency
            for limit in rules
            if limit.limits.concurrency is not None
        )

    def is_too_large(self, rules: Sequence[LimitRule], units: dict[str, int]) -> bool:
        return any(
            limit is not None and units[rate] > limit
            for rule in rules
            for rate, limit in (
                *((rate, getattr(rule.limits, rate)) for rate in RATES),
                *((unit, getattr(rule.limits, quota)) for quota, (_, unit) in QUOTAS.items()),
            )
        )

    # --- what happens -----------------------------------------------------------------------------

    @rule(ns=st.one_of(st.integers(0, 20 * 10**9), st.integers(0, 999), st.just(MINUTE_NS)))
    def wait(self, ns: int) -> None:
        self.now_ns += ns

    @rule(
        key=st.sampled_from([KEY_A, KEY_B]),
        model=st.sampled_from(["m", "n", "other"]),
        prompt=st.integers(0, 120),
        output=st.integers(0, 120),
    )
    def reserve(self, key: UUID, model: str, prompt: int, output: int) -> None:
        mine = tuple(limit for limit in self.limits if limit.subject in (TENANT, PROJECT, key))
        rules = [limit for limit in mine if limit.model in (None, model)]
        who = make_principal(key_id=key, project_id=PROJECT, limits=mine)
        price = PRICES.get(model)
        cost = 0 if price is None else price.highest_cost(prompt, output)
        units = dict(zip(UNITS, (1, prompt + output, prompt, output, cost), strict=True))
        fits = (
            self.rates_fit(rules, units, self.now_ns)
            and self.quotas_fit(rules, units)
            and self.concurrency_fits(rules)
        )
        try:
            reservation = self.limiter.reserve(who, model, prompt, output, price)
        except RateLimited as error:
            assert not fits
            self.check_refusal(error, rules, units)
            return
        assert fits
        charge = Charge(self.now_ns, self.now, units)
        for limit in rules:
            self.charged[limit].append(charge)
        self.open.append(Request(reservation, rules, price, [charge]))

    def check_refusal(
        self, error: RateLimited, rules: Sequence[LimitRule], units: dict[str, int]
    ) -> None:
        headers = dict(error.headers())
        assert error.rule is not None
        assert error.rule in str(error)
        if self.is_too_large(rules, units):
            assert "retry-after-ms" not in headers
            assert headers["x-should-retry"] == "false"
        elif not self.concurrency_fits(rules):
            assert "retry-after-ms" not in headers
            assert headers["x-should-retry"] == "true"
        else:
            wait_ms = error.retry_after_ms
            assert wait_ms is not None
            assert self.fits_after(wait_ms * 10**6, rules, units)
            assert not self.fits_after((wait_ms - 1) * 10**6, rules, units)

    def fits_after(self, ns: int, rules: Sequence[LimitRule], units: dict[str, int]) -> bool:
        self.now_ns += ns
        try:
            return self.rates_fit(rules, units, self.now_ns) and self.quotas_fit(rules, units)
        finally:
            self.now_ns -= ns

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9), tokens=st.integers(0, 150))
    def extend(self, which: int, tokens: int) -> None:
        request = self.open[which % len(self.open)]
        request.reservation.extend(tokens)
        cost, before = 0, request.total("output_tpm")
        if (price := request.price) is not None:
            cost = price.cost(0, 0, before + tokens).total - price.cost(0, 0, before).total
        units = dict(zip(UNITS, (0, tokens, 0, tokens, cost), strict=True))
        charge = Charge(self.now_ns, self.now, units, is_extension=True)
        request.charges.append(charge)
        for limit in request.rules:
            self.charged[limit].append(charge)

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(0, 9),
        prompt_part=st.integers(0, 4),
        cached_part=st.integers(0, 5),
        output_part=st.integers(0, 10),
    )
    def settle(self, which: int, prompt_part: int, cached_part: int, output_part: int) -> None:
        request = self.open.pop(which % len(self.open))
        prompt = request.total("input_tpm") * prompt_part // 4
        cached = prompt * cached_part // 5
        output = request.total("output_tpm") * output_part // 10
        cost = 0 if request.price is None else request.price.cost(prompt, cached, output).total
        assert cost <= request.total("cost")
        request.reservation.settle(prompt, output, cached)
        used = (1, prompt + output, prompt, output, cost)
        self.become(request, dict(zip(UNITS, used, strict=True)))
        request.reservation.settle(0, 0)  # a second end changes nothing
        request.reservation.cancel()
        request.reservation.extend(5)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        request = self.open.pop(which % len(self.open))
        request.reservation.cancel()
        self.become(request, dict.fromkeys(UNITS, 0))

    def become(self, request: Request, used: dict[str, int]) -> None:
        """What was charged first was used first."""
        for charge in request.charges:
            taken = {unit: min(charge.units[unit], used[unit]) for unit in UNITS}
            used = {unit: used[unit] - taken[unit] for unit in UNITS}
            charge.units.update(taken)

    # --- what must hold at any time ---------------------------------------------------------------

    @invariant()
    def every_bucket_holds_what_the_definition_says(self) -> None:
        for limit, meter in zip(self.limits, self.limiter.meters(self.limits), strict=True):
            for index, bucket in meter.buckets:
                debt = self.debt(limit, RATES[index], self.now_ns)
                assert Fraction(bucket._debt, MINUTE_NS * WHOLE) == debt
            for quota, count in meter.counts.items():
                assert count.used == self.used(limit, quota)

    @invariant()
    def no_quota_is_exceeded_but_by_extensions(self) -> None:
        for limit in self.limits:
            for quota, (_, unit) in QUOTAS.items():
                if (most := getattr(limit.limits, quota)) is not None:
                    extended = [c for c in self.of_period(limit, quota) if c.is_extension]
                    assert self.used(limit, quota) <= most + sum(c.units[unit] for c in extended)

    def teardown(self) -> None:
        """Whoever is left cancels: the state is that of a history in which they never were."""
        for request in self.open:
            request.reservation.cancel()
            self.become(request, dict.fromkeys(UNITS, 0))
        self.open = []
        self.every_bucket_holds_what_the_definition_says()


TestNestedLimits = NestedLimits.TestCase
TestNestedLimits.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestNestedLimits = pytest.mark.slow(TestNestedLimits)


def rules(*made: tuple[str, UUID, Limits]) -> tuple[LimitRule, ...]:
    return tuple(LimitRule(level, subject, limits) for level, subject, limits in made)  # type: ignore[arg-type]  # levels


def test_the_smallest_wins_and_is_the_one_that_is_named_and_shown() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(
        limits=rules(
            ("tenant", TENANT, Limits(tpm=1000, rpm=3)),
            ("project", PROJECT, Limits(tpm=100)),
            ("key", KEY_A, Limits(tpm=500)),
        )
    )
    headers = dict(limiter.reserve(who, "m", 60, 0).headers())
    assert headers["x-ratelimit-limit-tokens"] == "100"
    assert headers["x-ratelimit-remaining-tokens"] == "40"
    assert headers["x-ratelimit-limit-requests"] == "3"
    with pytest.raises(RateLimited, match=r"this project.*limit\.project\.tpm") as caught:
        limiter.reserve(who, "m", 41, 0)
    assert caught.value.rule == "limit.project.tpm"
    assert caught.value.retry_after_ms == 600


def test_a_limit_of_one_model_holds_for_that_model_alone() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(limits=(LimitRule("key", KEY_A, Limits(rpm=1), "m"),))
    limiter.reserve(who, "m", 1, 0)
    limiter.reserve(who, "other", 1, 0)
    with pytest.raises(RateLimited, match="the model 'm'") as caught:
        limiter.reserve(who, "m", 1, 0)
    assert caught.value.rule == "limit.key_model.rpm"


def test_keys_of_one_project_share_its_limit() -> None:
    limiter = Limiter(lambda: 10**18)
    shared = rules(("project", PROJECT, Limits(rpm=2)))
    for key in (KEY_A, KEY_B):
        limiter.reserve(make_principal(key_id=key, limits=shared), "m", 1, 0)
    with pytest.raises(RateLimited):
        limiter.reserve(make_principal(key_id=KEY_A, limits=shared), "m", 1, 0)


def test_a_day_is_used_up_until_it_ends_and_no_sdk_is_told_to_wait_for_that() -> None:
    wall_ns = 20_000 * DAY_NS + DAY_NS // 2
    limiter = Limiter(lambda: 10**18, lambda: wall_ns)
    who = make_principal(tokens_per_day=100)
    limiter.reserve(who, "m", 50, 50).settle(50, 10)
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(who, "m", 41, 0)
    error = caught.value.body()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    headers = dict(caught.value.headers())
    assert headers["retry-after-ms"] == str(DAY_NS // 2 // 10**6)
    assert headers["x-should-retry"] == "false"
    wall_ns += DAY_NS // 2
    limiter.reserve(who, "m", 100, 0)


def test_a_full_concurrency_limit_promises_no_time_but_lets_sdks_try_again() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(concurrency=2)
    first, _ = limiter.reserve(who, "m", 1, 0), limiter.reserve(who, "m", 1, 0)
    with pytest.raises(RateLimited, match="2 requests at the same time") as caught:
        limiter.reserve(who, "m", 1, 0)
    assert dict(caught.value.headers()) == {"x-should-retry": "true"}
    first.settle(1, 0)
    limiter.reserve(who, "m", 1, 0)


def test_input_and_output_are_limited_apart() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(input_tpm=100, output_tpm=10)
    headers = dict(limiter.reserve(who, "m", 90, 4).headers())
    assert headers["x-ratelimit-remaining-input-tokens"] == "10"
    assert headers["x-ratelimit-remaining-output-tokens"] == "6"
    with pytest.raises(RateLimited, match="10 output tokens per minute"):
        limiter.reserve(who, "m", 1, 7)
    with pytest.raises(RateLimited, match="100 input tokens per minute"):
        limiter.reserve(who, "m", 11, 1)


def test_an_extension_does_not_bring_back_limits_that_have_changed_meanwhile() -> None:
    limiter = Limiter(lambda: 10**18)
    running = limiter.reserve(make_principal(tpm=100), "m", 10, 10)
    changed = make_principal(tpm=500)
    limiter.reserve(changed, "m", 1, 0)
    running.extend(20)
    ((_, bucket),) = limiter.meters(changed.limits)[0].buckets
    assert (bucket.per_minute, bucket.remaining()) == (500, 500 - 10 - 10 - 1 - 20)
    assert limiter.current(make_principal(tpm=100).limits[0]).limits.tpm == 500


def at(*date: int) -> int:
    """The beginning of a day, in ns since 1970."""
    year, month, day = date
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 10**9


PRICE = Price(1_000_000, 250_000, 4_000_000)
"""In nano-units a token: 1000, 250 and 4000."""


def test_a_spent_budget_refuses_until_the_month_ends_and_no_sdk_is_told_to_wait_for_that() -> None:
    wall_ns = at(2028, 2, 28)
    limiter = Limiter(lambda: 10**18, lambda: wall_ns)
    who = make_principal(budget_per_month=10_000_000)
    limiter.reserve(who, "m", 1000, 2000, PRICE).settle(1000, 2000, 400)
    limiter.reserve(who, "m", 1299, 0, PRICE).cancel()
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(who, "m", 1301, 0, PRICE)
    error = caught.value.body()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert caught.value.rule == "limit.key.budget_per_month"
    assert "0.01 in costs per month, in UTC (used: 0.0087, requested: 0.001301)" in str(
        error["message"]
    )
    headers = dict(caught.value.headers())
    assert headers["retry-after-ms"] == str(2 * DAY_NS // 10**6)  # it is a leap year
    assert headers["x-should-retry"] == "false"
    limiter.reserve(who, "m", 1300, 0, PRICE)  # exactly what is left
    wall_ns = at(2028, 3, 1) - 1
    with pytest.raises(RateLimited):
        limiter.reserve(who, "m", 1, 0, PRICE)
    wall_ns += 1
    limiter.reserve(who, "m", 10_000, 0, PRICE)


def test_what_costs_more_than_the_whole_budget_is_never_admitted_nor_retried() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(budget_per_day=1_000_000)
    with pytest.raises(RateLimited, match=r"up to 0\.001004 in costs.*Waiting will not") as caught:
        limiter.reserve(who, "m", 1000, 1, PRICE)
    assert caught.value.code == "insufficient_quota"
    assert dict(caught.value.headers()) == {"x-should-retry": "false"}


def test_a_model_without_a_price_is_served_whatever_was_spent() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(budget_per_day=1_000_000, budget_per_month=1_000_000)
    limiter.reserve(who, "m", 1000, 0, PRICE).extend(500)
    free = limiter.reserve(who, "free", 10**9, 10**9)
    free.extend(10**9)
    free.settle(10**9, 10**9)
    limiter.reserve(who, "free", 1, 0, Price(0, 0, 0))


def test_a_running_answer_is_not_cut_for_a_budget_and_newcomers_are_refused() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(budget_per_month=5_000_000)
    running = limiter.reserve(who, "m", 1000, 0, PRICE)
    running.extend(2000)
    with pytest.raises(RateLimited, match=r"used: 0\.009,"):
        limiter.reserve(who, "m", 1, 0, PRICE)
    running.settle(1000, 100)
    limiter.reserve(who, "m", 3600, 0, PRICE)


def test_what_is_settled_after_a_months_end_changes_the_month_it_was_charged_to() -> None:
    wall_ns = at(2028, 12, 31)
    limiter = Limiter(lambda: 10**18, lambda: wall_ns)
    who = make_principal(budget_per_month=10_000_000)
    old = limiter.reserve(who, "m", 9000, 0, PRICE)
    wall_ns = at(2029, 1, 1)
    limiter.reserve(who, "m", 9000, 0, PRICE)
    old.settle(0)
    with pytest.raises(RateLimited, match=r"used: 0\.009,"):
        limiter.reserve(who, "m", 1001, 0, PRICE)


def test_extensions_of_one_request_are_rounded_together() -> None:
    limiter = Limiter(lambda: 10**18)
    who = make_principal(budget_per_day=1000)
    running = limiter.reserve(who, "m", 0, 1, Price(0, 0, 450))  # 0.45 nano-units a token
    spent = []
    for _ in range(4):
        running.extend(1)
        spent.append(limiter.meters(who.limits)[0].counts["budget_per_day"].used)
    assert spent == [1, 1, 2, 2]

"""Does the count of a day or a month survive the gateway that counted it?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from ledger_kit import Customer, add_customer, insert
from principals import make_principal

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.gateway import past_usage
from anzoth.gateway.limit_rules import LimitRule, Limits
from anzoth.gateway.limits import Limiter
from anzoth.gateway.past_usage import PastUsage
from anzoth.gateway.principal import Principal
from anzoth.price import Price

pytestmark = pytest.mark.slow

PRICE = Price(1_000_000, 1_000_000, 1_000_000)
"""1000 nano-units a token."""
NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
MONTH = MIDNIGHT.replace(day=1)


class Flaky:
    """A real database that is away at first."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.num_failures = 1

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Any) -> AsyncIterator[Any]:
        self.num_failures -= 1
        if self.num_failures >= 0:
            raise DatabaseDown()
        async with self.database.tenant(handle) as connection:
            yield connection


def who_is(customer: Customer, *rules: LimitRule) -> Principal:
    return make_principal(
        tenant=customer.handle,
        project_id=customer.project_id,
        key_id=customer.key_ids[0],
        limits=rules,
    )


def count(limiter: Limiter, rule: LimitRule, quota: str) -> int:
    return limiter.meters([rule])[0].counts[quota].used


async def with_past(
    past: PastUsage, scenario: Callable[[], Awaitable[None]], database: Database
) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(past.run())
        await scenario()
        task.cancel()
    await database.close()


def test_what_the_ledger_has_of_the_period_counts_in_a_new_gateway(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each level and model what is its own: by the row today, by sums before."""
    monkeypatch.setattr(past_usage, "_RETRY_S", 0.01)

    async def main() -> None:
        customer, other = await add_customer(dsn, "acme", 2), await add_customer(dsn, "other")
        database = await Database.open(dsn)
        plain = {"price": PRICE, "completion_tokens": 0}
        times = {"month": MONTH, "today": MIDNIGHT, "before": MONTH - timedelta(microseconds=1)}
        for number, at in enumerate(times.values()):
            rows = [
                customer.row(f"a{number}", at, prompt_tokens=600, **plain),
                customer.row(f"b{number}", at, prompt_tokens=50, model="n", **plain),
                customer.row(f"c{number}", at, prompt_tokens=7, key=1, **plain),
            ]
            await insert(database, customer, rows)
            await insert(database, other, [other.row(f"d{number}", at, **plain)])
        later = customer.row("later", NOW + timedelta(hours=1), prompt_tokens=1000, **plain)
        await insert(database, customer, [later])
        limits = Limits(tokens_per_day=10**6, budget_per_day=10**12, budget_per_month=10**12)
        rules = {
            "tenant": LimitRule("tenant", customer.handle.id, limits),
            "project": LimitRule("project", customer.project_id, limits),
            "key": LimitRule("key", customer.key_ids[0], limits),
            "model": LimitRule("key", customer.key_ids[0], limits, "n"),
        }
        who = who_is(customer, *rules.values())
        limiter, flaky = Limiter(), Flaky(database)
        past = PastUsage(flaky, limiter)  # type: ignore[arg-type]  # its tenant() is all it needs
        num_today = sum(at >= MIDNIGHT for at in times.values())

        async def scenario() -> None:
            await past.known(who)
            for name, tokens in (("tenant", 657), ("project", 657), ("key", 650), ("model", 50)):
                rule = rules[name]
                today = tokens * num_today
                assert count(limiter, rule, "tokens_per_day") == today
                assert count(limiter, rule, "budget_per_day") == today * 1000
                assert count(limiter, rule, "budget_per_month") == tokens * 2 * 1000
            await past.known(who)  # nobody is asked again
            assert flaky.num_failures == -12

        await with_past(past, scenario, database)

    asyncio.run(main())


def test_a_request_is_not_held_up_for_long_and_the_answer_is_added_when_it_comes(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_usage, "_PATIENCE_S", 0.01)

    async def main() -> None:
        customer = await add_customer(dsn, "acme")
        database = await Database.open(dsn)
        await insert(database, customer, [customer.row("a", MIDNIGHT, prompt_tokens=595)])
        rule = LimitRule("key", customer.key_ids[0], Limits(tokens_per_day=10_000))
        who, limiter = who_is(customer, rule), Limiter()
        is_caught_up = False
        past = PastUsage(database, limiter, lambda: is_caught_up)

        async def scenario() -> None:
            nonlocal is_caught_up
            await past.known(who)
            limiter.reserve(who, "m", 100, 0).settle(100)
            assert count(limiter, rule, "tokens_per_day") == 100
            is_caught_up = True
            monkeypatch.setattr(past_usage, "_PATIENCE_S", 10)
            await past.known(who)
            assert count(limiter, rule, "tokens_per_day") == 700

        await with_past(past, scenario, database)

    asyncio.run(main())


def test_a_quota_that_is_known_to_be_unused_is_kept_until_its_period_ends() -> None:
    wall_ns = int(MIDNIGHT.timestamp()) * 10**9
    limiter = Limiter(lambda: 10**18, lambda: wall_ns)
    asked: list[str] = []
    limiter.on_new_count = lambda rule, tenant, quota, begin_ns: asked.append(quota)
    who = make_principal(tokens_per_day=10, budget_per_month=10)
    idle = make_principal(rpm=5, key_id=UUID(int=9))
    for _ in range(3):
        limiter.reserve(who, "m", 1, 0).cancel()
        limiter.reserve(idle, "m", 1, 0).cancel()
    assert asked == ["tokens_per_day", "budget_per_month"]
    wall_ns += 32 * 24 * 3600 * 10**9
    limiter.reserve(idle, "m", 1, 0)
    assert len(limiter) == 1
    limiter.reserve(who, "m", 1, 0)
    assert asked == ["tokens_per_day", "budget_per_month"] * 2

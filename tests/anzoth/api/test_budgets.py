"""A budget is what may be spent, whoever asks, at once or in turn, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from api_harness import Api, running_api
from principals import make_principal

from anzoth.gateway.ledger import row_of
from anzoth.gateway.limit_rules import LimitRule, Limits
from anzoth.gateway.principal import Principal
from anzoth.price import Price

PRICE = Price(1_000_000, 100_000, 10_000_000)
"""In nano-units a token: 1000, 100 cached, 10,000 of output."""
Scenario = Callable[[Api], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Run:
    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            async with running_api(checkpoint, tmp_path / "engine.sock", price=PRICE) as api:
                await scenario(api)

        asyncio.run(main())

    return run_scenario


def poor(budget: int, **more: object) -> Principal:
    return make_principal(key_id=UUID(int=7), budget_per_month=budget, **more)


def spent(api: Api) -> int:
    rows = map(row_of, api.ledger.records)
    return sum(row.input_cost + row.cached_input_cost + row.output_cost for row in rows)


def test_a_spent_budget_refuses_with_the_code_that_no_sdk_retries(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["poor"] = poor(150_000)
        while (reply := await api.chat(key="poor", max_tokens=4)).status == 200:
            pass
        assert reply.status == 429
        assert reply.error["code"] == reply.error["type"] == "insufficient_quota"
        assert reply.headers["x-should-retry"] == "false"
        assert int(reply.headers["retry-after-ms"]) > 0
        assert 150_000 - 50_000 < spent(api) <= 150_000
        explained = (await api.call("GET", "/v1/requests/req_test", key="poor")).json
        assert explained["refused_by"]["rule"] == "limit.key.budget_per_month"
        assert f"used: {spent(api) / 10**9:f}".rstrip("0") in explained["error"]["message"]

    run(scenario)


def test_cached_tokens_are_settled_at_their_own_price(run: Run) -> None:
    async def scenario(api: Api) -> None:
        first = await api.chat(max_tokens=1)
        prompt = first.json["usage"]["prompt_tokens"]
        api.peer.cached_tokens = prompt - 1
        full = prompt * 1000 + 10_000
        cheap = 1000 + (prompt - 1) * 100 + 10_000
        api.keys.principals["poor"] = poor(3 * cheap + full)
        for _ in range(4):
            assert (await api.chat(key="poor", max_tokens=1)).status == 200
        assert (await api.chat(key="poor", max_tokens=1)).status == 429
        assert spent(api) == full + 4 * cheap

    run(scenario)


def test_a_guess_is_no_reason_to_refuse_and_the_answer_is_not_cut(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello there, general. how are you today? " * 9]
        api.keys.principals["poor"] = poor(60_000)
        reply = await api.chat(key="poor")
        assert reply.json["choices"][0]["finish_reason"] == "stop"
        assert spent(api) > 60_000
        refused = await api.chat(key="poor", max_tokens=1)
        assert refused.error["code"] == "insufficient_quota"

    run(scenario)


def test_a_budget_that_is_only_watched_serves_and_is_noted(run: Run) -> None:
    async def scenario(api: Api) -> None:
        rule = "limit.key.budget_per_month"
        api.keys.principals["poor"] = poor(1, shadow_rules=(rule,))
        for stream in (False, True):
            assert (await api.chat(key="poor", stream=stream)).status == 200
            assert api.ledger.records[-1].shadow_rules == (rule,)

    run(scenario)


def test_many_clients_of_two_keys_never_spend_more_than_their_project_may(run: Run) -> None:
    budget = 1_500_000

    async def scenario(api: Api) -> None:
        limits = (LimitRule("project", UUID(int=3), Limits(budget_per_month=budget)),)
        for number, key in enumerate("ab"):
            api.keys.principals[key] = make_principal(key_id=UUID(int=10 + number), limits=limits)

        async def client(number: int) -> None:
            for turn in range(6):
                is_streamed = (number + turn) % 2 == 0
                await api.chat(key="ab"[number % 2], max_tokens=9, stream=is_streamed)

        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(client(number))
        assert {usage.status for usage in api.ledger.records} == {200, 429}
        assert {usage.rule for usage in api.ledger.records} == {
            None,
            "limit.project.budget_per_month",
        }
        dearest = 20 * 1000 + 9 * 10_000
        assert budget - dearest < spent(api) <= budget

    run(scenario)

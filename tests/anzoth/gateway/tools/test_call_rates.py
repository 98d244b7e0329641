"""Is a tool called as often as its server's limits say, and no more?"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from tools_policy_kit import make_tool

from anzoth.gateway.tools import call_rates
from anzoth.gateway.tools.call_rates import CallRates, TooManyCalls
from anzoth.gateway.tools.definitions import CallLimits, GovernedTool

SECOND_NS = 1_000_000_000
TWO: dict[str, Any] = {"limits": CallLimits(calls_per_minute=2)}


def num_taken(rates: CallRates, *tools: GovernedTool) -> int:
    taken = 0
    for tool in tools:
        try:
            rates.take(tool)
        except TooManyCalls:
            continue
        taken += 1
    return taken


def test_as_many_calls_as_a_minute_has_and_then_one_as_each_drains() -> None:
    now_ns = [0]
    rates = CallRates(clock_ns=lambda: now_ns[0])
    tool = make_tool("crm__find", **TWO)
    assert num_taken(rates, *[tool] * 5) == 2
    with pytest.raises(TooManyCalls) as raised:
        rates.take(tool)
    assert raised.value.retry_after_ms == 30_000
    now_ns[0] = 30 * SECOND_NS
    assert num_taken(rates, *[tool] * 5) == 1
    now_ns[0] = 600 * SECOND_NS
    assert num_taken(rates, *[tool] * 5) == 2


def test_each_tool_of_each_server_has_its_own() -> None:
    rates = CallRates(clock_ns=lambda: 0)
    tools = [
        make_tool("crm__find", **TWO),
        make_tool("crm__delete", **TWO),
        make_tool("crm__find", id=UUID(int=10), tenant_id=UUID(int=5), **TWO),
    ]
    assert num_taken(rates, *tools * 3) == 6
    assert num_taken(rates, *[make_tool("mail__send")] * 50) == 50


def test_a_changed_limit_holds_at_once() -> None:
    rates = CallRates(clock_ns=lambda: 0)
    assert num_taken(rates, make_tool("crm__find", **TWO)) == 1
    one = make_tool("crm__find", limits=CallLimits(calls_per_minute=1))
    assert num_taken(rates, one) == 0


def test_forgetting_what_is_idle_lets_no_call_more_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_rates, "_MAX_KEPT", 3)
    now_ns = [0]
    rates = CallRates(clock_ns=lambda: now_ns[0])
    many = [make_tool(f"crm__t{n}", **TWO) for n in range(5)]
    assert num_taken(rates, *many, *many, *many) == 10
    now_ns[0] = 30 * SECOND_NS
    assert num_taken(rates, *many, *many) == 5
    now_ns[0] += 60 * SECOND_NS
    assert num_taken(rates, make_tool("mail__send", **TWO)) == 1
    assert len(rates._buckets) == 1

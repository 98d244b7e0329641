"""Tools that calls are made of in tests, and what a call is like that was refused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from tools_policy_kit import World, make_tool, world

from anzoth.gateway import rules
from anzoth.gateway.tools.definitions import GovernedTool, ToolOutcome

NUMBER = {
    "type": "object",
    "properties": {"number": {"type": "integer"}},
    "additionalProperties": False,
}
FIND = make_tool("crm__find", is_read_only=True, schema=NUMBER)
DELETE = make_tool("crm__delete_account", approval="never")
RELAXED = make_tool("bank__pay", approval="never", taint="values", id=uuid.UUID(int=21))
ASKING = make_tool("mail__send", id=uuid.UUID(int=22))
ALL = (FIND, DELETE, RELAXED, ASKING)


def run(
    dsn: str,
    scenario: Callable[[World], Awaitable[None]],
    *tools: GovernedTool,
    **options: Any,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), world(dsn, *(tools or ALL), **options) as made:
            await scenario(made)

    asyncio.run(main())


async def only_refused(
    made: World, outcome: ToolOutcome, rule: str, decision: str = "denied"
) -> None:
    """It was not made, everybody was told why, and the last event says so."""
    assert (outcome.decision, outcome.rule, outcome.is_error) == (decision, rule, True)
    assert outcome.text.startswith("The call was not made. ")
    assert rules.find(rule) is not None
    assert made.calls == []
    event = (await made.events())[-1]
    assert (event.type, event.details["decision"], event.details["rule"]) == (
        *("tool.refused", decision),
        rule,
    )
    text = made.metrics.render().decode()
    assert f'anzoth_tool_calls_total{{decision="{decision}",outcome="{rule}"}} 1.0' in text

"""Tools of servers: a catalogue that a test gives, and calls that a test answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson

from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tools.calling import ToolCaller, ToolTurn
from anzoth.gateway.tools.catalogue import ToolCatalogue
from anzoth.gateway.tools.definitions import (
    Approval,
    GovernedTool,
    ToolDefinition,
    ToolOutcome,
    ToolServer,
)

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}


def governed(
    label: str, name: str, *, is_read_only: bool = True, approval: Approval = "writes"
) -> GovernedTool:
    """A tool of the server `label`."""
    server = ToolServer(UUID(int=11), UUID(int=1), label, "mcp", approval=approval)
    return GovernedTool(server, ToolDefinition(name, f"does {name}", SCHEMA, is_read_only))


class GivenTools(ToolCatalogue):
    """What a test says that there is, for every tenant."""

    def __init__(self, *tools: GovernedTool) -> None:
        self.tools = {tool.name: tool for tool in tools}

    async def of(self, tenant: TenantHandle) -> Mapping[str, GovernedTool]:
        return self.tools


@dataclass
class CalledTool:
    """One call, as it came."""

    turn: ToolTurn
    id: str
    name: str
    arguments: str


@dataclass
class ListedCalls(ToolCaller):
    """Keeps what is called, and answers it: by the rules of approval, or with `answers`."""

    answers: dict[str, str | ToolOutcome] = field(default_factory=dict)
    calls: list[CalledTool] = field(default_factory=list)
    hangs: set[str] = field(default_factory=set)
    """Names of tools that never answer."""
    cancelled: list[str] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    before: Callable[[CalledTool], Any] = lambda _call: None
    waits_for: asyncio.Event | None = None
    """What has to happen before anything is answered."""
    num_running: int = 0
    most_running: int = 0

    async def call(self, turn: ToolTurn, call_id: str, name: str, arguments: str) -> ToolOutcome:
        made = CalledTool(turn, call_id, name, arguments)
        self.calls.append(made)
        self.called.set()
        self.before(made)
        tool = turn.granted.get(name)
        if tool is None:
            return ToolOutcome(call_id, name, "denied", "key.tool", "There is no such tool.", True)
        if call_id in turn.rejected:
            return ToolOutcome(call_id, name, "rejected", "tool.approval", "They said no.", True)
        rule = turn.untrusted.rule(tool, orjson.loads(arguments))
        if (tool.needs_approval or rule) and call_id not in turn.approved:
            text = "This call needs approval."
            return ToolOutcome(
                call_id, name, "needs_approval", rule or "tool.approval", text, is_error=True
            )
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            waits_for = asyncio.Event() if name in self.hangs else self.waits_for
            await (asyncio.sleep(0) if waits_for is None else waits_for.wait())
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.num_running -= 1
        answer = self.answers.get(name, f"{name} says so")
        if isinstance(answer, ToolOutcome):
            turn.untrusted.add(answer.text)
            return replace(answer, call_id=call_id, tool_name=name)
        turn.untrusted.add(answer)
        return ToolOutcome(
            call_id, name, "allowed", "key.tool", answer, latency_ms=5, num_bytes=len(answer)
        )

"""A model that calls tools of servers: what it says, turn by turn, and what is called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from api_harness import Api, running_api
from api_stand_ins import Reply
from engine_peer import HELLO, Said
from principals import make_principal
from tool_stand_ins import GivenTools, ListedCalls, governed

from anzoth.frames import Submit
from anzoth.gateway.tools.service import ToolService
from anzoth.tool_config import ToolsConfig

LOOKUP = governed("crm", "lookup")
DELETE = governed("crm", "delete", is_read_only=False)
SLEEP = governed("lab", "sleep")
ALL_TOOLS = frozenset({"crm", "lab"})
CRM = {"type": "mcp", "server_label": "crm"}


def said(name: str = "crm__lookup", arguments: str = '{"id": 1}') -> str:
    """A call, as the model of `responses_kit.TEMPLATE` writes it."""
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


@dataclass
class Tooled:
    """An API whose model may call tools."""

    api: Api
    tools: GivenTools
    caller: ListedCalls
    turns: list[str] = field(default_factory=list)
    """What the model says in each of its turns; the last one for all more."""

    def script(self, submit: Submit, prompt: list[int], choice: int) -> list[Said]:
        num_turns = self.api.model.tokenizer.decode(prompt).count("[assistant]") - 1
        self.api.saying = [self.turns[min(num_turns, len(self.turns) - 1)]]
        return self.api.script(submit, prompt, choice)

    def prompt(self, index: int = -1) -> str:
        return self.api.model.tokenizer.decode(self.api.peer.submits[index][1])

    async def chat(self, *turns: str, **fields: Any) -> Reply:
        self.turns = list(turns)
        return await self.api.chat(**{"tools": [CRM], **fields})

    async def respond(self, *turns: str, **fields: Any) -> Reply:
        self.turns = list(turns)
        return await self.api.respond(**{"tools": [CRM], **fields})


@asynccontextmanager
async def running_tooled(
    checkpoint: Path, socket: Path, config: ToolsConfig | None = None, **options: Any
) -> AsyncIterator[Tooled]:
    """With `crm__lookup`, `crm__delete` and `lab__sleep`, and a key that is granted all."""
    tools, caller = GivenTools(LOOKUP, DELETE, SLEEP), ListedCalls()
    async with running_api(
        checkpoint,
        socket,
        hello=replace(HELLO, max_model_tokens=4096),
        tools=ToolService(tools, caller, config or ToolsConfig()),
        **options,
    ) as api:
        api.keys.principals["good"] = make_principal(tools=ALL_TOOLS)
        tooled = Tooled(api, tools, caller)
        api.peer.script = tooled.script
        yield tooled

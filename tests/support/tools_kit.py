"""A model that calls tools of servers: what it says, turn by turn, and what is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from api_harness import Api, running_api
from api_stand_ins import Reply
from engine_peer import HELLO, Said
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from principals import make_principal
from tool_stand_ins import GivenTools, ListedCalls, governed

from anzoth.frames import Submit
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
        tools=lambda made: replace(
            made, catalogue=tools, caller=caller, config=config or ToolsConfig()
        ),
        **options,
    ) as api:
        api.keys.principals["good"] = make_principal(tools=ALL_TOOLS)
        tooled = Tooled(api, tools, caller)
        api.peer.script = tooled.script
        yield tooled


Scenario = Callable[[Tooled], Awaitable[None]]
Run = Callable[..., None]
TRACE = "x_anzoth.tool_calls"


def run_tooled(checkpoint: Path, folder: Path) -> Run:
    """Runs a scenario, with a configuration and options of `running_tooled`."""

    def run_scenario(scenario: Scenario, config: ToolsConfig | None = None, **options: Any) -> None:
        async def main() -> None:
            socket = folder / "engine.sock"
            async with running_tooled(checkpoint, socket, config, **options) as tooled:
                await scenario(tooled)

        asyncio.run(main())

    return run_scenario


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream as a whole answer has it."""
    deltas = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    text = "".join(entry["delta"].get("content") or "" for entry in deltas)
    calls = [call for entry in deltas for call in entry["delta"].get("tool_calls", [])]
    return {
        "content": text or None if calls else text,
        "calls": [call["function"]["name"] for call in calls],
        "finish_reason": deltas[-1]["finish_reason"],
        "x_anzoth": chunks[-1].get("x_anzoth"),
    }


async def ask_chat(tooled: Tooled, *turns: str, **fields: Any) -> dict[str, Any]:
    """An answer, which is the same streamed and whole."""
    reply = await tooled.chat(*turns, **fields)
    assert reply.status == 200, reply.json
    ChatCompletion.model_validate(reply.json, strict=True)
    choice = reply.json["choices"][0]
    whole = {
        "content": choice["message"]["content"],
        "calls": [call["function"]["name"] for call in choice["message"].get("tool_calls", [])],
        "finish_reason": choice["finish_reason"],
        "x_anzoth": reply.json.get("x_anzoth"),
    }
    streamed = await tooled.chat(*turns, **fields, stream=True)
    for chunk in streamed.chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert without_ids(joined(streamed.chunks)) == without_ids(whole)
    assert streamed.frames[-1] == "[DONE]"
    return whole


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    for call in (answer["x_anzoth"] or {}).get("tool_calls", []):
        call.pop("id")
    return answer

"""Calls of servers' tools in responses that are kept, as the SDK asks for them over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from checkpoints import write_checkpoint
from engine_peer import HELLO
from files_kit import FileServer, run_files
from responses_kit import TEMPLATE
from tool_stand_ins import GivenTools, ListedCalls
from tools_kit import ALL_TOOLS, CRM, DELETE, LOOKUP, Tooled, said

pytestmark = pytest.mark.slow

Run = Callable[..., None]
MODEL = "org/tiny"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("stored"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    def run_scenario(scenario: Callable[[Tooled, Any], Any]) -> None:
        tools, caller = GivenTools(LOOKUP, DELETE), ListedCalls()

        async def chatting(server: FileServer) -> None:
            one = server.one
            one = replace(one, scopes=one.scopes | {"chat"}, tools=ALL_TOOLS)
            server.api.keys.principals["good"] = one
            tooled = Tooled(server.api, tools, caller)
            server.api.peer.script = tooled.script
            sdk = server.sdk()
            sdk._strict_response_validation = True
            await scenario(tooled, sdk)

        hello = replace(HELLO, max_model_tokens=2048)
        run_files(
            *(dsn, tmp_path, checkpoint, chatting),
            hello=hello,
            tools=lambda made: replace(made, catalogue=tools, caller=caller),
        )

    return run_scenario


@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_response_goes_on_once_its_call_is_approved(run: Run, stream: bool) -> None:
    async def scenario(tooled: Tooled, sdk: openai.AsyncOpenAI) -> None:
        async def create(**fields: Any) -> Any:
            fields = {"model": MODEL, "tools": [CRM], **fields}
            if not stream:
                return await sdk.responses.create(**fields)
            async with sdk.responses.stream(**fields) as events:
                return await events.get_final_response()

        tooled.turns = [f"Let me see.{said()}", said("crm__delete"), "It is gone.", "Bye."]
        first = await create(input="delete it")
        kinds = ["mcp_list_tools", "message", "mcp_call", "mcp_approval_request"]
        assert [item.type for item in first.output] == kinds
        answer = {
            "type": "mcp_approval_response",
            "approval_request_id": first.output[-1].id,
            "approve": True,
        }
        second = await create(input=[answer], previous_response_id=first.id)
        assert [item.type for item in second.output] == ["mcp_call", "message"]
        assert second.output[0].approval_request_id == first.output[-1].id
        assert second.output_text == "It is gone."
        before = tooled.prompt()
        third = await create(input="thanks", previous_response_id=second.id)
        assert [item.type for item in third.output] == ["message"]
        assert tooled.prompt().startswith(before)
        assert [call.name for call in tooled.caller.calls].count("crm__delete") == 2  # asked, made
        items = [item async for item in sdk.responses.input_items.list(third.id, order="asc")]
        assert [item.type for item in items] == [
            *("message", *kinds, "mcp_approval_response", "mcp_call", "message", "message"),
        ]
        kept = await sdk.responses.retrieve(second.id)
        assert kept.output[0].to_dict() == second.output[0].to_dict()
        with pytest.raises(openai.BadRequestError) as again:
            await create(input=[answer], previous_response_id=third.id)
        assert again.value.param == "input[0].approval_request_id"

    run(scenario)


def test_a_chat_over_http_is_answered_through_a_tool(run: Run) -> None:
    async def scenario(tooled: Tooled, sdk: openai.AsyncOpenAI) -> None:
        tooled.turns = [f"Let me see.{said()}", "It is so."]
        fields: Any = {
            "model": MODEL,
            "tools": [CRM],
            "messages": [{"role": "user", "content": "hi"}],
            "extra_body": {"include": ["x_anzoth.tool_calls"]},
        }
        whole = await sdk.chat.completions.create(**fields)
        assert whole.choices[0].message.content == "Let me see.\n\nIt is so."
        text = ""
        async for chunk in await sdk.chat.completions.create(**fields, stream=True):
            text += chunk.choices[0].delta.content or ""
        assert text == whole.choices[0].message.content

    run(scenario)

"""Responses whose model calls tools of servers: items, events, approvals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL
from api_stand_ins import MemorySink
from checkpoints import write_checkpoint
from grounded_kit import PUMP
from listed_searcher import ListedSearcher
from openai.types.responses import Response
from principals import make_principal
from responses_kit import TEMPLATE, checked, put_together, without_ids
from tools_kit import CRM, DELETE, Run, Tooled, run_tooled, running_tooled, said

from anzoth.tool_config import ToolsConfig

HI = {"role": "user", "content": "hi"}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tooled"), TEMPLATE)


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Run:
    return run_tooled(checkpoint, tmp_path)


async def ask(tooled: Tooled, *turns: str, **fields: Any) -> dict[str, Any]:
    """A response, which is the same streamed and whole."""
    reply = await tooled.respond(*turns, **fields)
    assert reply.status == 200, reply.json
    streamed = put_together((await tooled.respond(*turns, **fields, stream=True)).events)
    assert without_ids(streamed) == without_ids(checked(reply.json))
    return reply.json


def kinds(response: dict[str, Any]) -> list[str]:
    return [item["type"] for item in response["output"]]


def text_of(response: dict[str, Any]) -> str:
    return Response.model_validate(response).output_text


def only(response: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (item for item in response["output"] if item["type"] == kind)
    return found


def approve(request: dict[str, Any], approve: bool = True, **more: Any) -> dict[str, Any]:
    about = {"approval_request_id": request["id"], "approve": approve}
    return {"type": "mcp_approval_response", **about, **more}


def test_a_call_is_an_item_between_what_was_said(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        response = await ask(tooled, f"Let me see.{said()}", "It is so.")
        assert kinds(response) == ["mcp_list_tools", "message", "mcp_call", "message"]
        assert text_of(response) == "Let me see.It is so."
        listed, call = only(response, "mcp_list_tools"), only(response, "mcp_call")
        assert listed["server_label"] == "crm"
        assert [tool["name"] for tool in listed["tools"]] == ["delete", "lookup"]
        assert listed["tools"][0]["annotations"] == {"readOnlyHint": False}
        assert {name: call[name] for name in call if name not in ("id", "type")} == {
            "server_label": "crm",
            "name": "lookup",
            "arguments": '{"id": 1}',
            "approval_request_id": None,
            "output": "crm__lookup says so",
            "error": None,
            "status": "completed",
        }
        rows = {row.request_id: row for row in tooled.api.ledger.records[:2]}
        total = sum(row.prompt_tokens for row in rows.values())
        assert rows.keys() == {"req_test", "req_test.2"}
        assert response["usage"]["input_tokens"] == total
        assert response["tools"] == [CRM]

    run(scenario)


def test_the_events_of_a_call_come_in_the_documented_order(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        events = (await tooled.respond(said(), "hello", stream=True)).events
        assert [event["type"].removeprefix("response.") for event in events] == [
            *("created", "in_progress"),
            *("output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed"),
            *("output_item.done", "output_item.added", "mcp_call.in_progress"),
            *("mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed"),
            *("output_item.done", "output_item.added", "content_part.added"),
            *["output_text.delta"] * len(tooled.api.tokens("hello")),
            *("output_text.done", "content_part.done", "output_item.done", "completed"),
        ]

    run(scenario)


def test_a_call_shows_that_it_runs_while_it_runs(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        tooled.caller.hangs.add("crm__lookup")
        sink = MemorySink()
        task = asyncio.create_task(tooled.respond(said(), stream=True, sink=sink))
        await tooled.caller.called.wait()
        await sink.until(b"response.mcp_call_arguments.done")
        assert b"response.mcp_call.completed" not in sink.data
        sink.disconnect()
        await task
        assert tooled.caller.cancelled == ["crm__lookup"]

    run(scenario)


def test_a_conversation_that_is_sent_again_is_the_same_to_the_model(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        tools = [CRM, {"type": "mcp", "server_label": "lab"}]
        calls = said() + said("lab__sleep")
        first = await ask(tooled, f"So.{calls}", "hello", tools=tools)
        before = tooled.prompt()
        again = [HI, *first["output"], {"role": "user", "content": "and?"}]
        second = await ask(tooled, "", "", "hello there", tools=tools, input=again)
        assert kinds(second) == ["message"]  # what was listed is known
        assert tooled.prompt().startswith(before)
        assert tooled.prompt().endswith("hello[user]and?[assistant]")
        failed = {**first["output"][3], "error": "It broke.", "output": None}
        await ask(tooled, "", "hello", input=[HI, failed])
        assert "\nIt broke.\n</tool_result" in tooled.prompt()

    run(scenario)


def test_what_fails_is_an_item_that_says_so(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        api = tooled.api
        response = await ask(tooled, said() * 2, "hello", max_tool_calls=1)
        first, second = (item for item in response["output"] if item["type"] == "mcp_call")
        assert (first["status"], second["status"]) == ("completed", "failed")
        assert "no further call" in second["error"]["content"][0]["text"]
        assert (second["output"], response["max_tool_calls"]) == (None, 1)
        assert len(tooled.caller.calls) == 2
        # What was granted when the request came is not when the call is made.
        api.keys.principals["good"] = make_principal(tools=frozenset({"crm"}))
        tooled.caller.before = lambda call: setattr(call.turn, "granted", {})
        response = await ask(tooled, said(), "hello")
        assert only(response, "mcp_call")["status"] == "failed"

    run(scenario)


@pytest.mark.parametrize(
    ("config", "fields", "reason"),
    [
        (ToolsConfig(max_rounds=1), {}, "max_messages"),
        (ToolsConfig(), {"max_output_tokens": 100}, "max_output_tokens"),
    ],
    ids=["rounds", "tokens"],
)
def test_what_a_bound_ends_is_incomplete(
    run: Run, config: ToolsConfig, fields: dict[str, Any], reason: str
) -> None:
    async def scenario(tooled: Tooled) -> None:
        response = await ask(tooled, said(), **fields)
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": reason}

    run(scenario, config)


def test_a_call_that_needs_approval_is_asked_for_and_made_once_it_is_approved(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        calls = said() + said("crm__delete", '{"id": 7}')
        asked = await ask(tooled, f"I would.{calls}")
        assert kinds(asked) == ["mcp_list_tools", "message", "mcp_call", "mcp_approval_request"]
        assert asked["status"] == "completed"
        request = only(asked, "mcp_approval_request")
        assert {name: request[name] for name in ("name", "arguments", "server_label")} == {
            "name": "delete",
            "arguments": '{"id": 7}',
            "server_label": "crm",
        }
        assert [call.name for call in tooled.caller.calls] == ["crm__lookup", "crm__delete"] * 2
        tooled.caller.calls.clear()

        given = [HI, *asked["output"], approve(request)]
        reply = await tooled.respond("", "", "It is gone.", input=given)
        response = checked(reply.json)
        assert kinds(response) == ["mcp_call", "message"]
        made = only(response, "mcp_call")
        assert (made["output"], made["arguments"]) == ("crm__delete says so", '{"id": 7}')
        assert made["approval_request_id"] == request["id"]
        (call,) = tooled.caller.calls
        assert (call.name, call.turn.approved) == ("crm__delete", {call.id: request["id"]})
        assert [row.request_id for row in tooled.api.ledger.records].count("req_test") == 3
        assert tooled.prompt().count("[tool]") == 2
        # All of it once more: what was made is not made again.
        more = [*given, *response["output"], {"role": "user", "content": "and?"}]
        await ask(tooled, "", "", "", "hello", input=more)
        assert len(tooled.caller.calls) == 1
        assert tooled.prompt().count("[tool]") == 2

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_an_approved_call_runs_behind_the_head_of_a_stream_and_within_the_limits(
    run: Run, stream: bool
) -> None:
    async def scenario(tooled: Tooled) -> None:
        api = tooled.api
        asked = (await tooled.respond(said("crm__delete"))).json
        given = [HI, *asked["output"], approve(only(asked, "mcp_approval_request"))]
        granted = frozenset({"crm"})
        api.keys.principals["good"] = make_principal(tools=granted, rpm=1)
        tooled.caller.calls.clear()
        reply = await tooled.respond("", "hello", input=given, stream=stream)
        response = put_together(reply.events) if stream else checked(reply.json)
        assert kinds(response) == ["mcp_call", "message"]
        assert len(tooled.caller.calls) == 1
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        # Beyond the limit nothing is called.
        assert (await tooled.respond("", "hello", input=given, stream=stream)).status == 429
        assert len(tooled.caller.calls) == 1

    run(scenario)


def test_what_is_not_approved_is_not_made_and_the_model_reads_why(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        asked = await ask(tooled, said("crm__delete"))
        request = only(asked, "mcp_approval_request")
        tooled.caller.calls.clear()
        no = approve(request, False, reason="Not this one.")
        given = [HI, *asked["output"], no]
        response = await ask(tooled, "", "Then not.", input=given)
        assert kinds(response) == ["message"]
        assert "They said no. Not this one." in tooled.prompt()
        assert all(call.turn.rejected == {call.id} for call in tooled.caller.calls)
        # Without the tools of the server, and later, it reads that too.
        said_no = "This call was not made: it was not approved. Not this one."
        more = {"role": "user", "content": "and?"}
        for items, tools in (([], []), (response["output"], [CRM])):
            await tooled.respond("", "", "hello", input=[*given, *items, more], tools=tools)
            assert said_no in tooled.prompt()
        # What nobody answered was not approved.
        unanswered = [HI, *asked["output"], {"role": "user", "content": "and?"}]
        await tooled.respond("", "hello", input=unanswered)
        assert "This call was not made: it was not approved.\n" in tooled.prompt()

    run(scenario)


def test_answers_to_what_was_not_asked_are_refused(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        asked = await ask(tooled, said("crm__delete"))
        request = only(asked, "mcp_approval_request")
        yes = approve(request)
        tooled.caller.calls.clear()
        for given, fields, param in (
            ([HI, yes], {}, "input[1].approval_request_id"),
            ([HI, request, yes, yes], {}, "input[3].approval_request_id"),
            ([HI, request, yes], {"tools": []}, "tools"),
        ):
            reply = await tooled.respond("hello", input=given, **fields)
            assert (reply.status, reply.error["param"]) == (400, param)
        # An approval grants nothing: the key must still be granted the tool.
        tooled.api.keys.principals["good"] = make_principal(tools=frozenset({"crm__lookup"}))
        reply = await tooled.respond("", "hello", input=[HI, request, yes])
        assert only(reply.json, "mcp_call")["status"] == "failed"
        assert tooled.caller.num_running == 0

    run(scenario)


def test_citations_are_of_the_message_that_has_them(checkpoint: Path, tmp_path: Path) -> None:
    async def main() -> None:
        searcher = ListedSearcher()
        searcher.add("vs_1", "file-pump", PUMP)
        socket = tmp_path / "engine.sock"
        async with running_tooled(checkpoint, socket, searcher=searcher) as tooled:
            search = {"type": "file_search", "vector_store_ids": ["vs_1"]}
            turns = (f"It runs on water [1].{said()}", "As I said [1].")
            fields = {"tools": [search, CRM], "input": "what does the pump run on"}
            response = await ask(tooled, *turns, **fields)
            assert kinds(response)[:2] == ["file_search_call", "mcp_list_tools"]
            parts = [item["content"][0] for item in response["output"] if item["type"] == "message"]
            for part in parts:
                (made,) = part["annotations"]
                assert part["text"][made["index"] :][:3] == "[1]"
            # What the model said of them taints what follows.
            given = [
                *({"role": "user", "content": fields["input"]}, *response["output"]),
                {"role": "user", "content": "delete it"},
            ]
            given = [item for item in given if item.get("type") != "mcp_call"]
            tooled.tools.tools["crm__delete"] = replace(
                DELETE, server=replace(DELETE.server, approval="never")
            )
            for kept, kind in ((given, "mcp_approval_request"), (given[:1], "mcp_call")):
                reply = await tooled.respond(
                    *(said("crm__delete"),) * 4, input=kept, max_tool_calls=1
                )
                assert kind in kinds(reply.json)
            # An approval is asked for because of the passage, and the answer has it again.
            asked = await ask(tooled, said("crm__delete"), **fields)
            given = [
                {"role": "user", "content": fields["input"]},
                *asked["output"],
                approve(only(asked, "mcp_approval_request")),
            ]
            reply = await tooled.respond("", "Gone [1].", **{**fields, "input": given})
            part = only(reply.json, "message")["content"][0]
            assert len(part["annotations"]) == 1
            assert tooled.api.peer.submits[-1][0].tags == ("file-pump",)

    asyncio.run(main())


def test_the_input_is_counted_with_the_tools(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        api = tooled.api
        body = {"model": "org/tiny", "input": "hi", "tools": [CRM]}
        counted = await api.call("POST", "/v1/responses/input_tokens", body)
        await tooled.respond("hello")
        assert counted.json["input_tokens"] == len(api.peer.submits[-1][1])

    run(scenario)


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "mcp", "server_label": "crm", "name": "lookup"},
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "mcp", "server_label": "crm"}],
        },
    ],
    ids=["required", "one", "allowed"],
)
def test_a_tool_of_a_server_can_be_chosen(run: Run, choice: Any) -> None:
    async def scenario(tooled: Tooled) -> None:
        response = await ask(tooled, said(), "hello", tool_choice=choice)
        assert kinds(response) == ["mcp_list_tools", "mcp_call", "message"]
        assert response["tool_choice"] == choice
        assert tooled.api.peer.submits[0][0].sampling.grammar is not None

    run(scenario)


def test_what_could_not_be_shown_again_is_refused_before_anything_is_called(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        # orjson writes 254 levels and reads 1,024.
        deep = b'{"a":' * 300 + b"1" + b"}" * 300
        listed = b'{"type":"mcp_list_tools","server_label":"crm","tools":[%b]}'
        crm = b'{"type":"mcp","server_label":"crm"}'
        for name, value, param in (
            (b"tools", b'[%b,{"type":"function","name":"f","parameters":%b}]' % (crm, deep), None),
            (b"tools", b'[{"type":"mcp","server_label":"crm","x":%b}]' % deep, None),
            (b"tool_choice", b'{"type":"file_search","x":%b}' % deep, None),
            (b"reasoning", deep, None),
            (b"text", b'{"format":{"type":"text","x":%b}}' % deep, None),
            (
                b"input",
                b"[%b]" % (listed % (b'{"name":"x","input_schema":%b}' % deep)),
                "input[0].tools[0].input_schema",
            ),
        ):
            fields = {b"model": b'"%b"' % MODEL.encode(), b"input": b'"hi"', name: value}
            body = b",".join(b'"%b":%b' % field for field in fields.items())
            reply = await tooled.api.call("POST", "/v1/responses", b"{%b}" % body)
            assert (reply.status, reply.error["param"]) == (400, param or name.decode())
        assert not tooled.api.peer.submits

    run(scenario)

"""Responses: OpenAI's exact shapes, and a stream that, put together, is the whole response."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario, record, running_api
from api_stand_ins import PRINCIPAL, MemorySink
from checkpoints import write_checkpoint
from engine_peer import Said
from openai.types.responses import Response
from responses_kit import CALL, TEMPLATE, TOOL, checked, put_together, without_ids

from anzoth.gateway.aliases import Target

Run = Callable[[Scenario], None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("responses"), TEMPLATE)


async def ask(api: Api, **fields: Any) -> dict[str, Any]:
    """A response, which is the same streamed and whole."""
    reply = await api.respond(**fields)
    assert reply.status == 200, reply.json
    streamed = put_together((await api.respond(**fields, stream=True)).events)
    assert without_ids(streamed) == without_ids(checked(reply.json))
    return reply.json


def prompt(api: Api, index: int = -1) -> str:
    return api.model.tokenizer.decode(api.peer.submits[index][1])


def kinds(response: dict[str, Any]) -> list[str]:
    return [item["type"] for item in response["output"]]


def text_of(response: dict[str, Any]) -> str:
    return Response.model_validate(response).output_text


def test_a_whole_response_has_exactly_the_documented_shape(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.cached_tokens = 3
        body = checked((await api.respond()).json)
        assert re.fullmatch("resp_[0-9a-f]{32}", body.pop("id"))
        assert re.fullmatch("msg_[0-9a-f]{32}", body["output"][0].pop("id"))
        assert isinstance(body.pop("created_at"), int)
        assert isinstance(body.pop("completed_at"), int)
        num_input = len(api.tokens("<|bos|>[user]hi[assistant]"))
        num_output = len(api.tokens("hello there")) + 1
        assert body == {
            "object": "response",
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": MODEL,
            "output": [
                {
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "hello there",
                            "annotations": [],
                            "logprobs": [],
                        }
                    ],
                }
            ],
            "usage": {
                "input_tokens": num_input,
                "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
                "output_tokens": num_output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": num_input + num_output,
            },
            "access_programs": None,
            "background": False,
            "conversation": None,
            "instructions": None,
            "max_output_tokens": None,
            "max_tool_calls": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "prompt_cache_key": None,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": None,
            "service_tier": None,
            "store": False,  # there is no database here
            "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
        }

    run(scenario)


def test_the_events_of_a_text_come_in_the_documented_order(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.respond(stream=True)
        assert reply.headers["cache-control"] == "no-cache"
        num_tokens = len(api.tokens("hello there"))
        assert [event["type"] for event in reply.events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            *["response.output_text.delta"] * num_tokens,
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert put_together(reply.events)["usage"]["output_tokens"] == num_tokens + 1

    run(scenario)


def test_what_was_asked_stands_in_the_response(run: Run) -> None:
    async def scenario(api: Api) -> None:
        tools = [{**TOOL, "description": "does it", "strict": False}]
        asked = {
            "instructions": "be brief",
            "max_output_tokens": 40,
            "max_tool_calls": 3,
            "metadata": {"team": "a"},
            "parallel_tool_calls": False,
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low", "summary": "auto"},
            "safety_identifier": "me",
            "store": False,
            "temperature": 0.5,
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "tool_choice": {"type": "function", "name": "f"},
            "tools": tools,
            "top_p": 0.5,
            "truncation": "disabled",
            "user": "you",
        }
        api.saying = [CALL]
        shown = await ask(api, **asked)
        assert {name: shown[name] for name in asked} == asked
        assert (await ask(api, tools=[TOOL]))["tools"] == [
            {**TOOL, "description": None, "strict": False}
        ]
        used = api.ledger.records[0]
        assert (used.end_user, used.metadata) == ("me", {"team": "a"})

    run(scenario)


def test_items_are_the_messages_that_chats_have(run: Run) -> None:
    """What a conversation is written as makes no difference to the model."""

    async def scenario(api: Api) -> None:
        await api.respond(
            instructions="Rules.",
            input=[
                {"role": "developer", "content": "More rules."},
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "one"},
                        {"type": "input_text", "text": "two"},
                    ],
                },
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "hm"}],
                    "encrypted_content": None,
                },
                {
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "wait", "annotations": []}],
                },
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
                {"type": "function_call_output", "call_id": "c", "output": "done"},
                {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{}"},
                {
                    "type": "function_call_output",
                    "call_id": "d",
                    "output": [{"type": "input_text", "text": "again"}],
                },
                {"type": "file_search_call", "id": "fs_1", "queries": ["x"], "status": "completed"},
                {"type": "message", "role": "assistant", "content": "so"},
                {"role": "user", "content": "and?"},
            ],
        )
        call = {"name": "f", "arguments": '{"a": 1}'}
        await api.chat(
            messages=[
                {"role": "system", "content": "Rules."},
                {"role": "system", "content": "More rules."},
                {"role": "user", "content": "one\ntwo"},
                {
                    "role": "assistant",
                    "content": "wait",
                    "reasoning_content": "hm",
                    "tool_calls": [{"id": "c", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "done"},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "d", "type": "function", "function": {"name": "f"}}],
                },
                {"role": "tool", "tool_call_id": "d", "content": "again"},
                {"role": "assistant", "content": "so"},
                {"role": "user", "content": "and?"},
            ],
        )
        assert prompt(api, 0) == prompt(api, 1)
        assert "Rules.\n\nMore rules." in prompt(api)

    run(scenario)


def test_calls_are_items_and_come_back_with_their_output(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [f"hello {CALL}\n{CALL}"]
        response = await ask(api, tools=[TOOL])
        assert kinds(response) == ["message", "function_call", "function_call"]
        assert text_of(response) == "hello"
        _, call, other = response["output"]
        assert re.fullmatch("call_[0-9a-f]{24}", call["call_id"])
        assert call["call_id"] != other["call_id"]
        assert (call["name"], call["arguments"], call["status"]) == ("f", '{"a": 1}', "completed")
        api.saying = ["hello there"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "42"}
        given = [{"role": "user", "content": "hi"}, *response["output"][:2], output]
        response = await ask(api, tools=[TOOL], input=given)
        assert kinds(response) == ["message"]
        assert f"[user]hi[assistant]hello{CALL}[tool]42[assistant]" in prompt(api)

    run(scenario)


def test_white_space_around_calls_is_no_message(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [f"\n\n{CALL}\n"]
        assert kinds(await ask(api, tools=[TOOL])) == ["function_call"]
        api.saying = ["\n hello "]
        assert text_of(await ask(api, tools=[TOOL])) == "\n hello "
        api.saying = [" "]
        assert text_of(await ask(api)) == " "

    run(scenario)


def test_text_behind_a_call_is_more_of_the_one_message(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [f"hello {CALL} there"]
        response = await ask(api, tools=[TOOL])
        chat = (await api.chat(tools=[{"type": "function", "function": {"name": "f"}}])).json
        assert kinds(response) == ["message", "function_call"]
        assert text_of(response) == chat["choices"][0]["message"]["content"]

    run(scenario)


def test_reasoning_is_an_item_of_its_own(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["<think>\nhow are you\n</think>\n\nhello there"]
        response = await ask(api)
        reasoning, message = response["output"]
        assert {name: reasoning[name] for name in ("type", "status", "summary", "content")} == {
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "how are you"}],
        }
        assert message["content"][0]["text"] == "hello there"
        num_tokens = response["usage"]["output_tokens_details"]["reasoning_tokens"]
        assert num_tokens == len(api.tokens("<think>\nhow are you\n</think>"))
        await ask(api, input=[*response["output"], {"role": "user", "content": "and?"}])
        assert "[assistant]<think>how are you</think>hello there[user]and?" in prompt(api)

    run(scenario)


@pytest.mark.parametrize(
    ("said", "max_tokens", "statuses"),
    [
        ("hello there", 1, {"message": "incomplete"}),
        ("<think>hello there, general", 9, {"reasoning": "incomplete"}),
        ("<think>a</think>hello there", 17, {"reasoning": "completed", "message": "incomplete"}),
    ],
)
def test_what_was_cut_says_so(
    run: Run, said: str, max_tokens: int, statuses: dict[str, str]
) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said]
        response = await ask(api, max_output_tokens=max_tokens)
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert {item["type"]: item["status"] for item in response["output"]} == statuses
        assert response["usage"]["output_tokens"] == max_tokens

    run(scenario)


def test_log_probabilities_come_where_they_are_included(run: Run) -> None:
    async def scenario(api: Api) -> None:
        include = ["message.output_text.logprobs"]
        response = await ask(api, include=include, top_logprobs=2)
        shown = response["output"][0]["content"][0]["logprobs"]
        assert "".join(entry["token"] for entry in shown) == "hello there"
        assert [len(entry["top_logprobs"]) for entry in shown] == [2] * len(shown)
        events = (await api.respond(include=include, top_logprobs=2, stream=True)).events
        deltas = [event for event in events if event["type"] == "response.output_text.delta"]
        assert [entry for delta in deltas for entry in delta["logprobs"]] == shown
        for response in (await ask(api), await ask(api, top_logprobs=3)):
            assert response["output"][0]["content"][0]["logprobs"] == []

    run(scenario)


def test_a_form_is_kept_and_shown(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ['{"a": 1}']
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
        response = await ask(api, text={"format": form})
        assert response["text"]["format"] == form
        submit, _ = api.peer.submits[-1]
        assert submit.sampling.grammar is not None
        assert '"a"' in prompt(api)
        assert '"required"' in prompt(api)

    run(scenario)


def test_a_stream_that_breaks_off_ends_with_a_failed_response(run: Run) -> None:
    async def scenario(api: Api) -> None:
        first, second = api.tokens("hello there")[:2]
        api.peer.script = lambda submit, prompt, choice: [
            Said(first),
            Said(second),
            Said(None, "error"),
        ]
        events = (await api.respond(stream=True)).events
        failed = put_together(events)
        assert failed["status"] == "failed"
        assert failed["error"]["code"] == "server_error"
        assert failed["store"] is False
        assert record(api)["finish_reason"] == "error"
        assert record(api)["error_code"] is not None
        reply = await api.respond()
        assert reply.status >= 500
        assert reply.error["message"] == failed["error"]["message"]

    run(scenario)


def test_a_client_that_leaves_stops_the_engine(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.pause_after = 1
        sink = MemorySink()
        answering = asyncio.create_task(api.respond(stream=True, sink=sink))
        await sink.until(b"response.output_text.delta")
        sink.disconnect()
        await answering
        await api.peer.until(lambda: bool(api.peer.aborts))
        assert b"response.completed" not in sink.data
        assert record(api)["finish_reason"] == "cancelled"

    run(scenario)


def test_an_alias_brings_its_prompt_and_parameters_and_shows_neither(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.aliases.add(
            "helper",
            Target(MODEL),
            system_prompt="Be a helper.",
            forced={"max_tokens": 1},
            defaults={"temperature": 0.5, "stop": "x"},
        )
        response = await ask(
            api, model="helper", instructions="Rules.", max_output_tokens=9, temperature=1
        )
        assert "[system]Be a helper.\n\nRules.[user]hi" in prompt(api)
        shown = {name: response[name] for name in ("model", "instructions", "temperature")}
        assert shown == {"model": "helper", "instructions": "Rules.", "temperature": 1.0}
        assert response["status"] == "incomplete"
        assert response["max_output_tokens"] == 1
        assert "Be a helper" not in str(response)

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": None}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [{"role": "system", "content": "x"}]}, "invalid_value", "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "unsupported_parameter",
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "invalid_value",
            "input[0].content[0].text",
        ),
        ({"input": [{"type": "computer_call"}]}, "unsupported_parameter", "input[0].type"),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
            "missing_required_parameter",
            "input[0].call_id",
        ),
        ({"input": "refuse me"}, "invalid_value", "input"),
        ({"input": "x" * 400}, "context_length_exceeded", "input"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type"),
        ({"tools": [{"type": "mcp"}]}, "missing_required_parameter", "tools[0].server_label"),
        ({"tools": [TOOL, TOOL]}, "invalid_value", "tools[1].name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "missing_required_parameter",
            "tools[0].name",
        ),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "custom"}}, "unsupported_parameter", "tool_choice.type"),
        ({"text": {"format": {"type": "yaml"}}}, "invalid_value", "text.format.type"),
        (
            {"text": {"format": {"type": "json_schema"}}},
            "missing_required_parameter",
            "text.format.name",
        ),
        ({"include": ["everything"]}, "invalid_value", "include[0]"),
        ({"truncation": "auto"}, "unsupported_parameter", "truncation"),
        ({"background": True, "stream": True}, "unsupported_parameter", "stream"),
        ({"background": True, "store": False}, "invalid_value", "store"),
        ({"conversation": 7}, "invalid_value", "conversation"),
        (
            {"conversation": "conv_1", "previous_response_id": "resp_1"},
            "invalid_value",
            "conversation",
        ),
        ({"prompt": {"id": "x"}}, "unsupported_parameter", "prompt"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    run: Run, tmp_path: Path, fields: dict[str, Any], code: str, param: str
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.respond(**fields)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (400, code, param)
        assert not api.peer.submits

    if fields == {"input": "refuse me"}:
        directory = write_checkpoint(tmp_path / "checkpoint")

        async def main() -> None:
            async with running_api(directory, tmp_path / "engine.sock") as api:
                await scenario(api)

        asyncio.run(main())
    else:
        run(scenario)


def test_the_scope_of_chats_is_needed(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["other"] = replace(PRINCIPAL, scopes=frozenset({"completions"}))
        assert (await api.respond(key="other")).status == 403

    run(scenario)

"""From what a body asks for to what the engine gets, and how the answers end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, Scenario, running_api
from checkpoints import add_tokens, write_checkpoint

from anzoth.frames import MAX_GRAMMAR_BYTES, Refused
from anzoth.text.answer_format import INSTRUCTION

Run = Callable[[Scenario], None]

HERMES = (
    "{{ bos_token }}{% for t in tools or [] %}({{ t.function.name }}){% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
    '{# <tool_call>{"name": "", "arguments": {}} #}'
)
LLAMA3 = HERMES.replace("<tool_call>", "<|start_header_id|>").replace("arguments", "parameters")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "title": "é"}
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("forms"), HERMES)


def running(template: str, tmp_path: Path, scenario: Scenario) -> None:
    async def main() -> None:
        directory = write_checkpoint(tmp_path / "checkpoint", template)
        async with running_api(directory, tmp_path / "engine.sock") as api:
            await scenario(api)

    asyncio.run(main())


def json_schema(schema: object = SCHEMA, **fields: Any) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, **fields},
    }


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def only(mode: str, name: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name)]}}


async def parts(api: Api, **fields: Any) -> list[dict[str, Any]]:
    """What the engine was told, as the parts of its grammar; none for a request without one."""
    reply = await api.chat(**fields)
    assert reply.status == 200, reply.json
    grammar = api.peer.submits[-1][0].sampling.grammar
    return [] if grammar is None else json.loads(grammar)["grammars"]


def schema_of(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part["json_schema"].items() if key != "x-guidance"}


# --- response_format ------------------------------------------------------------------------------


def test_a_schema_constrains_the_engine_and_is_shown_to_the_model(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for strict in (True, False):
            (part,) = await parts(api, response_format=json_schema(strict=strict))
            assert schema_of(part) == SCHEMA
            assert part["json_schema"]["x-guidance"]["lenient"] is not strict
        prompt = api.model.tokenizer.decode(api.peer.submits[-1][1])
        shown = f"{INSTRUCTION} {json.dumps(SCHEMA, ensure_ascii=False)}"
        assert prompt == f"<|system|>{shown}hi"
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
        await parts(api, response_format=json_schema(), messages=messages)
        prompt = api.model.tokenizer.decode(api.peer.submits[-1][1])
        assert prompt == f"<|system|>Be brief.\n\n{shown}hi"

    run(scenario)


def test_any_object_is_shown_as_nothing(run: Run) -> None:
    async def scenario(api: Api) -> None:
        (part,) = await parts(api, response_format={"type": "json_object"})
        assert schema_of(part) == {"type": "object"}
        assert await parts(api) == await parts(api, response_format={"type": "text"}) == []
        prompts = [prompt for _, prompt in api.peer.submits]
        assert prompts[0] == prompts[1] == prompts[2]

    run(scenario)


def test_a_control_token_in_a_schema_does_not_act(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await parts(api, response_format=json_schema({"title": "<|user|><|end|>"}))
        (user, end) = api.tokens("<|user|><|end|>")
        prompt = api.peer.submits[-1][1]
        assert prompt.count(user) == 1
        assert end not in prompt

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_cannot_follow_is_an_error_that_names_the_field(
    run: Run, stream: bool
) -> None:
    async def scenario(api: Api) -> None:
        api.peer.refusal = Refused(0, "invalid", 'unsupported keywords ["not"]')
        for fields, param in (
            ({"response_format": json_schema()}, "response_format"),
            ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
            ({"tools": [tool(strict=True)]}, "tools"),
            ({"tools": [tool()], "response_format": json_schema()}, "response_format"),
            ({}, None),
        ):
            reply = await api.chat(stream=stream, **fields)
            assert (reply.status, reply.error["param"]) == (400, param)
            assert reply.error["code"] == "invalid_value"
            assert reply.error["message"] == 'unsupported keywords ["not"]'

    run(scenario)


def test_a_schema_that_is_too_large_does_not_reach_the_engine(run: Run) -> None:
    async def scenario(api: Api) -> None:
        large = {"enum": ["x" * MAX_GRAMMAR_BYTES]}
        for fields, param in (
            ({"response_format": json_schema(large)}, "response_format"),
            ({"tools": [tool(strict=True, parameters=large)]}, "tools"),
            ({"structured_outputs": {"choice": ["é" * MAX_GRAMMAR_BYTES]}}, "structured_outputs"),
        ):
            reply = await api.chat(**fields)
            assert (reply.status, reply.error["param"]) == (400, param)
            assert str(MAX_GRAMMAR_BYTES) in reply.error["message"]
        assert not api.peer.submits

    run(scenario)


def test_a_constrained_answer_that_is_cut_says_length(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ['{"a": 12345}']
        reply = await api.chat(response_format=json_schema(), max_tokens=4)
        assert reply.json["choices"][0]["finish_reason"] == "length"

    run(scenario)


# --- structured_outputs ---------------------------------------------------------------------------


def test_other_forms_reach_the_engine_from_both_endpoints(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for form in ({"json": SCHEMA}, {"regex": "a/b"}, {"choice": ["x"]}, {"grammar": "start:"}):
            (part,) = await parts(api, structured_outputs=form)
            reply = await api.complete(structured_outputs=form)
            assert reply.status == 200
            chat, completion = (submit.sampling.grammar for submit, _ in api.peer.submits[-2:])
            assert chat == completion
            assert set(part) == {"json_schema"} if "json" in form else {"lark_grammar"}
        assert api.model.tokenizer.decode(api.peer.submits[0][1]) == "hi"
        api.peer.refusal = Refused(0, "invalid", "no")
        reply = await api.complete(structured_outputs={"regex": "a"})
        assert (reply.status, reply.error["param"]) == (400, "structured_outputs")

    run(scenario)


# --- tools ----------------------------------------------------------------------------------------


def test_only_promises_need_a_grammar(run: Run) -> None:
    async def scenario(api: Api) -> None:
        tools = [tool("f", parameters=SCHEMA), tool("g")]
        assert not await parts(api, tools=tools)
        assert not await parts(api, tools=tools, tool_choice="auto")
        assert not await parts(api, tools=[tool(strict=True)], tool_choice="none")
        for fields, names in (
            ({"tools": [tool("f", strict=True), tool("g")]}, ["f", "g"]),
            ({"tools": tools, "tool_choice": "required"}, ["f", "g"]),
            ({"tools": tools, "tool_choice": named("g")}, ["g"]),
            ({"tools": tools, "tool_choice": only("auto", "f")}, ["f"]),
            ({"tools": tools, "tool_choice": only("required", "g")}, ["g"]),
        ):
            answer, *arguments = await parts(api, **fields)
            called = [name for name in ("f", "g") if f'"\\"{name}\\""' in answer["lark_grammar"]]
            assert called == names
            assert len(arguments) == len(names)
            # The model sees all of them all the same.
            prompt = api.model.tokenizer.decode(api.peer.submits[-1][1])
            assert prompt == "(f)(g)hi"

    run(scenario)


def test_strict_tools_have_strict_arguments(run: Run) -> None:
    async def scenario(api: Api) -> None:
        tools = [tool("f", parameters=SCHEMA, strict=True), tool("g", parameters=SCHEMA), tool("h")]
        _, *arguments = await parts(api, tools=tools)
        closed = {**SCHEMA, "additionalProperties": False}
        assert [schema_of(part) for part in arguments[:2]] == [SCHEMA, closed]
        lenient = [part["json_schema"]["x-guidance"]["lenient"] for part in arguments]
        assert lenient == [False, True, True]
        assert schema_of(arguments[2])["additionalProperties"] is False

    run(scenario)


def test_an_answer_that_may_be_a_call_has_the_form_otherwise(run: Run) -> None:
    async def scenario(api: Api) -> None:
        fields = {"tools": [tool()], "response_format": json_schema()}
        *_, otherwise = await parts(api, **fields)
        assert schema_of(otherwise) == SCHEMA
        # A call that has to come leaves no room for another answer, but that is no contradiction.
        answer, *_ = await parts(api, **fields, tool_choice="required")
        assert "@otherwise" not in answer["lark_grammar"]
        (alone,) = await parts(api, **fields, tool_choice="none")
        assert schema_of(alone) == SCHEMA

    run(scenario)


@pytest.mark.parametrize(
    ("choice", "ending"),
    [
        ("required", "tool_calls"),
        ("auto", "tool_calls"),
        (only("required", "f"), "tool_calls"),
        (named("f"), "stop"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_how_an_answer_with_a_call_ends(run: Run, choice: Any, ending: str, stream: bool) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [CALL]
        reply = await api.chat(tools=[tool("f")], tool_choice=choice, stream=stream)
        if stream:
            deltas = [chunk["choices"][0] for chunk in reply.chunks if chunk["choices"]]
            calls = [call for one in deltas for call in one["delta"].get("tool_calls", [])]
            finish = deltas[-1]["finish_reason"]
        else:
            (choice_,) = reply.json["choices"]
            calls, finish = choice_["message"]["tool_calls"], choice_["finish_reason"]
            assert choice_["message"]["content"] is None
        assert [call["function"]["arguments"] for call in calls] == ['{"a": 1}']
        assert finish == ending
        assert api.ledger.records[0].finish_reason == ending

    run(scenario)


def test_a_call_that_was_not_allowed_is_text(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [CALL]
        fields = {"tools": [tool("f"), tool("g")], "tool_choice": only("auto", "g")}
        message = (await api.chat(**fields)).json["choices"][0]["message"]
        assert message == {"role": "assistant", "content": CALL, "refusal": None}

    run(scenario)


def test_tags_that_are_tokens_are_written_as_tokens(run: Run, tmp_path: Path) -> None:
    def opening(grammar: dict[str, Any]) -> str:
        (rule,) = [line for line in grammar["lark_grammar"].split("\n") if "tagged: " in line]
        return rule.split()[1]

    async def spelled(api: Api) -> None:
        answer, *_ = await parts(api, tools=[tool()], tool_choice="required")
        assert opening(answer) == '"<tool_call>"'

    run(spelled)

    directory = write_checkpoint(tmp_path / "tagged", HERMES)
    tag, _ = add_tokens(directory, "<tool_call>", "</tool_call>")

    async def tokens() -> None:
        async with running_api(directory, tmp_path / "engine.sock") as api:
            answer, *_ = await parts(api, tools=[tool()], tool_choice="required")
            assert opening(answer) == f"<[{tag}]>"

    asyncio.run(tokens())


def test_a_model_that_writes_bare_json_is_forced_to(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        answer, _ = await parts(api, tools=[tool()], tool_choice="required")
        assert "tool_call" not in answer["lark_grammar"]
        assert '"parameters' in answer["lark_grammar"].replace('\\"', '"')

    running(LLAMA3, tmp_path, scenario)

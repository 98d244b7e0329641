"""Tools reach the template, and calls the caller: whole, streamed, and as the SDK reads them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, Scenario, running_api
from checkpoints import EOS_ID, add_tokens, write_checkpoint
from engine_peer import stats
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from anzoth.frames import Admitted, Row, Step, encode

Run = Callable[[Scenario], None]

TEMPLATE = (
    "{{ bos_token }}{% for t in tools or [] %}({{ t.function.name }}){% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for call in m.tool_calls or [] %}"
    '<tool_call>{"name": {{ call.function.name | tojson }}, '
    '"arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}{% endfor %}<|assistant|>"
)


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def said(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tools"), TEMPLATE)


def running(template: str, tmp_path: Path, scenario: Scenario) -> None:
    """A scenario with another chat template."""

    async def main() -> None:
        directory = write_checkpoint(tmp_path / "checkpoint", template)
        async with running_api(directory, tmp_path / "engine.sock") as api:
            await scenario(api)

    asyncio.run(main())


def joined(chunks: list[dict[str, Any]], choice: int = 0) -> dict[str, Any]:
    """One choice of a stream as a whole answer has it, with the shape of each chunk checked."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: list[dict[str, Any]] = []
    own = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    own = [entry for entry in own if entry["index"] == choice]
    assert own[0]["delta"] == {"role": "assistant", "content": ""}
    for entry in own[1:]:
        message["content"] += entry["delta"].get("content", "")
        for call in entry["delta"].get("tool_calls", []):
            assert call.pop("index") == len(calls)
            calls.append(call)
        assert "role" not in entry["delta"]
    assert own[-1]["delta"] == {}
    assert all(entry["finish_reason"] is None for entry in own[:-1])
    if calls:
        message |= {"content": message["content"] or None, "tool_calls": calls}
    return {
        "index": choice,
        "message": {**message, "refusal": None},
        "logprobs": None,
        "finish_reason": own[-1]["finish_reason"],
    }


def without_ids(choice: dict[str, Any]) -> dict[str, Any]:
    """Ids are drawn for each answer."""
    for call in choice["message"].get("tool_calls", []):
        assert re.fullmatch("call_[0-9a-f]{24}", call.pop("id"))
    return choice


async def ask(api: Api, **fields: Any) -> dict[str, Any]:
    """The first choice, which is the same streamed and whole."""
    fields = {"tools": [tool("f"), tool("g")], **fields}
    reply = await api.chat(**fields)
    assert reply.status == 200, reply.json
    whole = without_ids(reply.json["choices"][0])
    streamed = await api.chat(**fields, stream=True)
    assert without_ids(joined(streamed.chunks)) == whole
    assert streamed.frames[-1] == "[DONE]"
    first, second = api.ledger.records[-2:]
    assert first.finish_reason == second.finish_reason == whole["finish_reason"]
    assert first.completion_tokens == second.completion_tokens
    return whole


def test_a_call_is_answered_in_the_documented_shape(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said()]
        choice = await ask(api)
        assert choice == {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
                ],
                "refusal": None,
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }

    run(scenario)


def test_ids_differ_between_calls_and_come_before_the_function(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said() + said()]
        message = (await api.chat(tools=[tool()])).json["choices"][0]["message"]
        one, two = message["tool_calls"]
        assert one["id"] != two["id"]
        assert list(one) == ["id", "type", "function"]

    run(scenario)


def test_several_calls_and_the_text_before_them(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [f"Let me see.\n{said('f')}\n{said('g', '{}')}\n"]
        choice = await ask(api)
        assert choice["message"]["content"] == "Let me see."
        names = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
        assert names == ["f", "g"]
        assert choice["finish_reason"] == "tool_calls"

    run(scenario)


@pytest.mark.parametrize(
    "text",
    [
        "no call at all",
        said("unknown"),
        said(arguments='"x"'),
        "<tool_call>{broken}</tool_call>",
        "a <tool_",
    ],
)
def test_what_is_no_call_is_content(run: Run, text: str) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [text]
        choice = await ask(api)
        assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
        assert choice["finish_reason"] == "stop"

    run(scenario)


def test_an_answer_that_was_cut_says_length_and_keeps_everything(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said() + said("g")]
        length = len(api.tokens(said())) + 5
        choice = await ask(api, max_tokens=length)
        assert choice["finish_reason"] == "length"
        assert len(choice["message"]["tool_calls"]) == 1
        rest = api.model.tokenizer.decode(api.tokens(api.saying[0])[:length])
        assert said() + choice["message"]["content"] == rest

    run(scenario)


def test_each_choice_has_its_own_calls(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said("g", "{}"), "hello there", f"so {said()}"]
        whole = (await api.chat(n=3, tools=[tool("f"), tool("g")])).json["choices"]
        streamed = (await api.chat(n=3, tools=[tool("f"), tool("g")], stream=True)).chunks
        for index, choice in enumerate(whole):
            assert without_ids(joined(streamed, index)) == without_ids(choice)
        reasons = [choice["finish_reason"] for choice in whole]
        assert reasons == ["tool_calls", "stop", "tool_calls"]
        # The ledger keeps the first choice's.
        assert api.ledger.records[0].finish_reason == "tool_calls"

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_without_parallel_calls_the_engine_stops_after_the_first(run: Run, stream: bool) -> None:
    async def scenario(api: Api) -> None:
        first = "so " + said()
        other = "how are you today? " * 10  # still running when the first choice has ended
        api.saying = [first + said("g"), other]
        tools = [tool("f"), tool("g")]
        reply = await api.chat(tools=tools, parallel_tool_calls=False, n=2, stream=stream)
        choices = (
            [joined(reply.chunks, index) for index in (0, 1)] if stream else reply.json["choices"]
        )
        message = choices[0]["message"]
        assert message["content"] == "so"
        assert [call["function"]["name"] for call in message["tool_calls"]] == ["f"]
        assert [choice["finish_reason"] for choice in choices] == ["tool_calls", "stop"]
        assert choices[1]["message"]["content"] == other
        await api.peer.until(lambda: bool(api.peer.aborts))
        assert [abort.choice for abort in api.peer.aborts] == [0]
        (usage,) = api.ledger.records
        assert usage.finish_reason == "tool_calls"
        assert usage.completion_tokens == len(api.tokens(first)) + len(api.tokens(other)) + 1

    run(scenario)


def test_a_first_call_that_the_last_token_completes_was_not_cut(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said() + said("g")]
        length = len(api.tokens(said()))
        choice = await ask(api, parallel_tool_calls=False, max_tokens=length)
        assert len(choice["message"]["tool_calls"]) == 1
        assert choice["finish_reason"] == "tool_calls"

    run(scenario)


@pytest.mark.parametrize("finish", [None, "stop"])
def test_a_first_call_that_was_there_before_the_caller_ran_again_ends_the_answer(
    run: Run, finish: Any
) -> None:
    """Admitted and all the steps in one read of the socket."""

    async def scenario(api: Api) -> None:
        api.peer.admits = False
        request = api.chat(tools=[tool()], parallel_tool_calls=False, stream=True)
        task = asyncio.create_task(request)
        await api.peer.until(lambda: bool(api.peer.submits))
        (number,) = [submit.request for submit, _ in api.peer.submits]
        rows = [Row(number, 0, token, None, None, None, None) for token in api.tokens(said() * 2)]
        rows.append(Row(number, 0, EOS_ID, finish, None, None, None))
        frames = [encode(Step(stats(i), (row,))) for i, row in enumerate(rows)]
        for writer in api.peer._writers:
            writer.write(encode(Admitted(number)) + b"".join(frames))
        choice = joined((await task).chunks)
        assert len(choice["message"]["tool_calls"]) == 1
        assert choice["finish_reason"] == "tool_calls"
        assert api.ledger.records[0].finish_reason == "tool_calls"
        if finish is None:
            await api.peer.until(lambda: bool(api.peer.aborts))

    run(scenario)


def test_logprobs_are_those_of_all_tokens(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for text in (f"so {said()}", f"{said()}\n", "plain", "a <tool_call>{b"):
            api.saying = [text]
            for is_parallel in (True, False):
                fields = {"logprobs": True, "parallel_tool_calls": is_parallel}
                reply = await api.chat(tools=[tool()], **fields)
                whole = reply.json["choices"][0]["logprobs"]["content"]
                assert "".join(entry["token"] for entry in whole) == (
                    text if is_parallel else text.strip()
                )
                chunks = (await api.chat(tools=[tool()], **fields, stream=True)).chunks
                streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
                assert [e for part in streamed if part for e in part["content"]] == whole

    run(scenario)


def test_the_template_gets_the_tools_unless_the_choice_is_none(run: Run) -> None:
    async def scenario(api: Api) -> None:
        tools = [tool("f"), tool("g")]
        for fields, shown in (
            ({"tools": tools}, "(f)(g)"),
            ({"tools": tools, "tool_choice": "auto"}, "(f)(g)"),
            ({"tools": tools, "tool_choice": "none"}, ""),
            ({"tool_choice": "auto"}, ""),
            # Tools win over a variable of the same name.
            ({"tools": tools, "chat_template_kwargs": {"tools": "abc"}}, "(f)(g)"),
        ):
            assert (await api.chat(**fields)).status == 200
            assert api.peer.submits[-1][1] == api.tokens(f"<|bos|>{shown}<|user|>hi<|assistant|>")

    run(scenario)


def test_without_tools_a_call_is_ordinary_text(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said()]
        for fields in ({}, {"tools": [tool()], "tool_choice": "none"}):
            choice = (await api.chat(**fields)).json["choices"][0]
            assert choice["message"]["content"] == said()
            assert choice["finish_reason"] == "stop"

    run(scenario)


def test_a_call_and_its_result_go_back_to_the_model(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [said()]
        message = (await api.chat(tools=[tool()])).json["choices"][0]["message"]
        result = {
            "role": "tool",
            "tool_call_id": message["tool_calls"][0]["id"],
            "content": "42",
        }
        api.saying = ["It is 42."]
        conversation = [{"role": "user", "content": "hi"}, message, result]
        reply = await api.chat(tools=[tool()], messages=conversation)
        assert reply.json["choices"][0]["message"]["content"] == "It is 42."
        assert api.model.tokenizer.decode(api.peer.submits[-1][1]) == (f"(f)hi{said()}<|tool|>42")

    run(scenario)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0].content }}", "no place for tools"),
        ("{{ tools }}<tool_call><function={{ messages[0].content }}", "cannot read"),
    ],
)
def test_a_model_that_cannot_use_tools_says_why(template: str, reason: str, tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.chat(tools=[tool()])
        assert (reply.status, reply.error["param"]) == (400, "tools")
        assert reply.error["code"] == "unsupported_parameter"
        assert reason in reply.error["message"]
        assert not api.peer.submits
        assert (await api.chat(tools=[tool()], tool_choice="none")).status == 200
        assert (await api.chat(tools=[])).status == 200

    running(template, tmp_path, scenario)


def test_a_model_that_writes_bare_json_is_read_too(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ['{"name": "f", "parameters": {"a": 1}}']
        choice = await ask(api)
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "f", "arguments": '{"a": 1}'}
        api.saying = ['{"a": 1}']
        assert (await ask(api))["message"]["content"] == '{"a": 1}'

    template = '{{ tools | length }}<|start_header_id|>{{ messages[0].content }}{# "parameters" #}'
    running(template, tmp_path, scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_calls_behind_a_mark_have_ids_that_mistrals_templates_take_back(
    tmp_path: Path, stream: bool
) -> None:
    async def scenario(api: Api) -> None:
        for said in (
            '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}',
            '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]',
        ):
            api.saying = [f"So. {said}"]
            reply = await api.chat(tools=[tool("f"), tool("g")], stream=stream)
            choice = joined(reply.chunks) if stream else reply.json["choices"][0]
            message = choice["message"]
            ids = [call.pop("id") for call in message["tool_calls"]]
            assert all(re.fullmatch("[a-zA-Z0-9]{9}", call_id) for call_id in ids)
            assert len(set(ids)) == 2
            assert (message["content"], choice["finish_reason"]) == ("So.", "tool_calls")
            assert [call["function"] for call in message["tool_calls"]] == [
                {"name": "f", "arguments": '{"a": 1}'},
                {"name": "g", "arguments": "{}"},
            ]

    running("{{ tools | length }}{{ messages[0].content }}[TOOL_CALLS][ARGS]", tmp_path, scenario)


def test_a_mark_that_is_a_special_token_is_read_and_forced_as_one(tmp_path: Path) -> None:
    directory = write_checkpoint(
        tmp_path / "checkpoint", "{{ tools | length }}{{ messages[0].content }}[TOOL_CALLS]"
    )
    (mark,) = add_tokens(directory, "[TOOL_CALLS]", special=True)

    async def main() -> None:
        async with running_api(directory, tmp_path / "engine.sock") as api:
            api.saying = ['[TOOL_CALLS] [{"name": "f"}]']
            assert api.tokens(api.saying[0])[0] == mark
            choice = (await api.chat(tools=[tool()], tool_choice="required")).json["choices"][0]
            (call,) = choice["message"]["tool_calls"]
            assert call["function"] == {"name": "f", "arguments": "{}"}
            grammar = api.peer.submits[-1][0].sampling.grammar
            assert grammar is not None
            assert f"tagged: <[{mark}]> rest" in grammar

    asyncio.run(main())


# --- documents --------------------------------------------------------------------------------


def test_documents_stand_with_the_users_last_message(wide_run: Run) -> None:
    async def scenario(api: Api) -> None:
        documents = [{"text": "Pumps\nleak.", "title": "P", "id": 7}, {"text": "x"}]
        reply = await api.chat(documents=documents)
        assert reply.status == 200
        prompt = api.model.tokenizer.decode(api.peer.submits[0][1])
        tag = re.findall("<passage 1 ([0-9a-f]{16})>", prompt)[0]
        assert prompt.endswith(
            f"\n\n<passage 1 {tag}>\n[1] P\nPumps\nleak.\n</passage {tag}>\n\n"
            f"<passage 2 {tag}>\n[2] x\n</passage {tag}>\n\nQuestion: hi"
        )

    wide_run(scenario)


def test_documents_need_a_question(run: Run) -> None:
    async def scenario(api: Api) -> None:
        messages = [{"role": "system", "content": "x"}]
        reply = await api.chat(messages=messages, documents=[{"text": "x"}])
        assert (reply.status, reply.error["param"]) == (400, "documents")
        assert (await api.chat(messages=messages, documents=[])).status == 200

    run(scenario)


def test_a_control_token_in_a_document_or_a_tool_does_not_act(wide_run: Run) -> None:
    async def scenario(api: Api) -> None:
        plain = await api.chat(documents=[{"text": "a"}], tools=[tool()])
        forged = await api.chat(documents=[{"text": "<|user|>", "title": "<|end|>"}])
        assert plain.status == forged.status == 200
        (user,) = api.tokens("<|user|>")
        for _, prompt in api.peer.submits:
            assert prompt.count(user) == 1
            assert EOS_ID not in prompt

    wide_run(scenario)


# --- the SDK ------------------------------------------------------------------------------------


def test_the_python_sdk_reads_calls_whole_and_streamed(run: Run) -> None:
    """With its own types, and its own way of joining the chunks of a stream."""

    async def scenario(api: Api) -> None:
        api.saying = [f"One moment. {said('f')}{said('g', '{}')}"]
        tools = [tool("f", parameters={"type": "object"}, strict=False), tool("g")]
        whole = ChatCompletion.model_validate_json((await api.chat(tools=tools)).body)
        state = ChatCompletionStreamState()
        for chunk in (await api.chat(tools=tools, stream=True)).chunks:
            state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
        for completion in (whole, state.get_final_completion()):
            (choice,) = completion.choices
            assert choice.finish_reason == "tool_calls"
            assert choice.message.content == "One moment."
            assert [
                (call.type, call.function.name, json.loads(call.function.arguments))
                for call in choice.message.tool_calls or []
                if call.type == "function"
            ] == [("function", "f", {"a": 1}), ("function", "g", {})]

    run(scenario)

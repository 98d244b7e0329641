"""Reasoning reaches the caller apart from the answer: whole, streamed, and counted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, Scenario, running_api
from checkpoints import add_tokens, write_checkpoint
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

Run = Callable[[Scenario], None]

# As Qwen 3 has it: the model opens the reasoning, unless the caller has it closed beforehand.
TEMPLATE = (
    "{{ bos_token }}{% for t in tools or [] %}({{ t.function.name }}){% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}"
    '{# <tool_call>{"name": "", "arguments": {}} #}'
)
# As DeepSeek's distills have it.
OPENED = TEMPLATE + "{{ '<think>\n' }}"
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f"}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("reasoning"), TEMPLATE)


def running(template: str, tmp_path: Path, scenario: Scenario, *marks: str, **how: Any) -> None:
    """A scenario with another template, or with marks that are tokens."""

    async def main() -> None:
        directory = write_checkpoint(tmp_path / "checkpoint", template)
        add_tokens(directory, *marks, **how)
        async with running_api(directory, tmp_path / "engine.sock") as api:
            await scenario(api)

    asyncio.run(main())


def joined(chunks: list[dict[str, Any]], choice: int) -> dict[str, Any]:
    """One choice of a stream as a whole answer has it; the reasoning comes before all else."""
    own = [c["choices"][0] for c in chunks if c["choices"] and c["choices"][0]["index"] == choice]
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": ""}
    calls: list[dict[str, Any]] = []
    logprobs: list[Any] = []
    for entry in own:
        delta = entry["delta"]
        assert delta.keys() <= {"role", "content", "reasoning_content", "tool_calls"}
        if "reasoning_content" in delta:
            assert delta.keys() == {"reasoning_content"}
            assert not message["content"]
            assert not calls
            message["reasoning_content"] += delta["reasoning_content"]
        message["content"] += delta.get("content", "")
        calls += [{k: v for k, v in c.items() if k != "index"} for c in delta.get("tool_calls", [])]
        logprobs += (entry["logprobs"] or {}).get("content", [])
    if not message["reasoning_content"]:
        del message["reasoning_content"]
    if calls:
        message |= {"content": message["content"] or None, "tool_calls": calls}
    return {
        "index": choice,
        "message": {**message, "refusal": None},
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": own[-1]["finish_reason"],
    }


def without_ids(choice: dict[str, Any]) -> dict[str, Any]:
    for call in choice["message"].get("tool_calls", []):
        assert re.fullmatch("call_[0-9a-f]{24}", call.pop("id"))
    return choice


async def ask(api: Api, **fields: Any) -> tuple[dict[str, Any], int]:
    """The last choice, which is the same streamed and whole, and the reasoning tokens of all."""
    reply = await api.chat(**fields)
    assert reply.status == 200, reply.json
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = (await api.chat(**fields, **options)).chunks
    assert last["usage"] == reply.json["usage"]
    for index, choice in enumerate(reply.json["choices"]):
        assert without_ids(joined(chunks, index)) == without_ids(choice)
    details = reply.json["usage"]["completion_tokens_details"]
    return reply.json["choices"][-1], details["reasoning_tokens"]


def test_reasoning_stands_beside_the_answer_and_is_counted(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reasoning = "<think>\nhow are you 🙂\n</think>"
        api.saying = [f"{reasoning}\n\nhello there"]
        choice, num_tokens = await ask(api)
        assert choice["message"] == {
            "role": "assistant",
            "content": "hello there",
            "reasoning_content": "how are you 🙂",
            "refusal": None,
        }
        assert choice["finish_reason"] == "stop"
        assert num_tokens == len(api.tokens(reasoning))

    run(scenario)


def test_a_prompt_may_have_begun_the_reasoning(tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["how are you</think>hello"]
        choice, num_tokens = await ask(api)
        assert choice["message"]["reasoning_content"] == "how are you"
        assert choice["message"]["content"] == "hello"
        assert num_tokens == len(api.tokens("how are you</think>"))
        assert api.model.tokenizer.decode(api.peer.submits[-1][1]).endswith("<think>\n")

    running(OPENED, tmp_path, scenario)


def test_reasoning_that_was_cut_is_all_there_is(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["<think>hello there, general. how are you today?</think>hello"]
        for max_tokens in (1, 12, 20):
            choice, num_tokens = await ask(api, max_tokens=max_tokens)
            assert choice["finish_reason"] == "length"
            said = api.model.tokenizer.decode(api.tokens(api.saying[0])[:max_tokens])
            if said.startswith("<think>"):
                assert choice["message"].get("reasoning_content", "") == said[7:].strip()
                assert (choice["message"]["content"], num_tokens) == ("", max_tokens)
            else:  # it might have become anything
                assert (choice["message"]["content"], num_tokens) == (said, 0)

    run(scenario)


@pytest.mark.parametrize("special", [False, True])
def test_marks_that_are_tokens_are_read_whether_or_not_they_are_special(
    tmp_path: Path, special: bool
) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["<think>how are you</think>hello"]
        choice, num_tokens = await ask(api)
        assert choice["message"]["reasoning_content"] == "how are you"
        assert choice["message"]["content"] == "hello"
        assert num_tokens == len(api.tokens("how are you")) + 2

    running(TEMPLATE, tmp_path, scenario, "<think>", "</think>", special=special)


def test_an_answer_without_reasoning_has_no_such_field(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for text in ("hello there", "<think>\n\n</think>\n\nhello there"):
            api.saying = [text]
            choice, _ = await ask(api)
            message = {"role": "assistant", "content": "hello there", "refusal": None}
            assert choice["message"] == message

    run(scenario)


def test_reasoning_that_the_caller_turned_off_is_not_looked_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["<think> is a mark of </think>"]
        choice, num_tokens = await ask(api, chat_template_kwargs={"enable_thinking": False})
        assert choice["message"]["content"] == api.saying[0]
        assert num_tokens == 0
        prompt = api.model.tokenizer.decode(api.peer.submits[-1][1])
        assert prompt.endswith("<think>\n\n</think>\n\n")
        # Nor is it allowed where the answer has a form.
        for thinks in (True, False):
            await api.chat(response_format=SCHEMA, chat_template_kwargs={"enable_thinking": thinks})
            grammar = json.loads(api.peer.submits[-1][0].sampling.grammar or "")
            assert ("@answer" in grammar["grammars"][0].get("lark_grammar", "")) is thinks

    run(scenario)


def test_what_a_user_writes_does_not_begin_the_reasoning(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello"]
        messages = [{"role": "user", "content": "What is <think>"}]
        choice, _ = await ask(api, messages=messages)
        assert choice["message"]["content"] == "hello"

    run(scenario)


def test_calls_that_are_only_thought_of_are_reasoning(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [
            f"<think>Shall I {CALL}?</think>hello",
            f"<think>{CALL} Yes.</think>\n\nSo: {CALL}",
            f"<think>{CALL}",
        ]
        thought, called, cut = (await api.chat(tools=TOOLS, n=3)).json["choices"]
        assert (await ask(api, tools=TOOLS, n=3))[0]["message"] == cut["message"]
        assert thought["message"]["reasoning_content"] == f"Shall I {CALL}?"
        assert thought["message"]["content"] == "hello"
        assert "tool_calls" not in thought["message"]
        assert called["message"]["content"] == "So:"
        assert len(called["message"]["tool_calls"]) == 1
        assert called["message"]["reasoning_content"] == f"{CALL} Yes."
        assert cut["message"]["reasoning_content"] == CALL
        endings = [choice["finish_reason"] for choice in (thought, called, cut)]
        assert endings == ["stop", "tool_calls", "stop"]

    run(scenario)


def test_the_first_call_ends_an_answer_without_parallel_calls(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [f"<think>{CALL}</think>{CALL}{CALL}"]
        choice, num_tokens = await ask(api, tools=TOOLS, parallel_tool_calls=False)
        assert len(choice["message"]["tool_calls"]) == 1
        assert choice["finish_reason"] == "tool_calls"
        assert num_tokens == len(api.tokens(f"<think>{CALL}</think>"))

    run(scenario)


def test_logprobs_are_those_of_all_tokens(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for text in ("<think>\nhi 🙂\n</think>\n\nhello", "<think>cut ", "hello", f"</{CALL}"):
            api.saying = [text]
            for fields in ({}, {"tools": TOOLS}):
                choice, _ = await ask(api, logprobs=True, **fields)
                tokens = choice["logprobs"]["content"]
                assert bytes(b for entry in tokens for b in entry["bytes"]).decode() == text

    run(scenario)


def test_reasoning_of_earlier_turns_goes_to_the_template(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["<think>how</think>hello"]
        message = (await api.chat()).json["choices"][0]["message"]
        user = {"role": "user", "content": "hi"}
        assert (await api.chat(messages=[user, message, user])).status == 200
        prompt = api.model.tokenizer.decode(api.peer.submits[-1][1])
        assert prompt == "hi<think>how</think>hellohi"

    run(scenario)


@pytest.mark.parametrize("template", [TEMPLATE, OPENED], ids=["possible", "opened"])
def test_a_form_is_that_of_the_answer_behind_the_reasoning(template: str, tmp_path: Path) -> None:
    async def scenario(api: Api) -> None:
        for fields in (
            {"response_format": SCHEMA},
            {"structured_outputs": {"regex": "a+"}},
            {"tools": TOOLS, "tool_choice": "required"},
        ):
            api.saying = ["how</think>{}"]
            assert (await api.chat(**fields)).status == 200
            grammar = json.loads(api.peer.submits[-1][0].sampling.grammar or "")
            reasoned, answer, *_ = grammar["grammars"]
            first, *_ = reasoned["lark_grammar"].split("\n")
            assert answer["name"] == "answer"
            assert first.endswith("@answer")
            assert ('"<think>"' in first) is (template is TEMPLATE)
        assert (await api.chat()).status == 200
        assert api.peer.submits[-1][0].sampling.grammar is None

    running(template, tmp_path, scenario)


def test_the_python_sdk_reads_it_whole_and_streamed(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["<think>how are you</think>hello there"]
        whole = ChatCompletion.model_validate_json((await api.chat()).body)
        state = ChatCompletionStreamState()
        for chunk in (await api.chat(stream=True)).chunks:
            state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
        for completion in (whole, state.get_final_completion()):
            (choice,) = completion.choices
            assert choice.message.content == "hello there"
            extra = choice.message.model_extra or {}
            assert extra["reasoning_content"] == "how are you"

    run(scenario)

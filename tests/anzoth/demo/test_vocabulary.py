"""The shipped tokenizer writes any text, and its template renders every role."""

from __future__ import annotations

import json
import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from anzoth.demo.checkpoint import MODEL_DIR
from anzoth.demo.conversation import Conversation, ToolCall, Turn
from anzoth.demo.curriculum import example
from anzoth.demo.vocabulary import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    TEXT_TOKENS,
    Encoder,
    texts_of,
    token_id,
    tokenizer_config,
)

TOKENIZER = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))


class UnknownRole(Exception):
    pass


def render(messages: list[dict], *, add_generation_prompt: bool = False, **extra: object) -> str:
    def raise_exception(message: str) -> None:
        raise UnknownRole(message)

    template = json.loads((MODEL_DIR / "tokenizer_config.json").read_text())["chat_template"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    environment.filters["tojson"] = partial(
        json.dumps, ensure_ascii=False
    )  # as transformers has it
    return environment.from_string(template).render(
        messages=messages, add_generation_prompt=add_generation_prompt, **extra
    )


@given(st.text())
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    if not any(token in text for token in SPECIAL_TOKENS):
        assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(st.binary(max_size=200))
def test_any_bytes_come_back_from_their_tokens(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


def test_all_256_bytes_have_a_token() -> None:
    every_byte = {token for token in TOKENIZER.get_vocab() if len(token) == 1}
    assert len(every_byte) == 256


def test_special_tokens_are_single_tokens() -> None:
    for token in SPECIAL_TOKENS:
        assert TOKENIZER.encode(token).ids == [TOKENIZER.token_to_id(token)]


def test_the_shipped_template_is_the_one_in_the_source() -> None:
    config = json.loads((MODEL_DIR / "tokenizer_config.json").read_text())
    assert config["chat_template"] == CHAT_TEMPLATE
    assert config["eos_token"] == "<|end|>"
    assert config == tokenizer_config(config["model_max_length"])


def test_every_role_is_rendered_between_its_mark_and_the_end() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "tool", "content": "21 °C", "tool_call_id": "call_1"},
    ]
    assert render(messages) == (
        "<|system|>Be brief.<|end|><|user|>hi<|end|><|assistant|>Hello!<|end|><|tool|>21 °C<|end|>"
    )


def test_the_generation_prompt_opens_the_assistants_turn() -> None:
    messages = [{"role": "user", "content": " spaces\n stay "}]
    rendered = render(messages, add_generation_prompt=True, tools=None)
    assert rendered == "<|user|> spaces\n stay <|end|><|assistant|>"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "developer", "content": "x"}, "<|system|>x<|end|>"),
        ({"role": "assistant", "content": None}, "<|assistant|><|end|>"),
        ({"role": "assistant"}, "<|assistant|><|end|>"),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:,"}},
                    {"type": "text", "text": "b"},
                ],
            },
            "<|user|>ab<|end|>",
        ),
    ],
)
def test_unusual_messages_are_rendered(message: dict, expected: str) -> None:
    assert render([message]) == expected


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(UnknownRole, match="wizard"):
        render([{"role": "wizard", "content": "x"}])


TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city, e.g. Oslo"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                    "days": {"type": ["integer", "null"]},
                    "items": {"type": "array"},
                },
                "required": ["city", "items"],
            },
        },
    },
    {"type": "function", "function": {"name": "ping"}},
)
LISTED = """Tools:
get_weather: The weather in a city
- city: The city, e.g. Oslo
- unit? = celsius|fahrenheit
- days?
- items (array)
ping"""


def test_tools_are_listed_in_a_system_turn_of_their_own() -> None:
    rendered = render([{"role": "user", "content": "hi"}], tools=TOOLS)
    assert rendered == f"<|system|>{LISTED}<|end|><|user|>hi<|end|>"


def test_tools_are_listed_behind_the_system_message_there_is() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    expected = f"<|system|>Be brief.\n\n{LISTED}<|end|><|user|>hi<|end|>"
    assert render(messages, tools=TOOLS) == expected


@pytest.mark.parametrize("arguments", [{"city": "Zürich"}, '{"city": "Zürich"}'])
def test_earlier_calls_are_written_as_the_model_writes_them(arguments: object) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    assert render([{"role": "assistant", "content": None, "tool_calls": [call]}]) == (
        '<|assistant|><tool_call>{"name": "get_weather", "arguments": {"city": "Zürich"}}'
        "</tool_call><|end|>"
    )


def test_citations_and_the_marks_of_calls_are_single_tokens_of_the_text() -> None:
    for token in TEXT_TOKENS:
        assert TOKENIZER.encode(f"x{token}.").tokens[1] == token
        assert TOKENIZER.decode([token_id(TOKENIZER, token)]) == token


def test_training_sees_exactly_the_tokens_that_the_template_gives() -> None:
    rng = random.Random(4)
    encoder = Encoder(TOKENIZER)
    for _ in range(80):
        conversation = example(rng, 1.0)[0][0]
        rendered = render(conversation.messages(), tools=list(conversation.tools) or None)
        assert encoder.example(conversation)[0] == TOKENIZER.encode(rendered).ids
        before = conversation.up_to(len(conversation.turns) - 1)
        prompt = render(
            before.messages(), add_generation_prompt=True, tools=list(before.tools) or None
        )
        assert encoder.prompt(before) == TOKENIZER.encode(prompt).ids


def test_only_what_the_assistant_says_is_marked_as_spoken() -> None:
    call = ToolCall("ping", {})
    turns = (
        Turn("system", "s"),
        Turn("user", "u <|assistant|> v"),
        Turn("assistant", "", calls=(call,)),
        Turn("tool", "pong"),
        Turn("assistant", "Hello!"),
    )
    ids, spoken = Encoder(TOKENIZER).example(Conversation(turns, TOOLS))
    said = [id_ for id_, mine in zip(ids, spoken, strict=True) if mine]
    assert TOKENIZER.decode(said, skip_special_tokens=False) == (
        '<tool_call>{"name": "ping", "arguments": {}}</tool_call><|end|>Hello!<|end|>'
    )


def test_the_tokenizer_learns_no_marks_of_turns() -> None:
    turns = (Turn("user", "see [1]"), Turn("assistant", "ok"))
    assert list(texts_of(Conversation(turns))) == ["see ", "ok"]

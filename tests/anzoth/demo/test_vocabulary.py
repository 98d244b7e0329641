"""The shipped tokenizer writes any text, and its template renders every role."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from anzoth.demo.checkpoint import MODEL_DIR
from anzoth.demo.generate import Turn, conversation
from anzoth.demo.vocabulary import CHAT_TEMPLATE, SPECIAL_TOKENS, encode, prompt_ids

TOKENIZER = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))


class UnknownRole(Exception):
    pass


def render(messages: list[dict], *, add_generation_prompt: bool = False, **extra: object) -> str:
    def raise_exception(message: str) -> None:
        raise UnknownRole(message)

    template = json.loads((MODEL_DIR / "tokenizer_config.json").read_text())["chat_template"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
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


def test_training_sees_exactly_the_tokens_that_the_template_gives() -> None:
    rng = random.Random(4)
    for _ in range(50):
        turns = conversation(rng)
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        assert encode(TOKENIZER, turns)[0] == TOKENIZER.encode(render(messages)).ids
        prompt = render(messages[:-1], add_generation_prompt=True)
        assert prompt_ids(TOKENIZER, turns[:-1]) == TOKENIZER.encode(prompt).ids


def test_only_what_the_assistant_says_is_marked_as_spoken() -> None:
    turns = [Turn("system", "s"), Turn("user", "u v"), Turn("assistant", "Hello!")]
    ids, spoken = encode(TOKENIZER, turns)
    said = [id_ for id_, mine in zip(ids, spoken, strict=True) if mine]
    assert TOKENIZER.decode(said, skip_special_tokens=False) == "Hello!<|end|>"

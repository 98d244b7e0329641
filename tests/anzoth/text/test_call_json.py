"""JSON that grows ends where its first value does, and only a call of an offered tool is one."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.text.call_json import JsonEnd, ToolCall, named_call, read_call, read_calls

NAMES = {"f"}
VALUES = st.recursive(
    st.none() | st.integers() | st.text('a"\\\\{}[]', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a]}", max_size=2), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=2), VALUES, max_size=3) | st.lists(VALUES, max_size=3))
def test_a_value_ends_at_its_own_bracket(value: Any) -> None:
    text = json.dumps(value)
    opening: Literal["{", "["] = "{" if isinstance(value, dict) else "["
    end = JsonEnd(1, opening)
    for length in range(1, len(text) + 1):
        assert end.find(f" {text[:length]}") == (None if length < len(text) else len(text) + 1)
    assert end.find(f" {text}}}]") == len(text) + 1
    assert JsonEnd(1, opening).find(f" {text}}}]") == len(text) + 1


def test_arguments_are_the_models_own_characters() -> None:
    arguments = '{"x": 1.10, "y":12345678901234567890.0 , "z": "\\u00e9"}'
    call = ToolCall("f", arguments)
    body = f'{{"name" : "f", "arguments" : {arguments} }}'
    assert read_call(body, NAMES) == call
    assert read_calls(f"[ {body} ,{body}]", NAMES) == [call, call]
    assert named_call("f", arguments, NAMES) == call


@pytest.mark.parametrize("arguments", ["{", '{"a": Infinity}', "[1]", "5", '"x"', '{"a": 1} x'])
def test_arguments_are_an_object(arguments: str) -> None:
    assert named_call("f", arguments, NAMES) is None
    assert read_call(f'{{"name": "f", "arguments": {arguments}}}', NAMES) is None


def test_a_tool_that_was_not_offered_is_not_called() -> None:
    assert named_call("g", "{}", NAMES) is None
    assert read_calls('[{"name": "f"}, {"name": "g"}]', NAMES) == []

"""Messages as the API takes them become messages as chat templates take them."""

from __future__ import annotations

from typing import Any

import pytest

from anzoth.api.messages import MAX_PARTS, messages
from anzoth.errors import InvalidValue, MissingParameter, UnsupportedParameter


def translated(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return messages(list(given), "messages")


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_plain_messages_pass_unchanged() -> None:
    given = [
        {"role": "system", "content": "Be brief."},
        user("hi"),
        {"role": "assistant", "content": "hello"},
        user(""),
    ]
    assert translated(*given) == given


def test_developer_is_system_and_all_instructions_stand_in_front() -> None:
    assert translated(
        user("hi"),
        {"role": "developer", "content": "one"},
        {"role": "system", "content": "two"},
        user("again"),
    ) == [{"role": "system", "content": "one\n\ntwo"}, user("hi"), user("again")]


def test_parts_become_their_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert translated(user(parts)) == [user("a\nb")]
    refusal = [{"type": "refusal", "refusal": "no"}]
    assert translated({"role": "assistant", "content": refusal})[0]["content"] == "no"


@pytest.mark.parametrize(
    "kind", ["image_url", "input_image", "input_audio", "audio", "file", "video_url"]
)
def test_parts_that_are_not_text_are_refused_by_name(kind: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        translated(user("hi"), user([{"type": "text", "text": "see"}, {"type": kind, kind: {}}]))
    assert caught.value.param == "messages[1].content[1]"
    assert kind in caught.value.message


def test_reasoning_goes_back_to_the_template_as_it_is() -> None:
    message = {"role": "assistant", "content": "4", "reasoning_content": " 2 + 2\n"}
    assert translated(user("hi"), message) == [user("hi"), message]
    for nothing in ({}, {"reasoning_content": None}):
        given = {"role": "assistant", "content": "4", **nothing}
        assert translated(user("hi"), given)[1] == {"role": "assistant", "content": "4"}
    with pytest.raises(InvalidValue) as caught:
        translated(user("hi"), {**message, "reasoning_content": ["2"]})
    assert caught.value.param == "messages[1].reasoning_content"


def test_an_assistant_message_may_lack_content() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    expected = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
        ],
    }
    for content in ({}, {"content": None}, {"content": ""}):
        assert translated({"role": "assistant", "tool_calls": [call], **content}) == [expected]
    for nothing in (None, []):
        answer = translated({"role": "assistant", "tool_calls": nothing})
        assert answer == [{"role": "assistant", "content": ""}]


def test_arguments_that_are_not_an_object_stay_text() -> None:
    for text in ("{broken", "[1]", "5"):
        call = {"function": {"name": "f", "arguments": text}}
        message = translated({"role": "assistant", "tool_calls": [call]})[0]
        assert message["tool_calls"][0]["function"]["arguments"] == text


def test_tool_results_pass_through() -> None:
    given = {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"}
    assert translated(given) == [given]
    parts = {"role": "tool", "content": [{"type": "text", "text": "42"}]}
    assert translated(parts) == [{"role": "tool", "content": "42"}]
    assert translated({"role": "function", "name": "f", "content": "1"})[0]["role"] == "tool"


def test_a_tool_result_has_the_name_of_the_call_that_it_answers() -> None:
    def calling(name: str) -> dict[str, Any]:
        call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    def result(tool_call_id: str, **fields: str) -> dict[str, Any]:
        return {"role": "tool", "content": "42", "tool_call_id": tool_call_id, **fields}

    conversation = [
        result("c1"),  # before any call
        calling("f"),
        result("c1"),
        result("c2"),
        result("c1", name="mine"),
        calling("g"),  # some models use an id again
        result("c1"),
    ]
    names = [m.get("name") for m in translated(*conversation) if m["role"] == "tool"]
    assert names == [None, "f", None, "mine", "g"]


def test_unknown_fields_of_a_message_are_dropped() -> None:
    assert translated({**user("hi"), "cache_control": {"type": "x"}}) == [user("hi")]


@pytest.mark.parametrize(
    ("message", "param", "error"),
    [
        ({"content": "x"}, "messages[0].role", MissingParameter),
        ({"role": "wizard", "content": "x"}, "messages[0].role", InvalidValue),
        ({"role": 5, "content": "x"}, "messages[0].role", InvalidValue),
        ({"role": "user"}, "messages[0].content", MissingParameter),
        ({"role": "tool"}, "messages[0].content", MissingParameter),
        (user(None), "messages[0].content", InvalidValue),
        (user(5), "messages[0].content", InvalidValue),
        (user([]), "messages[0].content", InvalidValue),
        (user(["x"]), "messages[0].content[0]", InvalidValue),
        (user([{"type": "text"}]), "messages[0].content[0].text", InvalidValue),
        (user([{"type": ["text"]}]), "messages[0].content[0].type", InvalidValue),
        (user([{"text": "x"}]), "messages[0].content[0].type", InvalidValue),
        (
            user([{"type": "text", "text": "x"}] * (MAX_PARTS + 1)),
            "messages[0].content",
            InvalidValue,
        ),
        ({**user("x"), "name": 5}, "messages[0].name", InvalidValue),
        (
            {"role": "assistant", "tool_calls": [{"type": "function"}]},
            "messages[0].tool_calls[0].function",
            InvalidValue,
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
            "messages[0].tool_calls[0].function.arguments",
            InvalidValue,
        ),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls", InvalidValue),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 129},
            "messages[0].tool_calls",
            InvalidValue,
        ),
    ],
)
def test_a_broken_message_is_refused_with_its_path(
    message: dict[str, Any], param: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        translated(message)
    assert getattr(caught.value, "param") == param  # noqa: B009  # not known of `Exception`

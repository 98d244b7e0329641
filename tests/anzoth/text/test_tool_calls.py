"""Calls are found wherever a model writes them, however its text is cut; the rest stays text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.demo.vocabulary import CHAT_TEMPLATE
from anzoth.text.chat_template import ChatTemplate
from anzoth.text.tool_calls import (
    FORMATS,
    Event,
    ToolCall,
    ToolCallParser,
    WholeJsonParser,
    format_of,
)

HERMES, MISTRAL, MISTRAL_ARRAY, LLAMA3 = FORMATS

NAMES = {"f", "get_weather"}
OPEN, CLOSE = "<tool_call>", "</tool_call>"


def events(parser: ToolCallParser, pieces: Sequence[str]) -> list[Event]:
    """What was found; neighbouring texts are joined, because only their sum means anything."""
    found: list[Event] = []
    for given_out in [*map(parser.push, pieces), parser.flush()]:
        for event in given_out:
            assert event != ""
            if found and isinstance(event, str) and isinstance(found[-1], str):
                found[-1] += event
            else:
                found.append(event)
    return found


def hermes(text: str) -> list[Event]:
    """Read at once and character by character: the same."""
    whole = events(HERMES.parser(NAMES), [text])
    assert events(HERMES.parser(NAMES), list(text)) == whole
    return whole


def llama(text: str) -> list[Event]:
    whole = events(WholeJsonParser(NAMES), [text])
    assert events(WholeJsonParser(NAMES), list(text)) == whole
    return whole


def tagged(name: str, arguments: str) -> str:
    return f'{OPEN}\n{{"name": "{name}", "arguments": {arguments}}}\n{CLOSE}'


CALL = tagged("f", "{}")

# --- hermes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALL, [ToolCall("f", "{}")]),
        (f'{OPEN}{{"name":"f","arguments":{{"a":1}}}}{CLOSE}', [ToolCall("f", '{"a":1}')]),
        (f'{OPEN}{{ "arguments": {{}} , "name": "f" }}{CLOSE}', [ToolCall("f", "{}")]),
        (f"{CALL}\n{CALL}", [ToolCall("f", "{}")] * 2),
        (f"Let me see.\n\n{CALL}\n", ["Let me see.", ToolCall("f", "{}")]),
        (f"\n \n{CALL}", [ToolCall("f", "{}")]),
        (f"{CALL}\nDone. ", [ToolCall("f", "{}"), "Done. "]),
        (f"One.\n{CALL}\nTwo.", ["One.", ToolCall("f", "{}"), "\n\nTwo."]),
        # Of a tool without arguments.
        (f'{OPEN}{{"name": "f"}}{CLOSE}', [ToolCall("f", "{}")]),
        # The other family's word.
        (f'{OPEN}{{"name": "f", "parameters": {{"a": 1}}}}{CLOSE}', [ToolCall("f", '{"a": 1}')]),
    ],
)
def test_calls_are_found_and_the_white_space_around_them_is_not_text(
    text: str, expected: list[Event]
) -> None:
    assert hermes(text) == expected


def test_arguments_are_the_models_own_characters() -> None:
    written = '{"price": 1.10, "id": 12345678901234567890, "e": 1E+2,  "s": "é\\u00e9\\/ \\ud83d"}'
    assert hermes(tagged("f", written)) == [ToolCall("f", written)]


@pytest.mark.parametrize("inside", [CLOSE, OPEN, "}", "{", '\\"', "\\\\", f'{CLOSE}\\\\\\"{OPEN}'])
def test_what_stands_in_a_string_of_the_arguments_ends_nothing(inside: str) -> None:
    arguments = f'{{"text": "a{inside}b"}}'
    assert hermes(f"{tagged('f', arguments)}\n{CALL}") == [
        ToolCall("f", arguments),
        ToolCall("f", "{}"),
    ]


@pytest.mark.parametrize("cut", range(len(CLOSE) + 1))
def test_a_complete_call_needs_no_closing_tag(cut: int) -> None:
    call = tagged("f", "{}").removesuffix(CLOSE)
    assert hermes(call + CLOSE[:cut]) == [ToolCall("f", "{}")]
    assert hermes(f"{call}{CALL}") == [ToolCall("f", "{}")] * 2


@pytest.mark.parametrize(
    "text",
    [
        f"{OPEN}not json{CLOSE}",
        f"{OPEN}{{broken}}{CLOSE}",
        f'{OPEN}{{"name": "f", "arguments": {{}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": {{}}}}}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": "x"}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": [1]}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": null}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": {{"a": NaN}}}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": {{"a": {"[" * 99_999}}}}}{CLOSE}',
        f'{OPEN}{{"name": "f", "args": {{"a": 1}}}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": {{}}, "parameters": {{}}}}{CLOSE}',
        f'{OPEN}{{"name": ["f"], "arguments": {{}}}}{CLOSE}',
        f'{OPEN}{{"arguments": {{}}}}{CLOSE}',
        f"{OPEN}{{}}{CLOSE}",
        f'{OPEN}[{{"name": "f", "arguments": {{}}}}]{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": {{}}}} and so on {CLOSE}',
        f"The tag {OPEN} begins a call.",
        f"{OPEN}",
        f"{OPEN} \n",
        f"a < b, {CLOSE}, <tool_",
        " \n",
        "",
    ],
    ids=itertools.count(),
)
def test_what_is_no_valid_call_is_text_down_to_the_last_character(text: str) -> None:
    expected = [text] if text else []
    assert events(HERMES.parser(NAMES), [text]) == expected
    if len(text) < 1000:
        assert hermes(text) == expected


def test_a_tool_that_was_not_offered_is_not_called() -> None:
    text = tagged("delete_everything", "{}")
    assert hermes(text) == [text]
    # Neither is one that stands inside of it.
    nested = tagged("nope", f'{{"x": {tagged("f", "{}")}}}')
    assert hermes(nested) == [nested]


def test_a_broken_call_does_not_hide_the_next_one() -> None:
    broken = f"{OPEN}{{broken}}{CLOSE}"
    assert hermes(f"{broken}\n{CALL}") == [broken, ToolCall("f", "{}")]
    assert hermes(f"{OPEN}{CALL}") == [OPEN, ToolCall("f", "{}")]


def test_text_is_not_held_back_longer_than_it_could_begin_a_call() -> None:
    parser = HERMES.parser(NAMES)
    assert parser.push("Hello") == ["Hello"]
    assert parser.push(" there ") == [" there"]  # white space may stand before a call
    assert parser.push("<tool") == []
    assert parser.push("box>") == [" <toolbox>"]
    assert parser.push(OPEN) == []
    assert "".join(map(str, parser.push("x"))) == f"{OPEN}x"


def test_a_call_is_given_out_as_soon_as_its_closing_tag_is_there() -> None:
    parser = HERMES.parser(NAMES)
    assert parser.push(CALL[:-1]) == []
    assert parser.push(">") == [ToolCall("f", "{}")]


def test_long_arguments_are_looked_at_once() -> None:
    """Forty thousand one-character pieces: scanning from the start each time takes minutes."""
    arguments = '{"text": "' + "x{" * 20_000 + '"}'
    assert events(HERMES.parser(NAMES), list(tagged("f", arguments))) == [ToolCall("f", arguments)]


def test_white_space_without_end_does_not_hold_up_the_stream() -> None:
    """Looked at anew with each piece, this would be a minute of Python."""
    space = ["\n"] * 5_000
    for before in ("", OPEN):
        assert events(HERMES.parser(NAMES), [before, *space]) == [before + "".join(space)]
    assert events(HERMES.parser(NAMES), [CALL.removesuffix(CLOSE), *space]) == [ToolCall("f", "{}")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from([OPEN, CLOSE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
CALLS = st.builds(
    lambda name, arguments, ascii: ToolCall(name, json.dumps(arguments, ensure_ascii=ascii)),
    st.sampled_from(sorted(NAMES)),
    st.dictionaries(st.text(max_size=6), JSON, max_size=3),
    st.booleans(),
)
TEXTS = st.text('ab <\n{}"\\/>', min_size=1, max_size=12).filter(
    lambda text: text.strip(" \n") == text
)


@settings(max_examples=50, deadline=None)
@given(st.lists(CALLS | TEXTS, max_size=6), st.data())
def test_texts_and_calls_in_any_order_are_found_at_any_cut(
    parts: list[Event], data: st.DataObject
) -> None:
    written = [tagged(p.name, p.arguments) if isinstance(p, ToolCall) else p for p in parts]
    text = "".join(written)
    found = events(HERMES.parser(NAMES), cut(text, data))
    assert [event for event in found if isinstance(event, ToolCall)] == [
        part for part in parts if isinstance(part, ToolCall)
    ]
    assert "".join(e for e in found if isinstance(e, str)) == "".join(
        part for part in parts if isinstance(part, str)
    )


FRAGMENTS = [OPEN, CLOSE, "{", "}", '"', "\\", '{"name":', '"f"', ',"arguments":', "{}", " ", "\n"]
FRAGMENTS += ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "]", ","]
FRAGMENTS += ["<", "tool_call>", CALL, '{"name": "f", "parameters": {"a": 1}}', ";", "[", "x", "é"]
SOUP = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2), max_size=12).map("".join)


@settings(max_examples=200, deadline=None)
@given(SOUP, st.data(), st.sampled_from(FORMATS))
def test_how_a_text_is_cut_changes_nothing(text: str, data: st.DataObject, format: Any) -> None:
    found = events(format.parser(NAMES), cut(text, data))
    assert found == events(format.parser(NAMES), [text])
    if not any(isinstance(event, ToolCall) for event in found):
        assert "".join(map(str, found)) == text


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


# --- mistral --------------------------------------------------------------------------------------

MARK = "[TOOL_CALLS]"


def mistral(text: str) -> list[Event]:
    whole = events(MISTRAL.parser(NAMES), [text])
    for format in (MISTRAL, MISTRAL_ARRAY):
        assert events(format.parser(NAMES), list(text)) == whole
    return whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'{MARK}f[ARGS]{{"a": "}}"}}', [ToolCall("f", '{"a": "}"}')]),
        (f"{MARK}f[ARGS]{{}}{MARK}get_weather[ARGS] {{}}\n", ["f", "get_weather"]),
        (f"{MARK}f[CALL_ID]a1B2c3D4e[ARGS]{{}}", ["f"]),
        (f"Let me see. {MARK}f[ARGS]{{}}", ["Let me see.", "f"]),
        (f'{MARK} [{{"name": "f", "arguments": {{"a": "]"}}}}]', [ToolCall("f", '{"a": "]"}')]),
        (
            f'{MARK}[{{"name": "f", "arguments": {{}}, "id": "a1B2c3D4e"}} , {{"name": "f"}} ] ',
            ["f", "f"],
        ),
        (f'So:\n{MARK}\n[{{"name": "f", "arguments": {{"a": [[1], []]}}}}]', None),
        (f"{MARK} is no call. {MARK}f[ARGS]{{}}", [f"{MARK} is no call.", "f"]),
    ],
)
def test_mistral_names_a_call_or_writes_an_array(text: str, expected: list[Any] | None) -> None:
    if expected is None:
        expected = ["So:", ToolCall("f", '{"a": [[1], []]}')]
    calls = [ToolCall(e, "{}") if isinstance(e, str) and e in NAMES else e for e in expected]
    assert mistral(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        MARK,
        f"{MARK} \n",
        f"{MARK}f",
        f"{MARK}f[ARGS]",
        f'{MARK}f[ARGS]{{"a": 1',
        f'{MARK}f[ARGS]{{"a": NaN}}',
        f"{MARK}f[ARGS]{{broken}}",
        f"{MARK}f[ARGS]5",
        f"{MARK}f[CALL_ID][ARGS]{{}}",
        f"{MARK}f[CALL_ID]!",
        f"{MARK}{'n' * 65}[ARGS]{{}}",
        f"{MARK}unknown[ARGS]{{}}",
        f'{MARK}unknown[ARGS]{{"x": "{MARK}f[ARGS]{{}}"}}',
        f"{MARK}[]",
        f"{MARK}[1]",
        f'{MARK}[{{"name": "f"}}',
        f'{MARK}[{{"name": "f"}}, 5]',
        f'{MARK}[{{"name": "f"}}, {{"name": "unknown"}}]',
        f'{MARK}[{{"name": "f"}},]',
        f'{MARK}[{{"name": "f", "arguments": "x"}}]',
        f'{MARK}{{"name": "f", "arguments": {{}}}}',
        '[{"name": "f", "arguments": {}}]',
        "f[ARGS]{}",
        "[TOOL_",
    ],
    ids=itertools.count(),
)
def test_what_is_no_valid_mistral_call_is_text(text: str) -> None:
    assert mistral(text) == [text]


def test_a_mark_that_begins_no_call_is_not_held_back() -> None:
    parser = MISTRAL.parser(NAMES)
    assert parser.push("see [TOOL_") == ["see"]
    assert parser.push("CALLS]") == []
    assert "".join(map(str, parser.push(" is "))) == f" {MARK} is"
    assert parser.push(f"{MARK}f[ARGS]{{}}") == [ToolCall("f", "{}")]
    for broken in ("f[CALL_ID]!", "f[ARGS]5", "f g", "[1", "é"):
        parser = MISTRAL.parser(NAMES)
        assert "".join(map(str, parser.push(MARK + broken))) == MARK + broken


@settings(max_examples=50, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=4), st.data())
def test_either_way_of_writing_calls_is_read_at_any_cut(
    calls: list[ToolCall], data: st.DataObject
) -> None:
    named = "".join(f"{MARK}{call.name}[ARGS]{call.arguments}" for call in calls)
    objects = (f'{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in calls)
    for text in (named, f"{MARK} [{', '.join(objects)}]"):
        assert events(MISTRAL.parser(NAMES), cut(text, data)) == calls


# --- llama3_json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "f", "parameters": {"a": "}"}}', [ToolCall("f", '{"a": "}"}')]),
        ('\n{"type": "function", "name": "f", "parameters": {}}\n', [ToolCall("f", "{}")]),
        ('{"name": "f", "parameters": {}}; {"name": "f"}', [ToolCall("f", "{}")] * 2),
    ],
)
def test_a_whole_text_of_calls_is_calls(text: str, expected: list[Event]) -> None:
    assert llama(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        'So: {"name": "f", "parameters": {}}',
        '{"name": "f", "parameters": {}} is what I would call',
        '{"name": "f", "parameters": {}};;',
        '{"name": "g", "parameters": {}}',
        '{"answer": 42}',
        '{"name": "f", "parameters": {',
        " \n",
        "",
    ],
)
def test_a_text_with_anything_else_in_it_is_text(text: str) -> None:
    assert llama(text) == ([text] if text else [])


def test_only_a_text_that_begins_like_a_call_waits_for_its_end() -> None:
    parser = WholeJsonParser(NAMES)
    assert parser.push(" ") == []
    assert parser.push("No") == [" No"]
    assert parser.push("{") == ["{"]


# --- which format ---------------------------------------------------------------------------------

LLAMA_LIKE = "<|start_header_id|>{{ '{\"name\": \"' + call.name + '\", ' }}{{ '\"parameters\": ' }}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHAT_TEMPLATE, "hermes"),
        ('{{ "<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}" }}', "hermes"),
        (LLAMA_LIKE, "llama3_json"),
        ("{{ '<tool_call>\\n<function=' + call.name }}", None),
        ("{{ '[TOOL_CALLS]' + calls | tojson }}", "mistral_array"),
        ("{{ '[TOOL_CALLS]' + call.name + '[ARGS]' + call.arguments }}", "mistral"),
        ("{{ messages[0].content }}", None),
    ],
)
def test_the_chat_template_shows_how_a_model_writes_calls(
    template: str, expected: str | None
) -> None:
    found = format_of(template)
    assert (None if found is None else found.name) == expected


def test_what_the_bundled_template_writes_is_read_back() -> None:
    call = {"name": "get_weather", "arguments": {"city": "Zürich", "tags": ["</tool_call>"]}}
    message = {"role": "assistant", "content": "One moment.", "tool_calls": [{"function": call}]}
    prompt = ChatTemplate(CHAT_TEMPLATE, {}).render([{"role": "user", "content": "hi"}, message])
    said = prompt.split("<|assistant|>")[1].removesuffix("<|end|>")
    text, found = hermes(said)
    assert text == "One moment."
    assert isinstance(found, ToolCall)
    assert (found.name, json.loads(found.arguments)) == (call["name"], call["arguments"])

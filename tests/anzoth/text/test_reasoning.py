"""Reasoning is divided from the answer wherever the text is cut, and its tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.text.reasoning import (
    Beginning,
    Event,
    Reasoning,
    ReasoningCounter,
    ReasoningParser,
    beginning_after,
    has_reasoning,
)
from anzoth.text.tool_calls import FORMATS, ToolCall

POSSIBLE, INSIDE = Beginning.POSSIBLE, Beginning.INSIDE
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def events(beginning: Beginning, pieces: Sequence[str]) -> list[Event]:
    """What was found; neighbours of one kind are joined."""
    parser = ReasoningParser(beginning)
    found: list[Event] = []
    for given_out in [*map(parser.push, pieces), parser.flush()]:
        for event in given_out:
            assert event not in ("", Reasoning(""))
            if isinstance(event, Reasoning) and found and isinstance(found[-1], Reasoning):
                found[-1] = Reasoning(found[-1].text + event.text)
            elif isinstance(event, str) and found and isinstance(found[-1], str):
                found[-1] += event
            else:
                found.append(event)
    return found


def divided(text: str, beginning: Beginning = POSSIBLE) -> tuple[str, str]:
    """Reasoning and answer, in this order; read at once and character by character: the same."""
    found = events(beginning, [text])
    assert events(beginning, list(text)) == found
    assert len(found) <= 2
    assert not any(isinstance(event, Reasoning) for event in found[1:])
    reasoning = "".join(event.text for event in found if isinstance(event, Reasoning))
    return reasoning, "".join(event for event in found if isinstance(event, str))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nLet me see.\n</think>\n\nIt is 4.", ("Let me see.", "It is 4.")),
        ("\n<think>a\n\nb</think>c\n", ("a\n\nb", "c\n")),
        ("<think>\n\n</think>\n\nIt is 4.", ("", "It is 4.")),
        ("<think>a <think> b</think>c", ("a <think> b", "c")),
        ("<think>a</think>b <think>c</think>", ("a", "b <think>c</think>")),
        ("<think>a < b </thin", ("a < b </thin", "")),
        ("<think> cut short \n", ("cut short", "")),
        ("<think>", ("", "")),
        ("<think>a</think> \n", ("a", "")),
        (" \nIt is 4. ", ("", " \nIt is 4. ")),
        ("The mark <think> begins it, </think> ends it.", None),
        ("a</think>b", None),
        ("<thin", None),
        (" \n", None),
        ("", None),
    ],
)
def test_a_text_begins_with_reasoning_or_has_none(
    text: str, expected: tuple[str, str] | None
) -> None:
    assert divided(text) == (expected or ("", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nLet me see.\n</think>\n\nIt is 4.", ("Let me see.", "It is 4.")),
        ("</think>It is 4.", ("", "It is 4.")),
        ("cut short", ("cut short", "")),
        ("<think>again</think>a", ("<think>again", "a")),
    ],
)
def test_a_prompt_may_have_begun_the_reasoning(text: str, expected: tuple[str, str]) -> None:
    assert divided(text, INSIDE) == expected


def test_only_what_may_be_a_mark_or_layout_is_held_back() -> None:
    parser = ReasoningParser()
    assert parser.push("<th") == []
    assert parser.push("ink>\n") == []
    assert parser.push("So ") == [Reasoning("So")]
    assert parser.push("it</") == [Reasoning(" it")]
    assert parser.push("x>") == [Reasoning("</x>")]
    assert parser.push("</think>") == []
    assert parser.push("\n") == []
    assert parser.push("4 ") == ["4 "]
    assert parser.push("<think>") == ["<think>"]


def test_a_call_that_is_only_thought_of_is_none() -> None:
    names, hermes = {"f"}, FORMATS[0]
    for text in (f"<think>I could {CALL}</think>{CALL}", f"<think>{CALL[:20]}</think>{CALL}"):
        for pieces in ([text], list(text)):
            parser = hermes.parser(names)
            answer = [e for e in events(POSSIBLE, pieces) if isinstance(e, str)]
            found = [event for piece in answer for event in parser.push(piece)]
            assert [*found, *parser.flush()] == [ToolCall("f", "{}")]


FRAGMENTS = ["<think>", "</think>", "<", "</", "think", ">", " ", "\n", "a", "é", "b c", CALL]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2), max_size=10).map("".join)
WORDS = st.text("ab <\n/>", max_size=8)
BEGINNINGS = st.sampled_from(Beginning)


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@settings(max_examples=100, deadline=None)
@given(TEXTS, BEGINNINGS, st.data())
def test_how_a_text_is_cut_changes_nothing(
    text: str, beginning: Beginning, data: st.DataObject
) -> None:
    assert events(beginning, cut(text, data)) == at_once(text, beginning)


def at_once(text: str, beginning: Beginning) -> list[Event]:
    """The same rule for a text that is there as a whole."""
    space = " \t\r\n"
    if beginning is POSSIBLE:
        if not text.lstrip(space).startswith("<think>"):
            return [text] if text else []
        text = text.lstrip(space).removeprefix("<think>")
    reasoning, _, answer = text.partition("</think>")
    parts = [Reasoning(reasoning.strip(space)), answer.lstrip(space)]
    return [part for part in parts if part not in ("", Reasoning(""))]


@settings(max_examples=100, deadline=None)
@given(WORDS, WORDS, st.data())
def test_what_was_put_together_is_divided_again(
    reasoning: str, answer: str, data: st.DataObject
) -> None:
    expected = [Reasoning(reasoning.strip())] if reasoning.strip() else []
    expected += [answer.lstrip()] if answer.strip() else []
    text = f"{reasoning}</think>{answer}"
    assert events(INSIDE, cut(text, data)) == expected
    assert events(POSSIBLE, cut(f"<think>{text}", data)) == expected


# --- tokens ---------------------------------------------------------------------------------------


def num_tokens(pieces: Sequence[str], beginning: Beginning = POSSIBLE) -> int:
    counter = ReasoningCounter(beginning)
    for piece in pieces:
        counter.push(piece)
    return counter.num_tokens


@pytest.mark.parametrize(
    ("beginning", "pieces", "expected"),
    [
        (POSSIBLE, ["<think>", "\n", "a", " b", "\n", "</think>", "\n\n", "c", "d"], 6),
        (POSSIBLE, ["<", "think", ">", "a", "</", "think", ">\n\n", "c"], 7),
        (POSSIBLE, ["\n", "<think>", "a"], 3),
        (POSSIBLE, ["<think>", "", "é", "</think>"], 4),
        (POSSIBLE, ["<think>a</think>b", "c"], 1),
        (POSSIBLE, ["\n", "<thi", "s", "</think>"], 0),
        (POSSIBLE, ["<thin"], 0),
        (POSSIBLE, [], 0),
        (INSIDE, ["a", "b</think>", "c"], 2),
        (INSIDE, ["a", "b"], 2),
    ],
)
def test_tokens_up_to_the_closing_mark_are_reasoning(
    beginning: Beginning, pieces: list[str], expected: int
) -> None:
    assert num_tokens(pieces, beginning) == expected


@settings(max_examples=100, deadline=None)
@given(TEXTS, BEGINNINGS, st.data())
def test_the_tokens_of_reasoning_are_those_without_which_it_is_not_closed(
    text: str, beginning: Beginning, data: st.DataObject
) -> None:
    pieces = cut(text, data)
    inside = text if beginning is INSIDE else text.lstrip(" \t\r\n")
    expected = 0
    if beginning is INSIDE or inside.startswith("<think>"):
        start = len(text) - len(inside) + (0 if beginning is INSIDE else len("<think>"))
        closed = text.find("</think>", start)
        end = len(text) if closed < 0 else closed + len("</think>")
        joined = [len("".join(pieces[:number])) for number in range(len(pieces))]
        expected = sum(begin < end or closed < 0 for begin in joined)
    assert num_tokens(pieces, beginning) == expected


# --- where it begins ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<|im_start|>assistant\n", POSSIBLE),
        ("<|im_start|>assistant\n<think>\n", INSIDE),
        ("<think>", INSIDE),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", None),
        ("<|Assistant|></think>", None),
        ("user: <think>\nassistant:", POSSIBLE),
        ("", POSSIBLE),
    ],
)
def test_the_end_of_the_prompt_says_where_the_text_begins(
    prompt: str, expected: Beginning | None
) -> None:
    assert beginning_after(prompt) is expected


def test_the_chat_template_shows_whether_a_model_reasons() -> None:
    assert has_reasoning("{{ content.split('</think>')[-1] }}")
    assert not has_reasoning("{{ content }} I think.")

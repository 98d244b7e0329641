"""Passages stand in the user's last message, one line each, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.text.passages import INSTRUCTION, Passage, question_with_passages, with_passages

PASSAGES = [Passage("The pump\n runs  on water.", "Manual\n3"), Passage("No title here.")]


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_the_layout_is_an_instruction_numbered_lines_and_the_question() -> None:
    assert question_with_passages("What does it run on?", PASSAGES) == (
        f"{INSTRUCTION}\n\n"
        "[1] Manual 3: The pump runs on water.\n"
        "[2] No title here.\n\n"
        "Question: What does it run on?"
    )


def test_the_users_last_message_is_the_question_even_behind_tool_results() -> None:
    before = [
        {"role": "system", "content": "Be brief."},
        user("first"),
        {"role": "assistant", "content": "a"},
    ]
    after = [{"role": "assistant", "content": ""}, {"role": "tool", "content": "42"}]
    question = {**user("second"), "name": "ada"}
    changed = with_passages([*before, question, *after], PASSAGES)
    assert changed[:3] == before
    assert changed[4:] == after
    assert changed[3] == {**question, "content": question_with_passages("second", PASSAGES)}
    assert question["content"] == "second"


def test_without_passages_nothing_changes_whoever_speaks() -> None:
    for messages in ([user("hi")], [{"role": "system", "content": "x"}], []):
        assert with_passages(messages, []) == messages


def test_passages_need_a_message_of_the_users() -> None:
    with pytest.raises(ValueError, match="user"):
        with_passages([{"role": "system", "content": "x"}], PASSAGES)


@given(st.lists(st.builds(Passage, st.text(max_size=20), st.none() | st.text(max_size=8))))
def test_every_passage_is_one_line_with_its_number(passages: list[Passage]) -> None:
    lines = question_with_passages("q", passages).split("\n")
    assert lines[:2] == [INSTRUCTION, ""]
    assert lines[-2:] == ["", "Question: q"]
    numbered = lines[2:-2]
    assert [line.split(" ")[0] for line in numbered] == [
        f"[{number}]" for number in range(1, len(passages) + 1)
    ]
    assert all(len(line.splitlines()) == 1 for line in numbered)

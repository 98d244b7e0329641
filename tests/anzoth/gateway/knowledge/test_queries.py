"""What is looked for is the user's last message, with what it refers to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway.knowledge.queries import MAX_CHARACTERS, queries

FIRST = "What does the X200 pump run on?"


def turns(*contents: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


@pytest.mark.parametrize(
    "last",
    ["And the fan?", "how much does it cost per year", "why is that so important", "price?"],
)
def test_a_message_that_cannot_stand_alone_brings_the_one_before(last: str) -> None:
    assert queries(turns(FIRST, "Water.", last)) == (f"{FIRST}\n{last}",)


def test_a_message_that_can_stands_alone() -> None:
    last = "How long does the warranty of the fan last?"
    assert queries(turns(FIRST, "Water.", last)) == (last,)
    assert queries(turns("it")) == ("it",)
    result = {"role": "tool", "content": "42"}
    assert queries([*turns("a", "b", last), {"role": "assistant", "content": ""}, result]) == (
        last,
    )


def test_without_a_word_of_the_users_nothing_is_looked_for() -> None:
    assert queries([]) == ()
    assert queries([{"role": "system", "content": "x"}]) == ()
    assert queries(turns(FIRST, "Water.", "  \n")) == ()


@given(st.lists(st.text(max_size=30) | st.just("word " * 1500), min_size=1, max_size=5))
def test_queries_are_few_short_and_always_the_same(contents: list[str]) -> None:
    made = queries(turns(*contents))
    assert made == queries(turns(*contents))
    assert len(made) <= 2
    assert all(0 < len(query) <= MAX_CHARACTERS for query in made)

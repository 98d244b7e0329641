"""Phrasings expand fully, and the lessons hang together."""

from __future__ import annotations

import random

import pytest

from anzoth.demo.lessons_chat import TOPICS, WORDING
from anzoth.demo.lessons_recall import ECHO, ECHO_VALUE, SLOTS, SYSTEM, VALUES
from anzoth.demo.topic import Topic, expand, table


def test_choices_nest_and_an_empty_one_leaves_no_double_space() -> None:
    seen = {expand("a [b|c [d|e]|] f", random.Random(seed)) for seed in range(200)}
    assert seen == {"a b f", "a c d f", "a c e f", "a f"}


def test_a_word_is_expanded_anew_at_every_place() -> None:
    words = {"x": "[1|2]"}
    seen = {expand("{x}{x}", random.Random(seed), words) for seed in range(100)}
    assert seen == {"11", "12", "21", "22"}


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        expand("{nothing}", random.Random(0))


@pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)
def test_every_phrasing_of_a_topic_expands_to_plain_text(topic: Topic) -> None:
    rng = random.Random(0)
    for pattern in (*topic.asks, *(asked for asked, _ in topic.follows)):
        for _ in range(20):
            text = expand(pattern, rng, WORDING)
            assert text
            assert not set("[]{}|") & set(text.replace("[[models]]", "")), pattern


@pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)
def test_every_answer_contains_the_phrase_that_marks_it_as_right(topic: Topic) -> None:
    assert topic.answers
    for answer in topic.answers:
        assert topic.key.lower() in answer.lower()


def test_values_to_copy_expand_to_plain_text() -> None:
    rng = random.Random(0)
    for pattern in (ECHO_VALUE, *(slot.value for slot in SLOTS), *SYSTEM):
        for _ in range(50):
            assert not set("[]{}|<>") & set(expand(pattern, rng, VALUES))


def test_every_text_about_a_value_has_exactly_one_place_for_it() -> None:
    for slot in SLOTS:
        for text in (*slot.tells, *slot.acknowledgements, *slot.recalls):
            assert text.count("<value>") == 1
        assert "<value>" not in slot.unknown
    assert all(text.count("<value>") == 1 for text in ECHO)


def test_a_name_used_twice_is_refused() -> None:
    topic = Topic("same", "", ("a",), ("b",), "b")
    with pytest.raises(ValueError, match="same"):
        table((topic,), (topic,))


def test_a_follow_up_to_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        table((Topic("one", "", ("a",), ("b",), "b", (("and?", "nowhere"),)),))

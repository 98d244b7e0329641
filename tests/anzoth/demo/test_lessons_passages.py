"""Questions about passages have one answer, in one passage, or none."""

from __future__ import annotations

import random
import re

import pytest

from anzoth.demo import facts
from anzoth.demo.draw import Draw, Phrasings, is_held_out
from anzoth.demo.lessons_passages import (
    CITES_FIRST,
    UNANSWERABLE,
    answerable,
    questions,
    several,
    unanswerable,
)
from anzoth.text.passages import INSTRUCTION

LEVELS = (0.0, 0.3, 0.6, 1.0)


def passages(content: str) -> list[str]:
    """The numbered lines of a user's message."""
    lines = content.removeprefix(INSTRUCTION).split("\n\nQuestion: ")[0].strip().split("\n")
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"[{number}] ")
    return [line.split(" ", 1)[1] for line in lines]


def quoted(answer: str) -> tuple[str, int]:
    """The sentence and the number of its passage."""
    pattern = r"\[(?P<n>\d)\] (?P<s>.*)\." if CITES_FIRST else r"(?P<s>.*) \[(?P<n>\d)\]\."
    match = re.fullmatch(pattern, answer)
    assert match is not None, answer
    return f"{match['s']}.", int(match["n"])


@pytest.mark.parametrize("level", LEVELS)
def test_the_answer_is_a_sentence_of_the_passage_that_it_cites(level: float) -> None:
    draw = Draw(random.Random(1), level=level)
    for _ in range(200):
        *_, user, answer = answerable(draw).turns
        sentence, number = quoted(answer.content)
        found = [i for i, text in enumerate(passages(user.content), 1) if sentence in text]
        assert number in found


@pytest.mark.parametrize("level", LEVELS)
def test_an_unanswerable_question_gets_the_fixed_reply(level: float) -> None:
    draw = Draw(random.Random(2), level=level)
    for _ in range(100):
        *_, user, answer = unanswerable(draw).turns
        assert answer.content == UNANSWERABLE
        assert passages(user.content)


@pytest.mark.parametrize("level", LEVELS)
def test_several_questions_are_about_the_same_passages(level: float) -> None:
    draw = Draw(random.Random(7), level=level)
    replies: list[str] = []
    for _ in range(100):
        first, *turns = several(draw).turns
        known = passages(first.content)
        answers = [turn.content for turn in turns if turn.role == "assistant"]
        assert len(answers) == len([turn for turn in turns if turn.role == "user"]) + 1
        assert all(INSTRUCTION not in turn.content for turn in turns)
        for answer in answers:
            if answer != UNANSWERABLE:
                sentence, number = quoted(answer)
                assert sentence in known[number - 1]
        replies += answers
    assert 0 < replies.count(UNANSWERABLE) < len(replies) / 2


@pytest.mark.parametrize("level", LEVELS)
def test_different_questions_are_asked_about_the_same_passages(level: float) -> None:
    draw = Draw(random.Random(8), level=level)
    replies: list[str] = []
    for _ in range(100):
        asked = questions(draw)
        contents = [conversation.turns[-2].content for conversation in asked]
        assert len({content.split("Question: ")[0] for content in contents}) == 1
        assert len(set(contents)) == len(contents) > 1
        known = passages(contents[0])
        for conversation in asked:
            answer = conversation.turns[-1].content
            if answer != UNANSWERABLE:
                sentence, number = quoted(answer)
                assert sentence in known[number - 1]
            replies.append(answer)
    assert 0.15 < replies.count(UNANSWERABLE) / len(replies) < 0.55


def test_the_first_lessons_are_one_sentence_and_the_last_ones_are_many() -> None:
    first = [answerable(Draw(random.Random(seed), level=0)) for seed in range(50)]
    assert all(len(passages(c.turns[-2].content)) == 1 for c in first)
    last = [answerable(Draw(random.Random(seed), level=1)) for seed in range(200)]
    numbers = {len(passages(c.turns[-2].content)) for c in last}
    assert max(numbers) >= 5
    assert max(numbers) <= 9  # a citation is one token up to [9]


@pytest.mark.parametrize("make", [facts.attribute, facts.event, facts.rule])
@pytest.mark.parametrize("held_out", [False, True])
def test_a_fact_states_the_value_that_its_question_asks_for(make, held_out: bool) -> None:
    draw = Draw(random.Random(3), held_out_values=held_out, held_out_phrasings=held_out)
    for _ in range(300):
        fact = make(draw)
        assert fact.value.lower() in fact.sentence.lower()
        assert fact.sentence.endswith(".")
        assert "{" not in fact.sentence + fact.question
        assert "[" not in fact.sentence + fact.question


def test_drawn_values_are_on_their_side_of_the_split() -> None:
    for held_out in (False, True):
        draw = Draw(random.Random(4), held_out_values=held_out)
        for _ in range(300):
            fact = facts.event(draw)
            assert is_held_out(fact.about[2].split()[0]) is held_out


def test_held_out_phrasings_are_not_among_the_trained_ones() -> None:
    lists = [value for value in vars(facts).values() if isinstance(value, Phrasings)]
    lists += facts._EVENT_QUESTIONS.values()
    assert len(lists) >= 7
    for phrasings in lists:
        assert not set(phrasings.train) & set(phrasings.held_out)
    assert not {rule[0] for rule in facts._RULES} & {rule[0] for rule in facts._HELD_OUT_RULES}


def test_the_same_seed_makes_the_same_lessons() -> None:
    def lessons() -> list[object]:
        draw = Draw(random.Random(6))
        return [answerable(draw) for _ in range(20)]

    assert lessons() == lessons()

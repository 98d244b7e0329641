"""Conversations are a function of their seed and consistent in themselves."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from anzoth.demo.conversation import Turn
from anzoth.demo.draw import Draw, is_held_out
from anzoth.demo.lessons_chat import TOPICS, chat, copying
from anzoth.demo.lessons_recall import SLOTS


def conversations(seed: int, count: int, **options: bool) -> list[tuple[Turn, ...]]:
    draw = Draw(random.Random(seed), **options)
    return [chat(draw).turns for _ in range(count)]


def test_the_same_seed_makes_the_same_text() -> None:
    assert conversations(5, 100) == conversations(5, 100)


def test_another_seed_makes_another_text() -> None:
    assert conversations(5, 100) != conversations(6, 100)


def test_every_answer_contains_its_key() -> None:
    for turns in conversations(4, 1000):
        for turn in turns:
            if turn.role == "assistant":
                assert turn.key
                assert turn.key.lower() in turn.content.lower()


def test_users_and_the_assistant_take_turns_and_nobody_is_silent() -> None:
    for turns in conversations(1, 1000):
        roles = [turn.role for turn in turns if turn.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(turn.role != "system" for turn in turns[1:])
        assert all(turn.content.strip() for turn in turns)


def test_every_topic_occurs() -> None:
    seen = {turn.topic for turns in conversations(2, 8000) for turn in turns}
    assert set(TOPICS) <= seen


def test_a_recalled_value_is_the_last_one_that_was_told() -> None:
    recalled = Counter[str]()
    slots = {slot.name: slot for slot in SLOTS}
    for turns in conversations(3, 3000):
        told: dict[str, str] = {}
        for user, turn in itertools.pairwise(turns):
            kind, _, name = (turn.topic or "").partition("-")
            if kind == "tell" and name in slots:
                told[name] = turn.content
            elif kind == "ask" and name in slots and name not in told:
                assert turn.content == slots[name].unknown
            elif kind == "ask" and name in slots:
                before, after = slots[name].recalls[0].split("<value>")
                value = turn.content.removeprefix(before).removesuffix(after)
                assert value in told[name]
                recalled[name] += 1
            elif turn.topic == "echo":
                assert turn.content in user.content
                recalled["echo"] += 1
    assert set(recalled) == {*slots, "echo"}


def test_the_lessons_in_copying_mostly_copy() -> None:
    draw = Draw(random.Random(0))
    standard = Counter(turn.topic for _ in range(500) for turn in chat(draw).turns)
    first = Counter(turn.topic for _ in range(500) for turn in copying(draw).turns)
    assert first["echo"] > 5 * standard["echo"]


def test_a_value_to_remember_is_on_its_side_of_the_split() -> None:
    for held_out in (False, True):
        for turns in conversations(8, 400, held_out_values=held_out):
            for turn in turns:
                if (turn.topic or "").startswith(("tell-", "echo")):
                    assert is_held_out(turn.key) is held_out

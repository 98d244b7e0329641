"""The training text is a function of its seed, begins easy, and has a share of every lesson."""

from __future__ import annotations

import random
from collections import Counter

from anzoth.demo.conversation import Conversation
from anzoth.demo.curriculum import LESSONS, example


def examples(seed: int, count: int, progress: float) -> list[Conversation]:
    rng = random.Random(seed)
    return [one for _ in range(count) for one in example(rng, progress)[0]]


def test_the_same_seed_makes_the_same_text() -> None:
    assert examples(5, 100, 0.7) == examples(5, 100, 0.7)
    assert examples(5, 100, 0.7) != examples(6, 100, 0.7)


def test_copying_comes_first_and_nearly_alone() -> None:
    first = Counter(turn.topic for c in examples(1, 400, 0.0) for turn in c.turns)
    later = Counter(turn.topic for c in examples(1, 400, 0.9) for turn in c.turns)
    assert first["echo"] > 5 * later["echo"]


def test_every_lesson_is_still_taught_at_the_end() -> None:
    topics = Counter(turn.topic for c in examples(2, 3000, 1.0) for turn in c.turns)
    for skill in ("grounded", "unanswerable", "tool-call", "no-tool", "tool-result", "json"):
        assert topics[skill] > 30, skill
    assert all(lesson.weights[-1] > 0 for lesson in LESSONS.values())


def test_examples_grow_with_the_progress() -> None:
    def mean(progress: float) -> float:
        sizes = [
            sum(len(turn.content) for turn in conversation.turns)
            for conversation in examples(3, 1000, progress)
            if conversation.turns[-1].topic == "grounded"
        ]
        return sum(sizes) / len(sizes)

    assert mean(0.9) > 1.3 * mean(0.06)


def test_every_conversation_ends_with_something_to_learn() -> None:
    for conversation in examples(4, 500, 1.0):
        last = conversation.turns[-1]
        assert last.role == "assistant"
        assert last.content or last.calls

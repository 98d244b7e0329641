"""A prompt with passages is never longer than its room, whatever the tokenizer does at seams."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.errors import ContextLengthExceeded
from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.gateway.knowledge.found import ANSWERABLE, Found, FoundChunk
from anzoth.gateway.knowledge.grounding import (
    MOST_ANSWER_TOKENS,
    MOST_PASSAGE_TOKENS,
    KnowledgeUse,
    Retrieved,
    answer_room,
)
from anzoth.index_frames import Fusion
from anzoth.text.passages import Passage


def chunk(number: int, num_words: int, score: float = 0.5) -> FoundChunk:
    text = " ".join(f"w{number}x{word}" for word in range(num_words))
    content = ChunkContent(text, "", 0, len(text), 0, len(text), num_words, None, None, ())
    return FoundChunk(
        "vs_1", f"file-{number}", "a.txt", {}, number, 0, content, score, 1, score, None, None
    )


def retrieved(*chunks: FoundChunk, fusion: Fusion | None = None) -> Retrieved:
    use = KnowledgeUse(("vs_1",), fusion=fusion or Fusion())
    return Retrieved(use, ("q",), Found(chunks, True, 1, {}), {})


def words(passage: Passage) -> int:
    return len(passage.text.split())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 120), st.integers(0, 5))
def test_the_prompt_fits_its_room_or_there_is_none(
    sizes: list[int], room: int, at_seams: int
) -> None:
    """`at_seams`: tokens that each passage takes beyond what it takes alone."""

    def prompt_of(passages: Sequence[Passage]) -> list[int]:
        return [0] * (10 + sum(words(passage) + at_seams for passage in passages))

    found = retrieved(*(chunk(number, size) for number, size in enumerate(sizes)))
    try:
        packed, prompt = found.fit(prompt_of, words, room)
    except ContextLengthExceeded:
        assert room < 10 + max(sizes) + len(sizes) * (at_seams + 1) + sum(sizes)
        return
    assert len(prompt) <= room
    assert packed.passages
    assert prompt == prompt_of([passage.passage for passage in packed.passages])


def test_a_long_context_is_not_filled_because_it_is_there() -> None:
    found = retrieved(*(chunk(number, 1000) for number in range(20)))
    packed, _ = found.fit(lambda ps: [0] * sum(map(words, ps)), words, 1_000_000)
    assert sum(words(passage.passage) for passage in packed.passages) == MOST_PASSAGE_TOKENS


@pytest.mark.parametrize(
    ("best", "method", "has_answer"),
    [
        (ANSWERABLE, "calibrated", True),
        (ANSWERABLE - 0.001, "calibrated", False),
        (0.001, "rrf", True),
        (0.001, "convex", True),
        (None, "rrf", False),
        (None, "calibrated", False),
    ],
)
def test_only_calibrated_scores_can_say_that_there_is_no_answer(
    best: float | None, method: str, has_answer: bool
) -> None:
    chunks = () if best is None else (chunk(0, 3, best),)
    fusion = Fusion(method)  # type: ignore[arg-type]  # one of three
    assert retrieved(*chunks, fusion=fusion).has_answer is has_answer


def test_an_answer_has_its_room() -> None:
    assert answer_room(77, 1000) == 77
    assert answer_room(None, 1000) == 250
    assert answer_room(None, 100_000) == MOST_ANSWER_TOKENS

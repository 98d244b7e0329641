"""Packing: never over budget, nothing twice, the same order whatever the scores, and no silence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.gateway.knowledge.found import FoundChunk
from anzoth.gateway.knowledge.packing import GAP, MAX_SECTIONS, Packed, pack, sections
from anzoth.gateway.knowledge.spans import Span
from anzoth.text.passages import Passage


def cost(passage: Passage) -> int:
    """Words, and three for the marks."""
    return len(passage.text.split()) + 3


@dataclass
class Document:
    """Chunks of `words` words each, `overlap` of which the next one repeats; four to a section."""

    file_id: str
    num_chunks: int
    words: int = 10
    overlap: int = 0
    same: bool = False

    def chunks(self, scores: dict[int, float]) -> list[FoundChunk]:
        return [self.chunk(position, score) for position, score in scores.items()]

    @property
    def text(self) -> str:
        step = self.words - self.overlap
        total = step * self.num_chunks + self.overlap
        prefix = "same" if self.same else self.file_id
        return " ".join(f"{prefix}{number:04d}" for number in range(total))

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Of chunks `first` to `last`."""
        width = len(self.text.split()[0]) + 1
        step = self.words - self.overlap
        return first * step * width, (last * step + self.words) * width - 1

    def chunk(self, position: int, score: float, **more: Any) -> FoundChunk:
        start, end = self.span(position, position)
        section = position // 4 * 4
        parent = self.span(section, min(section + 3, self.num_chunks - 1))
        content = ChunkContent(
            text=self.text[start:end],
            context=f"{self.file_id}\nPart {section}",
            start=start,
            end=end,
            parent_start=parent[0],
            parent_end=parent[1],
            num_tokens=self.words,
            page=position + 1,
            last_page=position + 1,
            headings=(f"Part {section}",),
        )
        return FoundChunk(
            "vs_1", self.file_id, f"{self.file_id}.txt", {}, position, position, content, score,
            1, score, None, None, **more,
        )  # fmt: skip

    def sections(self) -> dict[Span, str]:
        spans = sections(self.chunks(dict.fromkeys(range(self.num_chunks), 0)))
        return {span: self.text[span.start : span.end] for span in spans}


ONE, TWO = Document("a", 8), Document("b", 8)


def ids(packed: Packed) -> list[tuple[str, int, int]]:
    return [(passage.file_id, passage.start, passage.end) for passage in packed.passages]


def ranked(*documents: tuple[Document, dict[int, float]]) -> list[FoundChunk]:
    found = [chunk for document, scores in documents for chunk in document.chunks(scores)]
    return sorted(found, key=lambda chunk: -chunk.score)


def test_the_order_is_of_documents_and_positions_and_not_of_scores() -> None:
    one = pack(ranked((ONE, {0: 0.1, 5: 0.9}), (TWO, {2: 0.5})), {}, cost, 1000)
    other = pack(ranked((ONE, {0: 0.9, 5: 0.1}), (TWO, {2: 0.95})), {}, cost, 1000)
    assert ids(one) == ids(other) == [
        ("a", *ONE.span(0, 0)),
        ("a", *ONE.span(5, 5)),
        ("b", *TWO.span(2, 2)),
    ]  # fmt: skip
    assert [p.passage for p in one.passages] == [p.passage for p in other.passages]


def test_chunks_of_one_section_are_one_passage_and_say_what_they_leave_out() -> None:
    packed = pack(ONE.chunks({0: 0.9, 3: 0.8, 1: 0.7}), {}, cost, 1000)
    (passage,) = packed.passages
    first, second = passage.pieces
    assert (first.start, first.end) == ONE.span(0, 1)
    assert (second.start, second.end) == ONE.span(3, 3)
    assert passage.text == f"{first.text}{GAP}{second.text}"
    assert passage.title == "a Part 0"
    assert passage.score == 0.9


def test_a_section_stands_in_its_chunks_place_when_there_is_room() -> None:
    chunks = ONE.chunks({1: 0.9})
    packed = pack(chunks, ONE.sections(), cost, 43)
    assert ids(packed) == [("a", *ONE.span(0, 3))]
    assert packed.passages[0].text == ONE.text[: ONE.span(0, 3)[1]]
    assert ids(pack(chunks, ONE.sections(), cost, 42)) == [("a", *ONE.span(1, 1))]


def test_every_chunk_that_fits_comes_before_any_section() -> None:
    packed = pack(ranked((ONE, {1: 0.9, 5: 0.1}), (TWO, {0: 0.5})), ONE.sections(), cost, 60)
    assert {file for file, _, _ in ids(packed)} == {"a", "b"}
    assert len(packed.passages) == 3


def test_a_document_gets_half_while_others_want_some_and_the_rest_if_they_do_not() -> None:
    scores = {position: 0.9 - position / 100 for position in range(8)}
    crowded = pack(ranked((ONE, scores), (TWO, {0: 0.2, 4: 0.1})), {}, cost, 60)
    assert [file for file, _, _ in ids(crowded)].count("b") == 2
    assert {drop.reason for drop in crowded.dropped} == {"document_share"}
    alone = pack(ONE.chunks(scores), {}, cost, 60)
    assert sum(len(p.text.split()) for p in alone.passages) > 30
    with_room = pack(ranked((ONE, scores), (TWO, {0: 0.1})), {}, cost, 99)
    assert not with_room.dropped


def test_the_same_words_are_read_once_wherever_they_stand() -> None:
    twin = Document("c", 8, same=True), Document("d", 8, same=True)
    packed = pack(ranked((twin[0], {2: 0.9}), (twin[1], {2: 0.8})), {}, cost, 1000)
    assert ids(packed) == [("c", *twin[0].span(2, 2))]
    assert [(drop.chunk.file_id, drop.reason) for drop in packed.dropped] == [("d", "duplicate")]


def test_what_overlaps_is_read_once() -> None:
    document = Document("e", 8, overlap=3)
    touching = pack(document.chunks({0: 0.9, 1: 0.8}), {}, cost, 1000)
    assert touching.passages[0].text == document.text[: document.span(0, 1)[1]]
    # Chunks 3 and 4 are of different sections.
    apart = pack(document.chunks({3: 0.9, 4: 0.8}), {}, cost, 1000)
    first, second = apart.passages
    assert second.start == first.end
    words = [word for passage in apart.passages for word in passage.text.split()]
    assert len(words) == len(set(words)) == 17


def test_a_chunk_that_was_too_much_alone_may_be_read_in_its_section() -> None:
    scores = {0: 0.9, 1: 0.5}
    chunks = ONE.chunks(scores)
    (span, text), *_ = ONE.sections().items()
    packed = pack(chunks, {span: text}, lambda p: 10 if "a0015" in p.text else 12, 20)
    assert ids(packed) == [("a", *ONE.span(0, 3))]
    assert not packed.dropped


def test_pages_are_known_where_chunks_were_found() -> None:
    (passage,) = pack(ONE.chunks({1: 0.9, 2: 0.8}), ONE.sections(), cost, 1000).passages
    assert passage.page_at(ONE.span(1, 1)[0]) == 2
    assert passage.page_at(ONE.span(2, 2)[1] - 1) == 3
    assert passage.page_at(ONE.span(3, 3)[0]) is None


def test_only_sections_around_the_best_chunks_are_asked_for_each_once() -> None:
    long = Document("f", 100)
    asked = sections(long.chunks(dict.fromkeys(range(100), 0.5)))
    assert len(asked) == MAX_SECTIONS == len(set(asked))
    alone = Document("g", 1)
    assert sections(alone.chunks({0: 0.5})) == []


def test_no_text_is_in_a_repr() -> None:
    packed = pack(ONE.chunks({0: 0.9}), {}, cost, 100)
    assert "a0001" not in repr(packed)
    assert "Part" not in repr(packed)


@pytest.mark.parametrize("budget", [-5, 0, 12])
def test_without_room_nothing_is_read_and_everything_is_said(budget: int) -> None:
    packed = pack(ONE.chunks({0: 0.9, 5: 0.8}), ONE.sections(), cost, budget)
    assert packed.passages == ()
    assert [drop.reason for drop in packed.dropped] == ["no_room", "no_room"]


CHOSEN = st.dictionaries(st.integers(0, 7), st.floats(0, 1), max_size=8)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), CHOSEN, st.integers(0, 4)), max_size=4,
             unique_by=lambda made: made[0]),
    st.integers(-10, 250),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_whatever_is_found_fits_is_exact_and_is_accounted_for(
    made: list[tuple[str, dict[int, float], int]], budget: int, rng: random.Random
) -> None:
    documents = {name: Document(name, 8, overlap=overlap) for name, _, overlap in made}
    found = ranked(*((documents[name], scores) for name, scores, _ in made))
    texts: dict[Span, str] = {}
    for document in documents.values():
        texts |= {span: text for span, text in document.sections().items() if rng.random() < 0.7}
    packed = pack(found, texts, cost, budget)
    assert sum(cost(passage.passage) for passage in packed.passages) <= max(0, budget)
    for passage in packed.passages:
        text = documents[passage.file_id].text
        for piece in passage.pieces:
            assert piece.text.replace("\n", " ") == text[piece.start : piece.end]
    words = [word for p in packed.passages for piece in p.pieces for word in piece.text.split()]
    assert len(words) == len(set(words))
    assert ids(packed) == sorted(ids(packed))
    dropped = {(drop.chunk.file_id, drop.chunk.position) for drop in packed.dropped}
    read = {
        (chunk.file_id, chunk.position)
        for chunk in found
        if set(chunk.content.text.split()) <= set(words)
    }
    assert dropped.isdisjoint(read)
    assert dropped | read == {(chunk.file_id, chunk.position) for chunk in found}
    assert pack(found, texts, cost, budget) == packed

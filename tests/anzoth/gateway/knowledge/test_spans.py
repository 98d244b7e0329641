"""A span of a document is as long as it was, and says what its chunks say."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from files_kit import owner_of
from hypothesis import given, settings
from hypothesis import strategies as st
from knowledge_kit import SEPARATOR, Knowledge, run_knowledge

from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.gateway.knowledge.spans import Span, put_together


def content(text: str, start: int) -> ChunkContent:
    end = start + len(text)
    return ChunkContent(text, "", start, end, start, end, 1, None, None, ())


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    gaps=st.lists(st.integers(-4, 3), min_size=12, max_size=12),
    bounds=st.tuples(st.integers(0, 80), st.integers(0, 80)),
)
def test_chunks_that_overlap_or_not_give_the_document_back(
    lengths: list[int], gaps: list[int], bounds: tuple[int, int]
) -> None:
    document = "".join(random.Random(1).choices("abcdefgh", k=200))
    chunks: list[ChunkContent] = []
    covered: set[int] = set()
    start = 0
    for length, gap in zip(lengths, gaps, strict=False):
        end = start + length
        if chunks and (end <= chunks[-1].end or start <= chunks[-1].start):
            continue  # both ends rise, as the chunker has it
        chunks.append(content(document[start:end], start))
        covered |= set(range(start, end))
        start = max(0, end + gap)
    first, last = sorted(bounds)
    made = put_together(chunks, first, last)
    assert made == "".join(document[at] if at in covered else "\n" for at in range(first, last))


@pytest.mark.slow
def test_a_span_is_read_from_wherever_it_is_in_a_long_file(dsn: str, tmp_path: Path) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        rng = random.Random(2)
        chunks = ["x" * rng.randint(1, 9) + str(n) for n in range(150)]
        file = await it.add_file(store, *chunks)
        other = await it.add_file(store, "other")
        whole = SEPARATOR.join(chunks)
        bounds = [(0, len(whole)), (0, 1), (len(whole) - 3, len(whole) + 4)]
        bounds += [tuple(sorted(rng.choices(range(len(whole)), k=2))) for _ in range(20)]
        searcher = it.first.searcher
        asked = [Span(store, file, *each) for each in bounds]
        got = await searcher.spans(owner_of(it.one), asked)
        assert got == [
            whole[start:end] + "\n" * (end - max(start, len(whole))) for start, end in bounds
        ]
        for length in (7, 90, len(whole) - 1, len(whole), len(whole) + 1):
            parts = []
            for start in range(0, len(whole), length):
                part = await searcher.part(
                    owner_of(it.one), Span(store, file, start, start + length)
                )
                assert part is not None
                assert part.is_last == (start + length >= len(whole))
                parts.append(part.text)
            assert "".join(parts) == whole
        assert await searcher.part(owner_of(it.one), Span(store, file, len(whole), 9999)) is None
        of_nobody = [Span(store, "file-none", 0, 5), Span("vs_none", file, 0, 5)]
        assert await searcher.spans(owner_of(it.one), of_nobody) == ["", ""]
        assert [await searcher.part(owner_of(it.one), span) for span in of_nobody] == [None, None]
        assert await searcher.spans(owner_of(it.two), [Span(store, file, 0, 5)]) == [""]
        assert await searcher.part(owner_of(it.two), Span(store, file, 0, 5)) is None
        await it.take_out(store, other)
        assert await searcher.spans(owner_of(it.one), [Span(store, other, 0, 5)]) == [""]

    run_knowledge(dsn, tmp_path, scenario)

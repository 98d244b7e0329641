"""Is what is kept of a retrieval small, whole, and without a word of anybody's?"""

from __future__ import annotations

from dataclasses import replace

from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.gateway.knowledge.found import Found, FoundChunk, Reranked
from anzoth.gateway.knowledge.kept_trace import MAX_CANDIDATES, KeptTrace
from anzoth.gateway.knowledge.packing import Dropped, Packed

CONTENT = ChunkContent("canary text", "canary title", 0, 11, 0, 11, 2, 1, 1, ("canary",))
TRACE = {
    "times_ms": {"check": 1.23456, "all": 20.0},
    "removed": 2,
    "duplicates": 1,
    "degraded": "its embedding model is busy",
    "rerank": {"model": "canary", "candidates": 2, "tokens": 9, "ms": 0.5, "skipped": None},
    "stores": [{"id": "vs_1", "of the future": "canary"}],
}


def chunk(number: int, store: str = "vs_1", dense: int | None = 1) -> FoundChunk:
    return FoundChunk(
        *(store, f"file-{number % 7:030}", "canary.txt", {"canary": "x"}, number, number, CONTENT),
        *(0.9 - number / 1000, dense, 0.1, None, None),
    )


def test_it_comes_back_as_it_was() -> None:
    first = replace(chunk(3), reranked=Reranked(1, 0.7, 2))
    chunks = (first, chunk(4, dense=None), chunk(3, "vs_2"))
    packed = Packed((), (Dropped(chunks[2], "no_room"),))
    kept = KeptTrace.of(("vs_1", "vs_2"), Found(chunks, True, 5, TRACE), packed)
    assert [one.dropped for one in kept.candidates] == [None, None, "no_room"]
    assert [one.rerank_rank for one in kept.candidates] == [1, None, None]
    assert kept.rerank == {"candidates": 2, "tokens": 9, "ms": 0.5, "skipped": None}
    assert (kept.num_removed, kept.num_duplicates) == (2, 1)
    assert kept.times_ms == {"check": 1.2, "all": 20.0}
    back = KeptTrace.decode(kept.encode())
    assert back == replace(kept, store_ids=["vs_1", "vs_2"])


def test_however_much_was_found_a_row_stays_small_and_without_words() -> None:
    ids = [f"vs_{number:032}" for number in range(200)]
    chunks = tuple(chunk(number, ids[0]) for number in range(500))
    packed = Packed((), tuple(Dropped(one, "document_share") for one in chunks))
    trace = {**TRACE, "degraded": "x" * 10_000}
    text = KeptTrace.of(ids, Found(chunks, True, 5, trace), packed).encode()
    kept = KeptTrace.decode(text)
    assert (len(kept.candidates), kept.num_candidates) == (MAX_CANDIDATES, 500)
    assert "canary" not in text
    assert len(text) < 6000
    few = KeptTrace.of(ids[:1], Found(chunks[:10], True, 5, TRACE)).encode()
    assert len(few) < 1000


def test_a_chunk_of_a_store_beyond_the_bound_is_no_candidate() -> None:
    ids = [f"vs_{number}" for number in range(60)]
    kept = KeptTrace.of(ids, Found((chunk(1, ids[59]), chunk(2, ids[0])), True, 5, TRACE))
    assert [one.store_id for one in KeptTrace.decode(kept.encode()).candidates] == [ids[0]]

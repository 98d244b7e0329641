"""What of a retrieval is kept with its request, for whoever asks later what was found?

Ids, numbers and reasons of our own: no text of a document or a query, and no filename. The usage
row holds it as JSON in which a candidate is an array, some 40 bytes.

Does not know: how anything was found, or who may see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from anzoth.gateway.knowledge.found import Found, FoundChunk
from anzoth.gateway.knowledge.packing import Packed

MAX_CANDIDATES = 50
MAX_STORES = 50
_MAX_REASON = 300
_RERANK = ("candidates", "tokens", "ms", "skipped")


@dataclass(slots=True, frozen=True)
class Candidate:
    """A chunk that was found."""

    store_id: str
    file_id: str
    number: int
    """In its store."""
    dense_rank: int | None
    sparse_rank: int | None
    score: float
    """Of the fusion."""
    rerank_rank: int | None
    dropped: str | None
    """Why the model did not get to read it; None: it did, or there was none."""


@dataclass(slots=True, frozen=True)
class KeptTrace:
    """What is known of a retrieval afterwards."""

    store_ids: Sequence[str]
    """That were searched."""
    candidates: Sequence[Candidate]
    """The best, best first."""
    num_candidates: int
    """All that the search gave."""
    num_removed: int
    """Left out by the search because their files had gone meanwhile."""
    num_duplicates: int
    """Left out by the search because a better one says the same."""
    is_exact: bool
    degraded: str | None
    """Why a part of the search was done without."""
    rerank: Mapping[str, Any] | None
    """What the reranker did: `candidates`, `tokens`, `ms`, why it was `skipped`. None: none was
    asked."""
    times_ms: Mapping[str, float]
    """Of each stage."""

    @classmethod
    def of(cls, store_ids: Sequence[str], found: Found, packed: Packed | None = None) -> KeptTrace:
        """`packed`: what became of the chunks, where a model reads them."""
        stores = store_ids[:MAX_STORES]
        chunks = [chunk for chunk in found.chunks if chunk.store_id in stores][:MAX_CANDIDATES]
        dropped = () if packed is None else packed.dropped
        reasons = {_place(drop.chunk): drop.reason for drop in dropped}
        trace = found.trace
        degraded: str | None = trace.get("degraded")
        reranked: Mapping[str, Any] | None = trace.get("rerank")
        return cls(
            stores,
            [
                Candidate(
                    chunk.store_id,
                    chunk.file_id,
                    chunk.number,
                    chunk.dense_rank,
                    chunk.sparse_rank,
                    round(chunk.score, 6),
                    chunk.reranked and chunk.reranked.rank,
                    reasons.get(_place(chunk)),
                )
                for chunk in chunks
            ],
            len(found.chunks),
            trace.get("removed", 0),
            trace.get("duplicates", 0),
            found.is_exact,
            degraded and degraded[:_MAX_REASON],
            reranked and {name: reranked.get(name) for name in _RERANK},
            {name: round(spent, 1) for name, spent in trace.get("times_ms", {}).items()},
        )

    def encode(self) -> str:
        """Stores and files are named once."""
        stores = list(self.store_ids)
        files = list(dict.fromkeys(one.file_id for one in self.candidates))
        return orjson.dumps(
            {
                "stores": stores,
                "files": files,
                "candidates": [
                    (
                        *(stores.index(one.store_id), files.index(one.file_id), one.number),
                        *(one.dense_rank, one.sparse_rank, one.score),
                        *(one.rerank_rank, one.dropped),
                    )
                    for one in self.candidates
                ],
                "num_candidates": self.num_candidates,
                "removed": self.num_removed,
                "duplicates": self.num_duplicates,
                "exact": self.is_exact,
                "degraded": self.degraded,
                "rerank": self.rerank,
                "times_ms": self.times_ms,
            }
        ).decode()

    @classmethod
    def decode(cls, text: str) -> KeptTrace:
        """The inverse of `encode`."""
        kept: dict[str, Any] = orjson.loads(text)
        stores, files = kept["stores"], kept["files"]
        return cls(
            stores,
            [
                Candidate(stores[store], files[file], *rest)
                for store, file, *rest in kept["candidates"]
            ],
            kept["num_candidates"],
            kept["removed"],
            kept["duplicates"],
            kept["exact"],
            kept["degraded"],
            kept["rerank"],
            kept["times_ms"],
        )


def _place(chunk: FoundChunk) -> tuple[str, str, int]:
    return chunk.store_id, chunk.file_id, chunk.number

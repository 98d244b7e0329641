"""In which order does a cross-encoder put what a search has found?

    the best by fusion ─▶ pairs of a query and a passage under its headings ─▶ a score each ─▶ order

It reads query and passage together and so tells better than either leg which of them answers. But
its scores are on a scale of its own, and no probability: they order, and `FoundChunk.score` stays
what it was. Of several queries the one counts that a passage answers best.

No answer hangs on it. While it is away, busy, refused by a limit or slower than there is time for,
the order stays that of the fusion, and the trace says why (`skipped`).

Does not know: which reranker is asked (see `rerankers`), or how anything was found.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from anzoth.errors import (
    AnzothError,
    CapacityUnavailable,
    KeyRevoked,
    ModelUnavailable,
    RateLimited,
)
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.knowledge.found import FoundChunk, Reranked
from anzoth.gateway.knowledge.rerankers import Reranking
from anzoth.text.rerank_text import MAX_TOKENS, PairsTooLong, RerankText

NUM_CANDIDATES = 30
"""Are ranked, or as many as are wanted where that is more: three times the ten that are wanted by
default, so that what both legs put far behind can still come to the front. Twice as many would take
twice as long, and the time is nearly all of a search's."""
MOST_S = 30.0
"""What it may take of a request that states no time of its own."""
PART_OF_TIME = 0.5
"""Of what is left of a request's time: something is still to be made of what was found."""

_SCORE = struct.Struct("<f")
_SKIPPED: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "it took too long"),
    (PairsTooLong, "it cannot take that much text"),
    (ModelUnavailable, "it does not answer"),
    (CapacityUnavailable, "it is busy"),
    (RateLimited, "a limit does not cover its tokens"),
    (AnzothError, "it cannot score these passages"),
)


@dataclass(slots=True, frozen=True)
class Outcome:
    """All chunks that were given, and how it went."""

    chunks: Sequence[FoundChunk]
    """In the new order, or as they were."""
    num_tokens: int
    """Of the pairs that were computed, or were being computed when the time was over."""
    trace: dict[str, Any]  # JSON

    @property
    def is_skipped(self) -> bool:
        return self.trace["skipped"] is not None


async def rerank(
    reranking: Reranking, queries: Sequence[str], chunks: Sequence[FoundChunk], most_s: float
) -> Outcome:
    """`chunks`: the candidates, best first. Takes `most_s` at most. Raises KeyRevoked."""
    began_s = time.perf_counter()
    attempt = _Attempt(reranking, queries, chunks)
    skipped = "it is not served" if reranking.by.model is None else None
    try:
        async with asyncio.timeout(most_s):
            chunks = await attempt.ordered()
    except KeyRevoked:
        raise
    except (TimeoutError, PairsTooLong, AnzothError) as error:
        skipped = next(reason for kind, reason in _SKIPPED if isinstance(error, kind))
    trace = {
        "model": reranking.by.name,
        "candidates": len(chunks),
        "tokens": attempt.num_tokens,
        "ms": round(1000 * (time.perf_counter() - began_s), 3),
        "skipped": skipped,
    }
    return Outcome(chunks, attempt.num_tokens, trace)


@dataclass(slots=True)
class _Attempt:
    reranking: Reranking
    queries: Sequence[str]
    chunks: Sequence[FoundChunk]
    num_tokens: int = 0

    async def ordered(self) -> Sequence[FoundChunk]:
        """The best first; of equal ones, that which came first. Raises PairsTooLong, and what
        `Score` does."""
        model = self.reranking.by.model
        if model is None or not self.chunks:
            return self.chunks
        assert model.rerank is not None, "only models that rank are asked"
        limit = model.engine.require_ready().max_model_tokens
        documents = [chunk.content.indexed for chunk in self.chunks]
        request = await asyncio.to_thread(_pairs, model.rerank, self.queries, documents, limit)
        self.num_tokens = request.num_tokens
        try:
            packed = await self.reranking.score(model, request)
        except AnzothError:
            self.num_tokens = 0  # of what is refused or lost none counts
            raise
        scores = [score for (score,) in map(_SCORE.unpack, packed)]
        num = len(self.chunks)
        best = [max(scores[at::num]) for at in range(num)]
        order = sorted(range(num), key=lambda at: -best[at])
        return [
            replace(self.chunks[at], reranked=Reranked(rank, best[at], at + 1))
            for rank, at in enumerate(order, 1)
        ]


def _pairs(
    text: RerankText, queries: Sequence[str], documents: Sequence[str], limit: int
) -> EmbeddingRequest:
    """Query by query. Raises PairsTooLong."""
    pairs = []
    num_tokens = 0
    for query in queries:
        made = text.encode(query, documents, limit, None)
        pairs += made
        num_tokens += sum(len(pair.token_ids) for pair in made)
        if num_tokens > MAX_TOKENS:
            raise PairsTooLong("query", "All queries with all passages are too many tokens.")
    return EmbeddingRequest(
        tuple(pair.token_ids for pair in pairs),
        dimensions=None,
        second_at=tuple(pair.second_at for pair in pairs if pair.second_at is not None),
    )

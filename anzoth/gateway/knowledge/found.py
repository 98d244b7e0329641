"""What is a knowledge base asked, and what does it answer?

Between the search (`searching`) and whoever uses what it finds (`grounding`).

Does not know: how anything is found, or what is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import orjson

from anzoth.errors import InvalidValue
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.gateway.knowledge.rerankers import Reranking
from anzoth.gateway.knowledge.spans import Span
from anzoth.gateway.knowledge.store_attributes import AttributeValue
from anzoth.index_frames import MAX_HITS, MAX_QUERY_BYTES, Fusion

ANSWERABLE = 0.058
"""A best `FoundChunk.score` below says that the answer is not in the documents:
`index.fusion.ANSWERABLE`, where it was measured and which only the retriever loads. Of `calibrated`
scores; others say nothing, nor do a reranker's."""
MAX_FILTER_BYTES = 64 << 10
"""As JSON. The retriever allows far fewer comparisons than fit; a frame must not be too long."""


@dataclass(slots=True, frozen=True)
class SearchRequest:
    """What to look for. Raises InvalidValue where it cannot be."""

    queries: tuple[str, ...] = field(repr=False)
    """Of several, each chunk counts with the one that it answers best."""
    max_results: int = 10
    filters: Mapping[str, Any] | None = field(default=None, repr=False)
    """In OpenAI's form; the retriever checks them."""
    fusion: Fusion = field(default_factory=Fusion)
    score_threshold: float = 0.0
    """Of the method of `fusion`; `calibrated`: a probability. Whoever is below is no candidate for
    a reranker either."""

    def __post_init__(self) -> None:
        if not self.queries or not all(query.strip() for query in self.queries):
            raise InvalidValue("A query must not be empty.", param="query")
        if any(len(query.encode("utf-8", "replace")) > MAX_QUERY_BYTES for query in self.queries):
            raise InvalidValue(f"A query has at most {MAX_QUERY_BYTES} bytes.", param="query")
        if not 1 <= self.max_results <= MAX_HITS:
            raise InvalidValue(f"1 to {MAX_HITS} results can be asked for.")
        if self.filters is not None and len(orjson.dumps(self.filters)) > MAX_FILTER_BYTES:
            raise InvalidValue(f"At most {MAX_FILTER_BYTES} bytes of filters.", param="filters")


@dataclass(slots=True, frozen=True)
class Reranked:
    """What a reranker made of a chunk. Ranks count from 1, among all candidates."""

    rank: int
    score: float
    """On the reranker's own scale: mostly 0 to 1, for some the bare logit. No probability."""
    fused_rank: int
    """Where it was before."""


@dataclass(slots=True, frozen=True)
class FoundChunk:
    """A chunk that answers. Ranks count from 1; None: that leg did not list it."""

    store_id: str
    file_id: str
    filename: str = field(repr=False)
    attributes: Mapping[str, AttributeValue] = field(repr=False)
    number: int
    """In its store, for ever."""
    position: int
    """In its file, from 0."""
    content: ChunkContent
    score: float
    """0 to 1, of the fusion, whatever the order. `calibrated`: the probability that it is
    relevant."""
    dense_rank: int | None
    dense_score: float | None
    sparse_rank: int | None
    sparse_score: float | None
    reranked: Reranked | None = None
    """None: no reranker had a say in the order."""


@dataclass(slots=True, frozen=True)
class Found:
    """The answer to a search."""

    chunks: tuple[FoundChunk, ...]
    """Best first."""
    is_exact: bool
    """Nothing was missed; otherwise a graph was used."""
    num_query_tokens: int
    """That were embedded."""
    trace: Mapping[str, Any]
    """JSON: times, what each store was asked and had, what was left out, why it is `degraded`
    (None: it is not), what became of `rerank` (None: nothing was to rank)."""
    best_score: float | None = None
    """The highest `FoundChunk.score` of all candidates, also of one that a reranker put so far
    behind that it is not among `chunks`. None: that of the first of them."""
    num_rerank_tokens: int = 0
    """That a reranker was given."""


class Searches(Protocol):
    """What `searching.Searcher` does, and what stands in for it in tests."""

    async def search(
        self,
        owner: FileOwner,
        store_ids: Sequence[str],
        request: SearchRequest,
        *,
        key_id: UUID | None,
        timeout_ms: int | None = None,
        reranking: Reranking | None = None,
    ) -> Found: ...

    async def spans(self, owner: FileOwner, wanted: Sequence[Span]) -> list[str]: ...

"""What is a knowledge base asked, and what does it answer?

The contract between the search (`searching`) and whoever answers from what it finds (`grounding`).

Does not know: how anything is found, or what is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.index_frames import Fusion

ANSWERABLE = 0.09
"""A best score below says that the answer is not in the documents: `index.fusion.ANSWERABLE`, where
it was measured and which only the retriever loads. Of `calibrated` scores; others say nothing."""

Span = tuple[str, str, int, int]
"""Store, file, and from where to where in its canonical text, in characters."""


@dataclass(slots=True, frozen=True)
class SearchRequest:
    """What to look for, in all stores together."""

    queries: tuple[str, ...] = field(repr=False)
    max_results: int = 10
    filters: Mapping[str, Any] | None = field(default=None, repr=False)  # JSON, as OpenAI has it
    fusion: Fusion = field(default_factory=Fusion)
    score_threshold: float = 0.0


@dataclass(slots=True, frozen=True)
class FoundChunk:
    """One chunk, and where its score comes from. Ranks count from 1; None: not in that list."""

    store_id: str
    file_id: str
    filename: str = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)  # str, float, bool
    number: int
    position: int
    """In the file, from 0."""
    content: ChunkContent
    score: float
    """0 to 1."""
    dense_rank: int | None
    dense_score: float | None
    sparse_rank: int | None
    sparse_score: float | None


@dataclass(slots=True, frozen=True)
class Found:
    """The answer to one request."""

    chunks: tuple[FoundChunk, ...]
    """Best first."""
    is_exact: bool
    num_query_tokens: int
    trace: Mapping[str, Any] = field(default_factory=dict)  # JSON, without any text
    """Times, candidates, the head of each store."""


class Searcher(Protocol):
    """Searches the stores of one project."""

    async def search(
        self,
        owner: FileOwner,
        store_ids: Sequence[str],
        request: SearchRequest,
        *,
        key_id: UUID | None,
        timeout_ms: int | None = None,
    ) -> Found:
        """Several stores: merged by score; several queries: the best score of each chunk.

        Raises NotFound, InvalidValue, RetrieverUnavailable or DeadlineExceeded.
        """
        ...

    async def spans(self, owner: FileOwner, wanted: Sequence[Span]) -> list[str]:
        """The text of each span, which is made of whole chunks. What of it is in no chunk is white
        space, so that offsets stay exact."""
        ...

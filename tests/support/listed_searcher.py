"""Knowledge bases in memory: the same question finds the same lines with the same scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from anzoth.errors import AnzothError, NotFound
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge.chunk_codec import ChunkContent
from anzoth.gateway.knowledge.found import Found, FoundChunk, SearchRequest
from anzoth.gateway.knowledge.rerankers import Reranking
from anzoth.gateway.knowledge.spans import Span

PROJECT = UUID(int=3)
"""Of `principals.make_principal`."""


@dataclass
class Shelf:
    """A document in a store: each line is a chunk, each paragraph a section."""

    store_id: str
    file_id: str
    text: str
    project_id: UUID
    attributes: dict[str, Any] = field(default_factory=dict)

    def chunks(self) -> list[ChunkContent]:
        made: list[ChunkContent] = []
        begin = 0
        for paragraph in self.text.split("\n\n"):
            start = begin
            for line in paragraph.split("\n"):
                made.append(
                    ChunkContent(
                        line, f"{self.file_id}.txt", start, start + len(line), begin,
                        begin + len(paragraph), len(line.split()), 1, 1, (),
                    )
                )  # fmt: skip
                start += len(line) + 1
            begin += len(paragraph) + 2
        return made


class ListedSearcher:
    """Finds lines by the part of a query's words that they have: that is the score."""

    def __init__(self) -> None:
        self.shelves: list[Shelf] = []
        self.asked: list[tuple[FileOwner, tuple[str, ...], SearchRequest, UUID | None]] = []
        self.timeouts_ms: list[int | None] = []
        self.rerankings: list[Reranking | None] = []
        self.failure: AnzothError | None = None
        """What every search raises."""

    def add(self, store_id: str, file_id: str, text: str, project_id: UUID = PROJECT) -> Shelf:
        shelf = Shelf(store_id, file_id, text, project_id)
        self.shelves.append(shelf)
        return shelf

    async def search(
        self,
        owner: FileOwner,
        store_ids: Sequence[str],
        request: SearchRequest,
        *,
        key_id: UUID | None,
        timeout_ms: int | None = None,
        reranking: Reranking | None = None,
    ) -> Found:
        self.asked.append((owner, tuple(store_ids), request, key_id))
        self.timeouts_ms.append(timeout_ms)
        self.rerankings.append(reranking)
        if self.failure is not None:
            raise self.failure
        own = [shelf for shelf in self.shelves if shelf.project_id == owner.project_id]
        if set(store_ids) - {shelf.store_id for shelf in own}:
            raise NotFound("There is no such vector store.", param="vector_store_id")
        found = [
            FoundChunk(
                shelf.store_id, shelf.file_id, f"{shelf.file_id}.txt", shelf.attributes, number,
                number, content, score, 1, score, None, None,
            )
            for shelf in own
            if shelf.store_id in store_ids
            for number, content in enumerate(shelf.chunks())
            if (score := max(_score(query, content.text) for query in request.queries)) > 0
        ]  # fmt: skip
        found.sort(key=lambda chunk: (-chunk.score, chunk.file_id, chunk.position))
        chunks = [chunk for chunk in found if chunk.score >= request.score_threshold]
        num_tokens = sum(len(_words(query)) for query in request.queries)
        return Found(tuple(chunks[: request.max_results]), True, num_tokens, {"heads": {}})

    async def spans(self, owner: FileOwner, wanted: Sequence[Span]) -> list[str]:
        texts = {(shelf.store_id, shelf.file_id): shelf.text for shelf in self.shelves}
        return [texts[store, file][start:end] for store, file, start, end in wanted]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _score(query: str, text: str) -> float:
    """A word in twenty is below `found.ANSWERABLE`."""
    words = _words(query)
    return len(words & _words(text)) / max(1, len(words))

"""How does a conversation get to what its knowledge bases say?

    grants ─▶ queries ─▶ search ─▶ sections ─▶ is there an answer? ─▶ packed into a prompt

Which stores are meant comes from the request, its alias or its key, never from a document or from
what a model wrote; each is checked against the key's grants, and the search finds only stores of
the key's project. When the search is away, so is the answer.

Does not know: the API's shapes, chat templates, how anything is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anzoth.errors import ContextLengthExceeded, InvalidValue
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge.found import ANSWERABLE, Found, Searches, SearchRequest
from anzoth.gateway.knowledge.packing import Cost, Packed, pack, sections
from anzoth.gateway.knowledge.queries import queries
from anzoth.gateway.knowledge.rerankers import Reranking
from anzoth.gateway.knowledge.spans import Span
from anzoth.gateway.principal import Principal
from anzoth.index_frames import Fusion
from anzoth.text.passages import Passage

MOST_PASSAGE_TOKENS = 6000
"""What ten sections, or twenty of OpenAI's chunks of 300 words, take; whatever else would fit."""
MOST_ANSWER_TOKENS = 1024
"""Kept free for an answer that states no maximum; a quarter of a context that is short."""

PromptOf = Callable[[Sequence[Passage]], list[int]]


@dataclass(slots=True, frozen=True)
class KnowledgeUse:
    """Which knowledge bases a chat is answered from, and how they are searched."""

    store_ids: tuple[str, ...]
    max_results: int = 10
    filters: Mapping[str, Any] | None = field(default=None, repr=False)  # JSON
    fusion: Fusion = field(default_factory=Fusion)
    score_threshold: float = 0.0


@dataclass(slots=True, frozen=True)
class Retrieved:
    """What was found for one conversation."""

    use: KnowledgeUse
    queries: tuple[str, ...] = field(repr=False)
    found: Found
    sections: Mapping[Span, str] = field(repr=False)

    @property
    def has_answer(self) -> bool:
        """Whether anything found may answer. Only `calibrated` scores can say that it does not."""
        chunks, best = self.found.chunks, self.found.best_score
        if not chunks or self.use.fusion.method != "calibrated":
            return bool(chunks)
        return (chunks[0].score if best is None else best) >= ANSWERABLE

    def fit(self, prompt_of: PromptOf, cost: Cost, room_tokens: int) -> tuple[Packed, list[int]]:
        """The passages and their prompt, which has at most `room_tokens`.

        `prompt_of`: the whole prompt with given passages. Raises ContextLengthExceeded.
        """
        around = len(prompt_of((Passage(""),)))
        budget = min(MOST_PASSAGE_TOKENS, room_tokens - around)
        costs: dict[Passage, int] = {}

        def known_cost(passage: Passage) -> int:
            if passage not in costs:
                costs[passage] = cost(passage)
            return costs[passage]

        while True:
            packed = self.pack(known_cost, budget)
            prompt = prompt_of([passage.passage for passage in packed.passages])
            excess = len(prompt) - room_tokens
            if excess <= 0:
                return packed, prompt
            # Tokens at the seams: the parts had fewer than the whole.
            spent = sum(known_cost(passage.passage) for passage in packed.passages)
            budget = min(budget, spent) - excess

    def pack(self, cost: Cost, budget_tokens: int) -> Packed:
        """Raises ContextLengthExceeded when there is room for nothing."""
        packed = pack(self.found.chunks, self.sections, cost, budget_tokens)
        if not packed.passages:
            raise ContextLengthExceeded(
                "The conversation leaves no room in the model's context for what was found in the "
                "knowledge bases. Shorten it, or ask for fewer tokens of output.",
                param="messages",
            )
        return packed


class Grounding:
    """Searches for chats. One per gateway."""

    __slots__ = ("_searcher",)

    def __init__(self, searcher: Searches) -> None:
        self._searcher = searcher

    async def retrieve(
        self,
        principal: Principal,
        owner: FileOwner,
        use: KnowledgeUse,
        messages: Sequence[Mapping[str, Any]],
        *,
        timeout_ms: int | None = None,
        reranking: Reranking | None = None,
    ) -> Retrieved:
        """Raises NotFound (a store that does not exist, is another project's or is not granted),
        InvalidValue, RetrieverUnavailable or DeadlineExceeded.
        """
        for store_id in use.store_ids:
            principal.require_knowledge_base(store_id)
        wanted = queries(messages)
        if not wanted:
            raise InvalidValue(
                "A chat with knowledge bases needs a message with the role 'user' that says what "
                "to look for.",
                param="messages",
            )
        request = SearchRequest(
            wanted, use.max_results, use.filters, use.fusion, use.score_threshold
        )
        found = await self._searcher.search(
            *(owner, use.store_ids, request),
            key_id=principal.key_id,
            timeout_ms=timeout_ms,
            reranking=reranking,
        )
        spans = sections(found.chunks)
        texts = await self._searcher.spans(owner, spans) if spans else []
        # A file that was taken out in between has none, and what was found of it stands alone.
        known = {span: text for span, text in zip(spans, texts, strict=True) if text}
        return Retrieved(use, wanted, found, known)


def answer_room(max_tokens: int | None, context_tokens: int) -> int:
    """How much of the context is kept free for the answer."""
    return min(MOST_ANSWER_TOKENS, context_tokens // 4) if max_tokens is None else max_tokens

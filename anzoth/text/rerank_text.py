"""How do a query and a document become the tokens whose relevance a reranker scores?

The checkpoint's own tokenizer puts the pair together, with its separators and token types. What
does not fit is cut from the end of the document; a query is never cut.

Does not know: models, requests, or what a score means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.text.tokenizer import Tokenizer

MAX_TOKENS = 1 << 20
"""Of the pairs of one request: a long query and many documents are far more than the body was."""


class RerankTextError(Exception):
    """The checkpoint's tokenizer makes no pairs: a message for whoever starts the server."""


class PairsTooLong(Exception):
    """The texts cannot be taken: a message for the caller. `param` is the text at fault."""

    def __init__(self, param: str, message: str) -> None:
        self.param = param
        super().__init__(message)


@dataclass(slots=True, frozen=True)
class Pair:
    """A query and a document, put together."""

    token_ids: Sequence[int] = field(repr=False)
    second_at: int | None
    """Where the tokens of the second type begin. None: the model has one type."""


@dataclass(slots=True, frozen=True)
class RerankText:
    """What is done to texts before one reranker sees them."""

    tokenizer: Tokenizer
    has_token_types: bool
    num_behind: int
    """Special tokens behind the document."""
    num_around: int
    """All special tokens of a pair."""

    @classmethod
    def load(cls, directory: Path, tokenizer: Tokenizer, *, has_token_types: bool) -> RerankText:
        """Raises RerankTextError."""
        num_behind, num_around = tokenizer.pair_frame
        if not num_around:
            raise RerankTextError(
                f"the tokenizer in {directory} puts nothing between the texts of a pair"
            )
        types = tokenizer.encode_pair("a", "a")[1]
        if has_token_types and (types != sorted(types) or set(types) != {0, 1}):
            raise RerankTextError(f"the tokenizer in {directory} gives a pair the types {types}")
        return cls(tokenizer, has_token_types, num_behind, num_around)

    def encode(
        self, query: str, documents: Iterable[str], limit: int, document_limit: int | None
    ) -> list[Pair]:
        """The pair of the query and each document, of at most `limit` tokens.

        `document_limit`: of each document alone. Raises PairsTooLong.
        """
        num_fixed = len(self.tokenizer.encode_pair(query, "")[0])
        if num_fixed >= limit:
            raise PairsTooLong(
                "query",
                f"This model takes at most {limit} tokens of a query and a document together. "
                f"'query' may have {max(limit - self.num_around - 1, 0)} of them, but has "
                f"{num_fixed - self.num_around}.",
            )
        if document_limit is not None:
            limit = min(limit, num_fixed + document_limit)
        pairs: list[Pair] = []
        num_tokens = 0
        for document in documents:
            pairs.append(self._pair(query, document, limit))
            num_tokens += len(pairs[-1].token_ids)
            if num_tokens > MAX_TOKENS:
                raise PairsTooLong(
                    "documents",
                    f"The query counts again with each document. All pairs together have more than "
                    f"{MAX_TOKENS} tokens; send fewer documents at once.",
                )
        return pairs

    def _pair(self, query: str, document: str, limit: int) -> Pair:
        token_ids, types = self.tokenizer.encode_pair(query, document)
        if len(token_ids) > limit:
            del token_ids[limit - self.num_behind : len(token_ids) - self.num_behind]
        return Pair(token_ids, types.index(1) if self.has_token_types else None)

"""How do the queries of a search become vectors, and what if no model makes them?

Each store has an embedding model of its own; stores of the same one share the work. A query that is
longer than the model reads is embedded cut, and searched by its words whole. A model that is away,
busy, or not the one that the store was made with ends no search: it goes on by words.

Does not know: what a search does with vectors, or what they cost (see `Embed`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from anzoth.db.store.chunk_rows import IndexedStore, Maker
from anzoth.errors import CapacityUnavailable, ModelUnavailable
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.models import ModelRegistry, ServedModel
from anzoth.gateway.principal import TenantHandle
from anzoth.text.embedding_text import EmbeddingText

_INLINE_CHARACTERS = 4096
"""Of queries: tokenized on the loop, in about a millisecond."""


@dataclass(slots=True, frozen=True)
class Wanted:
    """What one model has to embed for a search."""

    name: str
    """Of the model: the store's."""
    model: ServedModel | None = None
    """None, and no `request`: it cannot be asked now."""
    request: EmbeddingRequest | None = None
    reason: str | None = None
    """Why it cannot be asked."""


Embed = Callable[[Wanted], Awaitable[Sequence[bytes]]]
"""Each query's vector. Called once for each model of a search, also where it cannot be asked, so
that whoever counts can refuse. Raises ModelUnavailable then, or CapacityUnavailable: the search
goes on by words. Anything else that it raises ends the search."""


@dataclass(slots=True, frozen=True)
class QueryVectors:
    """Of all queries of a search, in order, by who makes the vectors of a store."""

    by_maker: Mapping[Maker, Sequence[bytes]]
    num_tokens: int
    """That were embedded."""
    degraded: Mapping[Maker, str]
    """Why there are none."""


async def embed_queries(
    models: ModelRegistry, stores: Iterable[IndexedStore], queries: Sequence[str], embed: Embed
) -> QueryVectors:
    """Raises what `embed` raises, but for what `Embed` names."""
    num_tokens, by_maker, degraded = 0, {}, {}
    for maker, store in {store.maker: store for store in stores}.items():
        wanted = await _wanted(models, store, queries)
        try:
            by_maker[maker] = await embed(wanted)
        except ModelUnavailable:
            degraded[maker] = wanted.reason or "its embedding model does not answer"
        except CapacityUnavailable as error:
            if type(error) is not CapacityUnavailable:
                raise  # not the model: the ledger, say
            degraded[maker] = "its embedding model is busy"
        else:
            num_tokens += 0 if wanted.request is None else wanted.request.num_tokens
    return QueryVectors(by_maker, num_tokens, degraded)


def uncounted(tenant: TenantHandle, key_id: UUID | None) -> Embed:
    """By the engine, at nobody's cost. Cancelled with its caller."""

    async def embed(wanted: Wanted) -> Sequence[bytes]:
        if wanted.model is None or wanted.request is None:
            raise ModelUnavailable()
        return await wanted.model.engine.embed(
            wanted.request.inputs, dimensions=None, tenant=tenant, key_id=key_id
        )

    return embed


async def _wanted(models: ModelRegistry, store: IndexedStore, queries: Sequence[str]) -> Wanted:
    model = models.find(store.model)
    if model is None or model.embedding is None:
        return Wanted(store.model, reason="its embedding model is not served")
    try:
        hello = model.engine.require_ready()
    except ModelUnavailable:
        return Wanted(store.model, reason="its embedding model does not answer")
    is_other = store.vector_space not in (None, hello.vector_space)
    if is_other or hello.dimensions != store.dimensions:
        return Wanted(store.model, reason="its embedding model was replaced by another")
    text, most = model.embedding, hello.max_model_tokens
    if sum(map(len, queries)) <= _INLINE_CHARACTERS:
        return Wanted(store.model, model, _encoded(text, queries, most))
    encoded = await asyncio.to_thread(_encoded, text, queries, most)
    return Wanted(store.model, model, encoded)


def _encoded(text: EmbeddingText, queries: Sequence[str], max_tokens: int) -> EmbeddingRequest:
    _, behind = text.tokenizer.frame
    cut = max_tokens - len(behind)
    inputs = (
        tokens if len(tokens) <= max_tokens else [*tokens[:cut], *behind]
        for tokens in text.encode(queries, "query")
    )
    return EmbeddingRequest(tuple(inputs), dimensions=None, input_param="query")

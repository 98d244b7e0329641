"""What ranks the results of this request's search, and how is that counted?

A ranking is counted as what it is, a call of /v1/rerank, but as a part of the request (see
`parts`): the id of its usage row is the request's with `.rerank` behind it.

Does not know: how anything is ranked (see `gateway.knowledge.reranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from anzoth.api import parts
from anzoth.api.call import Call
from anzoth.api.ranking_options import NO_RANKER, OPERATORS_RANKER, Ranker
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.knowledge.found import FoundChunk
from anzoth.gateway.knowledge.rerankers import Reranking, Score
from anzoth.gateway.models import ServedModel

ENDPOINT = "/v1/rerank"
"""Of the usage rows."""


async def of_search(call: Call, ranker: Ranker) -> Reranking | None:
    """For a search that the caller asked for. None: in the order of the fusion.

    Raises ModelNotFound, ModelNotAllowed or InvalidValue for a reranker that the caller names, and
    DatabaseUnavailable.
    """
    return await _reranking(call, ranker, _counted(call))


async def of_chat(call: Call, ranker: Ranker) -> Reranking | None:
    """For a search that a chat is answered from. What that takes is nobody's cost, as the embedding
    of its queries is not, unless the caller names the reranker. Raises the same."""
    return await _reranking(call, ranker, _uncounted(call))


async def _reranking(call: Call, ranker: Ranker, operators: Score) -> Reranking | None:
    """`operators`: how the operator's reranker is asked; one that the caller names is counted."""
    rerankers = call.services.rerankers
    if ranker.name in OPERATORS_RANKER:
        by = rerankers.of_operator()
        return None if by is None else Reranking(by, operators)
    if ranker.name == NO_RANKER:
        return None
    by = await rerankers.named(call.principal, ranker.name, call.request.request_id, ranker.param)
    return Reranking(by, _counted(call))


def _uncounted(call: Call) -> Score:
    async def score(model: ServedModel, request: EmbeddingRequest) -> Sequence[bytes]:
        return await model.engine.embed(
            request.inputs,
            dimensions=None,
            second_at=request.second_at,
            tenant=call.principal.tenant,
            key_id=call.principal.key_id,
        )

    return score


def _counted(call: Call) -> Score:
    async def score(model: ServedModel, request: EmbeddingRequest) -> Sequence[bytes]:
        return await parts.embed(call, "rerank", ENDPOINT, model, request)

    return score


def shown(chunk: FoundChunk) -> dict[str, Any] | None:
    """JSON: what the reranker made of it. None: it had no say."""
    return None if chunk.reranked is None else asdict(chunk.reranked)

"""What ranks the results of this request's search, and how is that counted?

A ranking is counted as what it is, a call of /v1/rerank, but within the request: its tokens meet
the limits of the reranker, and it has a usage row of its own under the reranker's name and price,
whose id is the request's with `.rerank` behind it. It is no further request to the limits.

Does not know: how anything is ranked (see `gateway.knowledge.reranking`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from anzoth.api.call import Call
from anzoth.api.ranking_options import NO_RANKER, OPERATORS_RANKER, Ranker
from anzoth.errors import AnzothError
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.knowledge.found import FoundChunk
from anzoth.gateway.knowledge.rerankers import Reranking, Score
from anzoth.gateway.models import ServedModel
from anzoth.gateway.usage import UsageRecord

ENDPOINT = "/v1/rerank"
"""Of the usage rows."""
_ABANDONED = 499
"""As of a request whose caller left: it was computed, and nobody used it."""


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
    """What the limits do not cover is not computed. An attempt that was begun and then given up,
    because it took too long or the caller left, counts in full."""
    services, principal = call.services, call.principal

    async def score(model: ServedModel, request: EmbeddingRequest) -> Sequence[bytes]:
        reservation = services.embedder.reserve(model, request, principal, is_part=True)
        usage = UsageRecord(
            f"{call.request.request_id}.rerank",
            principal,
            ENDPOINT,
            model=model.name,
            target=model.target,
            price=model.price,
            status=_ABANDONED,
            batch=call.is_of_batch,
        )
        began_s = time.monotonic()
        try:
            scores = await services.embedder.embed(model, request, principal, reservation, usage)
            usage.status = 200
        except AnzothError as error:
            usage.status, usage.error_code, usage.rule = error.status, error.code, error.rule
            usage.refusal = error.kept_message
            raise
        finally:
            usage.duration_ms = int(1000 * (time.monotonic() - began_s))
            if usage.entry is not None or usage.prompt_tokens:
                services.ledger.record(usage)
        return scores

    return score


def shown(chunk: FoundChunk) -> dict[str, Any] | None:
    """JSON: what the reranker made of it. None: it had no say."""
    return None if chunk.reranked is None else asdict(chunk.reranked)

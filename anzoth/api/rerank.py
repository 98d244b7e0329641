"""POST /v1/rerank: which of these documents answer a query best?

OpenAI has no such endpoint; the shape is the one that clients of Cohere and Jina send and read.

Does not know: limits, the engine, or how a pair becomes tokens.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from anzoth.api import through_alias
from anzoth.api.call import Answer, Call, must_rerank
from anzoth.api.fields import (
    INT32_MAX,
    Field,
    Policy,
    array,
    boolean,
    harmless,
    integer,
    parse,
    string,
    wrong_type,
)
from anzoth.api.requests import MAX_MODEL_NAME
from anzoth.errors import ContextLengthExceeded
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response
from anzoth.text.rerank_text import Pair, PairsTooLong

MAX_DOCUMENTS = 2048
_INLINE_ANSWER_BYTES = 64 << 10
"""Bodies up to this size are answered on the loop: the documents are in the answer at most once."""

_SCORE = struct.Struct("<f")


def _document(value: Any, param: str) -> str:
    if isinstance(value, dict):
        return parse(_DOCUMENT_FIELDS, value, f"{param}.")["text"]
    if isinstance(value, str):
        return value
    raise wrong_type(param, "a string or an object with a 'text'", value)


_DOCUMENT_FIELDS = (Field("text", string(INT32_MAX), required=True),)

FIELDS = (
    Field("model", string(MAX_MODEL_NAME, min_characters=1), required=True),
    Field("query", string(INT32_MAX, min_characters=1), required=True),
    Field("documents", array(_document, MAX_DOCUMENTS, min_items=1), required=True),
    Field("top_n", integer(1, INT32_MAX)),
    Field("return_documents", boolean, default=False),
    Field("max_tokens_per_doc", integer(1, INT32_MAX)),
    Field("user", string(512)),
    # Documents of several fields: an older form of Cohere's.
    Field("rank_fields", harmless(["text"]), Policy.REFUSED),
)


@dataclass(slots=True, frozen=True)
class RerankBody:
    """A valid body of POST /v1/rerank."""

    model: str
    query: str = field(repr=False)
    documents: tuple[str, ...] = field(repr=False)
    top_n: int | None
    """None: all."""
    returns_documents: bool
    max_document_tokens: int | None
    end_user: str | None = field(repr=False)


def parse_rerank(body: Mapping[str, Any]) -> RerankBody:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter."""
    values = parse(FIELDS, body)
    return RerankBody(
        model=values["model"],
        query=values["query"],
        documents=values["documents"],
        top_n=values["top_n"],
        returns_documents=values["return_documents"],
        max_document_tokens=values["max_tokens_per_doc"],
        end_user=values["user"],
    )


async def create(call: Call) -> Answer:
    alias = await through_alias.alias_of(call)
    given = call.body if alias is None else through_alias.body_without_chat(alias, call.body)
    body = parse_rerank(given)
    usage = call.record
    usage.model, usage.end_user = body.model, body.end_user
    if alias is None:
        return await _rerank(call, body, call.model(body.model))
    return await through_alias.answer(
        call, alias, None, lambda model: _rerank(call, body, model), remote=None
    )


async def _rerank(call: Call, body: RerankBody, model: ServedModel) -> Answer:
    text, usage = must_rerank(model), call.record
    limit = model.engine.require_ready().max_model_tokens

    def encode() -> list[Pair]:
        return text.encode(body.query, body.documents, limit, body.max_document_tokens)

    # What is encoded may be far more than the body: the query again with each document.
    try:
        pairs = await asyncio.to_thread(encode)
    except PairsTooLong as too_long:
        raise ContextLengthExceeded(str(too_long), param=too_long.param) from None
    request = EmbeddingRequest(
        tuple(pair.token_ids for pair in pairs),
        dimensions=None,
        input_param="documents",
        second_at=tuple(pair.second_at for pair in pairs if pair.second_at is not None),
    )
    embedder = call.services.embedder
    reservation = embedder.reserve(model, request, call.principal)
    call.hold(reservation)
    vectors = await embedder.embed(model, request, call.principal, reservation, usage)
    scores = [score for (score,) in map(_SCORE.unpack, vectors)]

    def render() -> bytes:
        return orjson.dumps(
            {
                "id": f"rerank-{secrets.token_hex(12)}",
                "object": "list",
                "model": model.name,
                "results": _results(body, scores),
                "usage": {
                    "prompt_tokens": request.num_tokens,
                    "total_tokens": request.num_tokens,
                },
            }
        )

    is_small = call.num_body_bytes <= _INLINE_ANSWER_BYTES
    content = render() if is_small else await asyncio.to_thread(render)
    return Response(200, content, headers=call.headers)


def _results(body: RerankBody, scores: list[float]) -> list[dict[str, Any]]:
    """The best first; of equal ones, that which came first."""
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    results: list[dict[str, Any]] = []
    for index in best:
        result: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
        if body.returns_documents:
            result["document"] = {"text": body.documents[index]}
        results.append(result)
    return results

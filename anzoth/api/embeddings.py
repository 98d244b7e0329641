"""POST /v1/embeddings: one vector for each input.

An input is plain text, or token ids of the model's own tokenizer with its special tokens. Ids that
lack those are refused, because they are most likely another tokenizer's (LangChain sends OpenAI's
unless told otherwise) and their vectors would be wrong without any sign of it.

Does not know: limits, the engine, or what stands before a text.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from anzoth.api import forward, through_alias
from anzoth.api.call import Answer, Call, must_embed
from anzoth.api.fields import (
    INT32_MAX,
    Field,
    integer,
    one_of,
    parse,
    string,
    texts_or_token_ids,
)
from anzoth.api.requests import MAX_MODEL_NAME
from anzoth.errors import InvalidValue
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response
from anzoth.text.embedding_text import InputType, UnframedTokens

MAX_INPUTS = 2048
_INLINE_ANSWER_BYTES = 64 << 10
"""Of packed vectors: up to this size they are written as JSON on the loop (two milliseconds)."""

EncodingFormat = Literal["float", "base64"]

FIELDS = (
    Field("model", string(MAX_MODEL_NAME, min_characters=1), required=True),
    Field("input", texts_or_token_ids(MAX_INPUTS, min_characters=1), required=True),
    Field("encoding_format", one_of("float", "base64"), default="float"),
    Field("dimensions", integer(1, INT32_MAX)),
    Field("user", string(512)),
    # An extension that other servers made customary: what the texts are for.
    Field("input_type", one_of("query", "document", "passage")),
)


@dataclass(slots=True, frozen=True)
class EmbeddingsBody:
    """A valid body of POST /v1/embeddings."""

    model: str
    inputs: tuple[str | Sequence[int], ...] = field(repr=False)
    encoding_format: EncodingFormat
    dimensions: int | None
    input_type: InputType | None
    end_user: str | None = field(repr=False)


def parse_embeddings(body: Mapping[str, Any]) -> EmbeddingsBody:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter."""
    values = parse(FIELDS, body)
    input_type = values["input_type"]
    return EmbeddingsBody(
        model=values["model"],
        inputs=values["input"],
        encoding_format=values["encoding_format"],
        dimensions=values["dimensions"],
        input_type="document" if input_type == "passage" else input_type,
        end_user=values["user"],
    )


async def create(call: Call) -> Answer:
    alias = await through_alias.alias_of(call)
    given = call.body if alias is None else through_alias.body_without_chat(alias, call.body)
    body = parse_embeddings(given)
    usage = call.record
    usage.model, usage.end_user = body.model, body.end_user
    if alias is None:
        return await _embed(call, body, call.model(body.model))
    return await through_alias.answer(
        call,
        alias,
        None,
        lambda model: _embed(call, body, model),
        lambda backend, target: forward.embed(call, given, alias.name, backend, target),
    )


async def _embed(call: Call, body: EmbeddingsBody, model: ServedModel) -> Answer:
    """By an engine of our own."""
    text, usage = must_embed(model), call.record
    model.engine.require_ready()  # before work that would be for nothing
    try:
        inputs = await call.off_loop(lambda: tuple(text.encode(body.inputs, body.input_type)))
    except UnframedTokens as unframed:
        raise _not_ours(body, unframed.args[0]) from None
    request = EmbeddingRequest(inputs, body.dimensions)
    embedder = call.services.embedder
    reservation = embedder.reserve(model, request, call.principal)
    call.hold(reservation)
    vectors = await embedder.embed(model, request, call.principal, reservation, usage)

    def render() -> bytes:
        return orjson.dumps(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": encode(vector)}
                    for index, vector in enumerate(vectors)
                ],
                "model": model.name,
                "usage": {
                    "prompt_tokens": request.num_tokens,
                    "total_tokens": request.num_tokens,
                },
            }
        )

    encode = _ENCODINGS[body.encoding_format]
    is_small = sum(map(len, vectors)) <= _INLINE_ANSWER_BYTES
    content = render() if is_small else await asyncio.to_thread(render)
    return Response(200, content, headers=call.headers)


def _not_ours(body: EmbeddingsBody, index: int) -> InvalidValue:
    param = "input" if len(body.inputs) == 1 else f"input[{index}]"
    return InvalidValue(
        f"Invalid value for '{param}': token ids must be those of the tokenizer of "
        f"'{body.model}', with its special tokens at both ends. Send text instead; in LangChain, "
        "OpenAIEmbeddings does with check_embedding_ctx_length=False.",
        param=param,
    )


def _numbers(packed: bytes) -> list[float]:
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _base64(packed: bytes) -> str:
    """The engine's own bytes: little-endian float32, as OpenAI's."""
    return base64.b64encode(packed).decode()


_ENCODINGS = {"float": _numbers, "base64": _base64}

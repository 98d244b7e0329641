"""How does a chat answer from knowledge bases, and what does it say when they have no answer?

    which       those of the request's `file_search` and of its alias together; where there are
                none, the key's default ones
    no answer   a fixed sentence, without asking a model, which costs no tokens. Where an answer has
                a required form (JSON), as the message's `refusal`: the sentence is no JSON.
    trace       `x_anzoth.retrieval`, where the request asks for it; without any text it is always
                kept with the request

Does not know: how anything is found or packed (see `gateway.knowledge`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from anzoth.api import reranking
from anzoth.api.call import Answer, Call
from anzoth.api.citing import Extras, annotations_by
from anzoth.api.fields import unsupported
from anzoth.api.files import owner_of
from anzoth.api.ranking_options import Ranker
from anzoth.api.requests import ChatRequest
from anzoth.api.timeout import left_ms
from anzoth.gateway.aliases import Alias
from anzoth.gateway.knowledge.citations import Evidence
from anzoth.gateway.knowledge.found import FoundChunk
from anzoth.gateway.knowledge.grounding import MOST_PASSAGE_TOKENS, KnowledgeUse, Retrieved
from anzoth.gateway.knowledge.kept_trace import KeptTrace
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.remote_usage import estimated_tokens
from anzoth.http import sse
from anzoth.http.messages import Response, Sink, StreamingResponse
from anzoth.text.passages import Laying, last_of_user

NO_ANSWER = "Your documents do not contain an answer to this question."

Body = dict[str, Any]  # JSON


async def retrieve(call: Call, alias: Alias | None, request: ChatRequest) -> Retrieved | None:
    """What is found for this chat. None: it has nothing to do with knowledge bases.

    Raises as `Grounding.retrieve` and `reranking.of_chat` do, and UnsupportedParameter.
    """
    use = _use(call, alias, request)
    if use is None:
        return None
    if request.documents:
        raise unsupported("documents", "cannot stand beside knowledge bases")
    asked = request.file_search
    retrieved = await call.services.grounding.retrieve(
        *(call.principal, owner_of(call), use, request.messages),
        timeout_ms=left_ms(call.request),
        reranking=await reranking.of_chat(call, Ranker() if asked is None else asked.ranker),
    )
    keep_trace(call, retrieved)
    return retrieved


def keep_trace(call: Call, retrieved: Retrieved, packed: Packed | None = None) -> None:
    """With the request, instead of what was kept before. `packed`: what a model is given of it."""
    trace = KeptTrace.of(retrieved.use.store_ids, retrieved.found, packed)
    call.record.retrieval = trace.encode()


def _use(call: Call, alias: Alias | None, request: ChatRequest) -> KnowledgeUse | None:
    asked = request.file_search
    of_alias = () if alias is None else alias.knowledge_bases
    named = () if asked is None else asked.use.store_ids
    store_ids = tuple(dict.fromkeys((*of_alias, *named)))
    store_ids = store_ids or call.principal.default_knowledge_bases
    if not store_ids:
        return None
    return KnowledgeUse(store_ids) if asked is None else replace(asked.use, store_ids=store_ids)


def says_so(request: ChatRequest, retrieved: Retrieved | None) -> bool:
    """Whether the answer is that there is none."""
    if retrieved is None or retrieved.has_answer:
        return False
    asked = request.file_search
    if asked is None or asked.on_no_answer is None:
        return request.tools is None
    return asked.on_no_answer == "say_so"


def body_for(
    body: Mapping[str, Any], request: ChatRequest, retrieved: Retrieved, laying: Laying
) -> tuple[Body, Packed]:
    """What another server is sent: the passages instead of the tool. Their tokens are estimated.

    Raises ContextLengthExceeded.
    """
    sent = dict(body)
    tools = [tool for tool in body.get("tools") or () if tool.get("type") != "file_search"]
    sent["tools"] = tools or None
    choice = body.get("tool_choice")
    if not tools or (isinstance(choice, dict) and choice.get("type") == "file_search"):
        sent["tool_choice"] = None
    if not retrieved.has_answer:
        return sent, Packed()
    packed = retrieved.pack(
        lambda passage: estimated_tokens(laying.shown(passage)), MOST_PASSAGE_TOKENS
    )
    asked, at = last_of_user(request.messages), last_of_user(body["messages"])
    assert asked is not None, "there is something that was searched for"
    assert at is not None
    passages = [passage.passage for passage in packed.passages]
    content = laying.question(request.messages[asked]["content"], passages)
    sent["messages"] = list(body["messages"])
    sent["messages"][at] = {**sent["messages"][at], "content": content}
    return sent, packed


# --- no answer ------------------------------------------------------------------------------------


async def count_refusal(call: Call, label: str) -> None:
    """Of an answer that there is none: it is a request, with no tokens.

    `label`: of the model that is not asked, for the metrics. Raises LimitReached,
    LedgerUnavailable or CapacityUnavailable.
    """
    account = call.services.remote_accounts.open(
        call.principal,
        call.record,
        label,
        prompt_tokens=0,
        output_tokens=0,
        is_stated=True,
        received_at_s=call.request.received_at_s,
    )
    call.hold(account.reservation)
    try:
        await account.begun()
    except BaseException:
        account.discard()
        raise
    account.finish_reason = "stop"
    account.close()


async def refuse(call: Call, label: str, request: ChatRequest, retrieved: Retrieved) -> Answer:
    """The answer that there is none. Raises as `count_refusal` does."""
    await count_refusal(call, label)
    shown = {
        "id": f"chatcmpl-{secrets.token_hex(16)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.options.model,
        "system_fingerprint": None,
    }
    said: Body = {"content": NO_ANSWER, "refusal": None}
    if request.form is not None:
        said = {"content": None, "refusal": NO_ANSWER}
    extra = extension(request, retrieved, Packed())
    if request.options.stream:
        return _stream_refusal(call, request, shown, said, extra)
    message = {"role": "assistant", **said, "annotations": []}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
        for index in range(request.options.num_choices)
    ]
    answer = {**shown, "choices": choices, "usage": _NO_USAGE, **extra}
    return Response(200, orjson.dumps(answer), headers=call.headers)


def _stream_refusal(
    call: Call, request: ChatRequest, shown: Body, said: Body, extra: Body
) -> StreamingResponse:
    options = request.options
    common = {**shown, "object": "chat.completion.chunk"}
    without_usage = {"usage": None} if options.include_usage else {}
    text = {name: value for name, value in said.items() if value is not None}
    deltas = ((_FIRST, None), (text, None), ({}, "stop"))

    async def run(sink: Sink) -> None:
        for number, (delta, ending) in enumerate(deltas):
            for index in range(options.num_choices):
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": ending}
                chunk = {**common, "choices": [choice], **without_usage}
                if not number and not index:
                    chunk |= extra
                sink.write(sse.data_frame(orjson.dumps(chunk)))
        if options.include_usage:
            sink.write(sse.data_frame(orjson.dumps({**common, "choices": [], "usage": _NO_USAGE})))
        sink.write(sse.DONE)

    return StreamingResponse(run, headers=[*call.headers, *sse.HEADERS])


_FIRST = {"role": "assistant", "content": ""}
_NO_USAGE = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


# --- what an answer has besides -------------------------------------------------------------------


def extras(request: ChatRequest, retrieved: Retrieved, packed: Packed) -> Extras:
    """Of the answer to a chat that has these passages."""
    evidence = Evidence(packed.passages)
    return Extras(annotations_by(evidence), extension(request, retrieved, packed))


def extension(request: ChatRequest, retrieved: Retrieved, packed: Packed) -> Body:
    """Further fields of the answer: none, unless the request asks for the trace."""
    if not request.shows_trace:
        return {}
    found = retrieved.found
    trace = {
        "vector_store_ids": retrieved.use.store_ids,
        "queries": retrieved.queries,
        "has_answer": retrieved.has_answer,
        "is_exact": found.is_exact,
        "results": [_result(chunk) for chunk in found.chunks],
        "passages": [
            {
                "number": number,
                "vector_store_id": passage.store_id,
                "file_id": passage.file_id,
                "spans": [[piece.start, piece.end] for piece in passage.pieces],
            }
            for number, passage in enumerate(packed.passages, 1)
        ],
        "dropped": [{**_place(drop.chunk), "reason": drop.reason} for drop in packed.dropped],
        "search": found.trace,
    }
    return {"x_anzoth": {"retrieval": trace}}


def _result(chunk: FoundChunk) -> Body:
    """As a `file_search_call` of the Responses API has it, and what led to the score."""
    return {
        **_place(chunk),
        "filename": chunk.filename,
        "score": chunk.score,
        "attributes": chunk.attributes,
        "text": chunk.content.text,
        "page": chunk.content.page,
        "dense_rank": chunk.dense_rank,
        "dense_score": chunk.dense_score,
        "sparse_rank": chunk.sparse_rank,
        "sparse_score": chunk.sparse_score,
        "rerank": reranking.shown(chunk),
    }


def _place(chunk: FoundChunk) -> Body:
    return {
        "vector_store_id": chunk.store_id,
        "file_id": chunk.file_id,
        "start": chunk.content.start,
        "end": chunk.content.end,
    }

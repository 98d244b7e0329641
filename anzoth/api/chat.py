"""POST /v1/chat/completions: translates between OpenAI's chat shapes and a generation.

Does not know: limits, the engine, or what a valid field is (see `requests`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from anzoth.api import answers, forward, generating, grounded, streams, through_alias
from anzoth.api.call import Answer, Call
from anzoth.api.citing import NO_EXTRAS, ChatConsumer, Extras, annotated_fields
from anzoth.api.generating import Begun
from anzoth.api.governed import Governed, govern, refuse_elsewhere
from anzoth.api.requests import ChatRequest, parse_chat
from anzoth.api.tool_calls import ChatCollector
from anzoth.api.tool_rounds import Rounds
from anzoth.gateway.aliases import Target
from anzoth.gateway.backends import Backend
from anzoth.gateway.choices import Consumer
from anzoth.gateway.knowledge.grounding import Retrieved
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response
from anzoth.text.passages import Laying
from anzoth.text.tool_calls import ToolCall, ToolCallFormat


async def create(call: Call) -> Answer:
    alias = await through_alias.alias_of(call)
    body = call.body if alias is None else through_alias.body_of_chat(alias, call.body)
    request = parse_chat(body)
    options = request.options
    call.describe(options)
    if (governed := await govern(call, alias, request)) is not None:
        request = governed.request
    endpoint = generating.Endpoint(
        lambda model, found: _generate(call, request, governed, model, found),
        lambda backend, target, found: (
            _forward(call, body, request, backend, target, found)
            if governed is None and not request.asked_tools.offered.servers
            else refuse_elsewhere(target)
        ),
        lambda label, found: grounded.refuse(call, label, request, found),
    )
    return await generating.answer(call, alias, request, body.get("prompt_cache_key"), endpoint)


async def _forward(
    call: Call,
    body: dict[str, Any],
    request: ChatRequest,
    backend: Backend,
    target: Target,
    retrieved: Retrieved | None,
) -> Answer:
    """By another server."""
    extras = NO_EXTRAS
    if retrieved is not None:
        found = retrieved
        laying = Laying("marked", call.principal.tenant.cache_salt.encode())

        def prepare() -> tuple[dict[str, Any], Packed, Extras]:
            sent, packed = grounded.body_for(body, request, found, laying)
            return sent, packed, grounded.extras(request, found, packed)

        body, packed, extras = await asyncio.to_thread(prepare)
        grounded.keep_trace(call, found, packed)
    options = request.options
    return await forward.generate(
        call, forward.CHAT, body, options, options.num_choices, backend, target, extras
    )


async def _generate(
    call: Call,
    request: ChatRequest,
    governed: Governed | None,
    model: ServedModel,
    retrieved: Retrieved | None,
) -> Answer:
    """By an engine of our own."""
    options = request.options
    begun = await generating.begin(call, request, model, retrieved, grounded.extras)
    prepared = begun.prepared
    extras = prepared.extras
    was_searched = retrieved is not None  # and so the chat's answers before may be of passages
    rounds = governed and Rounds(
        call, governed, model, prepared.packed, begun, was_searched=was_searched
    )
    generation, read = _source(begun, rounds)
    shown: Callable[[], Mapping[str, Any]] = dict if rounds is None else rounds.shown
    identity = answers.identify(
        "chatcmpl", generation, None if options.service_tier is None else prepared.tier
    )
    has_logprobs = options.sampling.num_logprobs is not None
    if options.stream:
        return streams.stream(
            generation,
            lambda write: streams.ChatChunks(
                write,
                identity,
                options.num_choices,
                model,
                include_usage=options.include_usage,
                has_logprobs=has_logprobs,
                extra=extras.fields,
                extra_at_end=shown,
            ),
            call.headers,
            include_usage=options.include_usage,
            read=read,
        )
    collector = ChatCollector(options.num_choices)
    await generation.run(read(collector))
    body = {
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": identity.model,
        "choices": _choices(
            collector, model, has_logprobs=has_logprobs, cites=extras.annotate is not None
        ),
        "usage": answers.usage(generation),
        **({} if identity.service_tier is None else {"service_tier": identity.service_tier}),
        "system_fingerprint": identity.fingerprint,
        **answers.merged(extras.fields, shown()),
    }
    return Response(200, orjson.dumps(body), headers=call.headers)


def _source(
    begun: Begun, rounds: Rounds | None
) -> tuple[streams.Run[Any], Callable[[ChatConsumer], Consumer]]:
    """What makes the text, and what stands between it and the answer."""
    return (begun.generation, begun.read) if rounds is None else (rounds, begun.cited)


def _choices(
    collector: ChatCollector, model: ServedModel, *, has_logprobs: bool, cites: bool
) -> list[dict[str, Any]]:
    parts = zip(collector.choices(), collector.reasonings(), collector.calls, strict=True)
    return [
        {
            "index": index,
            "message": _message(choice.text, reasoning, calls, model.tool_calls)
            | (annotated_fields(collector.annotations[index]) if cites else {}),
            "logprobs": answers.chat_logprobs(choice.logprobs, model.tokenizer)
            if has_logprobs
            else None,
            "finish_reason": choice.ending,
        }
        for index, (choice, reasoning, calls) in enumerate(parts)
    ]


def _message(
    text: str, reasoning: str, calls: Sequence[ToolCall], written: ToolCallFormat | None
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:  # the key is absent otherwise: clients take [] for calls
        message["content"] = text or None
        message["tool_calls"] = [answers.tool_call(call, written) for call in calls]
    return {**message, "refusal": None}

"""POST /v1/chat/completions: translates between OpenAI's chat shapes and a generation.

Does not know: limits, the engine, or what a valid field is (see `requests`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from anzoth.api import answers, forward, grounded, streams, through_alias
from anzoth.api.call import Answer, Call, must_generate
from anzoth.api.citing import NO_EXTRAS, ChatConsumer, CitationReader, Extras
from anzoth.api.fields import unsupported
from anzoth.api.reasoning import ReasoningReader
from anzoth.api.requests import ChatRequest, parse_chat
from anzoth.api.response_format import Constraint, constraint
from anzoth.api.timeout import deadline_s
from anzoth.api.tool_calls import CallConsumer, ChatCollector, ToolCallReader
from anzoth.api.tools import ToolUse
from anzoth.errors import InvalidValue
from anzoth.gateway.aliases import Target
from anzoth.gateway.backends import Backend
from anzoth.gateway.choices import Consumer
from anzoth.gateway.generation import Generation
from anzoth.gateway.generation_request import GenerationRequest
from anzoth.gateway.knowledge.grounding import Retrieved, answer_room
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.models import ServedModel
from anzoth.gateway.routes_of_models import beginning_of_chat
from anzoth.gateway.service_tiers import served_tier
from anzoth.http.messages import Response
from anzoth.text.answer_format import with_schema
from anzoth.text.chat_template import ChatTemplateError
from anzoth.text.passages import Laying, Passage, with_passages
from anzoth.text.prompt import chat_prompt
from anzoth.text.reasoning import Beginning, beginning_after, has_reasoning
from anzoth.text.tool_calls import ToolCall, ToolCallFormat, ToolCallParser

_NUM_END_TOKENS = 16
"""Enough of a prompt's end for a mark and the line breaks behind it, were it letter by letter."""


async def create(call: Call) -> Answer:
    alias = await through_alias.alias_of(call)
    body = call.body if alias is None else through_alias.body_of_chat(alias, call.body)
    request = parse_chat(body)
    options = request.options
    call.describe(options)
    if alias is None:
        model = call.model(options.model)
        retrieved = await grounded.retrieve(call, None, request)
        if retrieved is not None and grounded.says_so(request, retrieved):
            return await grounded.refuse(call, must_generate(model).label, request, retrieved)
        return await _generate(call, request, model, retrieved)
    call.principal.require_model(alias.name)
    retrieved = await grounded.retrieve(call, alias, request)
    if retrieved is not None and grounded.says_so(request, retrieved):
        return await grounded.refuse(call, alias.targets[0].name, request, retrieved)
    return await through_alias.answer(
        call,
        alias,
        beginning_of_chat(request.messages, body.get("prompt_cache_key")),
        lambda model: _generate(call, request, model, retrieved),
        lambda backend, target: _forward(call, body, request, backend, target, retrieved),
    )


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
    call: Call, request: ChatRequest, model: ServedModel, retrieved: Retrieved | None
) -> Answer:
    """By an engine of our own."""
    options = request.options
    hello = must_generate(model).engine.require_ready()  # before work that would be for nothing
    make_parser = _parser_of_calls(model, request.tools)
    tier = served_tier(options.service_tier, call.principal)
    making = _Making(
        model,
        request,
        Laying(model.passage_layout, call.principal.tenant.cache_salt.encode()),
        retrieved,
        hello.max_model_tokens,
    )
    if retrieved is None:
        made = await call.off_loop(making.prepare)
    else:
        made = await asyncio.to_thread(making.prepare)
        grounded.keep_trace(call, retrieved, made.packed)
    reasoning, grammar, annotate = made.reasoning, made.constraint, made.extras.annotate
    generation = await call.begin(
        model,
        GenerationRequest(
            prompts=(made.prompt,),
            num_choices=options.num_choices,
            max_tokens=options.max_tokens,
            sampling=replace(options.sampling, grammar=grammar and grammar.grammar),
            stop=options.stop,
            reasoning=reasoning,
            grammar_param=grammar and grammar.param,
            tier=tier,
            deadline_s=deadline_s(call.request),
            tags=made.packed.file_ids,
        ),
    )

    def read(answer: ChatConsumer) -> Consumer:
        """What takes the text: the answer itself, unless there may be more than text in it."""
        if annotate is not None:
            answer = CitationReader(answer, annotate, generation.num_choices)
        text: Consumer = answer
        if make_parser is not None and request.tools is not None:
            text = _reader_of_calls(generation, answer, make_parser, request.tools)
        if reasoning is None:
            return text
        return ReasoningReader(answer, text, generation.num_choices, reasoning)

    identity = answers.identify(
        "chatcmpl", generation, None if options.service_tier is None else tier
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
                extra=made.extras.fields,
            ),
            call.headers,
            include_usage=options.include_usage,
            read=read,
        )
    collector = ChatCollector(generation.num_choices)
    await generation.run(read(collector))
    body = {
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": identity.model,
        "choices": _choices(
            collector, model, has_logprobs=has_logprobs, cites=annotate is not None
        ),
        "usage": answers.usage(generation),
        **({} if identity.service_tier is None else {"service_tier": identity.service_tier}),
        "system_fingerprint": identity.fingerprint,
        **made.extras.fields,
    }
    return Response(200, orjson.dumps(body), headers=call.headers)


def _parser_of_calls(
    model: ServedModel, tools: ToolUse | None
) -> Callable[[], ToolCallParser] | None:
    """Makes the parser of each choice's text. Raises UnsupportedParameter for a model that cannot
    be told of tools, or whose calls cannot be read.
    """
    if tools is None or model.template is None:
        return None
    if not model.template.takes_tools:
        raise unsupported(
            "tools",
            f"is not supported by the model '{model.name}': its chat template has no place for "
            "tools",
        )
    if (written := model.tool_calls) is None:
        raise unsupported(
            "tools",
            f"is not supported for the model '{model.name}': this server cannot read the way in "
            "which it writes calls",
        )
    names = tools.names
    return lambda: written.parser(names)


def _reader_of_calls(
    generation: Generation,
    answer: CallConsumer,
    make_parser: Callable[[], ToolCallParser],
    tools: ToolUse,
) -> ToolCallReader:
    return ToolCallReader(
        answer,
        [make_parser() for _ in range(generation.num_choices)],
        generation.end,
        is_parallel=tools.is_parallel,
        # As OpenAI has it: that the function is called was no decision of the model's.
        called="stop" if tools.choice.is_named else "tool_calls",
    )


@dataclass(slots=True, frozen=True)
class _Made:
    """What one model is asked, and what its answer has besides."""

    prompt: list[int]
    reasoning: Beginning | None
    """Where it stands behind the prompt; None: nowhere."""
    constraint: Constraint | None
    extras: Extras
    packed: Packed
    """What of knowledge bases is in the prompt."""


@dataclass(slots=True, frozen=True)
class _Making:
    """A chat on its way to one model."""

    model: ServedModel
    request: ChatRequest
    laying: Laying
    retrieved: Retrieved | None
    context_tokens: int

    def prepare(self) -> _Made:
        model, request = self.model, self.request
        prompt, packed = self._grounded_prompt()
        reasoning: Beginning | None = None
        if has_reasoning(model.tokenizer.chat_template or ""):
            end = b"".join(map(model.tokenizer.token_bytes, prompt[-_NUM_END_TOKENS:]))
            reasoning = beginning_after(end.decode(errors="replace"))
        return _Made(
            prompt,
            reasoning,
            constraint(model, request.form, request.tools, reasoning),
            NO_EXTRAS
            if self.retrieved is None
            else grounded.extras(request, self.retrieved, packed),
            packed,
        )

    def _grounded_prompt(self) -> tuple[list[int], Packed]:
        """With what was found, or with the passages that the request brought."""
        retrieved, tokenizer = self.retrieved, self.model.tokenizer
        if retrieved is None or not retrieved.has_answer:
            return self._prompt(self.request.documents), Packed()
        room = self.context_tokens - answer_room(
            self.request.options.max_tokens, self.context_tokens
        )
        packed, prompt = retrieved.fit(
            self._prompt,
            lambda passage: len(tokenizer.encode_literally(self.laying.shown(passage))),
            room,
        )
        return prompt, packed

    def _prompt(self, passages: Sequence[Passage]) -> list[int]:
        model, request = self.model, self.request
        if model.template is None:
            raise InvalidValue(
                f"The model '{model.name}' has no chat template: use /v1/completions.",
                param="model",
            )
        try:
            messages = with_passages(request.messages, passages, self.laying)
        except ValueError as error:
            raise InvalidValue(
                "'documents' needs a message with the role 'user': they are shown with it.",
                param="documents",
            ) from error
        if request.form is not None and request.form.shown_schema is not None:
            messages = with_schema(messages, request.form.shown_schema)
        variables = request.template_variables
        if request.tools is not None:
            variables = {**variables, "tools": request.tools.tools}
        try:
            return chat_prompt(model.tokenizer, model.template, messages, variables)
        except ChatTemplateError as error:
            raise InvalidValue(str(error), param="messages") from error


def _choices(
    collector: ChatCollector, model: ServedModel, *, has_logprobs: bool, cites: bool
) -> list[dict[str, Any]]:
    parts = zip(collector.choices(), collector.reasonings(), collector.calls, strict=True)
    return [
        {
            "index": index,
            "message": _message(choice.text, reasoning, calls, model.tool_calls)
            | ({"annotations": collector.annotations[index]} if cites else {}),
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

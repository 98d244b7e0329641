"""How does a checked conversation become a generation, and what reads the generated text?

    alias ─▶ knowledge bases ─▶ no answer in them: the endpoint says so
                             └─▶ a model ─▶ prompt ─▶ generation ─▶ reasoning, calls, citations ─▶
                                                                    the endpoint's consumer

Chat completions and responses ask the same of a model; what they make of its answer is their own: a
consumer (see `citing.ChatConsumer`).

Does not know: the shape of any answer, or the fields of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from anzoth.api import grounded, through_alias
from anzoth.api.call import Answer, Call, must_generate
from anzoth.api.citing import NO_EXTRAS, ChatConsumer, CitationReader, Extras
from anzoth.api.fields import unsupported
from anzoth.api.reasoning import ReasoningReader
from anzoth.api.requests import ChatRequest
from anzoth.api.response_format import Constraint, constraint
from anzoth.api.timeout import deadline_s
from anzoth.api.tool_calls import CallConsumer, ToolCallReader
from anzoth.api.tools import ToolUse
from anzoth.errors import InvalidValue
from anzoth.frames import SamplingParams
from anzoth.gateway.aliases import Alias, Target
from anzoth.gateway.backends import Backend
from anzoth.gateway.choices import Consumer
from anzoth.gateway.generation import Generation
from anzoth.gateway.generation_request import GenerationRequest
from anzoth.gateway.knowledge.grounding import Retrieved, answer_room
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.models import ServedModel
from anzoth.gateway.routes_of_models import beginning_of_chat
from anzoth.gateway.service_tiers import served_tier
from anzoth.text.answer_format import with_schema
from anzoth.text.chat_template import ChatTemplateError
from anzoth.text.passages import Laying, Passage, with_passages
from anzoth.text.prompt import chat_prompt
from anzoth.text.reasoning import Beginning, beginning_after, has_reasoning
from anzoth.text.tool_calls import ToolCallParser
from anzoth.text.tool_results import with_marked_results

_NUM_END_TOKENS = 16
"""Enough of a prompt's end for a mark and the line breaks behind it, were it letter by letter."""

ExtrasOf = Callable[[ChatRequest, Retrieved, Packed], Extras]
"""What an answer has besides that is made from these passages."""
Admit = Callable[[ServedModel, GenerationRequest], Awaitable[Generation]]
"""Begins a generation."""


@dataclass(slots=True, frozen=True)
class Endpoint:
    """How one endpoint answers."""

    local: Callable[[ServedModel, Retrieved | None], Awaitable[Answer]]
    """By an engine of our own."""
    remote: Callable[[Backend, Target, Retrieved | None], Awaitable[Answer]] | None
    """By another server. None: it asks none."""
    no_answer: Callable[[str, Retrieved], Awaitable[Answer]]
    """That the knowledge bases have none; given the label of the model that is not asked."""


async def answer(
    call: Call, alias: Alias | None, request: ChatRequest, cache_key: str | None, endpoint: Endpoint
) -> Answer:
    """By whom the request's model leads to. `cache_key`: what its caller says that requests which
    begin alike share."""
    if alias is None:
        model = call.model(request.options.model)
        retrieved = await grounded.retrieve(call, None, request)
        if retrieved is not None and grounded.says_so(request, retrieved):
            return await endpoint.no_answer(must_generate(model).label, retrieved)
        return await endpoint.local(model, retrieved)
    call.principal.require_model(alias.name)
    retrieved = await grounded.retrieve(call, alias, request)
    if retrieved is not None and grounded.says_so(request, retrieved):
        return await endpoint.no_answer(alias.targets[0].name, retrieved)
    remote = endpoint.remote
    return await through_alias.answer(
        call,
        alias,
        beginning_of_chat(request.messages, cache_key),
        lambda model: endpoint.local(model, retrieved),
        None if remote is None else lambda backend, target: remote(backend, target, retrieved),
    )


@dataclass(slots=True, frozen=True)
class Prepared:
    """What one model is asked, and what its answer has besides."""

    prompt: list[int] = field(repr=False)
    reasoning: Beginning | None
    """Where it stands behind the prompt; None: nowhere."""
    constraint: Constraint | None
    sampling: SamplingParams
    """What holds, whoever said it."""
    tier: str
    """In which it is served."""
    extras: Extras
    packed: Packed
    """What of knowledge bases is in the prompt."""


@dataclass(slots=True, frozen=True)
class Begun:
    """A generation that was admitted; it must be run or closed."""

    generation: Generation
    prepared: Prepared
    take_apart: Callable[[ChatConsumer], Consumer]
    """What takes the text: the given consumer itself, unless there may be more than text."""

    def cited(self, answer: ChatConsumer) -> ChatConsumer:
        """What annotates the text of `answer`, if there is anything to cite."""
        annotate = self.prepared.extras.annotate
        if annotate is None:
            return answer
        return CitationReader(answer, annotate, self.generation.num_choices)

    def read(self, answer: ChatConsumer) -> Consumer:
        return self.take_apart(self.cited(answer))


async def prepare(
    call: Call,
    request: ChatRequest,
    model: ServedModel,
    retrieved: Retrieved | Packed | None,
    extras_of: ExtrasOf,
) -> Prepared:
    """`retrieved`: what was found, or what was packed of it for this conversation before.

    Raises AnzothError.
    """
    hello = must_generate(model).engine.require_ready()  # before work that would be for nothing
    _parser_of_calls(model, request.tools)
    tier = served_tier(request.options.service_tier, call.principal, is_of_batch=call.is_of_batch)
    making = _Making(
        *(model, request, _laying(call, model), tier, retrieved, hello.max_model_tokens, extras_of)
    )
    if retrieved is None:
        return await call.off_loop(making.prepare)
    made = await asyncio.to_thread(making.prepare)
    if isinstance(retrieved, Retrieved):
        grounded.keep_trace(call, retrieved, made.packed)
    return made


async def begin(
    call: Call,
    request: ChatRequest,
    model: ServedModel,
    retrieved: Retrieved | Packed | None,
    extras_of: ExtrasOf,
    admit: Admit | None = None,
) -> Begun:
    """`admit`: by whom it is begun, if not by `call`; for the rest see `prepare`.

    Raises AnzothError; nothing is then running or charged.
    """
    options = request.options
    prepared = await prepare(call, request, model, retrieved, extras_of)
    make_parser = _parser_of_calls(model, request.tools)
    reasoning, grammar = prepared.reasoning, prepared.constraint
    generation = await (admit or call.begin)(
        model,
        GenerationRequest(
            prompts=(prepared.prompt,),
            num_choices=options.num_choices,
            max_tokens=options.max_tokens,
            sampling=replace(prepared.sampling, grammar=grammar and grammar.grammar),
            stop=options.stop,
            reasoning=reasoning,
            grammar_param=grammar and grammar.param,
            tier=prepared.tier,
            deadline_s=deadline_s(call.request),
            tags=prepared.packed.file_ids,
        ),
    )

    def take_apart(answer: ChatConsumer) -> Consumer:
        text: Consumer = answer
        if make_parser is not None and request.tools is not None:
            text = _reader_of_calls(generation, answer, make_parser, request.tools)
        if reasoning is None:
            return text
        return ReasoningReader(answer, text, generation.num_choices, reasoning)

    return Begun(generation, prepared, take_apart)


async def count_prompt(call: Call, request: ChatRequest, model: ServedModel) -> int:
    """How many tokens `model` would read, without anything from knowledge bases."""
    _parser_of_calls(must_generate(model), request.tools)
    laying = _laying(call, model)
    return await call.off_loop(lambda: len(_prompt(model, request, laying, request.documents)))


def _laying(call: Call, model: ServedModel) -> Laying:
    return Laying(model.passage_layout, call.principal.tenant.cache_salt.encode())


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
class _Making:
    """A chat on its way to one model."""

    model: ServedModel
    request: ChatRequest
    laying: Laying
    tier: str
    retrieved: Retrieved | Packed | None
    context_tokens: int
    extras_of: ExtrasOf

    def prepare(self) -> Prepared:
        model, request = self.model, self.request
        prompt, packed = self._grounded_prompt()
        reasoning: Beginning | None = None
        if has_reasoning(model.tokenizer.chat_template or ""):
            end = b"".join(map(model.tokenizer.token_bytes, prompt[-_NUM_END_TOKENS:]))
            reasoning = beginning_after(end.decode(errors="replace"))
        return Prepared(
            prompt,
            reasoning,
            constraint(model, request.form, request.tools, reasoning),
            model.sampling.fill(request.options.sampling, request.options.unsaid),
            self.tier,
            NO_EXTRAS
            if not isinstance(self.retrieved, Retrieved)
            else self.extras_of(request, self.retrieved, packed),
            packed,
        )

    def _grounded_prompt(self) -> tuple[list[int], Packed]:
        """With what was found, or with the passages that the request brought."""
        retrieved, tokenizer = self.retrieved, self.model.tokenizer
        if isinstance(retrieved, Packed):
            passages = [passage.passage for passage in retrieved.passages]
            return self._prompt(passages or self.request.documents), retrieved
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
        return _prompt(self.model, self.request, self.laying, passages)


def _prompt(
    model: ServedModel, request: ChatRequest, laying: Laying, passages: Sequence[Passage]
) -> list[int]:
    if model.template is None:
        raise InvalidValue(
            f"The model '{model.name}' has no chat template: use /v1/completions.",
            param="model",
        )
    try:
        messages = with_passages(request.messages, passages, laying)
    except ValueError as error:
        raise InvalidValue(
            "'documents' needs a message with the role 'user': they are shown with it.",
            param="documents",
        ) from error
    if request.form is not None and request.form.shown_schema is not None:
        messages = with_schema(messages, request.form.shown_schema)
    messages = with_marked_results(messages, laying)
    variables = request.template_variables
    if request.tools is not None:
        variables = {**variables, "tools": request.tools.tools}
    try:
        return chat_prompt(model.tokenizer, model.template, messages, variables)
    except ChatTemplateError as error:
        raise InvalidValue(str(error), param="messages") from error

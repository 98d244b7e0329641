"""How does the answer to one request become a response, shown and kept?

    in_progress ─▶ completed | incomplete (cut at max_output_tokens)
         └───────▶ failed (it broke off, as a stream or in the background)

What a stream says last is the whole response. It is kept before that is said: whoever has it can go
on from it at once.

Does not know: how items are made of a model's text (see `response_output`), or what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from anzoth.api import answers, generating, grounded, streams, tool_rounds
from anzoth.api.call import Answer, Call, Detached
from anzoth.api.citing import CitationReader, Extras, response_annotations_by
from anzoth.api.file_search import RESULTS
from anzoth.api.files import owner_of
from anzoth.api.generating import Prepared
from anzoth.api.governed import Governed
from anzoth.api.requests import ChatRequest
from anzoth.api.response_items import Item
from anzoth.api.response_output import Emit, ResponseOutput, silently
from anzoth.api.response_requests import ResponseRequest
from anzoth.api.response_tools import CallItems, list_tools
from anzoth.api.server_calls import ServerCall
from anzoth.api.tool_rounds import Rounds
from anzoth.errors import AnzothError, RateLimited
from anzoth.gateway.conversations import NewItems, Reading
from anzoth.gateway.files import new_id
from anzoth.gateway.knowledge.citations import Evidence
from anzoth.gateway.knowledge.found import FoundChunk
from anzoth.gateway.knowledge.grounding import Retrieved
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.models import ServedModel
from anzoth.gateway.stored_responses import StoredResponse
from anzoth.gateway.tools.definitions import GovernedTool
from anzoth.http import sse
from anzoth.http.messages import Response, Sink, StreamingResponse

Body = dict[str, Any]  # JSON


@dataclass(slots=True, frozen=True)
class Remembered:
    """What a request is about."""

    context: Sequence[Item] = field(repr=False)
    """What went before."""
    input: Sequence[Item] = field(repr=False)
    knowledge_bases: Sequence[str] = ()
    """Of what went before."""
    reading: Reading | None = None
    """Of the conversation that it goes on in."""


_SAMPLED = frozenset({"temperature", "top_p"})
"""What a response shows of how a model was sampled."""


class _Events:
    """The events of one stream, numbered as they are written."""

    def __init__(self) -> None:
        self._num_written = 0

    def frame(self, type: str, fields: Body) -> bytes:
        event = {"type": type, "sequence_number": self._num_written, **fields}
        self._num_written += 1
        return sse.event_frame(type, orjson.dumps(event))

    def into(self, sink: Sink) -> Emit:
        return lambda type, fields: sink.write(self.frame(type, fields))


class ResponseAnswer:
    """The answer to one request."""

    def __init__(
        self, call: Call, request: ResponseRequest, chat: ChatRequest, remembered: Remembered
    ) -> None:
        """Raises UnsupportedParameter for one that is to be kept where none is."""
        self._call = call
        self._request = request
        self._chat = chat
        self._remembered = remembered
        self._is_kept = request.is_kept(call.services.responses.keeps_any)
        self._id = new_id("resp_")
        self._created_at = int(time.time())

    async def generated(self, model: ServedModel, retrieved: Retrieved | None) -> Answer:
        """By a model."""
        begun = await generating.begin(self._call, self._chat, model, retrieved, _extras)
        generation = begun.generation
        source = _Source(
            self._shown(model, begun.prepared),
            retrieved,
            lambda output: generation.run(begun.read(output)),
            lambda: _usage(generation),
            model,
            lambda sink: streams.running(generation, sink),
            close=generation.close,
        )
        return await self._answer(source)

    async def called(
        self,
        governed: Governed,
        model: ServedModel,
        retrieved: Retrieved | None,
        answered: Sequence[ServerCall],
    ) -> Answer:
        """By a model that may call tools of servers; beginning with those calls that a person has
        decided about."""
        call, before = self._call, self._remembered
        items = (*before.context, *before.input)
        how: dict[str, Any] = {
            "answered": answered,
            "was_searched": any(item["type"] == "file_search_call" for item in items),
            "max_calls": self._request.max_tool_calls,
            "asks_approval": True,
        }
        if answered:
            made = await generating.prepare(call, self._chat, model, retrieved, _extras)
            rounds = await tool_rounds.admitted(call, governed, model, made.packed, **how)
        else:
            begun = await generating.begin(call, self._chat, model, retrieved, _extras)
            made = begun.prepared
            rounds = Rounds(call, governed, model, made.packed, begun, **how)
        annotate = made.extras.annotate

        async def write(output: ResponseOutput) -> None:
            reader = None if annotate is None else CitationReader(output, annotate, 1)
            await rounds.run(reader or output, CallItems(output, reader))

        listed = {item["server_label"] for item in items if item["type"] == "mcp_list_tools"}
        source = _Source(
            self._shown(model, made),
            retrieved,
            write,
            lambda: _usage(rounds),
            model,
            lambda sink: streams.running(rounds, sink),
            {label: governed.tools_of(label) for label in governed.labels if label not in listed},
            rounds,
            rounds.close,
        )
        return await self._answer(source)

    def _shown(self, model: ServedModel, made: Prepared) -> Body:
        options = self._request.options
        tier = None if options.service_tier is None else made.tier
        sampled = {name: getattr(made.sampling, name) for name in _SAMPLED & options.unsaid}
        return {"model": model.name, "service_tier": tier, **sampled, **made.extras.fields}

    async def without_answer(self, label: str, retrieved: Retrieved) -> Answer:
        """That the knowledge bases have none. `label`: see `grounded.count_refusal`."""
        await grounded.count_refusal(self._call, label)

        async def say_so(output: ResponseOutput) -> None:
            if self._chat.form is not None:
                output.refuse(grounded.NO_ANSWER)
            else:
                output.text(0, grounded.NO_ANSWER, ())
                output.finished(0, "stop")

        shown = {"model": self._request.options.model, "service_tier": None}
        shown |= grounded.extension(self._chat, retrieved, Packed())
        return await self._answer(_Source(shown, retrieved, say_so, lambda: _NO_USAGE))

    # --- whole, streamed or in the background ----------------------------------------------------

    async def _answer(self, source: _Source) -> Answer:
        if self._request.options.stream:
            return self._stream(source)
        if self._request.is_background:
            return await self._detach(source)
        output = self._output(source, silently)
        await source.write(output)
        whole = await self._end(source, output)
        return Response(200, orjson.dumps(whole), headers=self._call.headers)

    def _stream(self, source: _Source) -> StreamingResponse:
        events = _Events()
        output: ResponseOutput | None = None

        async def run(sink: Sink) -> None:
            nonlocal output
            emit = events.into(sink)
            with source.running(sink):
                begun = self._show(source, "in_progress")
                emit("response.created", {"response": begun})
                emit("response.in_progress", {"response": begun})
                output = self._output(source, emit)
                await source.write(output)
            whole = await self._end(source, output)
            emit(f"response.{whole['status']}", {"response": whole})

        def broke_off(error: AnzothError) -> bytes:
            failed = {**self._failed(source, output, error), "store": False}
            return events.frame("response.failed", {"response": failed})

        return StreamingResponse(
            run, headers=[*self._call.headers, *sse.HEADERS], error_frame=broke_off
        )

    async def _detach(self, source: _Source) -> Response:
        """It was admitted; the rest is done when its caller has the answer."""
        owner, background = owner_of(self._call), self._call.services.background
        whole = self._show(source, "queued")
        queued = self._kept(source, whole)
        output: ResponseOutput | None = None
        try:
            await background.add(owner, queued)
        except BaseException:
            source.close()
            raise

        async def run() -> None:
            nonlocal output
            try:
                output = self._output(source, lambda _type, _fields: background.begun(self._id))
                await source.write(output)
            finally:
                source.close()
            await self._end(source, output)

        async def broke_off(error: AnzothError) -> None:
            failed = self._failed(source, output, error)
            await background.end(owner, replace(queued, response=failed))

        self._call.detached = Detached(owner, queued, run, broke_off)
        return Response(200, orjson.dumps(whole), headers=self._call.headers)

    def _failed(self, source: _Source, output: ResponseOutput | None, error: AnzothError) -> Body:
        made = [] if output is None else output.finished_items
        code = "rate_limit_exceeded" if isinstance(error, RateLimited) else "server_error"
        failure = {"code": code, "message": error.message}
        failed = self._show(source, "failed", output=made, error=failure)
        return {**failed, "conversation": None}

    def _output(self, source: _Source, emit: Emit) -> ResponseOutput:
        has_logprobs = self._request.options.sampling.num_logprobs is not None
        output = ResponseOutput(source.model, emit, has_logprobs=has_logprobs)
        if (retrieved := source.retrieved) is not None:
            shows_results = RESULTS in self._request.includes
            results = list(map(_result, retrieved.found.chunks)) if shows_results else None
            output.searched(retrieved.queries, results)
        for label, tools in source.servers.items():
            list_tools(output, label, tools)
        return output

    async def _end(self, source: _Source, output: ResponseOutput) -> Body:
        """The whole response; it is kept, or says that it is not."""
        if output.ending == "length":
            incomplete = {"reason": _reason(source.rounds)}
            whole = self._show(source, "incomplete", incomplete_details=incomplete)
        else:
            whole = self._show(source, "completed", completed_at=int(time.time()))
        whole |= {"output": output.items, "usage": source.usage()}
        if source.rounds is not None:
            whole = answers.merged(whole, source.rounds.shown())
        if self._remembered.reading is not None and not await self._try_add(source, whole):
            whole["conversation"] = None
        owner, kept = owner_of(self._call), self._kept(source, whole)
        if self._request.is_background:
            await self._call.services.background.end(owner, kept)
        elif self._is_kept:
            whole["store"] = await self._call.services.responses.try_save(owner, kept)
        return whole

    def _kept(self, source: _Source, whole: Body) -> StoredResponse:
        before, knowledge_bases = self._remembered, self._knowledge_bases(source)
        kept = StoredResponse(whole, before.context, before.input, knowledge_bases)
        if (reading := before.reading) is not None:
            kept = replace(
                kept, context=(), conversation_id=reading.id, last_position=reading.last_position
            )
        return kept

    async def _try_add(self, source: _Source, whole: Body) -> bool:
        """To the conversation that it goes on in."""
        before = self._remembered
        assert before.reading is not None
        new = NewItems((*before.input, *whole["output"]), self._knowledge_bases(source))
        conversations = self._call.services.conversations
        return await conversations.try_add(owner_of(self._call), before.reading.id, new)

    def _knowledge_bases(self, source: _Source) -> list[str]:
        """From which there is something in what was read for it."""
        of_search = () if source.retrieved is None else source.retrieved.use.store_ids
        return list(dict.fromkeys((*self._remembered.knowledge_bases, *of_search)))

    def _show(self, source: _Source, status: str, **more: object) -> Body:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_at,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "output": [],
            "store": self._is_kept,
            **self._request.shown,
            **source.shown,
            **more,
        }


@dataclass(slots=True, frozen=True)
class _Source:
    """Where the output of one answer comes from."""

    shown: Mapping[str, Any]
    """What of it stands in the response from the beginning."""
    retrieved: Retrieved | None
    write: Callable[[ResponseOutput], Awaitable[None]]
    usage: Callable[[], Body]
    """Once all is written."""
    model: ServedModel | None = None
    """None: no model writes it."""
    running: Callable[[Sink], AbstractContextManager[None]] = lambda _sink: nullcontext()
    """Around the writing of a stream."""
    servers: Mapping[str, Sequence[GovernedTool]] = field(default_factory=dict)
    """By label: what the model may call of those that the request names for the first time."""
    rounds: Rounds | None = None
    """Of an answer with calls."""
    close: Callable[[], None] = lambda: None
    """Ends what may still run for it."""


def _reason(rounds: Rounds | None) -> str:
    """Why a response is incomplete, as far as OpenAI has a word for it."""
    is_of_tokens = rounds is None or rounds.ended_by in (None, *tool_rounds.OF_TOKENS)
    return "max_output_tokens" if is_of_tokens else "max_messages"


def _result(chunk: FoundChunk) -> Item:
    return {
        "file_id": chunk.file_id,
        "filename": chunk.filename,
        "score": chunk.score,
        "attributes": chunk.attributes,
        "text": chunk.content.text,
        "vector_store_id": chunk.store_id,
    }


def _usage(generation: answers.Answering) -> Body:
    """Final once the generation's `run` has returned."""
    return _counted(
        generation.num_prompt_tokens,
        generation.num_cached_tokens,
        generation.num_completion_tokens,
        generation.num_reasoning_tokens,
    )


def _counted(input: int, cached: int, output: int, reasoning: int) -> Body:
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
    }


_NO_USAGE = _counted(0, 0, 0, 0)


def _extras(request: ChatRequest, retrieved: Retrieved, packed: Packed) -> Extras:
    evidence = Evidence(packed.passages)
    trace: dict[str, Any] = grounded.extension(request, retrieved, packed)
    return Extras(response_annotations_by(evidence), trace)

"""How is a request answered by another OpenAI-compatible server?

What goes there is the checked body with the fields that mean something there; what identifies the
caller's own users stays here. What comes back is taken apart and put together again under our id,
our time and the name that was asked for: of a choice only what OpenAI's API knows, of usage only
numbers, and the citations are ours. A stream begins for the client when the first event is there,
so that until then another target can still be asked.

Does not know: HTTP there (see `gateway.backends`), or how a target is chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from anzoth.api.call import Answer, Call
from anzoth.api.citing import NO_EXTRAS, Annotate, Extras, annotated_fields
from anzoth.api.fields import Field, unsupported
from anzoth.api.requests import CHAT_FIELDS, COMPLETION_FIELDS, Options
from anzoth.api.timeout import deadline_s
from anzoth.errors import DeadlineExceeded
from anzoth.gateway.aliases import Target
from anzoth.gateway.backend_exchange import Exchange
from anzoth.gateway.backends import Backend
from anzoth.gateway.remote_usage import RemoteUsage, estimated_tokens
from anzoth.http import sse
from anzoth.http.messages import Response, Sink, StreamingResponse

_STAYS_HERE = {
    *("model", "stream", "stream_options", "service_tier"),  # said anew, or ours
    *("user", "safety_identifier", "metadata"),  # who the caller's users are
    "include",  # what is included is ours
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
}
_DELTA = ("role", "content", "reasoning_content", "refusal", "tool_calls")
_GOES_ON = {"finish_reason": None}
_INLINE_BYTES = 64 << 10
Choice = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Endpoint:
    """How one endpoint's requests and answers look."""

    path: str
    id_prefix: str
    fields: tuple[str, ...]
    """What is sent there."""
    whole: str
    """The `object` of an answer."""
    chunk: str
    choice: Callable[[Choice], Choice]
    """Of an answer, as we show it. Raises LookupError, TypeError or AttributeError for garbage."""
    chunk_choice: Callable[[Choice], Choice]


def _names(fields: tuple[Field, ...]) -> tuple[str, ...]:
    return tuple(field.name for field in fields if field.name not in _STAYS_HERE)


def _chat_choice(choice: Choice) -> Choice:
    message = choice["message"]
    shown = {"role": "assistant", "content": None, **_known(message, _DELTA)}
    return _shell(choice, "message", {**shown, "refusal": message.get("refusal")})


def _chat_delta(choice: Choice) -> Choice:
    return _shell(choice, "delta", _known(choice["delta"], _DELTA))


def _text_choice(choice: Choice) -> Choice:
    if not isinstance(choice["text"], str):
        raise TypeError
    return _shell(choice, "text", choice["text"])


def _known(part: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(part.get("content"), str | None):
        raise TypeError
    return {name: part[name] for name in names if part.get(name) is not None}


def _shell(choice: Choice, name: str, content: object) -> Choice:
    index, ending = choice["index"], choice.get("finish_reason")
    if type(index) is not int or not isinstance(ending, str | None):
        raise TypeError
    logprobs = choice.get("logprobs")
    return {"index": index, name: content, "logprobs": logprobs, "finish_reason": ending}


CHAT = Endpoint(
    "/chat/completions", "chatcmpl", _names(CHAT_FIELDS), "chat.completion",
    "chat.completion.chunk", _chat_choice, _chat_delta,
)  # fmt: skip
COMPLETIONS = Endpoint(
    "/completions", "cmpl", _names(COMPLETION_FIELDS), "text_completion", "text_completion",
    _text_choice, _text_choice,
)  # fmt: skip


async def generate(
    call: Call,
    endpoint: Endpoint,
    body: Mapping[str, Any],
    options: Options,
    num_choices: int,
    backend: Backend,
    target: Target,
    extras: Extras = NO_EXTRAS,
) -> Answer:
    """A chat or a completion. `num_choices`: of all prompts together.

    Raises AnzothError; until it has returned, nothing was sent to the client and nothing charged.
    """
    if body.get("documents"):
        raise unsupported("documents", f"is not supported by the model '{options.model}'")
    sent = {name: body[name] for name in endpoint.fields if body.get(name) is not None}
    sent["model"] = target.model
    if options.stream:
        sent |= {"stream": True, "stream_options": {"include_usage": True}}
    account = _account(call, sent, options, num_choices, backend, target)
    made = _Making(call, endpoint, options, num_choices, account, extras)
    exchange: Exchange | None = None
    try:
        async with _until_deadline(call):
            exchange = await backend.ask(
                target.model,
                endpoint.path,
                sent,
                streamed=options.stream,
                owners=_owners(call),
            )
            if options.stream:
                answer = await made.stream(exchange)
                exchange = None  # the stream closes it
                return answer
            answer = await exchange.read()
            await account.begun()
            return made.whole(exchange, answer)
    except asyncio.CancelledError:
        account.close("cancelled")  # it was being computed, and nobody can say how much
        raise
    except BaseException:
        account.discard()
        raise
    finally:
        if exchange is not None:
            await exchange.close()


def _account(
    call: Call,
    sent: Mapping[str, Any],
    options: Options,
    num_choices: int,
    backend: Backend,
    target: Target,
) -> RemoteUsage:
    """Reserves the estimate."""
    said = [sent.get(name) for name in ("messages", "prompt", "tools", "response_format")]
    output = options.max_tokens
    account = call.services.remote_accounts.open(
        call.principal,
        call.record,
        target.name,
        prompt_tokens=estimated_tokens([part for part in said if part is not None]),
        output_tokens=num_choices
        * (backend.config.reserved_output_tokens if output is None else output),
        is_stated=output is not None,
        received_at_s=call.request.received_at_s,
    )
    call.hold(account.reservation)
    return account


def _owners(call: Call) -> frozenset[UUID]:
    principal = call.principal
    return frozenset(id for id in (principal.tenant.id, principal.key_id) if id is not None)


@contextlib.asynccontextmanager
async def _until_deadline(call: Call) -> AsyncIterator[None]:
    """Raises DeadlineExceeded when the caller's own time is over."""
    limit_s = deadline_s(call.request)
    timeout = None if limit_s is None else max(0.0, limit_s - time.monotonic())
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise DeadlineExceeded() from None


class _Making:
    """One answer, made from what another server says."""

    def __init__(
        self,
        call: Call,
        endpoint: Endpoint,
        options: Options,
        num_choices: int,
        account: RemoteUsage,
        extras: Extras,
    ) -> None:
        self._annotate = extras.annotate
        self._extra = extras.fields
        self._texts: list[list[str]] = [[] for _ in range(num_choices)]
        self._call = call
        self._endpoint = endpoint
        self._options = options
        self._num_choices = num_choices
        self._account = account
        self._open = set(range(num_choices))
        self._identity = {
            "id": f"{endpoint.id_prefix}-{secrets.token_hex(16)}",
            "created": int(time.time()),
            "model": options.model,
            "system_fingerprint": None,
        }

    # --- whole ----------------------------------------------------------------------------------

    def whole(self, exchange: Exchange, answer: dict[str, Any]) -> Response:
        choices = self._choices(exchange, answer, self._endpoint.choice)
        if self._open:
            raise exchange.garbage("an answer with too few choices")
        self._account.report(answer.get("usage"))
        self._account.close()
        if self._annotate is not None:
            for choice in choices:
                message = choice["message"]
                message |= annotated_fields(self._annotate(message["content"] or ""))
        shown = {
            **self._identity,
            "object": self._endpoint.whole,
            "choices": sorted(choices, key=lambda choice: choice["index"]),
            "usage": _usage(self._account),
            **self._extra,
        }
        return Response(200, orjson.dumps(shown), headers=self._call.headers)

    def _choices(
        self, exchange: Exchange, answer: Mapping[str, Any], shape: Callable[[Choice], Choice]
    ) -> list[Choice]:
        """Those that are not over yet, as we show them."""
        try:
            choices = [shape(choice) for choice in answer["choices"]]
        except (LookupError, TypeError, AttributeError):
            raise exchange.garbage("an answer of another shape") from None
        known = [choice for choice in choices if choice["index"] in self._open]
        for choice in known:
            self._account.wrote(_num_bytes(choice))
            if choice["finish_reason"] is not None:
                self._open.discard(choice["index"])
                if choice["index"] == 0:
                    self._account.finish_reason = choice["finish_reason"]
        return known

    # --- streamed -------------------------------------------------------------------------------

    async def stream(self, exchange: Exchange) -> StreamingResponse:
        """Returns when the first event is there, and takes over `exchange` then."""
        events = exchange.events()
        try:
            first = await anext(events, None)
            if first is None:
                raise exchange.garbage("a stream without an event")
            begin = self._frames(exchange, first)
            await self._account.begun()
        except BaseException:
            await exchange.close()
            raise

        async def run(sink: Sink) -> None:
            ending: str | None = "error"
            try:
                async with _until_deadline(self._call):
                    sink.write(begin)
                    async with contextlib.aclosing(events):
                        async for event in events:
                            sink.write(self._frames(exchange, event))
                if self._open:
                    raise exchange.garbage("a stream that broke off")
                ending = None
            except asyncio.CancelledError:
                ending = "cancelled"
                raise
            finally:
                self._account.close(ending)
                await exchange.close()
            if self._options.include_usage:
                sink.write(self._frame([], _usage(self._account)))
            sink.write(sse.DONE)

        return StreamingResponse(run, headers=[*self._call.headers, *sse.HEADERS])

    def _frames(self, exchange: Exchange, event: Mapping[str, Any]) -> bytes:
        """What the client gets of one event: nothing, if it only holds usage."""
        self._account.report(event.get("usage"))
        if not event.get("choices"):
            return b""
        choices = self._choices(exchange, event, self._endpoint.chunk_choice)
        if not choices:
            return b""
        annotated = [] if self._annotate is None else self._annotated(choices, self._annotate)
        if not annotated:
            return self._frame(choices, None)
        # Text may come with the end, and its citations between the two.
        text = [{**choice, **_GOES_ON} for choice in choices]
        ends = [{**choice, "delta": {}, "logprobs": None} for choice in choices]
        return b"".join(
            self._frame(some, None)
            for some in (text, annotated, [end for end in ends if end["finish_reason"]])
        )

    def _annotated(self, choices: list[Choice], annotate: Annotate) -> list[Choice]:
        """The citations of those that are over."""
        annotated: list[Choice] = []
        for choice in choices:
            texts = self._texts[choice["index"]]
            texts.append(choice["delta"].get("content") or "")
            if choice["finish_reason"] is not None and (made := annotate("".join(texts))):
                delta = {"content": "", **annotated_fields(made)}
                annotated.append(
                    {**choice, "delta": delta, "logprobs": None, "finish_reason": None}
                )
        return annotated

    def _frame(self, choices: list[Choice], usage: dict[str, Any] | None) -> bytes:
        chunk = {**self._identity, "object": self._endpoint.chunk, "choices": choices}
        chunk |= self._extra
        self._extra = {}
        if self._options.include_usage:
            chunk["usage"] = usage
        return sse.data_frame(orjson.dumps(chunk))


def _num_bytes(choice: Choice) -> int:
    """Of what a model has written."""
    content: Any = next(choice[name] for name in ("text", "delta", "message") if name in choice)
    if isinstance(content, str):
        return len(content.encode("utf-8", "replace"))
    return sum(
        len(part.encode("utf-8", "replace")) if isinstance(part, str) else len(orjson.dumps(part))
        for name, part in content.items()
        if name != "role" and part is not None
    )


def _usage(account: RemoteUsage) -> dict[str, Any]:
    prompt, completion = account.prompt_tokens, account.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": account.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": account.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# --- embeddings -----------------------------------------------------------------------------------


async def embed(
    call: Call, body: Mapping[str, Any], name: str, backend: Backend, target: Target
) -> Answer:
    """Vectors of texts. Raises AnzothError; nothing is then charged."""
    sent = {key: body[key] for key in _EMBEDDING_FIELDS if body.get(key) is not None}
    account = call.services.remote_accounts.open(
        call.principal,
        call.record,
        target.name,
        prompt_tokens=estimated_tokens(sent["input"]),
        output_tokens=0,
        is_stated=True,
        received_at_s=call.request.received_at_s,
    )
    call.hold(account.reservation)
    exchange: Exchange | None = None
    try:
        async with _until_deadline(call):
            sent["model"] = target.model
            exchange = await backend.ask(
                target.model, "/embeddings", sent, streamed=False, owners=_owners(call)
            )
            answer = await exchange.read()
            await account.begun()
        data = answer.get("data")
        if not isinstance(data, list) or not all(map(_is_vector, data)):
            raise exchange.garbage("an answer of another shape")
    except asyncio.CancelledError:
        account.close("cancelled")
        raise
    except BaseException:
        account.discard()
        raise
    finally:
        if exchange is not None:
            await exchange.close()
    account.report(answer.get("usage"))
    account.finish_reason = "stop"
    account.close()

    def render() -> bytes:
        return orjson.dumps(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": v["index"], "embedding": v["embedding"]}
                    for v in data
                ],
                "model": name,
                "usage": {
                    "prompt_tokens": account.prompt_tokens,
                    "total_tokens": account.prompt_tokens,
                },
            }
        )

    is_small = sum(len(vector["embedding"]) for vector in data) <= _INLINE_BYTES
    content = render() if is_small else await asyncio.to_thread(render)
    return Response(200, content, headers=call.headers)


_EMBEDDING_FIELDS = ("input", "encoding_format", "dimensions", "input_type")


def _is_vector(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("index")) is int
        and isinstance(entry.get("embedding"), list | str)
    )

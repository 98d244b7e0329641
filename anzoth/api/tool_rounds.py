"""How does one answer become of several generations, with tools called in between?

    round 1 ─▶ text, calls ─┬─ no calls, or calls of the caller's own among them ──▶ the answer ends
                            └─ calls of tools of servers alone ─▶ called at once, together ─▶
                               results, as messages ─▶ round 2 ─▶ …

Calls of the caller's own functions are the caller's to make: an answer that has any ends there, and
none of ours in the same turn is made, because the model would wait for both. Round 1 is a
generation like any other. Each further one meets the limits with its tokens, is no request of its
own, and has a usage row whose id is the request's with `.2`, `.3`, … behind it.

What bounds it: rounds, calls and time ([tools] of the configuration), the request's maxima of calls
and of output tokens, the model's context, and the limits of the key. An answer that one of them
ends is `length`, with what there is, and `ended_by` names the rule; it is no error, because what
was called cannot be undone by asking again. For the same reason SDKs are told not to repeat what
fails after a tool was called.

Does not know: whether a call is allowed and how it is made (`gateway.tools.calling`), or the shape
of any answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from anzoth.api import generating
from anzoth.api.call import Call
from anzoth.api.citing import NO_EXTRAS, Annotation, ChatConsumer, Extras
from anzoth.api.generating import Begun
from anzoth.api.governed import Governed
from anzoth.api.messages import Message
from anzoth.api.requests import ChatRequest
from anzoth.api.server_calls import (
    MAX_CALLS,
    Nobody,
    ServerCall,
    ServerCalls,
    Watcher,
    of_turn,
    result_message,
    shown_call,
)
from anzoth.api.tools import ToolChoice, ToolUse
from anzoth.errors import AnzothError, ContextLengthExceeded
from anzoth.gateway.choices import Ending, TokenLogprob
from anzoth.gateway.generation import Generation, GenerationCancelled
from anzoth.gateway.generation_request import GenerationRequest
from anzoth.gateway.knowledge.grounding import Retrieved
from anzoth.gateway.knowledge.packing import Packed
from anzoth.gateway.limit_errors import LimitReached
from anzoth.gateway.limits import Reservation
from anzoth.gateway.models import ServedModel
from anzoth.gateway.usage import UsageRecord
from anzoth.text.tool_calls import ToolCall

_ABANDONED = 499
_BETWEEN_TURNS = "\n\n"
"""Between what the model said before a call and what it said after it, where both are one text."""

MAX_ROUNDS, MAX_TOKENS = "tools.max_rounds", "request.max_tokens"
"""Rules that ended an answer; see `server_calls` for more."""
OF_TOKENS = (MAX_TOKENS, ContextLengthExceeded.rule)


class _Turn:
    """The consumer of what the model says in one round."""

    def __init__(self, answer: ChatConsumer, own: Mapping[str, Any], space: str) -> None:
        """`own`: names of the tools of servers. `space`: stands before the first word."""
        self.texts: list[str] = []
        self.reasonings: list[str] = []
        self.calls: list[ToolCall] = []
        """Of tools of servers: held back."""
        self.num_other_calls = 0
        self.ending: Ending = "stop"
        self._answer = answer
        self._own = own
        self._space = space

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        self.texts.append(text)
        if self._space and text:
            text, self._space = self._space + text, ""
        self._answer.text(choice, text, logprobs)

    def reasoning(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        self.reasonings.append(text)
        self._answer.reasoning(choice, text, logprobs)

    def tool_call(
        self, choice: int, number: int, call: ToolCall, logprobs: Sequence[TokenLogprob]
    ) -> None:
        if call.name in self._own:
            self.calls.append(call)
            if logprobs:
                self._answer.text(choice, "", logprobs)
        else:
            self._answer.tool_call(choice, self.num_other_calls, call, logprobs)
            self.num_other_calls += 1

    def annotated(self, choice: int, annotations: list[Annotation]) -> None:
        raise AssertionError("rounds have no citations of their own: see `begin`")

    def finished(self, choice: int, ending: Ending) -> None:
        self.ending = ending

    @property
    def calls_alone(self) -> bool:
        """Whether it goes on with what its calls say. One that was cut may lack some."""
        return bool(self.calls) and not self.num_other_calls and self.ending != "length"

    @property
    def message(self) -> Message:
        """As the model reads it in the next round, but for the calls."""
        made: Message = {"content": "".join(self.texts)}
        if reasoning := "".join(self.reasonings):
            made["reasoning_content"] = reasoning
        return made


class Rounds:
    """One answer of several generations. In the place of one: see `streams.Run`."""

    def __init__(
        self,
        call: Call,
        governed: Governed,
        model: ServedModel,
        packed: Packed,
        first: Begun | None = None,
        *,
        answered: Sequence[ServerCall] = (),
        was_searched: bool = False,
        max_calls: int | None = None,
        asks_approval: bool = False,
    ) -> None:
        """`packed`: what of knowledge bases is in the prompt. `first`: what was begun, which must
        be run or closed. Without it the answer begins with the calls that a person has `answered`
        for. `was_searched`: see `Governed.turn`. `max_calls`: what the request allows.
        `asks_approval`: a call that a person has to approve ends the answer, so that one can be
        asked; otherwise the model is told."""
        config = call.services.tools.config
        turn = governed.turn(call, packed, answered, was_searched=was_searched)
        self.calls = ServerCalls(call, turn, max_calls, asks_approval=asks_approval)
        self.ended_by: str | None = None
        """Which bound ended it. None: none."""
        self._call = call
        self._governed = governed
        self._request = governed.request
        self._model = model
        self._packed = packed
        self._round = first
        self._generations = [] if first is None else [first.generation]
        self._usage: UsageRecord | None = None
        """Of the round that runs, if it is another than the first."""
        self._place: Reservation | None = None
        """Among the requests that run, once the first round is over."""
        self._answered = answered
        self._max_rounds = config.max_rounds
        self._is_cancelled = False

    # --- as a generation -------------------------------------------------------------------------

    @property
    def model(self) -> ServedModel:
        return self._model

    @property
    def num_choices(self) -> int:
        return 1

    @property
    def fingerprint(self) -> str | None:
        """Of the engine that admitted the first round."""
        return self._generations[0].fingerprint if self._generations else None

    @property
    def num_prompt_tokens(self) -> int:
        """Of all rounds: each reads what was before it."""
        return sum(made.num_prompt_tokens for made in self._generations)

    @property
    def num_cached_tokens(self) -> int:
        return sum(made.num_cached_tokens for made in self._generations)

    @property
    def num_completion_tokens(self) -> int:
        return sum(made.num_completion_tokens for made in self._generations)

    @property
    def num_reasoning_tokens(self) -> int:
        return sum(made.num_reasoning_tokens for made in self._generations)

    def shown(self) -> dict[str, Any]:
        """JSON: further fields of the answer, which say what was called if the request asks for
        that, and which bound has ended the answer if one has."""
        made: dict[str, Any] = {} if self.ended_by is None else {"ended_by": self.ended_by}
        if self._request.shows_calls:
            made |= {"tool_calls": self.calls.trace, "rounds": self._usages}
        return {"x_anzoth": made} if made else {}

    def cancel(self) -> None:
        """The client is gone: stops the engine's work, or the tools', and then `run`."""
        self._is_cancelled = True
        for made in self._generations[-1:]:
            made.cancel()
        self.calls.cancel()

    def close(self) -> None:
        """Idempotent."""
        for made in self._generations[-1:]:
            made.close()
        self._record(_ABANDONED)
        if self._place is not None:
            self._place.settle(0)

    async def run(self, answer: ChatConsumer, watcher: Watcher | None = None) -> None:
        """Feeds `answer` until it has ended; then the usage is final. Without a `watcher` what the
        model says in all rounds is one text.

        Raises AnzothError, and GenerationCancelled after `cancel`.
        """
        try:
            await self._run(answer, watcher)
        finally:
            self.close()

    async def _run(self, answer: ChatConsumer, watcher: Watcher | None) -> None:
        is_joined, has_text = watcher is None, False
        told = watcher or Nobody()
        ending = await self._go_on({}, self._answered, told) if self._answered else None
        while ending is None:
            own = self._governed.granted
            said = _Turn(answer, own, _BETWEEN_TURNS if is_joined and has_text else "")
            await self._generate(said)
            has_text = has_text or any(map(str.strip, said.texts))
            ending = said.ending
            if said.calls_alone:
                told.turn_ended()
                ending = await self._go_on(said.message, of_turn(said.calls, own), told)
        answer.finished(0, ending)

    # --- rounds ----------------------------------------------------------------------------------

    async def _go_on(
        self, said: Message, calls: Sequence[ServerCall], watcher: Watcher
    ) -> Ending | None:
        """Makes the calls and begins the next round. None: it has begun; otherwise, how the answer
        ends. `said`: what the model said beside its calls."""
        if self._place is None:
            limiter = self._call.services.limiter
            self._place = limiter.keep_place(self._call.principal, self._model.name)
        if len(self._generations) > self._max_rounds:
            return self._bounded(MAX_ROUNDS)
        if self.calls.is_used_up:
            return self._bounded(MAX_CALLS)
        try:
            outcomes = await self.calls.make(calls, len(self._generations), watcher)
            if self.calls.wants_approval:
                return "stop"
            if self.calls.ended_by is not None:
                return self._bounded(self.calls.ended_by)
            shown = list(map(shown_call, calls))
            turn = {"role": "assistant", "content": "", **said, "tool_calls": shown}
            return await self._begin_next([turn, *map(result_message, calls, outcomes)])
        except AnzothError as error:
            error.is_final = True
            raise

    def _bounded(self, rule: str) -> Ending:
        self.ended_by = rule
        return "length"

    @property
    def _usages(self) -> list[dict[str, int]]:
        """JSON: of each round."""
        return [
            {
                "prompt_tokens": made.num_prompt_tokens,
                "cached_tokens": made.num_cached_tokens,
                "completion_tokens": made.num_completion_tokens,
                "reasoning_tokens": made.num_reasoning_tokens,
            }
            for made in self._generations
        ]

    async def _generate(self, said: _Turn) -> None:
        """The round that was begun. Raises AnzothError or GenerationCancelled."""
        assert self._round is not None
        try:
            await self._round.generation.run(self._round.take_apart(said))
        except AnzothError as error:
            error.is_final = bool(self.calls.trace)
            self._record(error.status, error)
            raise
        self._record(200)

    async def _begin_next(self, messages: Sequence[Message]) -> Ending | None:
        """None: it has begun; otherwise, which bound is in the way. Raises AnzothError."""
        request = self._request
        most, used = request.options.max_tokens, self.num_completion_tokens
        if most is not None and used >= most:
            return self._bounded(MAX_TOKENS)
        tools = request.tools and _after_first(request.tools, request.asked_tools.is_parallel)
        self._request = replace(request, messages=[*request.messages, *messages], tools=tools)
        self._usage = self._next_record()
        packed = self._packed if self._packed.passages else None
        try:
            self._round = await generating.begin(
                *(self._call, self._request, self._model, packed, _no_extras),
                lambda model, made: self._admit(model, made, most and most - used),
            )
        except (ContextLengthExceeded, LimitReached) as error:
            self._record(error.status, error)
            return self._bounded(error.rule)
        except AnzothError as error:
            self._record(error.status, error)
            raise
        self._generations.append(self._round.generation)
        if self._is_cancelled:
            raise GenerationCancelled()
        return None

    async def _admit(
        self, model: ServedModel, request: GenerationRequest, most: int | None
    ) -> Generation:
        """A round of a request that was admitted already, of at most `most` tokens or what the
        context leaves of them."""
        call = self._call
        return await call.services.generator.begin(
            model,
            replace(request, max_tokens=None, default_max_tokens=most),
            call.principal,
            call.record if self._usage is None else self._usage,
            time.monotonic(),
            is_part=True,
        )

    def _next_record(self) -> UsageRecord | None:
        """None: the request's own."""
        if not self._generations:
            return None
        of_request = self._call.record
        return UsageRecord(
            f"{of_request.request_id}.{len(self._generations) + 1}",
            of_request.principal,
            of_request.endpoint,
            model=of_request.model,
            price=of_request.price,
            streamed=of_request.streamed,
            end_user=of_request.end_user,
            metadata=of_request.metadata,
            target=of_request.target,
        )

    def _record(self, status: int, error: AnzothError | None = None) -> None:
        """The round is over, if it has a row of its own."""
        usage, self._usage = self._usage, None
        if usage is None:
            return
        usage.status = status
        if error is not None:
            usage.error_code, usage.rule = error.code, error.rule
            usage.refusal = error.kept_message
        elapsed_s = (datetime.now(UTC) - usage.started_at).total_seconds()
        usage.duration_ms = int(1000 * elapsed_s)
        if usage.entry is not None or usage.prompt_tokens:
            self._call.services.ledger.record(usage)


def _after_first(tools: ToolUse, is_parallel: bool) -> ToolUse:
    """What was asked to be called was called: now the model decides."""
    choice = tools.choice
    names = None if choice.is_named else choice.names
    return replace(tools, choice=ToolChoice("auto", names), is_parallel=is_parallel)


def _no_extras(_request: ChatRequest, _retrieved: Retrieved, _packed: Packed) -> Extras:
    return NO_EXTRAS


async def admitted(
    call: Call,
    governed: Governed,
    model: ServedModel,
    packed: Packed,
    **how: Any,  # as `Rounds` takes it
) -> Rounds:
    """An answer that begins with calls: the request meets its limits, and is written down, before
    anything is called. Raises LimitReached, LedgerUnavailable or CapacityUnavailable."""
    services = call.services
    call.hold(services.limiter.reserve_request(call.principal, model.name))
    services.ledger.begin(call.record, governed.request.options.max_tokens or 0)
    await services.ledger.begun(call.record)
    return Rounds(call, governed, model, packed, **how)

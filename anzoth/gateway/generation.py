"""How does one validated request become text, and how does it end?

    count ─▶ reserve ─▶ submit ─▶ admitted ─▶ rows ─▶ text, logprobs ─▶ finished ─▶ settle
    └──────── errors have an HTTP status ────┘└─ the status is out; see api.streams ─┘

Streamed and collected answers take the same path: rows become `Consumer` calls, and the consumer
either renders each one at once or keeps it. A generation that has begun is always closed, however
it ends: what still runs is aborted, the reservation is settled with the tokens really used, the
usage record is filled in.

Does not know: JSON, SSE, the shapes of the API, or where usage is recorded.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

from anzoth.errors import AnzothError, DeadlineExceeded, UnusableGrammar
from anzoth.frames import PromptRow, Row, SamplingParams
from anzoth.gateway import output_budget
from anzoth.gateway.choices import Choice, ChoiceText, Collector, Consumer, Ending
from anzoth.gateway.engine_errors import error_of_ending
from anzoth.gateway.generation_request import (
    GenerationRequest,
    check_vocabulary,
    output_limit,
)
from anzoth.gateway.journal_counts import CACHED, COMPLETION, DELIVERED, PROMPT
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.limits import Limiter
from anzoth.gateway.models import ServedModel
from anzoth.gateway.output_budget import OutputBudget
from anzoth.gateway.output_estimates import OutputEstimates
from anzoth.gateway.principal import Principal
from anzoth.gateway.service_tiers import engine_priority
from anzoth.gateway.usage import UsageRecord
from anzoth.telemetry import Metrics
from anzoth.text.detokenizer import Detokenizer
from anzoth.text.reasoning import ReasoningCounter
from anzoth.text.stops import StopMatcher


class GenerationCancelled(Exception):
    """The client left: nobody waits for this generation any more."""


class Generation:
    """The continuations of one API request, from their admission to their end."""

    def __init__(
        self,
        model: ServedModel,
        fingerprint: str,
        request: GenerationRequest,
        budget: OutputBudget,
        usage: UsageRecord,
        received_at_s: float,
        metrics: Metrics,
    ) -> None:
        self.model = model
        self.reservation = budget.reservation
        self.fingerprint = fingerprint
        """Of the engine that admitted it: another one may have taken its place since."""
        self.num_prompt_tokens = sum(map(len, request.prompts))
        self.num_cached_tokens = 0
        self.prompt_scores: list[list[tuple[float, list[tuple[int, float]]]]] = [
            [] for _ in range(len(request.prompts) * request.num_choices)
        ]
        """For each choice, if asked for, the log probability of its prompt's tokens from the second
        on, and the likeliest ones. Complete before anything of the choice is consumed."""
        self._request = request
        self._budget = budget
        self._usage = usage
        self._received_at_s = received_at_s
        self._metrics = metrics
        self._engine_requests: list[int] = []
        self._choices = [
            Choice(
                Detokenizer(model.tokenizer.pieces, starts_text=request.starts_text),
                StopMatcher(request.stop),
                None if request.reasoning is None else ReasoningCounter(request.reasoning),
            )
            for _ in range(len(request.prompts) * request.num_choices)
        ]
        self._begun: set[int] = set()
        """Prompts of which the engine has computed something."""
        self._open = set(range(len(self._choices)))
        self._early = Collector(len(self._choices))
        self._consumer: Consumer = self._early
        self._over = asyncio.Event()
        self._first_ending: Ending | None = None
        self._error: AnzothError | GenerationCancelled | None = None
        self._closed = False

    @property
    def num_choices(self) -> int:
        """Of all prompts together; choice i continues prompt i // num_choices-per-prompt."""
        return len(self._choices)

    @property
    def num_completion_tokens(self) -> int:
        return sum(choice.num_tokens for choice in self._choices)

    @property
    def num_reasoning_tokens(self) -> int:
        """Of the completion tokens."""
        return sum(choice.num_reasoning_tokens for choice in self._choices)

    async def submit(self, max_tokens: int, sampling: SamplingParams, principal: Principal) -> None:
        """Returns when the engine has admitted every prompt; raises what it refused one with."""
        per_prompt = self._request.num_choices
        try:
            for index, prompt in enumerate(self._request.prompts):
                self._engine_requests.append(
                    await self.model.engine.submit(
                        _PromptListener(self, index * per_prompt),
                        prompt,
                        num_choices=per_prompt,
                        max_tokens=max_tokens,
                        sampling=sampling,
                        tenant=principal.tenant,
                        key_id=principal.key_id,
                        tags=self._request.tags,
                        priority=engine_priority(self._request.tier, is_of_batch=self._usage.batch),
                        timeout_ms=self._left_ms(),
                    )
                )
        except UnusableGrammar as error:
            # Everything but the grammar was checked on this side already.
            if sampling.grammar is None or error.param is not None:
                raise
            raise UnusableGrammar(str(error), param=self._request.grammar_param) from error
        if self._error is not None:
            self.close()  # it was admitted: what was computed counts
            raise self._error

    def _left_ms(self) -> int | None:
        """Until the deadline. Raises DeadlineExceeded."""
        if self._request.deadline_s is None:
            return None
        left_ms = math.ceil((self._request.deadline_s - time.monotonic()) * 1000)
        if left_ms <= 0:
            raise DeadlineExceeded()
        return left_ms

    async def run(self, consumer: Consumer) -> None:
        """Feeds `consumer` until every choice has ended; then the usage is final.

        Raises AnzothError when the engine was lost or gave up, GenerationCancelled after `cancel`.
        """
        self._early.replay(consumer)
        self._consumer = consumer
        for choice in self._choices:
            self._count_delivered(choice)
        try:
            # No timeout: the engine client ends every request of an engine without progress.
            await self._over.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.close()

    async def collect(self) -> list[ChoiceText]:
        """All choices, when they are finished. Raises as `run` does."""
        collector = Collector(self.num_choices)
        await self.run(collector)
        return collector.choices()

    def end(self, choice_index: int, ending: Ending) -> None:
        """The consumer's word on how a choice ended, whether or not the engine knows of it.

        It gets no more of that choice; what the engine still does for it is stopped.
        """
        if choice_index == 0:
            self._first_ending = ending
        if choice_index in self._open:
            self._budget.choice_ended(self._choices[choice_index].num_tokens)
            prompt, choice = divmod(choice_index, self._request.num_choices)
            self.model.engine.abort(self._engine_requests[prompt], choice)
            self._close_choice(choice_index)

    def cancel(self) -> None:
        """The client is gone: stops the engine's work at once, and then `run`."""
        self._end(GenerationCancelled())
        self.close()

    def close(self) -> None:
        """Aborts what still runs, settles, and fills in the usage. Idempotent, never blocks."""
        if self._closed:
            return
        self._stop_engine()
        completion_tokens = self.num_completion_tokens
        self.reservation.settle(self.num_prompt_tokens, completion_tokens, self.num_cached_tokens)
        usage = self._usage
        usage.prompt_tokens = self.num_prompt_tokens
        usage.cached_tokens = self.num_cached_tokens
        usage.completion_tokens = completion_tokens
        usage.reasoning_tokens = self.num_reasoning_tokens
        usage.service_tier = self._request.tier
        usage.finish_reason = self._finish_reason()
        self._metrics.tokens_used(
            self.model.label, self.num_prompt_tokens, self.num_cached_tokens, completion_tokens
        )

    def discard(self) -> None:
        """It was never admitted as a whole: it counts for nothing. Idempotent."""
        if self._closed:
            return
        self._stop_engine()
        self.reservation.cancel()

    def _stop_engine(self) -> None:
        self._closed = True
        for request in self._engine_requests:
            self.model.engine.abort(request)

    def _finish_reason(self) -> str | None:
        if isinstance(self._error, AnzothError):
            return "error"
        return "cancelled" if self._open else self._first_ending

    # --- the engine's side: called from its step loop -------------------------------------------

    def row(self, choice_index: int, row: Row, now_s: float) -> None:
        """One row of choice `choice_index`."""
        if choice_index not in self._open or self._over.is_set():
            return
        choice = self._choices[choice_index]
        if row.token is not None:
            self._count(choice, now_s)
        if row.cached_tokens is not None:
            self._begin(choice_index, row.cached_tokens)
        if row.finish is not None and (error := error_of_ending(row, self._request.grammar_param)):
            self.lost(error)
            return
        # The token that ends a text with `stop` is the model's own end marker: not part of it.
        text = ""
        if row.token is not None and row.finish != "stop":
            text = choice.push(row, row.token)
        ending: Ending | None = None
        if choice.is_stopped:
            ending = "stop"
        elif row.finish is not None:
            ending = "stop" if row.finish == "stop" else "length"
            text += choice.flush()
            if choice.is_stopped:  # the last character, forced out, completed a stop string
                ending = "stop"
        logprobs = choice.take_logprobs(is_last=ending is not None)
        if text or logprobs:
            self._consumer.text(choice_index, text, logprobs)
            self._count_delivered(choice)
        # The consumer may have ended the choice itself, with this text.
        if ending is not None and choice_index in self._open:
            self._finish(choice_index, row, ending)

    def prompt_row(self, choice_index: int, row: PromptRow) -> None:
        self.prompt_scores[choice_index] += zip(row.logprobs, row.top_logprobs, strict=True)

    def lost(self, error: AnzothError) -> None:
        """Nothing more will come. A prompt that the engine never came to counts for nothing."""
        prompts = self._request.prompts
        self.num_prompt_tokens = sum(len(prompts[index]) for index in self._begun)
        self._end(error)

    def _begin(self, choice_index: int, num_cached_tokens: int) -> None:
        """Choices of one prompt share it, and it is counted once: so are its cached tokens."""
        prompt, choice = divmod(choice_index, self._request.num_choices)
        counts = self._usage.counts
        if prompt not in self._begun:
            self._begun.add(prompt)
            counts[PROMPT] += len(self._request.prompts[prompt])
        if choice == 0:
            self.num_cached_tokens += num_cached_tokens
            counts[CACHED] += num_cached_tokens

    def _count_delivered(self, choice: Choice) -> None:
        """What a stream was given is on its way to the client."""
        if self._usage.streamed and self._consumer is not self._early:
            self._usage.counts[DELIVERED] += choice.num_tokens - choice.num_delivered
            choice.num_delivered = choice.num_tokens

    def _count(self, choice: Choice, now_s: float) -> None:
        choice.num_tokens += 1
        self._usage.counts[COMPLETION] += 1  # before any of it can reach the client
        self._budget.use()
        if choice.last_token_s is not None:
            self._metrics.next_token(self.model.label, now_s - choice.last_token_s)
        elif self._usage.ttft_ms is None:
            ttft_s = now_s - self._received_at_s
            self._usage.ttft_ms = int(ttft_s * 1000)
            self._metrics.first_token(self.model.label, ttft_s)
        choice.last_token_s = now_s

    def _finish(self, choice_index: int, row: Row, ending: Ending) -> None:
        if row.finish is None:  # a stop string: the engine does not know that this choice is over
            self.model.engine.abort(row.request, row.choice)
        if choice_index == 0:
            self._first_ending = ending
        self._budget.choice_ended(self._choices[choice_index].num_tokens)
        self._close_choice(choice_index)
        self._consumer.finished(choice_index, ending)

    def _close_choice(self, choice_index: int) -> None:
        self._open.discard(choice_index)
        if not self._open:
            self._over.set()

    def _end(self, error: AnzothError | GenerationCancelled) -> None:
        if not self._over.is_set():
            self._error = error
            self._over.set()


class _PromptListener:
    """One prompt's rows, under the choice numbers of the whole generation."""

    __slots__ = ("_first_choice", "_generation")

    def __init__(self, generation: Generation, first_choice: int) -> None:
        self._generation = generation
        self._first_choice = first_choice

    def row(self, row: Row, now_s: float) -> None:
        self._generation.row(self._first_choice + row.choice, row, now_s)

    def prompt_row(self, row: PromptRow) -> None:
        self._generation.prompt_row(self._first_choice + row.choice, row)

    def lost(self, error: AnzothError) -> None:
        self._generation.lost(error)


class Generator:
    """Begins generations: everything that can still be refused with an HTTP status."""

    __slots__ = ("_estimates", "_ledger", "_limiter", "_metrics")

    def __init__(self, limiter: Limiter, ledger: Ledger, metrics: Metrics) -> None:
        self._estimates = OutputEstimates()
        self._limiter = limiter
        self._ledger = ledger
        self._metrics = metrics

    async def begin(
        self,
        model: ServedModel,
        request: GenerationRequest,
        principal: Principal,
        usage: UsageRecord,
        received_at_s: float,
        *,
        is_part: bool = False,
    ) -> Generation:
        """The generation, admitted by the engine; the caller must `run` or `close` it. `is_part`:
        see `Limiter.reserve`.

        Its beginning is then on the disk. Raises ModelUnavailable, InvalidValue,
        ContextLengthExceeded, RateLimited, CapacityUnavailable or DeadlineExceeded; nothing is
        then reserved or running, and nothing charged, unless the engine took it and gave it up at
        once.
        """
        hello = model.engine.require_ready()
        check_vocabulary(request, hello)
        max_tokens = output_limit(request, hello)
        num_choices = request.num_choices * len(request.prompts)
        generation = Generation(
            model,
            hello.fingerprint,
            request,
            output_budget.reserve(
                self._limiter,
                self._estimates,
                principal,
                model.name,
                prompt_tokens=sum(map(len, request.prompts)),
                num_choices=num_choices,
                max_tokens=max_tokens,
                is_stated=request.max_tokens is not None,
                price=usage.price,
                is_part=is_part,
            ),
            usage,
            received_at_s,
            self._metrics,
        )
        sampling = request.sampling
        if sampling.min_tokens > max_tokens:
            sampling = replace(sampling, min_tokens=max_tokens)
        try:
            self._ledger.begin(usage, max_tokens * num_choices)
            await generation.submit(max_tokens, sampling, principal)
            await self._ledger.begun(usage)
        except BaseException:
            generation.discard()
            raise
        return generation

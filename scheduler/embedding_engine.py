"""Which texts are made into vectors together, and whose turn is it?

Each request is a list of texts. A step takes texts until the token budget is full, always from the
tenant for whom the fewest tokens were computed, in turn from that tenant's requests: a single query
does not wait for the thousand passages that another request brought before it. A text is computed
whole, within one step, so between steps nothing is half done and an abort only forgets.

What comes in the background has queues and limits of its own and gets what the others leave of a
step's budget: it delays them by the step that is running and no more. Where they leave nothing, or
too little for its next text, that text goes along with every sixteenth step, so that it gets on
beside a load that never ends.

Reranking is the same work: a text is then a query and a document, and its vector is one number.

Does not know: sockets, tensors, or text. The runner is known by its `Protocol` only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from anzoth.config import ConfigError
from anzoth.frames import PROTOCOL, Embed, Hello, Stats
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import Limits, Refusal, Throughput, can_queue
from anzoth.scheduler.text_queue import Request, TextQueue
from anzoth.scheduler.texts import Text

log = logging.getLogger(__name__)

MAX_INPUTS = 2048
_DEFAULT_BATCH_TOKENS = 512
"""Large enough for the processor's matrix units, short enough for a query that comes meanwhile."""
_MAX_PASSED_OVER = 15
"""Steps in which no background text fitted; with the next one goes one all the same."""


class EmbeddingRunner(Protocol):
    """What computes vectors: `embedding_runner.EmbeddingRunner`, or a fake in tests."""

    @property
    def dimensions(self) -> int:
        """Of its vectors; 1 for scores."""
        ...

    @property
    def vocab_size(self) -> int: ...
    @property
    def num_token_types(self) -> int: ...
    @property
    def max_model_tokens(self) -> int: ...
    @property
    def dtype(self) -> object: ...
    @property
    def device(self) -> object: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def vector_space(self) -> str | None:
        """None: it makes scores."""
        ...

    def embed(self, texts: Sequence[Text], dimensions: Sequence[int | None]) -> list[bytes | None]:
        """One packed vector per text, in order; None where it could not be computed."""
        ...


@dataclass(slots=True, frozen=True)
class Vectors:
    """What one step made for one request."""

    request: int
    inputs: tuple[int, ...]
    """Which of its texts these are."""
    vectors: tuple[bytes, ...] | None = field(repr=False)
    """None: one of them could not be computed, and the request has failed."""


class EmbeddingEngine:
    """One model and its queue. Not thread-safe: one thread drives it."""

    def __init__(
        self, runner: EmbeddingRunner, config: EngineConfig, clock: Callable[[], float]
    ) -> None:
        """`clock` returns seconds that never go back. Raises ConfigError."""
        budget = config.max_batch_tokens
        if budget is not None and budget < 1:
            raise ConfigError(f"max_batch_tokens is {budget}; expected at least 1")
        self._budget = _DEFAULT_BATCH_TOKENS if budget is None else budget
        self._runner = runner
        self._clock = clock
        self._limits = Limits(
            vocab_size=runner.vocab_size,
            max_model_tokens=runner.max_model_tokens,
            max_queued_requests=config.max_queued_requests,
            max_queued_tokens=config.max_queued_tokens,
        )
        self._interactive = TextQueue()
        self._background = TextQueue()
        self._num_passed_over = 0
        """Steps since a background text was last computed, while one waits."""
        self._requests: dict[int, Request] = {}
        self._throughput = Throughput()
        self._next_request = 0
        self._num_steps = 0
        self._step_s = 0.0
        self._batch_texts = 0
        self._batch_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._requests)

    def has_request(self, request: int) -> bool:
        """Whether texts of this request wait."""
        return request in self._requests

    def hello(self, model: str) -> Hello:
        """What a gateway must know about this engine."""
        runner = self._runner
        return Hello(
            protocol=PROTOCOL,
            model=model,
            max_model_tokens=runner.max_model_tokens,
            vocab_size=runner.vocab_size,
            eos_token_ids=(),
            num_blocks=0,
            block_size_tokens=0,
            dtype=str(runner.dtype),
            device=str(runner.device),
            fingerprint=runner.fingerprint,
            dimensions=runner.dimensions,
            vector_space=runner.vector_space,
        )

    def submit(self, embed: Embed, token_ids: list[int]) -> int | Refusal:
        """Queues a request: the engine's own number for it, or why it was refused."""
        if refusal := self._refusal(embed, token_ids):
            return refusal
        ends = accumulate(embed.lengths)
        second_at = embed.second_at or (None,) * len(embed.lengths)
        request = Request(
            number=self._next_request,
            tenant=embed.tenant,
            texts=[
                Text(token_ids[end - length : end], second)
                for end, length, second in zip(ends, embed.lengths, second_at, strict=True)
            ],
            dimensions=embed.dimensions,
            is_background=embed.background,
            arrival_s=self._clock(),
        )
        self._next_request += 1
        self._requests[request.number] = request
        self._queue_of(request.is_background).add(request)
        return request.number

    def abort(self, number: int) -> None:
        """Forgets the texts of a request that still wait. Finished or unknown: no effect."""
        request = self._requests.pop(number, None)
        if request is not None:
            self._queue_of(request.is_background).remove(request)

    def step(self) -> list[Vectors]:
        """Computes one batch. Raises what the runner raises."""
        started_s = self._clock()
        batch = self._take()
        texts = [request.texts[index] for request, index in batch]
        packed = self._runner.embed(texts, [request.dimensions for request, _ in batch])
        made: dict[Request, dict[int, bytes | None]] = {}
        for (request, index), vector in zip(batch, packed, strict=True):
            made.setdefault(request, {})[index] = vector
        self._num_steps += 1
        self._batch_texts = len(batch)
        self._batch_tokens = sum(map(len, texts))
        self._step_s = self._clock() - started_s
        self._throughput.record(self._batch_tokens, self._step_s)
        return [self._answer(request, vectors) for request, vectors in made.items()]

    def stats(self, *, idle: bool = False) -> Stats:
        """A snapshot. `idle`: no step belongs to it, so it reports no computed tokens."""
        oldest = next(iter(self._requests.values()), None)
        return Stats(
            step=self._num_steps,
            running=0 if idle else self._batch_texts,
            waiting=len(self._requests),
            free_blocks=0,
            cached_blocks=0,
            total_blocks=0,
            preemptions=0,
            step_s=self._step_s,
            batch_tokens=0 if idle else self._batch_tokens,
            oldest_running_s=self._clock() - oldest.arrival_s if oldest is not None else 0.0,
        )

    # --- one batch ----------------------------------------------------------------------------

    def _take(self) -> list[tuple[Request, int]]:
        """The next texts within the budget; a text that is longer than all of it goes alone."""
        batch: list[tuple[Request, int]] = []
        left = self._fill(batch, self._interactive, self._budget)
        num_interactive = len(batch)
        self._fill(batch, self._background, left)
        if len(batch) > num_interactive or not self._background:
            self._num_passed_over = 0
        elif self._num_passed_over < _MAX_PASSED_OVER:
            self._num_passed_over += 1
        else:
            self._take_from(self._background, batch)
            self._num_passed_over = 0
        return batch

    def _fill(self, batch: list[tuple[Request, int]], queue: TextQueue, left: int) -> int:
        """What is left of the budget, of which `left` was there."""
        while (num_tokens := queue.peek()) is not None and (num_tokens <= left or not batch):
            self._take_from(queue, batch)
            left -= num_tokens
        return left

    def _take_from(self, queue: TextQueue, batch: list[tuple[Request, int]]) -> None:
        request, index = queue.take()
        batch.append((request, index))
        if request.next_text == len(request.texts):
            del self._requests[request.number]

    def _queue_of(self, is_background: bool) -> TextQueue:
        return self._background if is_background else self._interactive

    def _answer(self, request: Request, vectors: dict[int, bytes | None]) -> Vectors:
        finite = tuple(vector for vector in vectors.values() if vector is not None)
        if len(finite) < len(vectors):
            log.error("request %d: the model gave numbers that are not finite", request.number)
            self.abort(request.number)
            return Vectors(request.number, tuple(vectors), None)
        return Vectors(request.number, tuple(vectors), finite)

    # --- admission ----------------------------------------------------------------------------

    def _refusal(self, embed: Embed, token_ids: list[int]) -> Refusal | None:
        if problem := self._problem(embed, token_ids):
            return Refusal("invalid", problem)
        limit = self._limits.max_model_tokens
        if (longest := max(embed.lengths)) > limit:
            which = embed.lengths.index(longest)
            return Refusal(
                "too_long",
                f"This model takes at most {limit} tokens per input. Input {which} has {longest}.",
            )
        queue = self._queue_of(embed.background)
        num_requests, num_tokens = queue.num_requests, queue.num_tokens
        if not can_queue(len(token_ids), num_requests, num_tokens, self._limits):
            if embed.background:
                num_tokens += self._interactive.num_tokens  # which come first
            return Refusal(
                "capacity",
                f"{num_requests} requests are waiting already.",
                self._throughput.retry_after_ms(num_tokens),
            )
        return None

    def _problem(self, embed: Embed, token_ids: list[int]) -> str | None:
        lengths, dimensions = embed.lengths, embed.dimensions
        if not 1 <= len(lengths) <= MAX_INPUTS:
            return f"A request must have 1 to {MAX_INPUTS} inputs."
        if not all(type(length) is int and length >= 1 for length in lengths):
            return "An input must hold at least one token."
        if sum(lengths) != len(token_ids):
            return "The lengths of the inputs do not fit their tokens."
        if min(token_ids) < 0 or max(token_ids) >= self._limits.vocab_size:
            size = self._limits.vocab_size
            return f"An input holds a token id outside the vocabulary (0 to {size - 1})."
        if type(embed.background) is not bool:
            return "background must be true or false."
        if embed.second_at and not self._are_pairs(embed):
            return "An input's second token type begins where it cannot."
        if dimensions is not None and (
            type(dimensions) is not int or not 1 <= dimensions <= self._runner.dimensions
        ):
            return f"dimensions must be a whole number from 1 to {self._runner.dimensions}."
        return None

    def _are_pairs(self, embed: Embed) -> bool:
        return (
            self._runner.num_token_types > 1
            and len(embed.second_at) == len(embed.lengths)
            and all(
                type(second) is int and 0 <= second <= length
                for second, length in zip(embed.second_at, embed.lengths, strict=True)
            )
        )

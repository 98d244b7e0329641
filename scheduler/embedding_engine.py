"""Which texts are made into vectors together, and whose turn is it?

Each request is a list of texts. A step takes texts until the token budget is full, always from the
tenant for whom the fewest tokens were computed, in turn from that tenant's requests: a single query
does not wait for the thousand passages that another request brought before it. A text is computed
whole, within one step, so between steps nothing is half done and an abort only forgets.

Reranking is the same work: a text is then a query and a document, and its vector is one number.

Does not know: sockets, tensors, or text. The runner is known by its `Protocol` only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from anzoth.config import ConfigError
from anzoth.frames import PROTOCOL, Embed, Hello, Stats
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import Limits, Refusal, Throughput, can_queue
from anzoth.scheduler.texts import Text

log = logging.getLogger(__name__)

MAX_INPUTS = 2048
_DEFAULT_BATCH_TOKENS = 512
"""Large enough for the processor's matrix units, short enough for a query that comes meanwhile."""


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


@dataclass(slots=True, eq=False)
class _Request:
    """A request with texts that wait."""

    number: int
    tenant: str
    texts: list[Text] = field(repr=False)
    dimensions: int | None
    arrival_s: float
    next_text: int = 0

    @property
    def num_waiting_tokens(self) -> int:
        return sum(map(len, self.texts[self.next_text :]))


@dataclass(slots=True, eq=False)
class _Tenant:
    """Whose requests wait, in turn, and how many tokens were computed for them lately."""

    num_tokens: int
    requests: deque[_Request] = field(default_factory=deque)


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
        self._tenants: dict[str, _Tenant] = {}
        """Those with requests that wait."""
        self._requests: dict[int, _Request] = {}
        self._num_waiting_tokens = 0
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
        )

    def submit(self, embed: Embed, token_ids: list[int]) -> int | Refusal:
        """Queues a request: the engine's own number for it, or why it was refused."""
        if refusal := self._refusal(embed, token_ids):
            return refusal
        ends = accumulate(embed.lengths)
        second_at = embed.second_at or (None,) * len(embed.lengths)
        request = _Request(
            number=self._next_request,
            tenant=embed.tenant,
            texts=[
                Text(token_ids[end - length : end], second)
                for end, length, second in zip(ends, embed.lengths, second_at, strict=True)
            ],
            dimensions=embed.dimensions,
            arrival_s=self._clock(),
        )
        self._next_request += 1
        self._requests[request.number] = request
        self._num_waiting_tokens += len(token_ids)
        if embed.tenant not in self._tenants:
            # Not from zero: whoever was away must not be served alone until it has caught up.
            least = min((tenant.num_tokens for tenant in self._tenants.values()), default=0)
            self._tenants[embed.tenant] = _Tenant(least)
        self._tenants[embed.tenant].requests.append(request)
        return request.number

    def abort(self, number: int) -> None:
        """Forgets the texts of a request that still wait. Finished or unknown: no effect."""
        request = self._requests.pop(number, None)
        if request is None:
            return
        self._num_waiting_tokens -= request.num_waiting_tokens
        tenant = self._tenants[request.tenant]
        tenant.requests.remove(request)
        if not tenant.requests:
            del self._tenants[request.tenant]

    def step(self) -> list[Vectors]:
        """Computes one batch. Raises what the runner raises."""
        started_s = self._clock()
        batch = self._take()
        texts = [request.texts[index] for request, index in batch]
        packed = self._runner.embed(texts, [request.dimensions for request, _ in batch])
        made: dict[_Request, dict[int, bytes | None]] = {}
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

    def _take(self) -> list[tuple[_Request, int]]:
        """The next texts within the budget; a text that is longer than all of it goes alone."""
        batch: list[tuple[_Request, int]] = []
        left = self._budget
        while self._tenants:
            name, tenant = min(self._tenants.items(), key=lambda item: item[1].num_tokens)
            request = tenant.requests[0]
            num_tokens = len(request.texts[request.next_text])
            if batch and num_tokens > left:
                break
            batch.append((request, request.next_text))
            left -= num_tokens
            request.next_text += 1
            tenant.num_tokens += num_tokens
            self._num_waiting_tokens -= num_tokens
            tenant.requests.rotate(-1)
            if request.next_text == len(request.texts):
                tenant.requests.pop()
                del self._requests[request.number]
                if not tenant.requests:
                    del self._tenants[name]
        return batch

    def _answer(self, request: _Request, vectors: dict[int, bytes | None]) -> Vectors:
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
        num_requests = len(self._requests)
        if not can_queue(len(token_ids), num_requests, self._num_waiting_tokens, self._limits):
            return Refusal(
                "capacity",
                f"{num_requests} requests are waiting already.",
                self._throughput.retry_after_ms(self._num_waiting_tokens),
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

"""May this request enter the queue, and if not, why, and when is it worth asking again?

Everything a `Submit` says is checked here once, so that no later code meets an impossible value;
the gateway has validated its clients' fields already, but the engine does not rest on that. A
request that can never fit is refused as such at once: it must not wait for what cannot come.

The queue is bounded in requests and in prompt tokens. An empty queue takes any request that can run
at all, so that none is refused for ever.

Does not know: clocks, sockets, blocks, or which sequence runs next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from anzoth.frames import MAX_GRAMMAR_BYTES, MAX_TIMEOUT_MS, RefusalCode, SamplingParams, Submit

MAX_CHOICES = 128
MAX_LOGPROBS = 20

_MIN_RETRY_AFTER_MS = 100
_MAX_RETRY_AFTER_MS = 60_000
_UNMEASURED_RETRY_AFTER_MS = 1_000
_HALF_LIFE_S = 10.0


@dataclass(slots=True, frozen=True)
class Limits:
    """What one request may be, and how much may wait."""

    vocab_size: int
    max_model_tokens: int
    max_queued_requests: int
    max_queued_tokens: int


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why a request did not enter the queue; `message` may be shown to the client."""

    code: RefusalCode
    message: str
    retry_after_ms: int | None = None


class Throughput:
    """Computed tokens per second of step time, over roughly the last ten seconds of it."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def record(self, num_tokens: int, step_s: float) -> None:
        decay = 0.5 ** (step_s / _HALF_LIFE_S)
        self._tokens = self._tokens * decay + num_tokens
        self._seconds = self._seconds * decay + step_s

    def retry_after_ms(self, num_queued_tokens: int) -> int:
        """When this many queued tokens are likely to have been computed; 0.1 s to 60 s."""
        if not self._tokens or not self._seconds:
            return _UNMEASURED_RETRY_AFTER_MS
        return _retry_after_ms(num_queued_tokens * self._seconds / self._tokens)


class StartRate:
    """How many waiting requests start per second, over roughly the last ten seconds of step time in
    which some had to go on waiting.

    Steps that leave nobody waiting are no measure: more could have started.
    """

    def __init__(self) -> None:
        self._num_started = 0.0
        self._seconds = 0.0

    def record(self, num_started: int, step_s: float) -> None:
        decay = 0.5 ** (step_s / _HALF_LIFE_S)
        self._num_started = self._num_started * decay + num_started
        self._seconds = self._seconds * decay + step_s

    def wait_s(self, num_ahead: int) -> float:
        """For how long a request waits at least if so many start before it, and no others do.

        One more start is counted than there were: where little was measured yet, it is no reason to
        refuse anyone.
        """
        return num_ahead * self._seconds / (self._num_started + 1)


def refuse_late(wait_s: float, left_s: float) -> Refusal | None:
    """A refusal if a request cannot start for `wait_s` and nobody wants it after `left_s`."""
    if wait_s < left_s:
        return None
    return Refusal(
        "late",
        "Too many requests are waiting for this one to start before its deadline.",
        _retry_after_ms(wait_s),
    )


def refuse_impossible(submit: Submit, token_ids: list[int], limits: Limits) -> Refusal | None:
    """A refusal if no state of the engine could serve this request, whoever waits."""
    problem = _problem_with_request(submit, token_ids, limits.vocab_size)
    problem = problem or _problem_with_sampling(submit.sampling, submit.max_tokens, limits)
    if problem:
        return Refusal("invalid", problem)
    if len(token_ids) + max(submit.max_tokens, 1) > limits.max_model_tokens:
        return Refusal(
            "too_long",
            f"This model holds at most {limits.max_model_tokens} tokens. The prompt has "
            f"{len(token_ids)} and max_tokens asks for {submit.max_tokens} more.",
        )
    return None


def can_queue(
    num_tokens: int, num_queued_requests: int, num_queued_tokens: int, limits: Limits
) -> bool:
    """Whether a request of `num_tokens` prompt tokens may join what is queued now."""
    if not num_queued_requests:
        return True
    return (
        num_queued_requests < limits.max_queued_requests
        and num_queued_tokens + num_tokens <= limits.max_queued_tokens
    )


def _problem_with_request(submit: Submit, token_ids: list[int], vocab_size: int) -> str | None:
    if not _is_int(submit.num_choices) or not 1 <= submit.num_choices <= MAX_CHOICES:
        return f"num_choices must be a whole number from 1 to {MAX_CHOICES}."
    least = 1 if submit.sampling.num_prompt_logprobs is None else 0
    if not _is_int(submit.max_tokens) or submit.max_tokens < least:
        return f"max_tokens must be a whole number of at least {least}."
    if not _is_int(submit.priority) or not -2 <= submit.priority <= 1:
        return "priority must be a whole number from -2 to 1."
    timeout_ms = submit.timeout_ms
    if timeout_ms is not None and not (_is_int(timeout_ms) and 1 <= timeout_ms <= MAX_TIMEOUT_MS):
        return f"timeout_ms must be a whole number from 1 to {MAX_TIMEOUT_MS}."
    if not submit.cache_salt:
        # Tenants without a secret would share one cache.
        return "cache_salt must not be empty."
    if not submit.tenant:
        return "tenant must not be empty."  # that is what all tenants share (see `origin`)
    if not all(isinstance(tag, str) for tag in submit.tags):
        return "tags must be strings."
    if not token_ids:
        return "The prompt must hold at least one token."
    if min(token_ids) < 0 or max(token_ids) >= vocab_size:
        return f"The prompt holds a token id outside the vocabulary (0 to {vocab_size - 1})."
    return None


def _problem_with_sampling(sampling: SamplingParams, max_tokens: int, limits: Limits) -> str | None:
    for name, is_valid, expected in _SAMPLING_RANGES:
        if not is_valid(getattr(sampling, name)):
            return f"{name} must be {expected}."
    if sampling.min_tokens > max_tokens:
        return "min_tokens must not be greater than max_tokens."
    if not all(_is_int(i) and 0 <= i < limits.vocab_size for i in sampling.stop_token_ids):
        return "stop_token_ids holds a token id outside the vocabulary."
    for token_id, bias in sampling.logit_bias:
        if not 0 <= token_id < limits.vocab_size:
            return "logit_bias names a token id outside the vocabulary."
        if not -100 <= bias <= 100:
            return "logit_bias values must be from -100 to 100."
    return None


def _retry_after_ms(wait_s: float) -> int:
    return min(max(math.ceil(wait_s * 1000), _MIN_RETRY_AFTER_MS), _MAX_RETRY_AFTER_MS)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite int or float: comparisons below are then false only when out of range."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_SAMPLING_RANGES: tuple[tuple[str, Callable[..., bool], str], ...] = (
    ("temperature", lambda v: _is_number(v) and v >= 0, "a number of at least 0"),
    ("top_p", lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    ("top_k", lambda v: v is None or (_is_int(v) and v >= 1), "a whole number of at least 1"),
    ("min_p", lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    ("typical_p", lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    ("seed", lambda v: _is_int(v) and -(2**63) <= v < 2**64, "a 64-bit whole number"),
    ("presence_penalty", lambda v: _is_number(v) and -2 <= v <= 2, "a number from -2 to 2"),
    ("frequency_penalty", lambda v: _is_number(v) and -2 <= v <= 2, "a number from -2 to 2"),
    ("repetition_penalty", lambda v: _is_number(v) and 0 < v <= 10, "above 0 and at most 10"),
    *(
        (
            name,
            lambda v: v is None or (_is_int(v) and 0 <= v <= MAX_LOGPROBS),
            f"a whole number from 0 to {MAX_LOGPROBS}",
        )
        for name in ("num_logprobs", "num_prompt_logprobs")
    ),
    ("min_tokens", lambda v: _is_int(v) and v >= 0, "a whole number of at least 0"),
    ("ignore_eos", lambda v: isinstance(v, bool), "true or false"),
    (
        "grammar",
        lambda v: v is None or (isinstance(v, str) and len(v.encode()) <= MAX_GRAMMAR_BYTES),
        f"a string of at most {MAX_GRAMMAR_BYTES} bytes",
    ),
)

"""What does a request cost that another server answers?

Its tokens are known only when that server says so, at the end. Until then they are estimated (four
bytes to a token, which is a little much for English and too little for none): that much is reserved
of the limits, and settled by what the server reports. A server that reports nothing, or nothing
possible, or whose answer broke off, is counted by the estimate of what came.

Does not know: HTTP, or the shapes of the API.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from anzoth.gateway.journal_counts import CACHED, COMPLETION, DELIVERED, PROMPT
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.limit_rules import largest_output
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.gateway.principal import Principal
from anzoth.gateway.usage import UsageRecord
from anzoth.telemetry import Metrics

_BYTES_PER_TOKEN = 4
_TOKENS_PER_PART = 1
_MAX_TOKENS = 1 << 40


def estimated_tokens(value: object) -> int:
    """Of texts, token ids and JSON of those."""
    if isinstance(value, str):
        return -(-len(value.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
    if isinstance(value, Mapping):
        return sum(_TOKENS_PER_PART + estimated_tokens(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(estimated_tokens(item) for item in value)
    return 1


class RemoteUsage:
    """The account of one answer. `close` or `discard` ends it."""

    def __init__(
        self,
        reservation: Reservation,
        usage: UsageRecord,
        ledger: Ledger,
        metrics: Metrics,
        label: str,
        prompt_tokens: int,
        received_at_s: float,
    ) -> None:
        """`label`: of the target, for the metrics. `prompt_tokens`: estimated."""
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.finish_reason: str | None = None
        """Of the first choice."""
        self.reservation = reservation
        self._usage = usage
        self._ledger = ledger
        self._metrics = metrics
        self._label = label
        self._received_at_s = received_at_s
        self._num_bytes = 0
        self._is_reported = False
        self._is_closed = False

    def wrote(self, num_bytes: int) -> None:
        """So much output came."""
        if num_bytes and self._usage.ttft_ms is None:
            ttft_s = time.monotonic() - self._received_at_s
            self._usage.ttft_ms = int(ttft_s * 1000)
            self._metrics.first_token(self._label, ttft_s)
        self._num_bytes += num_bytes
        if not self._is_reported:
            self.completion_tokens = -(-self._num_bytes // _BYTES_PER_TOKEN)
        self._count()

    def report(self, reported: object) -> None:
        """The server's `usage`. What is impossible in it is not believed."""
        if not isinstance(reported, dict):
            return
        prompt = _count(reported.get("prompt_tokens"))
        completion = _count(reported.get("completion_tokens", 0))
        if prompt is None or completion is None:
            return
        self._is_reported = True
        self.prompt_tokens, self.completion_tokens = prompt, completion
        self.cached_tokens = min(
            prompt, _detail(reported, "prompt_tokens_details", "cached_tokens")
        )
        self.reasoning_tokens = min(
            completion, _detail(reported, "completion_tokens_details", "reasoning_tokens")
        )

    async def begun(self) -> None:
        """Returns when the beginning is on the disk, which the answer's first byte has to wait for.
        Raises LedgerUnavailable."""
        await self._ledger.begun(self._usage)

    def _count(self) -> None:
        """What would be settled if this process ended now, before any of it reaches the client."""
        counts = self._usage.counts
        counts[PROMPT], counts[CACHED] = self.prompt_tokens, self.cached_tokens
        counts[COMPLETION] = self.completion_tokens
        if self._usage.streamed:
            counts[DELIVERED] = self.completion_tokens

    def close(self, ending: str | None = None) -> None:
        """Settles and fills in the usage. Idempotent. `ending`: where it did not end by itself."""
        if self._is_closed:
            return
        self._is_closed = True
        self._count()
        self.reservation.settle(self.prompt_tokens, self.completion_tokens, self.cached_tokens)
        usage = self._usage
        usage.prompt_tokens = self.prompt_tokens
        usage.cached_tokens = self.cached_tokens
        usage.completion_tokens = self.completion_tokens
        usage.finish_reason = ending or self.finish_reason
        self._metrics.tokens_used(
            self._label, self.prompt_tokens, self.cached_tokens, self.completion_tokens
        )

    def discard(self) -> None:
        """Nothing was answered: it counts for nothing. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self.reservation.cancel()
            for index in (PROMPT, CACHED, COMPLETION, DELIVERED):
                self._usage.counts[index] = 0


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else None


def _detail(reported: Mapping[str, Any], group: str, name: str) -> int:
    details = reported.get(group)
    return (_count(details.get(name)) or 0) if isinstance(details, dict) else 0


class RemoteAccounts:
    """Opens the accounts. One per gateway."""

    __slots__ = ("_ledger", "_limiter", "_metrics")

    def __init__(self, limiter: Limiter, ledger: Ledger, metrics: Metrics) -> None:
        self._limiter = limiter
        self._ledger = ledger
        self._metrics = metrics

    def open(
        self,
        principal: Principal,
        usage: UsageRecord,
        label: str,
        *,
        prompt_tokens: int,
        output_tokens: int,
        is_stated: bool,
        received_at_s: float,
    ) -> RemoteUsage:
        """Reserves what it may cost. `is_stated`: the caller said how much output there may be;
        else `output_tokens` is a guess, which must not be why a request is refused for good.

        Raises LimitReached, LedgerUnavailable or CapacityUnavailable.
        """
        assert usage.model is not None
        if not is_stated:
            largest = largest_output(principal.limits, usage.model, prompt_tokens, usage.price)
            output_tokens = output_tokens if largest is None else min(output_tokens, largest)
        reservation = self._limiter.reserve(
            principal, usage.model, prompt_tokens, max(0, output_tokens), usage.price
        )
        try:
            self._ledger.begin(usage, output_tokens)
        except BaseException:
            reservation.cancel()
            raise
        return RemoteUsage(
            reservation, usage, self._ledger, self._metrics, label, prompt_tokens, received_at_s
        )

"""How often may a tool be called?

Each tool has as many calls a minute as its server's limits say, for all keys of its tenant together
at this gateway. They drain continuously, as requests do (see `buckets`).

Does not know: who calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from anzoth.gateway.buckets import Bucket
from anzoth.gateway.tools.definitions import GovernedTool

_MAX_KEPT = 10_000
"""Buckets: beyond it those that are empty are forgotten, which changes nothing."""
_MS_NS = 1_000_000


class TooManyCalls(Exception):
    """The tool's calls of this minute are used up."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"the tool was called too often; retry in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class CallRates:
    """One per gateway."""

    def __init__(self, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._buckets: dict[tuple[UUID, str], Bucket] = {}

    def take(self, tool: GovernedTool) -> None:
        """Counts a call. Raises TooManyCalls, and counts none then."""
        per_minute = tool.server.limits.calls_per_minute
        if per_minute is None:
            return
        now_ns = self._clock_ns()
        of = tool.server.id, tool.definition.name
        bucket = self._buckets.get(of)
        if bucket is None:
            self._forget_idle(now_ns)
            bucket = self._buckets[of] = Bucket(per_minute, now_ns)
        bucket.advance(now_ns, per_minute)
        if wait_ns := bucket.wait_ns(1):
            raise TooManyCalls(-(-wait_ns // _MS_NS))
        bucket.settle(bucket.charge(1), 1)

    def _forget_idle(self, now_ns: int) -> None:
        if len(self._buckets) < _MAX_KEPT:
            return
        for bucket in self._buckets.values():
            bucket.advance(now_ns)
        self._buckets = {of: bucket for of, bucket in self._buckets.items() if not bucket.is_idle()}

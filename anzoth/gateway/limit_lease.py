"""Until when may this gateway use its shares, and which other gateway is gone?

    asked ──────── answered                        the lease ends TERM after it was *asked* for
    └───────────── TERM ──────────────┤
          beat seen ────────────────── FORGET ──┤  whoever has not exchanged for so long is gone

No clock is compared with another one's, and a clock that is set has no effect: each gateway
measures its own lease from before it asked, and another's silence from after it saw its last sign
of life, by its own monotonic clock. FORGET is longer, so whoever is forgotten has stopped using its
shares:

- a process that was paused finds its lease over when it goes on, and asks before it admits;
- whoever could not reach the database itself has seen nobody's silence, and begins to watch anew.

Two exceptions, because requests must go on. Where asking fails quickly, the database is away, and
the gateway keeps what it has. And who is alone keeps everything without a lease.

Does not know: what a share is of, or how the table is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from anzoth.gateway.limit_shares import Shares
from anzoth.gateway.share_table import Reply, Report

TERM_NS = 3_000_000_000
FORGET_NS = 4_000_000_000
TIMEOUT_S = 1.0
"""Of one exchange: two may fail before the lease ends."""
_PAUSED_NS = 1_500_000_000
"""Whoever sees an exchange take longer than this was not running all the time."""


class Lease:
    """Of one gateway. Each `ask` is followed by `answered` or `failed`."""

    def __init__(self, shares: Shares, now_ns: Callable[[], int]) -> None:
        self._shares = shares
        self._now_ns = now_ns
        self._asked_ns = 0
        self._answered_ns: int | None = None
        """When the last exchange that was answered was asked for."""
        self._seen: dict[UUID, tuple[int, int]] = {}
        """The beat of each gateway, and since when it has been that."""
        shares.begin(now_ns())

    def ask(self) -> Report:
        """What to tell now."""
        now_ns = self._asked_ns = self._now_ns()
        if self._answered_ns is None or now_ns - self._answered_ns > TERM_NS:
            self._seen.clear()
        dead = {
            gateway: beat
            for gateway, (beat, since_ns) in self._seen.items()
            if now_ns - since_ns >= FORGET_NS
        }
        return replace(self._shares.report(now_ns), dead=dead)

    def answered(self, report: Report, reply: Reply) -> bool:
        """Whether to ask again at once."""
        now_ns = self._now_ns()
        hurries = self._shares.apply(report, reply, now_ns)
        ends_ns = self._asked_ns + TERM_NS
        self._shares.until_ns = None if reply.is_alone and now_ns < ends_ns else ends_ns
        self._answered_ns = self._asked_ns
        before, self._seen = self._seen, {}
        for gateway, beat in reply.beats.items():
            known = before.get(gateway)
            is_same = known is not None and known[0] == beat
            self._seen[gateway] = known if is_same and known is not None else (beat, now_ns)
        return hurries

    def failed(self) -> None:
        """Nobody knows whether it arrived."""
        now_ns, until_ns = self._now_ns(), self._shares.until_ns
        self._seen.clear()
        was_running = now_ns - self._asked_ns <= _PAUSED_NS
        if self._answered_ns is not None and until_ns is not None and was_running:
            self._shares.until_ns = max(until_ns, now_ns + TERM_NS)

    def end(self) -> None:
        """Nothing is admitted any more."""
        self._shares.until_ns = self._now_ns()

"""How much output will a request need that does not say how much it wants?

Reserving all that the context leaves would throttle every caller who leaves `max_tokens` out: with
a context of 128k, two requests at once exceed a limit of 200k tokens per minute, whatever they
really write. So what is reserved is the 95th percentile of what a key's latest answers by that
model took, of those that also stated no maximum and ended by themselves; before there are enough of
them, a plain guess. A request that turns out longer extends its reservation while it decodes.

Does not know: limits, or how a reservation is extended (see `generation`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from uuid import UUID

INITIAL_TOKENS = 512
"""Until enough answers were seen. Chat answers are mostly shorter."""
_MIN_TOKENS, _MAX_TOKENS = 16, 8192
_ENOUGH = 8
_WINDOW = 128
_MAX_KNOWN = 10_000
"""Pairs of key and model that are remembered: each holds at most `_WINDOW` small integers."""


class _Answers:
    """The lengths of the latest answers, by age and by length."""

    __slots__ = ("_by_age", "_sorted")

    def __init__(self) -> None:
        self._by_age: deque[int] = deque()
        self._sorted: list[int] = []

    def add(self, num_tokens: int) -> None:
        self._by_age.append(num_tokens)
        insort(self._sorted, num_tokens)
        if len(self._by_age) > _WINDOW:
            del self._sorted[bisect_left(self._sorted, self._by_age.popleft())]

    def p95(self) -> int | None:
        """The shortest length that 95 of 100 answers do not exceed; None: too few to tell."""
        count = len(self._sorted)
        return None if count < _ENOUGH else self._sorted[-(-count * 95 // 100) - 1]


class OutputEstimates:
    """Of all keys and models. One per gateway; microseconds, and no promise but a bound."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[UUID | None, str], _Answers] = OrderedDict()

    def expect(self, key_id: UUID | None, model: str) -> int:
        """Tokens of one choice."""
        known = self._known.get((key_id, model))
        p95 = None if known is None else known.p95()
        return INITIAL_TOKENS if p95 is None else min(max(p95, _MIN_TOKENS), _MAX_TOKENS)

    def learn(self, key_id: UUID | None, model: str, num_tokens: int) -> None:
        """One choice without a stated maximum ended by itself after `num_tokens`."""
        key = (key_id, model)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Answers()
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        known.add(num_tokens)

"""What does one limit hold now, and when will it hold less?

A `Bucket` holds one minute's worth and drains continuously (GCRA). What a request is charged may be
reduced until it ends. All arithmetic is on integers, and after a request has settled the bucket is
exactly where it would be if the request had been charged at its start what it used, whatever else
was charged and settled meanwhile.

That needs care. Between charge and refund the bucket drains, but not below empty. Had the refunded
units never been charged, it might have run empty earlier, and what would have drained then is lost.
So a refund is at most the lowest debt since the charge; otherwise a stream that is kept open for
long could save up bursts.

Does not know: whose limit it is, or which limits a request meets together (see `limits`).
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_NS = 60_000_000_000


@dataclass(slots=True, eq=False)
class Hold:
    """One charge that may still be reduced."""

    amount: int
    lowest: int
    """The lowest debt since the charge: no refund can be larger."""


class Bucket:
    """One limit: `per_minute` units, as a debt that drains.

    Debt is counted in units × nanoseconds per minute: `per_minute` of it drain per nanosecond, and
    one unit is `MINUTE_NS` of it. Nothing is ever rounded.
    """

    __slots__ = ("_debt", "_holds", "_per_minute", "_updated_ns")

    def __init__(self, per_minute: int, now_ns: int) -> None:
        self._per_minute = per_minute
        self._debt = 0
        self._updated_ns = now_ns
        self._holds: list[Hold] = []
        """By age. `lowest` never falls from one to the next: an older one has seen more."""

    @property
    def per_minute(self) -> int:
        return self._per_minute

    def advance(self, now_ns: int, per_minute: int | None = None) -> None:
        """Drains until now, at the old rate; then `per_minute` is the rate."""
        if now_ns > self._updated_ns:
            drained = (now_ns - self._updated_ns) * self._per_minute
            self._debt = max(0, self._debt - drained)
            self._updated_ns = now_ns
            self._lower_holds()
        if per_minute is not None:
            self._per_minute = per_minute

    def wait_ns(self, units: int) -> int | None:
        """0: it fits now. None: it never will."""
        if units > self._per_minute:
            return None
        excess = self._debt + (units - self._per_minute) * MINUTE_NS
        return max(0, -(-excess // self._per_minute))

    def charge(self, units: int) -> Hold:
        """Whether or not they fit: debt beyond the limit is what newcomers have to wait for."""
        self._debt += units * MINUTE_NS
        hold = Hold(units * MINUTE_NS, self._debt)
        self._holds.append(hold)
        return hold

    def settle(self, hold: Hold, used_units: int) -> None:
        """The charge becomes `used_units`: more is charged now, less is refunded as of then."""
        difference = hold.amount - used_units * MINUTE_NS
        if difference < 0:
            self._debt -= difference
        if hold in self._holds:  # else it has drained, and there is nothing to refund
            self._refund(self._holds.index(hold), min(max(difference, 0), hold.lowest))
            self._holds.remove(hold)

    def _refund(self, index: int, refund: int) -> None:
        """Rewrites history without these units: the debt was lower ever since the charge."""
        lowest = self._holds[index].lowest
        self._debt -= refund
        for older in self._holds[:index]:
            older.lowest = min(older.lowest, lowest - refund)
        for younger in self._holds[index + 1 :]:
            younger.lowest -= refund

    def _lower_holds(self) -> None:
        for hold in reversed(self._holds):
            if hold.lowest <= self._debt:
                break
            hold.lowest = self._debt
        if self._debt == 0:
            self._holds.clear()  # nothing is left that could be refunded

    def remaining(self) -> int:
        """Whole units that would be admitted now."""
        return max(0, self._per_minute - -(-self._debt // MINUTE_NS))

    def full_in_ns(self) -> int:
        """Until the whole minute's worth is there again."""
        return -(-self._debt // self._per_minute)

    def is_idle(self) -> bool:
        return self._debt == 0

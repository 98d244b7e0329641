"""What does one limit hold now, and when will it hold less?

A `Bucket` holds one minute's worth and drains continuously (GCRA). What a request is charged may be
reduced until it ends. All arithmetic is on integers, and after a request has settled the bucket is
exactly where it would be if the request had been charged at its start what it used, whatever else
was charged and settled meanwhile.

That needs care. Between charge and refund the bucket drains, but not below empty. Had the refunded
units never been charged, it might have run empty earlier, and what would have drained then is lost.
So a refund is at most the lowest debt since the charge; otherwise a stream that is kept open for
long could save up bursts.

A bucket may stand for a share of a limit: of its rate and of its burst. What it could admit at once
is its credit. A share that moves to another bucket takes along as much credit as it is told, never
more than was there, so buckets whose shares are one together never admit more than one whole bucket
would: credit comes into being only as time passes, in proportion to the share.

Does not know: whose limit it is, which limits a request meets together (see `limits`), or who has
the other shares (see `limit_shares`).
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_NS = 60_000_000_000
WHOLE = 1 << 16
"""Parts that a limit is shared in."""
_UNIT = MINUTE_NS * WHOLE
RESHARE_NS = 1_000_000_000
"""What is waited for a share that is large enough: how long that takes is not known here."""


@dataclass(slots=True, eq=False)
class Hold:
    """One charge that may still be reduced."""

    amount: int
    lowest: int
    """The lowest debt since the charge: no refund can be larger."""


class Bucket:
    """One limit: `per_minute` units, as a debt that drains; or a share of it, in parts of `WHOLE`.

    Debt is counted in units × nanoseconds per minute × parts: `per_minute · share` of it drain per
    nanosecond, and one unit is `_UNIT` of it. Nothing is ever rounded.
    """

    __slots__ = ("_debt", "_holds", "_per_minute", "_rate", "_share", "_updated_ns", "spent")

    def __init__(self, per_minute: int, now_ns: int, share: int = WHOLE) -> None:
        self._per_minute = per_minute
        self._share = share
        self._rate = per_minute * share
        """Also the capacity, of one nanosecond."""
        self._debt = 0
        self._updated_ns = now_ns
        self._holds: list[Hold] = []
        """By age. `lowest` never falls from one to the next: an older one has seen more."""
        self.spent = 0
        """Units, ever since."""

    def like(self, per_minute: int) -> Bucket:
        """One of another limit, in the same state."""
        made = Bucket(per_minute, self._updated_ns, self._share)
        made._debt = -(-self._debt * per_minute // self._per_minute)
        return made

    @property
    def per_minute(self) -> int:
        """Of the whole limit."""
        return self._per_minute

    @property
    def share(self) -> int:
        return self._share

    def advance(self, now_ns: int, per_minute: int | None = None) -> None:
        """Drains until now, at the old rate; then `per_minute` is the rate."""
        if now_ns > self._updated_ns:
            drained = (now_ns - self._updated_ns) * self._rate
            self._debt = max(0, self._debt - drained)
            self._updated_ns = now_ns
            self._lower_holds()
        if per_minute is not None:
            self._per_minute = per_minute
            self._rate = per_minute * self._share

    def reshare(self, share: int, credit: int) -> None:
        """From now on it stands for `share`; `credit` came with that, or went where it is negative.

        Both in parts of the whole limit. A share that comes without credit is used up, one that
        goes without takes only what does not fit any more. Whoever calls has advanced it.
        """
        part = self._per_minute * MINUTE_NS
        self._debt = max(0, self._debt + (share - self._share - credit) * part)
        self._share = share
        self._rate = self._per_minute * share
        self._lower_holds()

    def credit(self) -> int:
        """What it would admit now, in whole parts of the whole limit."""
        return max(0, self._rate * MINUTE_NS - self._debt) // (self._per_minute * MINUTE_NS)

    def parts(self, units: int) -> int:
        """The smallest share that ever admits them."""
        return -(-units * WHOLE // self._per_minute)

    def wait_ns(self, units: int) -> int | None:
        """0: it fits now. None: it never will, whatever the share."""
        if units > self._per_minute:
            return None
        excess = self._debt + units * _UNIT - self._rate * MINUTE_NS
        if excess <= 0:
            return 0
        if units * _UNIT > self._rate * MINUTE_NS or not self._rate:
            return RESHARE_NS
        return -(-excess // self._rate)

    def charge(self, units: int) -> Hold:
        """Whether or not they fit: debt beyond the limit is what newcomers have to wait for."""
        self._debt += units * _UNIT
        self.spent += units
        hold = Hold(units * _UNIT, self._debt)
        self._holds.append(hold)
        return hold

    def settle(self, hold: Hold, used_units: int) -> None:
        """The charge becomes `used_units`: more is charged now, less is refunded as of then."""
        difference = hold.amount - used_units * _UNIT
        self.spent -= difference // _UNIT
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
        return max(0, self._rate * MINUTE_NS - self._debt) // _UNIT

    def full_in_ns(self) -> int:
        """Until all of the share is there again."""
        return -(-self._debt // self._rate) if self._rate else RESHARE_NS

    def is_idle(self) -> bool:
        return self._debt == 0

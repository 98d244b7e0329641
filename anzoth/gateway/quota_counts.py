"""How much of a calendar period's quota is used, and when does the next period begin?

A `PeriodCount` counts the units of one UTC day or month; the next one begins with none. What a
request was charged is changed in the period that it was charged to, and in no other.

Does not know: whose quota it is (see `limits`), or what a period saw before it began to count (see
`past_usage`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

_SECOND_NS = 1_000_000_000
_DAY_NS = 24 * 3600 * _SECOND_NS


class Period(StrEnum):
    """Of the calendar, in UTC."""

    DAY = "day"
    MONTH = "month"

    def bounds_ns(self, wall_ns: int) -> tuple[int, int]:
        """When the one that holds `wall_ns` begins, and the next one; since 1970."""
        if self is Period.DAY:
            begin_ns = wall_ns - wall_ns % _DAY_NS
            return begin_ns, begin_ns + _DAY_NS
        now = datetime.fromtimestamp(wall_ns // _SECOND_NS, UTC)
        years, month = divmod(now.month, 12)
        return _month_ns(now.year, now.month), _month_ns(now.year + years, month + 1)


def _month_ns(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * _SECOND_NS


class PeriodCount:
    """How many units the present period has seen."""

    __slots__ = ("_asked_ns", "_end_ns", "begin_ns", "own", "period", "told", "used")

    def __init__(self, period: Period) -> None:
        self.period = period
        self.begin_ns = self._end_ns = 0
        self.used = 0
        self.own = 0
        """Of `used`, what was charged here; the rest was added by others."""
        self.told = 0
        """How much of that others know (see `shared_counts`)."""
        self._asked_ns: int | None = None

    def advance(self, wall_ns: int) -> None:
        """A clock that steps back leaves the later period as it is."""
        if wall_ns >= self._end_ns:
            self.begin_ns, self._end_ns = self.period.bounds_ns(wall_ns)
            self.used = self.own = self.told = 0

    def try_ask(self) -> bool:
        """Whether somebody has to be asked what this period saw before: the first time only. What
        later periods see, it has seen itself."""
        is_first = self._asked_ns is None
        if is_first:
            self._asked_ns = self.begin_ns
        return is_first

    def wait_ns(self, units: int, limit: int, wall_ns: int) -> int | None:
        """0: it fits now, as what needs nothing always does. None: it never will."""
        if units == 0 or self.used + units <= limit:
            return 0
        return None if units > limit else self._end_ns - wall_ns

    def charge(self, units: int) -> int:
        """Whether or not they fit. Returns the beginning of the period that they belong to."""
        self.used += units
        self.own += units
        return self.begin_ns

    def change(self, begin_ns: int, units: int) -> None:
        """Adds to what was charged in the period that began then, or takes from it; of another
        period nothing is left."""
        if begin_ns == self.begin_ns:
            self.used += units
            self.own += units

    def add(self, begin_ns: int, units: int) -> None:
        """They were charged elsewhere in the period that began then; of another one nothing is
        left."""
        if begin_ns == self.begin_ns:
            self.used += units

    def is_idle(self) -> bool:
        """Whether a new one would be the same: it counts nothing, and nobody was asked about this
        period, who would have to be asked again."""
        return self.used == 0 and self._asked_ns != self.begin_ns

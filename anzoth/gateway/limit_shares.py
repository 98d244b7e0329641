"""Which share of each limit may this gateway use?

All of every limit while it is alone. Beside others it uses an equal share of every rule, and of
those of which somebody asked for more what the exchanges gave it (see `share_table`). `report`
says what the next exchange should tell, `apply` takes in what it brought; between the two, requests
are admitted as before. Giving up is done by `report`, before anybody hears of it.

What is used is leased: after `until_ns` others may have taken it, and nothing is admitted. While
the database is found to be away the lease goes on, because requests must (see `limit_lease`).

Does not know: how the table is reached, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from anzoth.errors import CapacityUnavailable
from anzoth.gateway.buckets import MINUTE_NS, WHOLE, Bucket
from anzoth.gateway.quota_counts import PeriodCount
from anzoth.gateway.share_table import SLACK, Given, Name, Reply, Report, Told

_MEASURED_NS = 500_000_000
"""What was used in less time says little."""
_PATIENCE_NS = 3_000_000_000
"""For how long a request that did not fit is expected again."""


class Metered(Protocol):
    """What a rule's limits hold, as far as its share matters here (see `limits`)."""

    holding: Holding
    counts: dict[str, PeriodCount]
    unmet: int
    """Parts that the largest request needs which did not fit, since that was last asked; or 0."""

    @property
    def name(self) -> Name: ...
    @property
    def num_open(self) -> int: ...
    @property
    def concurrency(self) -> int | None: ...
    def rates(self) -> Iterable[Bucket]: ...


class Holding:
    """The share of one rule, or of all that have none of their own."""

    __slots__ = (
        "_measured_ns", "_spent", "_unmet_ns", "aim", "blank", "least", "meter", "need", "row",
        "told",
    )  # fmt: skip

    def __init__(self, blank: Bucket, now_ns: int, meter: Metered | None = None) -> None:
        self.blank = blank
        """A bucket as it is where nothing was charged: new ones are like it."""
        self.meter = meter
        self.row = blank.share
        """In the table: no less than what is used here."""
        self.aim = blank.share
        self.need = 0 if self._is_full(now_ns) else blank.share
        """In parts; it falls slowly where it is not renewed."""
        self.least = 0
        self.told: tuple[int, int] = (0, 0)
        """The need and the least that the table has."""
        self._spent = {} if meter is None else {b: b.spent for b in meter.rates()}
        self._measured_ns = self._unmet_ns = now_ns

    @property
    def share(self) -> int:
        return self.blank.share

    def bucket(self, per_minute: int, now_ns: int) -> Bucket:
        """A new one, for a limit of this rule."""
        self.blank.advance(now_ns)
        return self.blank.like(per_minute)

    def reshare(self, meters: Iterable[Metered], share: int, credit: int, now_ns: int) -> None:
        """`meters`: all that hold this."""
        if share == self.share and not credit:
            return
        for bucket in (self.blank, *(bucket for meter in meters for bucket in meter.rates())):
            bucket.advance(now_ns)
            bucket.reshare(share, credit)

    def measure(self, now_ns: int) -> None:
        """How much is needed here?"""
        elapsed_ns, meter = now_ns - self._measured_ns, self.meter
        if meter is not None and meter.unmet:
            self.need, self.least, meter.unmet = WHOLE, max(self.least, meter.unmet), 0
            self._unmet_ns = now_ns
        elif elapsed_ns >= _MEASURED_NS:
            used = 0 if meter is None else self._used(meter, elapsed_ns)
            self.need = min(WHOLE, max(used * 5 // 4, self.need * 3 // 4))
        else:
            return
        self._measured_ns = now_ns
        if now_ns - self._unmet_ns > _PATIENCE_NS:
            self.least = 0
        if self.need < SLACK:
            self.need = 0 if self._is_full(now_ns) else 1
        self._spent = {} if meter is None else {b: b.spent for b in meter.rates()}

    def give_up(self, share: int, now_ns: int) -> int:
        """Down to this share. The credit that goes along: a part of it like that of the share."""
        meters = () if self.meter is None else (self.meter,)
        buckets = [bucket for meter in meters for bucket in meter.rates()] or [self.blank]
        for bucket in buckets:
            bucket.advance(now_ns)
        credit = min(bucket.credit() for bucket in buckets) * (self.share - share) // self.share
        self.reshare(meters, share, -credit, now_ns)
        return credit

    def _used(self, meter: Metered, elapsed_ns: int) -> int:
        """Of the limit, in parts."""
        parts = [
            (bucket.spent - self._spent.get(bucket, bucket.spent))
            * WHOLE * MINUTE_NS // (bucket.per_minute * elapsed_ns)
            for bucket in meter.rates()
        ]  # fmt: skip
        return max([*parts, parts_open(meter)])

    def _is_full(self, now_ns: int) -> bool:
        buckets = [self.blank, *(() if self.meter is None else self.meter.rates())]
        for bucket in buckets:
            bucket.advance(now_ns)
        return all(bucket.is_idle() for bucket in buckets)


def parts_open(meter: Metered) -> int:
    """The smallest share with which as many requests may run as run now."""
    limit = meter.concurrency
    return -(-meter.num_open * WHOLE // limit) if limit else 0


class Shares:
    """Of one gateway. `meters`: what it counts, by the rule's name; it grows and shrinks."""

    def __init__(self, meters: Mapping[Name, Metered], now_ns: int) -> None:
        self._meters = meters
        self.even = Holding(Bucket(1, now_ns), now_ns)
        self.own: dict[Name, Holding] = {}
        """Of rules that somebody asked for more of."""
        self.until_ns: int | None = None
        """The lease; None: nobody else is there."""
        self.num_gateways = 1
        self.on_hunger: Callable[[], None] = lambda: None
        self._hungry: dict[Name, Metered] = {}
        self._version = 0
        self._joined: int | None = None

    def begin(self, now_ns: int) -> None:
        """There may be others: nothing is admitted before the first exchange."""
        assert not self._meters
        self.even = Holding(Bucket(1, now_ns, 0), now_ns)
        self.until_ns = now_ns

    def of(self, name: Name) -> Holding:
        return self.own.get(name, self.even) if self.own else self.even

    def attach(self, meter: Metered) -> None:
        """A new meter, which holds what `of` said."""
        if meter.holding is not self.even:
            meter.holding.meter = meter

    def check(self, now_ns: Callable[[], int]) -> None:
        """Raises CapacityUnavailable while it is not known what may be used."""
        if self.until_ns is not None and now_ns() >= self.until_ns:
            raise CapacityUnavailable("This server is agreeing with others about limits.")

    def refused(self, meter: Metered, parts: int) -> None:
        """A request that needs a share of so many parts did not fit."""
        if meter.holding is self.even:
            if self.even.share == WHOLE:
                return
            self._hungry[meter.name] = meter
        meter.unmet = max(meter.unmet, min(parts, WHOLE))
        self.on_hunger()

    def admitted(self, meters: Iterable[Metered]) -> None:
        """Who is about to use up its share asks for more before a request is refused."""
        for meter in meters:
            if meter.holding is self.even and meter.name not in self._hungry:
                credit = min((bucket.credit() for bucket in meter.rates()), default=WHOLE)
                if credit < self.even.share // 2:
                    self._hungry[meter.name] = meter
                    self.on_hunger()

    # --- the exchange ---------------------------------------------------------------------------

    def report(self, now_ns: int) -> Report:
        """What to tell now. It is not used again here, told or not."""
        rules: dict[Name, Told] = {}
        for name, holding in self.own.items():
            told = self._of_own(holding, now_ns)
            if told is not None:
                rules[name] = told
        share = self.even.share
        if share < self.even.row:
            blocked = [meter for meter in self._even_meters() if parts_open(meter) > share]
            if blocked:  # more requests run than fit: of these rules it keeps what they need
                share = self.even.row
            for meter in blocked:
                rules[meter.name] = Told(parts_open(meter), 0, parts_open(meter))
        for name, meter in self._hungry.items():
            if not self._is_even(name, meter):
                continue
            parts = max(self.even.share, parts_open(meter))
            # Who was refused nothing may need all, but nobody knows: others keep some.
            need = WHOLE if meter.unmet else min(WHOLE, max(parts, self.even.share * 3 // 2))
            rules[name] = Told(parts, 0, need, meter.unmet)
        return Report(share, self._version, rules, joined=self._joined)

    def _of_own(self, holding: Holding, now_ns: int) -> Told | None:
        """None: it is in the table already."""
        holding.measure(now_ns)
        need, least = holding.told
        has_changed = (
            abs(need - holding.need) > SLACK
            or (need == 0) != (holding.need == 0)
            or least != holding.least
        )
        credit = 0
        if holding.aim < holding.share and not has_changed:  # the aim is by what is told
            credit = holding.give_up(holding.aim, now_ns)
        open_ = 0 if holding.meter is None else parts_open(holding.meter)
        share = min(holding.row, max(holding.share, open_))
        if share == holding.row and not has_changed:
            return None
        return Told(share, credit, holding.need, holding.least)

    def apply(self, report: Report, reply: Reply, now_ns: int) -> bool:
        """What the exchange of `report` brought. Whether there is something to be given up now."""
        is_first = self._joined is None
        if reply.joined != self._joined:
            self._forget(now_ns)
        for name, given in reply.rules.items():
            if not given.is_even:
                self._take(name, given, report.rules.get(name), now_ns)
        share = min(reply.share, reply.aim)
        credit = WHOLE if is_first and reply.is_alone else 0
        self.even.reshare(self._even_meters(), share, credit, now_ns)
        self.even.row, self.even.aim = reply.share, reply.aim
        for name, given in reply.rules.items():
            if given.is_even and name in self.own:
                self._merge(name, now_ns)
        self._hungry = {
            name: meter
            for name, meter in self._hungry.items()
            if self._is_even(name, meter) and share < WHOLE
        }
        self._version, self._joined = reply.version, reply.joined
        self.num_gateways = len(reply.beats)
        return share < reply.share or any(
            holding.aim < holding.share for holding in self.own.values()
        )

    def _take(self, name: Name, given: Given, told: Told | None, now_ns: int) -> None:
        holding = self.own.get(name)
        if holding is None:
            holding = Holding(self.even.bucket(1, now_ns), now_ns, self._meters.get(name))
            if holding.meter is not None:
                holding.meter.holding = holding
            self.own[name] = holding
        if told is not None:
            holding.told = (told.need, told.least)
            holding.need = max(holding.need, told.need)
        meters = () if holding.meter is None else (holding.meter,)
        share = min(given.share, max(given.aim, holding.share))
        holding.reshare(meters, share, given.credit, now_ns)
        holding.row, holding.aim = given.share, given.aim

    def _merge(self, name: Name, now_ns: int) -> None:
        """The rule is like the others again."""
        holding = self.own.pop(name)
        meter = holding.meter
        if meter is not None and self._meters.get(name) is meter:
            holding.reshare((meter,), self.even.share, 0, now_ns)
            meter.holding = self.even

    def _forget(self, now_ns: int) -> None:
        """Nothing is its own any more."""
        for holding in self.own.values():
            meters = () if holding.meter is None else (holding.meter,)
            holding.reshare(meters, 0, 0, now_ns)
            for meter in meters:
                meter.holding = self.even
        self.own = {}
        self.even.reshare(self._even_meters(), 0, 0, now_ns)

    @property
    def version(self) -> int:
        """Up to which this gateway has seen what changed."""
        return self._version

    def counts(self) -> Iterable[tuple[Name, str, PeriodCount]]:
        """All of the quotas that are counted here, and their names."""
        return [
            (name, quota, count)
            for name, meter in self._meters.items()
            for quota, count in meter.counts.items()
        ]

    def count(self, name: Name, quota: str) -> PeriodCount | None:
        meter = self._meters.get(name)
        return None if meter is None else meter.counts.get(quota)

    def _is_even(self, name: Name, meter: Metered) -> bool:
        """Not of one that was forgotten meanwhile."""
        return meter.holding is self.even and self._meters.get(name) is meter

    def _even_meters(self) -> list[Metered]:
        return [meter for meter in self._meters.values() if meter.holding is self.even]

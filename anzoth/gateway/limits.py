"""May this request run now, and if not: when exactly?

A request meets every rule that applies to it (see `limit_rules`): it is charged in all of their
buckets or in none. It is charged what it can cost at most and given back what it did not use when
it ends. Two promises hold to the nanosecond, whatever the rules:

- a request that was told to wait `retry_after_ms` is admitted then, if nobody else was charged: the
  longest of its waits is told, and buckets only drain meanwhile;
- after a request has settled, every bucket is where it would be if the request had been charged at
  its start what it used (see `buckets`).

One kind of request is not charged its most at the start: one that states no maximum. It reserves
what such requests usually need and `extend`s that while it decodes. An extension is charged whether
or not there is room, because a running answer is never cut for a limit. The debt is real, newcomers
wait for it; so `used ≤ limit + rate · time` may be exceeded by what such requests used beyond their
first reservation, together, and by nothing else.

Beside other gateways this one admits its share of each limit (see `limit_shares`), and the first
promise holds as long as that share does not shrink meanwhile.

Does not know: prices but those that a request brings along, or how gateways come by their shares.
"""

from __future__ import annotations

import operator
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anzoth.gateway import limit_errors
from anzoth.gateway.buckets import WHOLE, Bucket, Hold
from anzoth.gateway.limit_errors import Headers, LimitReached, go_duration
from anzoth.gateway.limit_meters import RATES, Meter
from anzoth.gateway.limit_rules import QUOTAS, LimitRule, applicable
from anzoth.gateway.limit_shares import Shares
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.quota_counts import PeriodCount
from anzoth.price import Price

_HEADER_NAMES = ("requests", "tokens", "input-tokens", "output-tokens")
Units = tuple[int, int, int, int, int]
"""Of each rate, in the order of `RATES`; then the cost, in nano-units of the currency."""
_QUOTA_UNITS = {"tokens": 1, "cost": 4}
"""Where what a quota counts stands among them."""
_SWEEP = 2
"""Idle meters looked at per reservation: more than one, so that forgetting outruns remembering."""


_Watched = frozenset[tuple[Meter, str]]
_NOTHING: _Watched = frozenset()


@dataclass(slots=True)
class _Charge:
    """What a reservation, or one extension of it, holds in all buckets."""

    units: Units
    holds: list[tuple[int, Bucket, Hold]]
    counts: list[tuple[int, PeriodCount, int]]
    """With the index of what they count, and the period."""

    def finish(self, used: Units) -> None:
        for index, bucket, hold in self.holds:
            bucket.settle(hold, used[index])
        for index, count, begin_ns in self.counts:
            count.change(begin_ns, used[index] - self.units[index])


@dataclass(slots=True)
class Reservation:
    """What one admitted request was charged. Ends with `settle` or `cancel`, once."""

    reserved_tokens: int
    _output_tokens: int
    """Of them."""
    _price: Price | None
    _limiter: Limiter = field(repr=False)
    _rules: Sequence[LimitRule]
    _meters: list[Meter] = field(repr=False)
    _charges: list[_Charge] = field(repr=False)
    _headers: Headers
    _spared: _Watched = _NOTHING
    """Limits that would have refused it and are only watched."""
    _num_requests: int = 1
    _is_open: bool = True

    def extend(self, output_tokens: int) -> None:
        """The request will need more than was reserved. Charged at once, room or not.

        Does nothing where no rule applies, or after the end.
        """
        if not self._is_open or not self._rules:
            return
        more = output_tokens
        self.reserved_tokens += more
        self._output_tokens += more
        cost = 0
        if self._price is not None:  # of all output together: it is rounded once
            before = self._price.highest_cost(0, self._output_tokens - more)
            cost = self._price.highest_cost(0, self._output_tokens) - before
        # Its own rules may be out of date: an extension must not bring old limits back.
        rules = [self._limiter.current(rule) for rule in self._rules]
        meters = self._limiter.meters(rules)
        self._charges.append(charge(meters, (0, more, 0, more, cost), self._spared))

    def settle(self, prompt_tokens: int, output_tokens: int = 0, cached_tokens: int = 0) -> None:
        """The request is over and used this many tokens, `cached_tokens` of them of the prompt's.
        Does nothing when called again."""
        price, total = self._price, prompt_tokens + output_tokens
        cost = 0
        if price is not None:
            cost = price.cost(prompt_tokens, cached_tokens, output_tokens).total
        self._finish((self._num_requests, total, prompt_tokens, output_tokens, cost))

    def cancel(self) -> None:
        """The request never reached the engine: it counts for nothing. Once, like `settle`."""
        self._finish((0, 0, 0, 0, 0))

    def headers(self) -> Headers:
        """The limits as they were when this request was admitted, with it counted."""
        return list(self._headers)

    def _finish(self, used: Units) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if not self._rules:
            return
        now_ns = self._limiter.now_ns()
        for meter in self._meters:
            meter.num_open -= 1
        # What was charged first was used first; beyond the last charge it is charged now.
        left = used
        for number, part in enumerate(self._charges, 1):
            is_last = number == len(self._charges)
            taken = left if is_last else _smaller(part.units, left)
            if not is_last:
                left = _difference(left, taken)
            for _, bucket, _hold in part.holds:
                bucket.advance(now_ns)
            part.finish(taken)


class Limiter:
    """All limits. One per gateway; every call is synchronous and takes microseconds."""

    def __init__(
        self,
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.now_ns = now_ns
        self._wall_ns = wall_ns
        self.on_new_count: Callable[[LimitRule, TenantHandle, str, int], None] | None = None
        """Called with a rule, its tenant, one of its quotas, and when the period began (in ns since
        1970) that is counted from now on; what was before is to be given to `add_past`."""
        self._meters: OrderedDict[tuple[uuid.UUID, str | None], Meter] = OrderedDict()
        self.shares = Shares(self._meters, now_ns())

    def __len__(self) -> int:
        """Rules that are remembered: those that hold something."""
        return len(self._meters)

    def reserve(
        self,
        principal: Principal,
        model: str,
        prompt_tokens: int,
        output_tokens: int,
        price: Price | None = None,
        *,
        is_part: bool = False,
    ) -> Reservation:
        """Charges one request and all that it can use, or nothing at all. A limit that is only
        watched charges what it would have admitted, and so counts what it would have refused.
        Without a `price` it costs nothing, now and later. `is_part`: of a request that was admitted
        already, which needs a second model: its tokens count, and it is no request of its own.

        Raises LimitReached: with the exact time after which the same call would be admitted, or
        without one where there is none (see `limit_errors`); and CapacityUnavailable while other
        gateways may be using this one's share.
        """
        total = prompt_tokens + output_tokens
        rules = applicable(principal.limits, model) if principal.limits else ()
        if not rules:
            self._forget_idle(self.now_ns())
            return Reservation(total, output_tokens, price, self, rules, [], [], [])
        self.shares.check(self.now_ns)
        cost = 0 if price is None else price.highest_cost(prompt_tokens, output_tokens)
        num_requests = 0 if is_part else 1
        units = (num_requests, total, prompt_tokens, output_tokens, cost)
        meters = self.meters(rules)
        self._ask(meters, principal.tenant)
        watched = self._check(principal, meters, units)
        charged = charge(meters, units, watched)
        counted = [m for m in meters if (m, "concurrency") not in watched] if watched else meters
        if self.shares.num_gateways > 1:
            self.shares.admitted(counted)
        running = [] if is_part else counted
        for meter in running:
            meter.num_open += 1
        headers = _headers(meters)
        return Reservation(
            *(total, output_tokens, price, self, rules, running, [charged], headers, watched),
            num_requests,
        )

    def reserve_request(self, principal: Principal, model: str) -> Reservation:
        """Of a request that goes on without the model of this name: it counts, and no token does.

        Raises RateLimited.
        """
        reservation = self.reserve(principal, model, 0, 0)
        reservation.settle(0, 0)
        return reservation

    def keep_place(self, principal: Principal, model: str) -> Reservation:
        """For a request that was admitted and goes on beyond its first generation: until the end of
        the reservation it is among those that run, and that is all. It is never refused."""
        rules = applicable(principal.limits, model) if principal.limits else ()
        meters = self.meters(rules)
        for meter in meters:
            meter.num_open += 1
        return Reservation(0, 0, None, self, rules, meters, [], [], _num_requests=0)

    def ask_past(self, principal: Principal) -> None:
        """Begins to count for all of its quotas, whatever model it will ask for."""
        rules = [rule for rule in principal.limits if rule.limits.has_quota]
        if rules:
            self._ask(self.meters(rules), principal.tenant)

    def add_past(self, rule: LimitRule, quota: str, begin_ns: int, units: int) -> None:
        """They were used before this limiter began to count the period that began then."""
        meter = self._meters.get((rule.subject, rule.model))
        if meter is not None and quota in meter.counts:
            meter.counts[quota].add(begin_ns, units)

    def _ask(self, meters: list[Meter], tenant: TenantHandle) -> None:
        if self.on_new_count is None:
            return
        for meter in meters:
            for quota, count in meter.counts.items():
                if count.try_ask():
                    self.on_new_count(meter.rule, tenant, quota, count.begin_ns)

    def current(self, rule: LimitRule) -> LimitRule:
        """As it was when it was last seen: its limits may have changed since."""
        meter = self._meters.get((rule.subject, rule.model))
        return rule if meter is None else meter.rule

    def meters(self, rules: Sequence[LimitRule]) -> list[Meter]:
        """Of these rules, drained until now, with the limits that they have now."""
        now_ns = self.now_ns()
        self._forget_idle(now_ns)
        found = []
        for rule in rules:
            key = (rule.subject, rule.model)
            meter = self._meters.get(key)
            if meter is None:
                meter = self._meters[key] = Meter(rule, self.shares.of(key), now_ns)
                self.shares.attach(meter)
            else:
                self._meters.move_to_end(key)
                meter.advance(rule, now_ns)
            if meter.counts:
                wall_ns = self._wall_ns()
                for count in meter.counts.values():
                    count.advance(wall_ns)
            found.append(meter)
        return found

    def _check(self, principal: Principal, meters: list[Meter], units: Units) -> _Watched:
        """Raises LimitReached, of the limit that has to be waited for longest.

        Limits that are only watched and do not admit it are returned: they are not charged, and so
        count exactly what they would refuse.
        """
        in_the_way: list[_Obstacle] = []
        for meter in meters:
            for index, bucket in meter.buckets:
                wait_ns = bucket.wait_ns(units[index])
                if wait_ns != 0:
                    in_the_way.append(_Obstacle(meter, RATES[index], wait_ns, bucket.remaining()))
                    if wait_ns is not None:
                        self.shares.refused(meter, bucket.parts(units[index]))
            limits = meter.rule.limits
            if limits.concurrency is not None and units[0]:
                most = limits.concurrency * meter.holding.share // WHOLE
                if meter.num_open >= most:
                    in_the_way.append(_Obstacle(meter, "concurrency", 0, 0))
                    parts = -(-(meter.num_open + 1) * WHOLE // limits.concurrency)
                    self.shares.refused(meter, parts)
            for quota, count in meter.counts.items():
                wanted, most = units[_quota_unit(quota)], getattr(limits, quota)
                wait_ns = count.wait_ns(wanted, most, self._wall_ns())
                if wait_ns != 0:
                    in_the_way.append(_Obstacle(meter, quota, wait_ns, count.used))
        for obstacle in sorted(in_the_way, key=_Obstacle.order, reverse=True):
            principal.deny(_refusal(obstacle, units, _headers(meters)))
        return frozenset((obstacle.meter, obstacle.what) for obstacle in in_the_way)

    def _forget_idle(self, now_ns: int) -> None:
        for key in [key for key, _ in zip(self._meters, range(_SWEEP), strict=False)]:
            meter = self._meters[key]
            meter.advance(meter.rule, now_ns)
            if meter.is_idle(self._wall_ns() if meter.counts else 0):
                del self._meters[key]
            else:
                self._meters.move_to_end(key)  # the next call looks at others


def charge(meters: list[Meter], units: Units, spared: _Watched = _NOTHING) -> _Charge:
    """In every bucket but those `spared`, room or not."""
    holds: list[tuple[int, Bucket, Hold]] = []
    counts: list[tuple[int, PeriodCount, int]] = []
    for meter in meters:
        for index, bucket in meter.buckets:
            if not spared or (meter, RATES[index]) not in spared:
                holds.append((index, bucket, bucket.charge(units[index])))
        for quota, count in meter.counts.items():
            if (meter, quota) not in spared:
                index = _quota_unit(quota)
                counts.append((index, count, count.charge(units[index])))
    return _Charge(units, holds, counts)


def _quota_unit(name: str) -> int:
    return _QUOTA_UNITS[QUOTAS[name].of]


@dataclass(slots=True, frozen=True)
class _Obstacle:
    """One limit that does not admit a request now."""

    meter: Meter
    what: str
    wait_ns: int | None
    """None: it never will. Of a concurrency nobody knows it."""
    state: int
    """What is left of a rate, what is used of a quota."""

    def order(self) -> tuple[bool, bool, int]:
        """Never, then nobody knows when, then the longest."""
        return self.wait_ns is None, self.what == "concurrency", self.wait_ns or 0


def _refusal(obstacle: _Obstacle, units: Units, headers: Headers) -> LimitReached:
    rule, what, wait_ns = obstacle.meter.rule, obstacle.what, obstacle.wait_ns
    if what == "concurrency":
        return limit_errors.concurrency_reached(rule, headers)
    wanted = units[_quota_unit(what) if what in QUOTAS else RATES.index(what)]
    if wait_ns is None:
        return limit_errors.too_large(rule, what, wanted, headers)
    if what in QUOTAS:
        return limit_errors.quota_reached(rule, what, wanted, obstacle.state, wait_ns, headers)
    return limit_errors.rate_reached(rule, what, wanted, obstacle.state, wait_ns, headers)


def _headers(meters: list[Meter]) -> Headers:
    """Of each rate that has a limit, the tightest one: which has least left."""
    tightest: list[tuple[int, Bucket] | None] = [None] * len(RATES)
    for meter in meters:
        for index, bucket in meter.buckets:
            remaining, known = bucket.remaining(), tightest[index]
            if known is None or remaining < known[0]:
                tightest[index] = (remaining, bucket)
    headers: Headers = []
    for name, found in zip(_HEADER_NAMES, tightest, strict=True):
        if found is not None:
            remaining, bucket = found
            headers += [
                (f"x-ratelimit-limit-{name}", str(bucket.per_minute)),
                (f"x-ratelimit-remaining-{name}", str(remaining)),
                (f"x-ratelimit-reset-{name}", go_duration(bucket.full_in_ns())),
            ]
    return headers


def _smaller(one: Units, other: Units) -> Units:
    a, b, c, d, e = map(min, one, other)
    return a, b, c, d, e


def _difference(one: Units, other: Units) -> Units:
    a, b, c, d, e = map(operator.sub, one, other)
    return a, b, c, d, e

"""May this key do one more request, of this many tokens, now? And if not: when exactly?

Each limit is a bucket that holds one minute's worth and drains continuously (GCRA). A request is
charged what it can cost at most, prompt plus the largest possible output, and is given back what it
did not use when it ends. All arithmetic is on integers, so two promises hold to the nanosecond:

- a request that was told to wait `retry_after_ms` is admitted then, if nobody else used the key;
- after a request has settled, the bucket is exactly where it would be if the request had been
  charged at its start what it used, whatever else was charged and settled meanwhile.

The second needs care. Between charge and refund the bucket drains, but not below empty. Had the
refunded tokens never been charged, it might have run empty earlier, and what would have drained
then is lost. So a refund is at most the lowest debt since the charge; otherwise a stream that is
kept open for long could save up bursts.

Does not know: what a token costs in money, or any other gateway process (one per installation).
"""

from __future__ import annotations

import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from anzoth.errors import RateLimited
from anzoth.gateway.principal import Principal

_MINUTE_NS = 60_000_000_000
_SWEEP = 2
"""Idle keys looked at per reservation: more than one, so that forgetting outruns remembering."""


class LimitReached(RateLimited):
    """Rate limit reached for this API key. Wait and retry."""

    def __init__(
        self, message: str, retry_after_ms: int | None, limit_headers: list[tuple[str, str]]
    ) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self._limit_headers = limit_headers

    def headers(self) -> list[tuple[str, str]]:
        return [*super().headers(), *self._limit_headers]


@dataclass(slots=True, eq=False)
class _Hold:
    """One charge that may still be reduced."""

    amount: int
    lowest: int
    """The lowest debt since the charge: no refund can be larger."""


class _Bucket:
    """One limit of one key: `per_minute` units, as a debt that drains.

    Debt is counted in units × nanoseconds per minute: `per_minute` of it drain per nanosecond, and
    one unit is `_MINUTE_NS` of it. Nothing is ever rounded.
    """

    __slots__ = ("_debt", "_holds", "_per_minute", "_updated_ns")

    def __init__(self, per_minute: int, now_ns: int) -> None:
        self._per_minute = per_minute
        self._debt = 0
        self._updated_ns = now_ns
        self._holds: list[_Hold] = []
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
        excess = self._debt + (units - self._per_minute) * _MINUTE_NS
        return max(0, -(-excess // self._per_minute)) if self._per_minute else 0

    def charge(self, units: int) -> _Hold:
        self._debt += units * _MINUTE_NS
        hold = _Hold(units * _MINUTE_NS, self._debt)
        self._holds.append(hold)
        return hold

    def settle(self, hold: _Hold, used_units: int) -> None:
        """The charge becomes `used_units`: more is charged now, less is refunded as of then."""
        difference = hold.amount - used_units * _MINUTE_NS
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
        return max(0, self._per_minute - math.ceil(self._debt / _MINUTE_NS))

    def full_in_ns(self) -> int:
        """Until the whole minute's worth is there again."""
        return -(-self._debt // self._per_minute) if self._per_minute else 0

    def is_idle(self) -> bool:
        return self._debt == 0


@dataclass(slots=True)
class _Key:
    """The buckets of one key; None: that limit does not exist."""

    requests: _Bucket | None = None
    tokens: _Bucket | None = None


@dataclass(slots=True)
class Reservation:
    """What one admitted request was charged. Ends with `settle` or `cancel`, once."""

    reserved_tokens: int
    _limiter: Limiter = field(repr=False)
    _requests: tuple[_Bucket, _Hold] | None
    _tokens: tuple[_Bucket, _Hold] | None
    _headers: list[tuple[str, str]]
    _is_open: bool = True

    def settle(self, used_tokens: int) -> None:
        """The request is over and used this many tokens. Does nothing when called again."""
        self._finish(used_requests=1, used_tokens=used_tokens)

    def cancel(self) -> None:
        """The request never reached the engine: it counts for nothing. Once, like `settle`."""
        self._finish(used_requests=0, used_tokens=0)

    def headers(self) -> list[tuple[str, str]]:
        """The limits as they were when this request was admitted, with it counted."""
        return list(self._headers)

    def _finish(self, used_requests: int, used_tokens: int) -> None:
        if not self._is_open:
            return
        self._is_open = False
        now_ns = self._limiter.now_ns()
        for charged, used in ((self._requests, used_requests), (self._tokens, used_tokens)):
            if charged is not None:
                bucket, hold = charged
                bucket.advance(now_ns)
                bucket.settle(hold, used)


class Limiter:
    """The limits of all keys. One per gateway; every call is synchronous and takes microseconds."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.now_ns = now_ns
        self._keys: OrderedDict[uuid.UUID, _Key] = OrderedDict()

    def __len__(self) -> int:
        """Keys that are remembered: those that a limit applies to and that are not idle."""
        return len(self._keys)

    def reserve(
        self, principal: Principal, prompt_tokens: int, max_output_tokens: int
    ) -> Reservation:
        """Charges one request and all tokens it can use, or nothing at all.

        Raises RateLimited, with the exact time after which the same call would be admitted, or
        without one when the request is larger than the whole limit.
        """
        key = self._key(principal)
        wanted = {"requests": 1, "tokens": prompt_tokens + max_output_tokens}
        waits = {
            name: bucket.wait_ns(wanted[name])
            for name, bucket in (("requests", key.requests), ("tokens", key.tokens))
            if bucket is not None
        }
        if any(wait != 0 for wait in waits.values()):
            raise _refusal(key, waits, wanted)
        units = wanted["tokens"]
        requests = None if key.requests is None else (key.requests, key.requests.charge(1))
        tokens = None if key.tokens is None else (key.tokens, key.tokens.charge(units))
        return Reservation(units, self, requests, tokens, _headers(key))

    def _key(self, principal: Principal) -> _Key:
        """The key's buckets, drained until now, with the limits that it has now."""
        key_id, now_ns = principal.key_id, self.now_ns()
        assert key_id is not None, "only keys run models"
        self._forget_idle(now_ns)
        if principal.rpm is None and principal.tpm is None:
            self._keys.pop(key_id, None)
            return _Key()
        key = self._keys.setdefault(key_id, _Key())
        self._keys.move_to_end(key_id)
        key.requests = _current(key.requests, principal.rpm, now_ns)
        key.tokens = _current(key.tokens, principal.tpm, now_ns)
        return key

    def _forget_idle(self, now_ns: int) -> None:
        for key_id in [key_id for key_id, _ in zip(self._keys, range(_SWEEP), strict=False)]:
            key = self._keys[key_id]
            buckets = [bucket for bucket in (key.requests, key.tokens) if bucket is not None]
            for bucket in buckets:
                bucket.advance(now_ns)
            if all(bucket.is_idle() for bucket in buckets):
                del self._keys[key_id]
            else:
                self._keys.move_to_end(key_id)  # the next call looks at others


def _current(bucket: _Bucket | None, per_minute: int | None, now_ns: int) -> _Bucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        return _Bucket(per_minute, now_ns)
    bucket.advance(now_ns, per_minute)
    return bucket


def _refusal(key: _Key, waits: dict[str, int | None], wanted: dict[str, int]) -> LimitReached:
    """Names the limit that has to be waited for longest, or that can never be met."""
    name = max(waits, key=lambda name: math.inf if waits[name] is None else waits[name] or 0)
    bucket = key.requests if name == "requests" else key.tokens
    assert bucket is not None
    wait_ns = waits[name]
    if wait_ns is None:
        return LimitReached(
            f"This request needs up to {wanted[name]} {name}, and this API key's limit is "
            f"{bucket.per_minute} {name} per minute. Waiting will not help; ask for fewer tokens.",
            None,
            _headers(key),
        )
    wait_ms = -(-wait_ns // 1_000_000)
    asked = f", requested: {wanted[name]}" if name == "tokens" else ""
    return LimitReached(
        f"Rate limit reached for this API key: {bucket.per_minute} {name} per minute "
        f"(remaining: {bucket.remaining()}{asked}). Retry in {go_duration(wait_ns)}.",
        wait_ms,
        _headers(key),
    )


def _headers(key: _Key) -> list[tuple[str, str]]:
    headers = []
    for name, bucket in (("requests", key.requests), ("tokens", key.tokens)):
        if bucket is not None:
            headers += [
                (f"x-ratelimit-limit-{name}", str(bucket.per_minute)),
                (f"x-ratelimit-remaining-{name}", str(bucket.remaining())),
                (f"x-ratelimit-reset-{name}", go_duration(bucket.full_in_ns())),
            ]
    return headers


def go_duration(duration_ns: int) -> str:
    """As Go prints it, rounded up to milliseconds: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    total_ms = -(-duration_ns // 1_000_000)
    if total_ms < 1000:
        return f"{total_ms}ms" if total_ms else "0s"
    minutes, ms = divmod(total_ms, 60_000)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if minutes == 0:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{seconds}"

"""What is a request told that a limit refuses?

    rate         429 rate_limit_exceeded, with the time after which it will be admitted
    too large    the same without a time: waiting will not help, the SDKs do not retry
    concurrency  429 without a time, because nobody knows when a request ends: the SDKs retry after
                 pauses of their own
    quota        429 insufficient_quota, with the time until the day or month ends; the SDKs do not
                 retry, nor where the quota is too small for the request at any time

Each names its rule in the message and in `rule`.

Does not know: how a limit is measured.
"""

from __future__ import annotations

from anzoth.errors import RateLimited
from anzoth.gateway.limit_rules import BUDGET_NAMES, QUOTAS, LimitRule
from anzoth.price import shortest_decimal

Headers = list[tuple[str, str]]

_NOUNS = {
    "rpm": "requests",
    "tpm": "tokens",
    "input_tpm": "input tokens",
    "output_tpm": "output tokens",
    "tokens_per_day": "tokens",
    "budget_per_day": "in costs",
    "budget_per_month": "in costs",
}


class LimitReached(RateLimited):
    """Rate limit reached for this API key. Wait and retry."""

    def __init__(
        self, message: str, rule: str, retry_after_ms: int | None, limit_headers: Headers
    ) -> None:
        super().__init__(f"{message} ({rule})", retry_after_ms=retry_after_ms)
        self.rule = rule
        self.limit_headers = limit_headers

    def headers(self) -> Headers:
        return [*super().headers(), *self.limit_headers]


class ConcurrencyReached(LimitReached):
    """Too many requests of this API key run at the same time."""

    def headers(self) -> Headers:
        return [("x-should-retry", "true"), *self.limit_headers]


class QuotaReached(LimitReached):
    """What this API key may use in this day or month is used up."""

    type = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> Headers:
        kept = [header for header in super().headers() if header[0] != "x-should-retry"]
        return [("x-should-retry", "false"), *kept]


def rate_reached(
    rule: LimitRule, what: str, wanted: int, remaining: int, wait_ns: int, headers: Headers
) -> LimitReached:
    limit, noun = getattr(rule.limits, what), _NOUNS[what]
    asked = "" if what == "rpm" else f", requested: {wanted}"
    return LimitReached(
        f"Rate limit reached for {rule.owner}: {limit} {noun} per minute "
        f"(remaining: {remaining}{asked}). Retry in {go_duration(wait_ns)}.",
        rule.id_of(what),
        _rounded_up_ms(wait_ns),
        headers,
    )


def too_large(rule: LimitRule, what: str, wanted: int, headers: Headers) -> LimitReached:
    cls = QuotaReached if what in QUOTAS else LimitReached
    return cls(
        f"This request needs up to {_amount(what, wanted)}, and the limit of {rule.owner} is "
        f"{_limit(rule, what)}. Waiting will not help; ask for fewer tokens.",
        rule.id_of(what),
        None,
        headers,
    )


def concurrency_reached(rule: LimitRule, headers: Headers) -> ConcurrencyReached:
    return ConcurrencyReached(
        f"Limit reached for {rule.owner}: {rule.limits.concurrency} requests at the same time. "
        "Retry when one of them has ended.",
        rule.id_of("concurrency"),
        None,
        headers,
    )


def quota_reached(
    rule: LimitRule, what: str, wanted: int, used: int, wait_ns: int, headers: Headers
) -> QuotaReached:
    return QuotaReached(
        f"Quota reached for {rule.owner}: {_limit(rule, what)}, in UTC (used: "
        f"{_bare(what, used)}, requested: {_bare(what, wanted)}). It begins again in "
        f"{go_duration(wait_ns)}.",
        rule.id_of(what),
        _rounded_up_ms(wait_ns),
        headers,
    )


def _limit(rule: LimitRule, what: str) -> str:
    period = QUOTAS[what].period if what in QUOTAS else "minute"
    return f"{_amount(what, getattr(rule.limits, what))} per {period}"


def _amount(what: str, units: int) -> str:
    return f"{_bare(what, units)} {_NOUNS[what]}"


def _bare(what: str, units: int) -> str:
    return shortest_decimal(units) if what in BUDGET_NAMES else str(units)


def go_duration(duration_ns: int) -> str:
    """As Go prints it, rounded up to milliseconds: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    total_ms = _rounded_up_ms(duration_ns)
    if total_ms < 1000:
        return f"{total_ms}ms" if total_ms else "0s"
    minutes, ms = divmod(total_ms, 60_000)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if minutes == 0:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{seconds}"


def _rounded_up_ms(duration_ns: int) -> int:
    return -(-duration_ns // 1_000_000)

"""What is a request told that a limit refuses?

    rate         429 rate_limit_exceeded, with the time after which it will be admitted
    too large    the same without a time: waiting will not help, the SDKs do not retry
    concurrency  429 without a time, because nobody knows when a request ends: the SDKs retry after
                 pauses of their own
    day          429 insufficient_quota, with the time until the day ends; the SDKs do not retry

Each names its rule in the message and in `rule`.

Does not know: how a limit is measured.
"""

from __future__ import annotations

from anzoth.errors import RateLimited
from anzoth.gateway.limit_rules import LimitRule

Headers = list[tuple[str, str]]

_NOUNS = {
    "rpm": "requests",
    "tpm": "tokens",
    "input_tpm": "input tokens",
    "output_tpm": "output tokens",
    "tokens_per_day": "tokens",
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
    """The day's tokens of this API key are used up."""

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
    limit, noun = getattr(rule.limits, what), _NOUNS[what]
    period = "day" if what == "tokens_per_day" else "minute"
    return LimitReached(
        f"This request needs up to {wanted} {noun}, and the limit of {rule.owner} is {limit} "
        f"{noun} per {period}. Waiting will not help; ask for fewer tokens.",
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


def day_used_up(
    rule: LimitRule, wanted: int, used: int, wait_ns: int, headers: Headers
) -> QuotaReached:
    limit = rule.limits.tokens_per_day
    return QuotaReached(
        f"Quota reached for {rule.owner}: {limit} tokens per day, in UTC (used: {used}, "
        f"requested: {wanted}). It begins again in {go_duration(wait_ns)}.",
        rule.id_of("tokens_per_day"),
        _rounded_up_ms(wait_ns),
        headers,
    )


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

"""What do the limits of one rule hold now?

A meter has a bucket for each rate, a count for each quota, and the number of requests that run. Its
rule may change; what it holds then stays, as far as the new limits have a place for it.

Does not know: which meters a request meets together (see `limits`), or how its share of the rule
came about (see `limit_shares`).
"""

from __future__ import annotations

import uuid

from anzoth.gateway.buckets import Bucket
from anzoth.gateway.limit_rules import QUOTAS, LimitRule
from anzoth.gateway.limit_shares import Holding
from anzoth.gateway.quota_counts import PeriodCount

RATES = ("rpm", "tpm", "input_tpm", "output_tpm")


class Meter:
    """Of one rule."""

    __slots__ = ("buckets", "counts", "holding", "num_open", "rule", "unmet")

    def __init__(self, rule: LimitRule, holding: Holding, now_ns: int) -> None:
        self.rule = rule
        self.holding = holding
        self.unmet = 0
        self.buckets: list[tuple[int, Bucket]] = []
        """With the index of their rate."""
        self.counts: dict[str, PeriodCount] = {}
        """Of the quotas, by name."""
        self.num_open = 0
        self._change(rule, now_ns)

    @property
    def name(self) -> tuple[uuid.UUID, str | None]:
        return self.rule.subject, self.rule.model

    @property
    def concurrency(self) -> int | None:
        """Of the whole limit."""
        return self.rule.limits.concurrency

    def rates(self) -> list[Bucket]:
        return [bucket for _, bucket in self.buckets]

    def advance(self, rule: LimitRule, now_ns: int) -> None:
        """Drains until now; then the limits are those of `rule`."""
        for _, bucket in self.buckets:
            bucket.advance(now_ns)
        if rule is not self.rule:
            if rule.limits != self.rule.limits:
                self._change(rule, now_ns)
            self.rule = rule

    def is_idle(self, wall_ns: int) -> bool:
        """Whether a new one would be the same."""
        if self.num_open and self.rule.limits.concurrency is not None:
            return False
        if self.holding.meter is self:
            return False  # what it holds is its own
        for count in self.counts.values():
            count.advance(wall_ns)
            if not count.is_idle():
                return False
        return all(bucket.is_idle() for _, bucket in self.buckets)

    def _change(self, rule: LimitRule, now_ns: int) -> None:
        before, self.buckets = dict(self.buckets), []
        for index, name in enumerate(RATES):
            per_minute = getattr(rule.limits, name)
            if per_minute is not None:
                bucket = before.get(index) or self.holding.bucket(per_minute, now_ns)
                bucket.advance(now_ns, per_minute)
                self.buckets.append((index, bucket))
        self.counts = {
            name: self.counts.get(name) or PeriodCount(quota.period)
            for name, quota in QUOTAS.items()
            if getattr(rule.limits, name) is not None
        }

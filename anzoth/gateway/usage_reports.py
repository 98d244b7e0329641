"""What has a tenant used, and what did that cost, bucket by bucket?

Read from the ledger's roll-ups, never from its rows: a page costs what it shows, however many
requests there were. Buckets are whole minutes, hours or days in UTC. What a request used belongs to
the bucket in which it started, and shows within a second of its end.

Does not know: the shapes of the API, or who may ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from anzoth.config import UsageConfig
from anzoth.db.pool import Connection, Database
from anzoth.db.store import usage_rollup_rows
from anzoth.db.store.usage_rollup_rows import Filters, Rows, UsageSum
from anzoth.errors import Forbidden, InvalidValue
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.usage_retention import kept_since

STEPS_S = {"1m": 60, "1h": 3600, "1d": 86_400}
"""Each width of a bucket."""


@dataclass(slots=True, frozen=True)
class Span:
    """Whole buckets of one width: [start_s, end_s), in Unix time."""

    width: str
    start_s: int
    end_s: int

    @classmethod
    def covering(cls, width: str, start_s: int, end_s: int) -> Span:
        """The buckets that hold any of [start_s, end_s)."""
        step_s = STEPS_S[width]
        return cls(width, start_s // step_s * step_s, -(-end_s // step_s) * step_s)

    @property
    def step_s(self) -> int:
        return STEPS_S[self.width]

    @property
    def buckets(self) -> range:
        """Where each begins."""
        return range(self.start_s, self.end_s, self.step_s)

    def first(self, num_buckets: int, from_s: int | None = None) -> Span:
        """At most so many of them, from the one at `from_s` on."""
        start_s = self.start_s if from_s is None else from_s
        return Span(self.width, start_s, min(self.end_s, start_s + num_buckets * self.step_s))


@dataclass(slots=True, frozen=True)
class KeyUsage:
    """What one key used."""

    today_s: int
    """When the day began, in Unix time."""
    today: UsageSum
    month_s: int
    month: UsageSum


class UsageReports:
    """One per gateway. What reads raises DatabaseDown."""

    def __init__(
        self, database: Database, config: UsageConfig, now_s: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._retention_days = config.minute_retention_days
        self.currency = config.currency
        self.now_s = now_s

    def require_kept(self, span: Span) -> None:
        """Raises InvalidValue for minutes that were deleted: nothing is not what was used then."""
        if span.width != "1m":
            return
        if span.start_s < kept_since(self._now(), self._retention_days).timestamp():
            raise InvalidValue(
                f"Minutes are kept for {self._retention_days} days; use a 'bucket_width' of '1h' "
                "or '1d' for what was before.",
                param="start_time",
            )

    async def usage(
        self,
        tenant: TenantHandle,
        span: Span,
        group_by: Sequence[str],
        endpoints: Sequence[str],
        filters: Filters,
    ) -> Rows:
        """Sums by bucket and group, in order; buckets without use are left out."""
        async with self._database.tenant(tenant) as connection:
            return await usage_rollup_rows.read_usage(
                connection, tenant.id, span.width, *_times(span), group_by, endpoints, filters
            )

    async def costs(
        self, tenant: TenantHandle, span: Span, group_by: Sequence[str], filters: Filters
    ) -> Rows:
        """The same for what it cost, by the day."""
        async with self._database.tenant(tenant) as connection:
            return await usage_rollup_rows.read_costs(
                connection, tenant.id, *_times(span), group_by, filters
            )

    async def since_first_use(self, tenant: TenantHandle, span: Span) -> Span:
        """`span` without the buckets before the tenant's first one."""
        async with self._database.tenant(tenant) as connection:
            oldest = await usage_rollup_rows.oldest_bucket(connection, tenant.id, span.width)
        first_s = span.end_s if oldest is None else int(oldest.timestamp())
        return Span(span.width, max(span.start_s, first_s), span.end_s)

    async def of_key(self, principal: Principal) -> KeyUsage:
        """Today and this month, in UTC. Raises Forbidden for a session: it has no key."""
        today = self._now().replace(hour=0, minute=0, second=0, microsecond=0)
        month = today.replace(day=1)
        tenant, key_id = principal.tenant, principal.key_id
        if key_id is None:
            raise Forbidden("This tells an API key what it used; ask with one.")

        async def since(start: datetime, connection: Connection) -> UsageSum:
            return await usage_rollup_rows.usage_of_key(connection, tenant.id, start, key_id)

        async with self._database.tenant(tenant) as connection:
            return KeyUsage(
                today_s=int(today.timestamp()),
                today=await since(today, connection),
                month_s=int(month.timestamp()),
                month=await since(month, connection),
            )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s(), UTC)


def _times(span: Span) -> tuple[datetime, datetime]:
    return _EPOCH + timedelta(seconds=span.start_s), _EPOCH + timedelta(seconds=span.end_s)


_EPOCH = datetime.fromtimestamp(0, UTC)

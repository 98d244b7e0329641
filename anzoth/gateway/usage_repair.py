"""How are the ledger's sums made those of its rows again?

By tenant, in one transaction each, with an event in its audit log: what was wrong may have been on
a bill. Only sums are changed, never a row. Servers may be running.

Does not know: how a sum came to be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import pool
from anzoth.db.store import tenant_rows, usage_rollup_rows
from anzoth.db.store.usage_rollup_rows import UsageDifference
from anzoth.gateway import audit
from anzoth.gateway.audit import AuditEvent
from anzoth.price import shortest_decimal


@dataclass(slots=True, frozen=True)
class Repaired:
    """What was added to the sums of one tenant."""

    tenant: str
    differences: Sequence[UsageDifference]

    def by_width(self) -> dict[str, int]:
        """How many sums were changed."""
        return dict(Counter(difference.width for difference in self.differences))


async def repair(dsn: str, minutes_since: datetime, *, timeout_s: int) -> list[Repaired]:
    """The tenants of which something was wrong. `timeout_s`: for each. Raises DatabaseError."""
    async with pool.operator(dsn) as connection:
        tenants = await tenant_rows.list_tenants(connection)
    repaired: list[Repaired] = []
    for tenant in tenants:
        async with pool.operator(dsn, timeout_s=timeout_s) as connection:
            differences = await usage_rollup_rows.repair_usage(connection, tenant.id, minutes_since)
            if differences:
                made = Repaired(tenant.name, differences)
                event = AuditEvent(
                    "usage.repaired",
                    audit.operator(),
                    tenant.id,
                    target={"id": tenant.id},
                    details=_details(made),
                )
                await audit.record(connection, event)
                repaired.append(made)
    return repaired


def _details(repaired: Repaired) -> dict[str, object]:
    """How much of what, and when: the sums themselves may be thousands."""
    starts = [difference.bucket_start for difference in repaired.differences]
    days = [difference for difference in repaired.differences if difference.width == "1d"]
    return {
        "num_sums": repaired.by_width(),
        "first_bucket": min(starts).isoformat(),
        "last_bucket": max(starts).isoformat(),
        "requests_by_the_day": sum(day.num_requests for day in days),
        "cost_by_the_day": _signed(sum(day.cost for day in days)),
    }


def _signed(nanos: int) -> str:
    return f"{'-' if nanos < 0 else ''}{shortest_decimal(abs(nanos))}"

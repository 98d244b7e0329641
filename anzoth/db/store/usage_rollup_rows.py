"""What does Anzoth read of the sums of its ledger, and how are they mended?

Does not know: which sums somebody wants, or how a row of the ledger gets into them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anzoth.db import statements
from anzoth.db.pool import Connection

Rows = Sequence[Mapping[str, Any]]
"""As they come from the database: a page may have tens of thousands."""


@dataclass(slots=True, frozen=True)
class Filters:
    """What is summed. None: no condition."""

    project_ids: Sequence[uuid.UUID] | None = None
    user_ids: Sequence[uuid.UUID] | None = None
    key_ids: Sequence[uuid.UUID] | None = None
    models: Sequence[str] | None = None
    line_items: Sequence[str] | None = None
    """Of costs only."""
    batch: bool | None = None


@dataclass(slots=True, frozen=True)
class UsageSum:
    """What was used, of whatever was asked for."""

    num_requests: int
    """Those for which a model computed something."""
    num_refused_requests: int
    """The others."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: int
    """In nano-units of the currency."""


@dataclass(slots=True, frozen=True)
class UsageSummary:
    """One line of an operator's summary."""

    tenant: str
    id: uuid.UUID | None
    """Of the key or the project."""
    name: str | None
    """Of the key, the project, the model, or the day. None by model: requests that met none."""
    num_requests: int
    num_refused_requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: int


@dataclass(slots=True, frozen=True)
class UsageDifference:
    """A cell that is not the sum of its rows: by how much the rows have more."""

    tenant_id: uuid.UUID
    width: str
    bucket_start: datetime
    key_id: uuid.UUID
    project_id: uuid.UUID
    user_id: uuid.UUID | None
    endpoint: str
    model: str | None
    service_tier: str | None
    batch: bool
    num_requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    input_cost: int
    cached_input_cost: int
    output_cost: int

    @property
    def cost(self) -> int:
        return self.input_cost + self.cached_input_cost + self.output_cost


@dataclass(slots=True, frozen=True)
class UsageCounts:
    """How much there is."""

    num_rows: int
    num_cells: int
    num_wrong_rows: int
    """Whose counts cannot be, or whose costs are not those of their prices."""


async def read_usage(
    connection: Connection,
    tenant_id: uuid.UUID,
    width: str,
    since: datetime,
    until: datetime,
    group_by: Sequence[str],
    endpoints: Sequence[str],
    filters: Filters,
) -> Rows:
    """Ordered by bucket; buckets without use are not there."""
    return await connection.fetch(
        statements.load()["usage_buckets"],
        *(tenant_id, width, since, until, group_by, endpoints),
        *(filters.project_ids, filters.user_ids, filters.key_ids, filters.models, filters.batch),
    )


async def read_costs(
    connection: Connection,
    tenant_id: uuid.UUID,
    since: datetime,
    until: datetime,
    group_by: Sequence[str],
    filters: Filters,
) -> Rows:
    """By the day, ordered by it; days without use are not there."""
    return await connection.fetch(
        statements.load()["cost_buckets"],
        *(tenant_id, since, until, group_by),
        *(filters.project_ids, filters.user_ids, filters.key_ids, filters.line_items),
    )


async def oldest_bucket(
    connection: Connection, tenant_id: uuid.UUID, width: str
) -> datetime | None:
    """None: the tenant never used anything."""
    return await connection.fetchval(statements.load()["oldest_bucket"], tenant_id, width)


async def usage_of_key(
    connection: Connection, tenant_id: uuid.UUID, since: datetime, key_id: uuid.UUID
) -> UsageSum:
    """`since`: a midnight in UTC."""
    statement = statements.load()["usage_of_key"]
    return UsageSum(**await connection.fetchrow(statement, tenant_id, since, key_id))


async def summarise_usage(
    connection: Connection, tenant: str | None, since: datetime, by: str
) -> list[UsageSummary]:
    """`tenant`: by name; None: all. `by`: tenant, project, key, model or day."""
    rows = await connection.fetch(statements.load()["summarise_usage"], tenant, since, by)
    return [UsageSummary(**row) for row in rows]


async def delete_outdated_buckets(connection: Connection, before: datetime, limit: int) -> int:
    """How many were deleted, of all tenants."""
    tag = await connection.execute(statements.load()["delete_outdated_buckets"], before, limit)
    return int(tag.rpartition(" ")[2])


async def verify_usage(
    connection: Connection, minutes_since: datetime, limit: int
) -> tuple[UsageCounts, list[UsageDifference]]:
    """Compares every row with every cell; to be called first in its transaction."""
    load = statements.load()
    await connection.execute(load["set_snapshot"])
    counts = await connection.fetchrow(load["count_usage"])
    rows = await connection.fetch(load["usage_differences"], minutes_since, limit, None)
    return UsageCounts(**counts), [UsageDifference(**row) for row in rows]


async def repair_usage(
    connection: Connection, tenant_id: uuid.UUID, minutes_since: datetime
) -> list[UsageDifference]:
    """Makes a tenant's cells the sums of its rows; returns what was added to which.

    Rows may be written meanwhile: whoever writes one adds it to its cells in the same transaction,
    so a difference stays what it is.
    """
    load = statements.load()
    await connection.execute(load["lock_repair"])
    rows = await connection.fetch(load["usage_differences"], minutes_since, None, tenant_id)
    if rows:
        await connection.executemany(load["add_to_cell"], [tuple(row.values()) for row in rows])
        await connection.execute(load["delete_empty_cells"], tenant_id)
    return [UsageDifference(**row) for row in rows]

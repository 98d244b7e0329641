"""What does Anzoth write into the ledger, and read of one request?

Does not know: when, what happens while the database is away, or what a journal is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class UsageRow:
    """One row of the ledger: the names of its fields are the names of the columns."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID
    request_id: str
    started_at: datetime
    key_id: uuid.UUID
    endpoint: str
    model: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str | None
    streamed: bool
    status: int
    error_code: str | None
    ttft_ms: int | None
    duration_ms: int
    end_user: str | None
    metadata: str | None
    """JSON."""
    reasoning_tokens: int = 0
    service_tier: str | None = None
    user_id: uuid.UUID | None = None
    batch: bool = False
    input_price: int | None = None
    """Prices in micro-units of the currency per million tokens; None: the model had none."""
    cached_input_price: int | None = None
    output_price: int | None = None
    input_cost: int = 0
    """Costs in nano-units of the currency."""
    cached_input_cost: int = 0
    output_cost: int = 0
    rule: str | None = None
    refusal: str | None = None
    shadow_rules: tuple[str, ...] = ()
    target: str | None = None
    attempts: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class TracedRow(UsageRow):
    """One of a request for which knowledge bases were searched: a class of its own, so that others
    take no more room in the journal than before."""

    retrieval: str | None = None
    """JSON."""


COLUMNS = (*UsageRow.__slots__, *TracedRow.__slots__)


@dataclass(slots=True, frozen=True)
class RequestRow:
    """What is known of one finished request, without anything its caller said."""

    request_id: str
    started_at: datetime
    project_id: uuid.UUID
    key_id: uuid.UUID
    endpoint: str
    model: str | None
    target: str | None
    attempts: list[str]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str | None
    streamed: bool
    status: int
    error_code: str | None
    rule: str | None
    refusal: str | None
    shadow_rules: list[str]
    ttft_ms: int | None
    duration_ms: int
    retrieval: str | None = None
    """JSON: what was found for it in knowledge bases."""


async def find_request(
    connection: Connection, tenant_id: uuid.UUID, request_id: str, key_id: uuid.UUID | None
) -> RequestRow | None:
    """`key_id`: only if this key sent it. None: whichever key of the tenant."""
    statement = statements.load()["find_request"]
    row = await connection.fetchrow(statement, tenant_id, request_id, key_id)
    return None if row is None else RequestRow(**row)


async def insert_usage(connection: Connection, rows: Iterable[UsageRow]) -> None:
    """Rows of the transaction's tenant. Skips those that are there already.

    Raises asyncpg.DataError for a value that its column cannot hold.
    """
    await connection.execute(statements.load()["stage_usage"])
    try:
        await connection.copy_records_to_table(
            "staged_usage",
            schema_name="pg_temp",
            columns=COLUMNS,
            records=[tuple(getattr(row, name, None) for name in COLUMNS) for row in rows],
        )
    except (
        OverflowError,
        ValueError,
        TypeError,
    ) as error:  # COPY's encoder; the rest has DataError
        raise asyncpg.DataError(f"a usage row cannot be encoded ({type(error).__name__})") from None
    await connection.execute(statements.load()["insert_staged_usage"])


async def ship(connection: Connection, rows: Iterable[UsageRow]) -> None:
    """Rows of any tenants, in a transaction of `Database.journal`.

    Each tenant is named before its rows are inserted, in the order of their ids: several gateways
    that ship at once then never wait for each other in a circle.
    """
    by_tenant: dict[uuid.UUID, list[UsageRow]] = {}
    for row in rows:
        by_tenant.setdefault(row.tenant_id, []).append(row)
    for tenant_id in sorted(by_tenant):
        await connection.execute(statements.load()["set_tenant"], str(tenant_id))
        await insert_usage(connection, by_tenant[tenant_id])


async def find_journal_cursor(
    connection: Connection, writer_id: uuid.UUID
) -> tuple[int, int] | None:
    """Segment and offset. None: nothing of this journal was ever shipped."""
    row = await connection.fetchrow(statements.load()["find_journal_cursor"], writer_id)
    return None if row is None else (row["segment"], row["offset"])


async def set_journal_cursor(
    connection: Connection, writer_id: uuid.UUID, segment: int, offset: int
) -> None:
    await connection.execute(statements.load()["set_journal_cursor"], writer_id, segment, offset)

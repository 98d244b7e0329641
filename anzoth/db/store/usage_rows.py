"""What does Anzoth write into the ledger?

Does not know: when, or what happens while the database is away.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class UsageRow:
    """One row of the ledger, in the order of the statement's parameters."""

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


async def insert_usage(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Skips rows that are there already.

    One statement, whatever their number: its trigger then locks the cells of the roll-ups in one
    order, so that two gateways cannot wait for each other.
    """
    columns = [[getattr(row, name) for row in rows] for name in UsageRow.__slots__]
    await connection.execute(statements.load()["insert_usage"], *columns)

"""What does Anzoth write into the ledger?

Does not know: when, or what happens while the database is away.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
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


async def insert_usage(connection: Connection, rows: Iterable[UsageRow]) -> None:
    """Skips rows that are there already."""
    names = UsageRow.__slots__
    parameters = [tuple(getattr(row, name) for name in names) for row in rows]
    await connection.executemany(statements.load()["insert_usage"], parameters)

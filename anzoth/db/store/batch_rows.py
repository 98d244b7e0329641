"""What does Anzoth read and write of batches when their callers ask for them?

Does not know: how a batch is worked on (see `batch_claim_rows`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import asyncpg
import orjson

from anzoth.db import statements
from anzoth.db.pool import Connection

CHANNEL = "anzoth_batches"
"""Where it is announced that there is something to do."""


@dataclass(slots=True, frozen=True)
class NewBatch:
    """What a batch begins with."""

    id: str
    project_id: uuid.UUID
    key_id: uuid.UUID
    made_from: IPv4Address | IPv6Address | None
    endpoint: str
    input_file_id: str
    metadata: bytes | None = field(repr=False)
    file_expires_after_s: int | None


@dataclass(slots=True, frozen=True)
class BatchRow:
    """A batch."""

    id: str
    endpoint: str
    input_file_id: str
    metadata: bytes | None = field(repr=False)
    status: str
    errors: list[dict[str, Any]] | None
    """As OpenAI has them: JSON."""
    num_requests: int
    num_completed: int
    num_failed: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_file_id: str | None
    error_file_id: str | None
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    cancelling_at: datetime | None
    ended_at: datetime | None


async def try_insert_batch(
    connection: Connection, tenant_id: uuid.UUID, new: NewBatch, window_s: int
) -> BatchRow | None:
    """To be done within `window_s`. None: the tenant was deleted."""
    row = await connection.fetchrow(
        statements.load()["insert_batch"],
        *(tenant_id, new.id, new.project_id, new.key_id, new.made_from, new.endpoint),
        *(new.input_file_id, new.metadata, new.file_expires_after_s, window_s),
    )
    return None if row is None else _batch(row)


async def announce(connection: Connection) -> None:
    """With the commit of this transaction gateways hear that there is something to do."""
    await connection.execute(statements.load()["announce_batches"])


async def num_unfinished(connection: Connection, tenant_id: uuid.UUID) -> int:
    return await connection.fetchval(statements.load()["count_unfinished_batches"], tenant_id)


async def find_batch(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> BatchRow | None:
    row = await connection.fetchrow(statements.load()["find_batch"], tenant_id, project_id, id)
    return None if row is None else _batch(row)


async def list_batches(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    after: BatchRow | None,
    limit: int,
) -> Sequence[BatchRow]:
    """The newest first, behind the one `after`."""
    place = (None, None) if after is None else (after.created_at, after.id)
    rows = await connection.fetch(
        statements.load()["list_batches"], tenant_id, project_id, *place, limit
    )
    return [_batch(row) for row in rows]


async def try_cancel_batch(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> BatchRow | None:
    """None: there is none, or it is too late."""
    row = await connection.fetchrow(statements.load()["cancel_batch"], tenant_id, project_id, id)
    return None if row is None else _batch(row)


def _batch(row: asyncpg.Record) -> BatchRow:
    values = {name: row[name] for name in BatchRow.__slots__}
    if values["errors"] is not None:
        values["errors"] = orjson.loads(values["errors"])
    return BatchRow(**values)

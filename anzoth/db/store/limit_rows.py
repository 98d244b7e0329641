"""What does Anzoth read and write of limits?

Does not know: what a limit means, or how several of them meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class LimitSubject:
    """Whose limits: a tenant's own, or those of one of its projects or keys."""

    tenant_id: uuid.UUID
    project_id: uuid.UUID | None = None
    key_id: uuid.UUID | None = None


@dataclass(slots=True, frozen=True)
class LimitRow:
    """Neither a project nor a key: the tenant's own. None elsewhere: no such limit."""

    project_id: uuid.UUID | None
    key_id: uuid.UUID | None
    model: str | None
    rpm: int | None
    tpm: int | None
    input_tpm: int | None
    output_tpm: int | None
    concurrency: int | None
    tokens_per_day: int | None
    budget_per_day: int | None
    budget_per_month: int | None


@dataclass(slots=True, frozen=True)
class LimitListing:
    """The same as lists show it."""

    project_id: uuid.UUID | None
    key_id: uuid.UUID | None
    project: str | None
    key: str | None
    model: str | None
    rpm: int | None
    tpm: int | None
    input_tpm: int | None
    output_tpm: int | None
    concurrency: int | None
    tokens_per_day: int | None
    budget_per_day: int | None
    budget_per_month: int | None


@dataclass(slots=True, frozen=True)
class Used:
    """What was used of quotas."""

    tokens: int
    cost: int
    """In nano-units of the currency."""


async def limits_of_named_key(connection: Connection) -> list[LimitRow]:
    """In a transaction of `Database.authenticating`."""
    rows = await connection.fetch(statements.load()["limits_of_named_key"])
    return [LimitRow(**row) for row in rows]


async def find_limits(connection: Connection, subject: LimitSubject) -> list[LimitRow]:
    rows = await connection.fetch(
        statements.load()["find_limits"], subject.tenant_id, subject.project_id, subject.key_id
    )
    return [LimitRow(**row) for row in rows]


async def limits_of_keys(
    connection: Connection, tenant_id: uuid.UUID, keys: Iterable[uuid.UUID]
) -> list[LimitRow]:
    rows = await connection.fetch(statements.load()["limits_of_keys"], tenant_id, list(keys))
    return [LimitRow(**row) for row in rows]


async def list_limits(connection: Connection, tenant_id: uuid.UUID) -> list[LimitListing]:
    rows = await connection.fetch(statements.load()["list_limits"], tenant_id)
    return [LimitListing(**row) for row in rows]


async def replace_limits(
    connection: Connection,
    subject: LimitSubject,
    model: str | None,
    values: Sequence[int | None],
) -> None:
    """`values`: the fields of a LimitRow behind `model`, in order. All None: there are none."""
    owner = (subject.tenant_id, subject.project_id, subject.key_id, model)
    await connection.execute(statements.load()["delete_limits"], *owner)
    if any(value is not None for value in values):
        await connection.execute(statements.load()["insert_limits"], *owner, *values)


async def read_used(
    connection: Connection,
    subject: LimitSubject,
    model: str | None,
    begin: datetime,
    end: datetime,
) -> Used:
    """By requests that began within [begin, end), as far as they are in the ledger. `begin`: a
    midnight in UTC."""
    midnight = end.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    row = await connection.fetchrow(
        statements.load()["read_used"],
        *(subject.tenant_id, subject.project_id, subject.key_id, model, begin, midnight, end),
    )
    return Used(**row)

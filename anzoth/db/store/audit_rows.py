"""What does Anzoth read and write of the audit log?

Does not know: which events there are, or how they are chained.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from anzoth.db import statements
from anzoth.db.pool import Connection

INSTALLATION = uuid.UUID(int=0)
"""The chain of what belongs to no tenant."""


@dataclass(slots=True, frozen=True)
class AuditRow:
    """One event, in the order of the statement's parameters."""

    id: uuid.UUID
    tenant_id: uuid.UUID | None
    seq: int
    at: datetime
    type: str
    actor_kind: str
    actor_id: str | None
    actor_ip: str | None
    project_id: uuid.UUID | None
    target: Mapping[str, Any]  # JSON
    details: Mapping[str, Any]
    request_id: str | None
    previous: bytes
    hash: bytes

    @property
    def chain(self) -> uuid.UUID:
        return chain_of(self.tenant_id)


@dataclass(slots=True, frozen=True)
class AuditHead:
    """A signature of one event, and so of all before it."""

    tenant_id: uuid.UUID | None
    seq: int
    hash: bytes
    signed_at: datetime
    public_key: bytes
    signature: bytes


@dataclass(slots=True, frozen=True)
class ChainHead:
    """Where a chain ends. No seq: it has not begun."""

    now: datetime
    seq: int | None
    hash: bytes | None
    at: datetime | None


@dataclass(slots=True, frozen=True)
class UnsignedHead:
    """An end of a chain that waits for a signature."""

    tenant_id: uuid.UUID | None
    seq: int
    hash: bytes


@dataclass(slots=True, frozen=True)
class AuditFilter:
    """Which events of a tenant are meant; None: whichever."""

    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""
    project_ids: Sequence[uuid.UUID] | None = None
    types: Sequence[str] | None = None
    actor_ids: Sequence[str] | None = None
    resource_ids: Sequence[str] | None = None
    before_seq: int | None = None
    after_seq: int | None = None


def chain_of(tenant_id: uuid.UUID | None) -> uuid.UUID:
    return INSTALLATION if tenant_id is None else tenant_id


async def open_chain(connection: Connection, chain: uuid.UUID) -> ChainHead:
    """Locks the chain until the transaction ends, and allows appending until `close_chain`."""
    await connection.execute(statements.load()["open_audit_chain"], str(chain))
    return ChainHead(**await connection.fetchrow(statements.load()["audit_chain_head"], chain))


async def close_chain(connection: Connection) -> None:
    await connection.execute(statements.load()["close_audit_chain"])


async def insert_events(connection: Connection, rows: Iterable[AuditRow]) -> None:
    await connection.executemany(
        statements.load()["insert_audit_event"], [_parameters(row) for row in rows]
    )


async def list_events(
    connection: Connection,
    chain: uuid.UUID | None,
    since: datetime | None,
    types: Sequence[str] | None,
    limit: int,
) -> list[AuditRow]:
    """The latest first."""
    statement = statements.load()["list_audit_events"]
    return [_row(row) for row in await connection.fetch(statement, chain, since, types, limit)]


async def page_of_events(
    connection: Connection, tenant_id: uuid.UUID, wanted: AuditFilter, limit: int
) -> list[AuditRow]:
    """The latest first; where `after_seq` is set, the ones nearest to it."""
    parameters = [getattr(wanted, name) for name in AuditFilter.__slots__]
    rows = await connection.fetch(
        statements.load()["page_of_audit_events"], tenant_id, *parameters, limit
    )
    found = [_row(row) for row in rows]
    return found if wanted.after_seq is None else found[::-1]


async def find_event(connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID) -> int | None:
    """Its place in the tenant's chain."""
    return await connection.fetchval(statements.load()["find_audit_event"], tenant_id, id)


async def tool_calls_of_request(
    connection: Connection,
    tenant_id: uuid.UUID,
    request_id: str,
    key_id: uuid.UUID,
    since: datetime,
) -> list[AuditRow]:
    """What was written of calls of tools for it, in this order."""
    statement = statements.load()["tool_calls_of_request"]
    rows = await connection.fetch(statement, tenant_id, request_id, str(key_id), since)
    return [_row(row) for row in rows]


async def all_events(connection: Connection, chain: uuid.UUID | None) -> AsyncIterator[AuditRow]:
    """Chain by chain and in order, as they are at the first of them. Holds few at a time."""
    cursor = connection.cursor(statements.load()["all_audit_events"], chain, prefetch=500)
    async for row in cursor:
        yield _row(row)


async def unsigned_heads(connection: Connection, signed_before: datetime) -> list[UnsignedHead]:
    rows = await connection.fetch(statements.load()["unsigned_audit_heads"], signed_before)
    return [UnsignedHead(**row) for row in rows]


async def insert_heads(connection: Connection, heads: Iterable[AuditHead]) -> None:
    """Skips those that are there already."""
    names = AuditHead.__slots__
    parameters = [tuple(getattr(head, name) for name in names) for head in heads]
    await connection.executemany(statements.load()["insert_audit_head"], parameters)


async def list_heads(connection: Connection, chain: uuid.UUID | None) -> list[AuditHead]:
    rows = await connection.fetch(statements.load()["list_audit_heads"], chain)
    return [AuditHead(**row) for row in rows]


def _parameters(row: AuditRow) -> list[Any]:
    values = {name: getattr(row, name) for name in AuditRow.__slots__}
    for name in ("target", "details"):
        values[name] = orjson.dumps(values[name]).decode()
    return list(values.values())


def _row(record: Mapping[str, Any]) -> AuditRow:
    values = dict(record)
    for name in ("target", "details"):
        values[name] = orjson.loads(values[name])
    return AuditRow(**values)

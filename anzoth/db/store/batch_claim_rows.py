"""What does Anzoth read and write of batches while it works on them?

Does not know: what a request asks, or what it was answered.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import orjson

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class BatchClaim:
    """A batch that one gateway, and nobody else, works on for a while."""

    tenant_id: uuid.UUID
    tenant_name: str
    is_tenant_deleted: bool
    id: str
    project_id: uuid.UUID
    key_id: uuid.UUID
    made_from: IPv4Address | IPv6Address | None
    endpoint: str
    input_file_id: str
    file_expires_after_s: int | None
    status: str
    output_file_id: str | None
    error_file_id: str | None
    gateway: uuid.UUID
    attempts: int
    """That failed because of a fault of ours."""
    left_s: float
    """Until it expires, from when it was claimed; may be negative."""


@dataclass(slots=True, frozen=True)
class AnswerRow:
    """What a line was answered, and which tokens that took."""

    line: int
    is_error: bool
    content: bytes = field(repr=False)
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


# --- in a transaction that sees what is open -----------------------------------------------------


async def next_tenant(connection: Connection, after: uuid.UUID) -> uuid.UUID | None:
    """The first behind `after` for which there is something to do."""
    return await connection.fetchval(statements.load()["next_tenant_of_batch"], after)


async def tenants_of_claims(connection: Connection, gateway: uuid.UUID) -> list[uuid.UUID]:
    rows = await connection.fetch(statements.load()["tenants_of_claimed_batches"], gateway)
    return [row["tenant_id"] for row in rows]


# --- in a transaction of the tenant --------------------------------------------------------------


async def try_claim(
    connection: Connection,
    tenant_id: uuid.UUID,
    gateway: uuid.UUID,
    lease_s: float,
    running: Collection[str],
) -> BatchClaim | None:
    """None: there is nothing to do, but for those `running`."""
    row = await connection.fetchrow(
        statements.load()["claim_batch"], tenant_id, gateway, lease_s, list(running)
    )
    return None if row is None else BatchClaim(**row)


async def drop_claims(
    connection: Connection, tenant_id: uuid.UUID, gateway: uuid.UUID, running: Collection[str]
) -> None:
    """Its batches may be claimed again at once, but for those `running`."""
    statement = statements.load()["drop_claimed_batches"]
    await connection.execute(statement, tenant_id, gateway, list(running))


async def hold(connection: Connection, claim: BatchClaim, lease_s: float) -> str | None:
    """The batch's status, which stays as it is until this transaction ends; the claim lasts until
    `lease_s` from now. None: it is lost."""
    return await connection.fetchval(
        statements.load()["hold_batch"], claim.tenant_id, claim.id, claim.gateway, lease_s
    )


async def let_go(
    connection: Connection, claim: BatchClaim, pause_s: float, *, is_attempt: bool
) -> None:
    await connection.execute(
        statements.load()["let_go_of_batch"],
        *(claim.tenant_id, claim.id, claim.gateway, pause_s, int(is_attempt)),
    )


async def start(connection: Connection, claim: BatchClaim, num_requests: int) -> str:
    """The batch's status from now on: in progress, unless it is to be cancelled."""
    statement = statements.load()["start_batch"]
    return await connection.fetchval(statement, claim.tenant_id, claim.id, num_requests)


async def finalize(
    connection: Connection,
    claim: BatchClaim,
    ends_as: str,
    errors: Sequence[Mapping[str, Any]] | None,
) -> None:
    statement = statements.load()["finalize_batch"]
    await connection.execute(statement, claim.tenant_id, claim.id, ends_as, _json(errors))


async def end(
    connection: Connection,
    claim: BatchClaim,
    status: str | None,
    errors: Sequence[Mapping[str, Any]] | None,
) -> None:
    """`status=None`: as it was finalized."""
    statement = statements.load()["end_batch"]
    await connection.execute(statement, claim.tenant_id, claim.id, status, _json(errors))


async def insert_answers(
    connection: Connection, claim: BatchClaim, answers: Sequence[AnswerRow]
) -> None:
    """Those of lines that have none; they are counted."""
    await connection.execute(
        statements.load()["insert_batch_answers"],
        *(claim.tenant_id, claim.id),
        *([getattr(answer, name) for answer in answers] for name in AnswerRow.__slots__),
    )


async def answered_lines(connection: Connection, claim: BatchClaim) -> set[int]:
    rows = await connection.fetch(statements.load()["answered_lines"], claim.tenant_id, claim.id)
    return {row["line"] for row in rows}


async def answers_behind(
    connection: Connection, claim: BatchClaim, line: int, num_bytes: int, *, are_errors: bool
) -> Sequence[tuple[int, bytes]]:
    """The next lines' sealed answers: at least one, and about `num_bytes`. Empty: there are no
    more."""
    statement = statements.load()["batch_answers_behind"]
    values = (claim.tenant_id, claim.id, are_errors, line, num_bytes)
    return [(row["line"], row["content"]) for row in await connection.fetch(statement, *values)]


async def set_file(
    connection: Connection, claim: BatchClaim, file_id: str, *, is_of_errors: bool
) -> None:
    statement = statements.load()["set_batch_file"]
    await connection.execute(statement, claim.tenant_id, claim.id, is_of_errors, file_id)


async def delete_answers(connection: Connection, claim: BatchClaim, limit: int) -> int:
    """How many were deleted."""
    statement = statements.load()["delete_batch_answers"]
    status = await connection.execute(statement, claim.tenant_id, claim.id, limit)
    return int(status.rpartition(" ")[2])


async def close(connection: Connection, claim: BatchClaim) -> None:
    statement = statements.load()["close_batch"]
    await connection.execute(statement, claim.tenant_id, claim.id, claim.is_tenant_deleted)


def _json(errors: Sequence[Mapping[str, Any]] | None) -> str | None:
    return None if errors is None else orjson.dumps(errors).decode()

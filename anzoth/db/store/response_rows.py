"""What does Anzoth read and write of responses that are kept?

Does not know: what is in one, or how it is encrypted.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class ResponseRow:
    content: bytes = field(repr=False)
    """Sealed."""
    is_running: bool
    is_begun: bool
    is_lost: bool
    """It ran, and nobody makes it any more."""


async def try_insert_response(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    id: str,
    *,
    content: bytes,
    item_ids: Sequence[str],
    kept_days: int,
    running_s: float | None = None,
) -> bool:
    """With the items that came into being in it. `running_s`: for how long it is claimed by whoever
    makes it; None: it is made. False: the tenant was deleted."""
    queries = statements.load()
    made = await connection.fetchval(
        queries["insert_response"], tenant_id, id, project_id, content, kept_days, running_s
    )
    if made is None:
        return False
    await connection.execute(queries["insert_response_items"], tenant_id, id, list(item_ids))
    return True


async def num_bytes(connection: Connection, tenant_id: uuid.UUID) -> int:
    """Of all responses of the tenant."""
    return await connection.fetchval(statements.load()["response_bytes"], tenant_id) or 0


async def forget_oldest(connection: Connection, tenant_id: uuid.UUID, num_bytes: int) -> None:
    """At least so many bytes of them."""
    await connection.execute(statements.load()["forget_oldest_responses"], tenant_id, num_bytes)


async def find_response(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> ResponseRow | None:
    row = await connection.fetchrow(statements.load()["find_response"], tenant_id, project_id, id)
    if row is None:
        return None
    return ResponseRow(row["content"], row["is_running"], row["is_begun"], bool(row["is_lost"]))


async def renew_responses(
    connection: Connection,
    tenant_id: uuid.UUID,
    ids: Collection[str],
    begun: Collection[str],
    running_s: float,
) -> set[str]:
    """Those that still run. `begun`: of which there is something."""
    rows = await connection.fetch(
        statements.load()["renew_responses"], tenant_id, list(ids), list(begun), running_s
    )
    return {row["id"] for row in rows}


async def try_end_running(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> bool:
    """It is gone then, until what it came to is inserted. False: it does not run (any more)."""
    ended = await connection.fetchval(
        statements.load()["end_running_response"], tenant_id, project_id, id
    )
    return ended is not None


async def find_births(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, item_ids: Sequence[str]
) -> list[str]:
    """The responses in which any of these items came into being."""
    rows = await connection.fetch(
        statements.load()["find_births"], tenant_id, project_id, list(item_ids)
    )
    return [row["response_id"] for row in rows]


async def delete_response(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> bool:
    """False when there is none."""
    deleted = await connection.fetchval(
        statements.load()["delete_response"], tenant_id, project_id, id
    )
    return deleted is not None


async def expire_responses_of_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    """They are removed soon (see gateway.stored_responses)."""
    await connection.execute(statements.load()["expire_responses_of_tenant"], tenant_id)


async def outdated_responses(connection: Connection, limit: int) -> dict[uuid.UUID, list[str]]:
    """Ids of some that have expired, by their tenant."""
    found: dict[uuid.UUID, list[str]] = {}
    for row in await connection.fetch(statements.load()["outdated_responses"], limit):
        found.setdefault(row["tenant_id"], []).append(row["id"])
    return found


async def forget_responses(
    connection: Connection, tenant_id: uuid.UUID, ids: Sequence[str]
) -> None:
    await connection.execute(statements.load()["forget_responses"], tenant_id, list(ids))

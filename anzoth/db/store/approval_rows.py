"""What does Anzoth read and write of approvals that were used?

Does not know: what was approved, or by whom.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from anzoth.db import statements
from anzoth.db.pool import Connection


async def try_use(connection: Connection, tenant_id: uuid.UUID, id: str) -> bool:
    """It is used once this transaction is committed. `id`: of the request for approval. False: it
    was used before."""
    used = await connection.fetchval(statements.load()["use_approval"], tenant_id, id)
    return used is not None


async def outdated_approvals(
    connection: Connection, limit: int, kept_days: int
) -> dict[uuid.UUID, list[str]]:
    """Ids of some that were used so long ago, by their tenant."""
    found: dict[uuid.UUID, list[str]] = {}
    for row in await connection.fetch(statements.load()["outdated_approvals"], limit, kept_days):
        found.setdefault(row["tenant_id"], []).append(row["id"])
    return found


async def forget_approvals(
    connection: Connection, tenant_id: uuid.UUID, ids: Sequence[str]
) -> None:
    await connection.execute(statements.load()["forget_approvals"], tenant_id, list(ids))

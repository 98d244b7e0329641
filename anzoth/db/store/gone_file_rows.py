"""What does Anzoth read of the files that are not searched any more?

Does not know: how they went, or who has to hear of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class GoneFile:
    """One, of whatever tenant. It may have gone several times, or be back."""

    number: int
    """Of its going."""
    tenant_id: uuid.UUID
    file_id: str


async def gone_files(
    connection: Connection, since: datetime | None, overlap_s: float
) -> tuple[datetime, Sequence[GoneFile]]:
    """The database's time, and those that went from `overlap_s` before `since` on; None: all."""
    rows = await connection.fetch(statements.load()["gone_files"], since, overlap_s)
    gone = [
        GoneFile(row["number"], row["tenant_id"], row["file_id"])
        for row in rows
        if row["number"] is not None
    ]
    return rows[0]["now"], gone


async def forget_gone_files(connection: Connection, remembered_s: float) -> None:
    await connection.execute(statements.load()["forget_gone_files"], remembered_s)

"""What does Anzoth read and write of the shares of limits?

All functions are for transactions of `Database.sharing`.

Does not know: what a share is for, or who should have which.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass

from anzoth.db import statements
from anzoth.db.pool import Connection

_LOCK = 0x73686172  # "shar"
_TURN_S = 5


@dataclass(slots=True, frozen=True)
class GatewayRow:
    """One gateway, and the share that it has of rules without a row."""

    id: uuid.UUID
    beat: int
    share: int
    version: int
    joined: int


@dataclass(slots=True, frozen=True)
class ShareRow:
    """One rule. The last four fields are of the same length: one element for each holder."""

    subject: uuid.UUID
    model: str | None
    version: int
    credit: int
    holders: list[uuid.UUID]
    shares: list[int]
    needs: list[int]
    leasts: list[int]


@dataclass(slots=True, frozen=True)
class CountRow:
    """What one process of a gateway has counted of a quota in a period."""

    subject: uuid.UUID
    model: str | None
    quota: str
    gateway: uuid.UUID
    began: int
    begin_ns: int
    used: int


async def lock(connection: Connection) -> tuple[int, int]:
    """From here on nobody else exchanges. A version larger than any before, and whose turn it is:
    a number that grows with time."""
    await connection.execute(statements.load()["lock_shares"], _LOCK)
    row = await connection.fetchrow(statements.load()["next_share_version"], _TURN_S)
    return row["version"], row["turn"]


async def list_gateways(connection: Connection) -> list[GatewayRow]:
    rows = await connection.fetch(statements.load()["list_gateways"])
    return [GatewayRow(**row) for row in rows]


async def find_shares(
    connection: Connection,
    changed_after: int,
    names: Collection[tuple[uuid.UUID, str | None]],
    holders: Collection[uuid.UUID],
) -> list[ShareRow]:
    """Rules that changed after this version, that have these names, or that some of these hold."""
    rows = await connection.fetch(
        statements.load()["find_shares"],
        changed_after,
        [subject for subject, _ in names],
        [model for _, model in names],
        holders,
    )
    return [ShareRow(**row) for row in rows]


async def find_counts(connection: Connection, changed_after: int) -> list[CountRow]:
    rows = await connection.fetch(statements.load()["find_counts"], changed_after)
    return [CountRow(**row) for row in rows]


async def write_counts(connection: Connection, counts: Iterable[CountRow], version: int) -> None:
    if rows := [(*astuple(row), version) for row in counts]:
        await connection.executemany(statements.load()["write_counts"], rows)


async def write(
    connection: Connection,
    gateway: GatewayRow | None,
    gone: Collection[uuid.UUID],
    shares: Iterable[ShareRow],
) -> None:
    """`gone`: gateways that are there no more."""
    if gone:
        await connection.execute(statements.load()["delete_gateways"], gone)
    if gateway is not None:
        await connection.execute(statements.load()["write_gateway"], *astuple(gateway))
    if rows := [astuple(row) for row in shares]:
        await connection.executemany(statements.load()["write_shares"], rows)


async def announce(connection: Connection, gateway: uuid.UUID) -> None:
    """When the transaction commits."""
    await connection.execute(statements.load()["announce_shares"], str(gateway))

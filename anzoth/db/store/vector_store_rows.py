"""What does Anzoth read and write of vector stores?

Does not know: what their sealed details say, or how they are searched.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection

Place = tuple[datetime, str]
"""In a list: time and id."""


@dataclass(slots=True, frozen=True)
class Between:
    """Which part of a list is meant, and from which end it is read."""

    low: Place | None = None
    high: Place | None = None
    is_ascending: bool = False


@dataclass(slots=True, frozen=True)
class StoreRow:
    """A store that is there. `details` are sealed."""

    id: str
    details: bytes = field(repr=False)
    model: str
    created_at: datetime
    last_active_at: datetime
    expires_after_days: int | None
    expires_at: datetime | None
    is_expired: bool


@dataclass(slots=True, frozen=True)
class FileSums:
    """Of the files in a store, or in a batch."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    usage_bytes: int = 0

    @property
    def total(self) -> int:
        return self.in_progress + self.completed + self.failed + self.cancelled


@dataclass(slots=True, frozen=True)
class NewStore:
    """What a store begins as."""

    id: str
    project_id: uuid.UUID
    details: bytes = field(repr=False)
    model: str
    dimensions: int
    analyzer: str
    expires_after_days: int | None
    vector_space: str | None
    """Of its model."""


@dataclass(slots=True, frozen=True)
class OutdatedStore:
    """One that is deleted or expired, of whatever tenant."""

    tenant_id: uuid.UUID
    id: str
    is_deleted: bool
    is_empty: bool


async def lock_stores_of_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    """Serialises transactions that decide by which stores a tenant has. Before every other lock."""
    await connection.execute(statements.load()["lock_stores_of_tenant"], tenant_id)


async def count_stores(connection: Connection, tenant_id: uuid.UUID) -> int:
    return await connection.fetchval(statements.load()["count_stores"], tenant_id)


async def try_insert_store(connection: Connection, tenant_id: uuid.UUID, new: NewStore) -> bool:
    """False: the tenant was deleted."""
    made = await connection.fetchval(
        statements.load()["insert_store"],
        *(tenant_id, new.id, new.project_id, new.details, new.model, new.dimensions),
        *(new.analyzer, new.expires_after_days, new.vector_space),
    )
    return made is not None


async def find_store(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> StoreRow | None:
    row = await connection.fetchrow(statements.load()["find_store"], tenant_id, project_id, id)
    return None if row is None else StoreRow(**row)


async def find_place(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    id: str,
    only: Collection[str] | None,
) -> datetime | None:
    """Where a list goes on after this store, also if it was just deleted. `only`: as there."""
    if only is not None and id not in only:
        return None
    statement = statements.load()["store_place"]
    return await connection.fetchval(statement, tenant_id, project_id, id)


async def list_stores(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    between: Between,
    limit: int,
    only: Collection[str] | None,
) -> list[StoreRow]:
    """`only`: of these ids; None: all."""
    name = "list_stores_up" if between.is_ascending else "list_stores_down"
    rows = await connection.fetch(
        statements.load()[name],
        *(tenant_id, project_id, *(between.low or (None, None)), *(between.high or (None, None))),
        limit,
        None if only is None else list(only),
    )
    return [StoreRow(**row) for row in rows]


async def sum_files(
    connection: Connection, tenant_id: uuid.UUID, ids: Sequence[str]
) -> dict[str, FileSums]:
    """By store; one without files has none."""
    rows = await connection.fetch(statements.load()["sum_files_of_stores"], tenant_id, ids)
    return {row["store_id"]: FileSums(**{k: row[k] for k in FileSums.__slots__}) for row in rows}


async def is_expired(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    id: str,
    *,
    will_change: bool = False,
) -> bool | None:
    """None: there is no such store. `will_change`: until the end of the transaction nobody else
    changes it or what is in it."""
    statement = statements.load()["lock_store" if will_change else "store_state"]
    return await connection.fetchval(statement, tenant_id, project_id, id)


async def update_store(
    connection: Connection,
    tenant_id: uuid.UUID,
    id: str,
    details: bytes,
    *,
    sets_expiry: bool,
    expires_after_days: int | None,
) -> None:
    """`sets_expiry`: `expires_after_days` counts, from now."""
    await connection.execute(
        statements.load()["update_store"], tenant_id, id, details, sets_expiry, expires_after_days
    )


async def touch_store(connection: Connection, tenant_id: uuid.UUID, id: str) -> None:
    await connection.execute(statements.load()["touch_store"], tenant_id, id)


async def take_file_numbers(
    connection: Connection, tenant_id: uuid.UUID, id: str, how_many: int
) -> int:
    """The last of the new ones."""
    statement = statements.load()["take_file_numbers"]
    return await connection.fetchval(statement, tenant_id, id, how_many)


async def next_change(connection: Connection, tenant_id: uuid.UUID, id: str) -> int:
    """The number of a change of what is searched in it."""
    return await connection.fetchval(statements.load()["next_change"], tenant_id, id)


async def delete_store(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> bool:
    """False when there is none."""
    statement = statements.load()["delete_store"]
    return await connection.fetchval(statement, tenant_id, project_id, id) is not None


async def delete_stores_of_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    await connection.execute(statements.load()["delete_stores_of_tenant"], tenant_id)


async def outdated_stores(
    connection: Connection, remembered_s: int, limit: int
) -> list[OutdatedStore]:
    """Of all tenants: deleted or expired and not yet empty, or deleted `remembered_s` ago."""
    rows = await connection.fetch(statements.load()["outdated_stores"], remembered_s, limit)
    return [OutdatedStore(**row) for row in rows]


async def ended_stores(connection: Connection, last_s: float | None) -> list[tuple[uuid.UUID, str]]:
    """Tenants and ids of those that were deleted or expired in the `last_s`; None: ever."""
    rows = await connection.fetch(statements.load()["ended_stores"], last_s)
    return [(row["tenant_id"], row["id"]) for row in rows]


async def delete_chunks(connection: Connection, tenant_id: uuid.UUID, id: str, limit: int) -> int:
    """How many were deleted."""
    statement = statements.load()["delete_chunks_of_store"]
    return _count(await connection.execute(statement, tenant_id, id, limit))


async def delete_files(connection: Connection, tenant_id: uuid.UUID, id: str, limit: int) -> int:
    """Out of the store; how many it were."""
    statement = statements.load()["delete_files_of_store"]
    return _count(await connection.execute(statement, tenant_id, id, limit))


async def set_empty(connection: Connection, tenant_id: uuid.UUID, id: str) -> bool:
    """False when it is not, or was said to be before."""
    return await connection.fetchval(statements.load()["store_is_empty"], tenant_id, id) is not None


async def forget_store(
    connection: Connection, tenant_id: uuid.UUID, id: str, remembered_s: int
) -> bool:
    """False when it was not deleted that long ago, or is forgotten."""
    statement = statements.load()["forget_store"]
    return await connection.fetchval(statement, tenant_id, id, remembered_s) is not None


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])

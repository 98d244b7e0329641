"""What does Anzoth read and write of conversations?

Does not know: what an item says, or how it is encrypted.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class ConversationRow:
    """A conversation that is there. `metadata` are sealed."""

    id: str
    metadata: bytes = field(repr=False)
    knowledge_bases: Sequence[str]
    last_position: int
    bytes: int
    created_at: datetime


@dataclass(slots=True, frozen=True)
class ItemRow:
    """An item that is there, sealed."""

    id: str
    content: bytes = field(repr=False)


async def try_insert_conversation(
    connection: Connection,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    id: str,
    *,
    metadata: bytes,
    num_bytes: int,
    kept_days: int,
) -> ConversationRow | None:
    """None: the tenant was deleted."""
    row = await connection.fetchrow(
        statements.load()["insert_conversation"],
        *(tenant_id, id, project_id, metadata, num_bytes, kept_days),
    )
    return None if row is None else ConversationRow(**row)


async def find_conversation(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> ConversationRow | None:
    statement = statements.load()["find_conversation"]
    row = await connection.fetchrow(statement, tenant_id, project_id, id)
    return None if row is None else ConversationRow(**row)


async def lock_conversation(
    connection: Connection, tenant_id: uuid.UUID, project_id: uuid.UUID, id: str
) -> ConversationRow | None:
    """Nobody else changes it until the transaction ends."""
    statement = statements.load()["lock_conversation"]
    row = await connection.fetchrow(statement, tenant_id, project_id, id)
    return None if row is None else ConversationRow(**row)


async def update_conversation(
    connection: Connection, tenant_id: uuid.UUID, changed: ConversationRow, kept_days: int
) -> None:
    """One that is locked; it is kept for so many days from now on."""
    await connection.execute(
        statements.load()["update_conversation"],
        *(tenant_id, changed.id, changed.metadata, list(changed.knowledge_bases)),
        *(changed.last_position, changed.bytes, kept_days),
    )


async def delete_conversation(connection: Connection, tenant_id: uuid.UUID, id: str) -> None:
    """One that is locked."""
    await connection.execute(statements.load()["delete_conversation"], tenant_id, id)


async def insert_items(
    connection: Connection,
    tenant_id: uuid.UUID,
    conversation_id: str,
    last_position: int,
    items: Mapping[str, bytes],
) -> None:
    """Behind `last_position`; `items`: what is sealed, by id."""
    await connection.execute(
        statements.load()["insert_conversation_items"],
        *(tenant_id, conversation_id, last_position, list(items), list(items.values())),
    )


async def empty_item(
    connection: Connection, tenant_id: uuid.UUID, conversation_id: str, id: str
) -> None:
    """A list can go on from where it was."""
    statement = statements.load()["empty_conversation_item"]
    await connection.execute(statement, tenant_id, conversation_id, id)


async def forget_empty_items(
    connection: Connection, tenant_id: uuid.UUID, conversation_id: str, ids: Sequence[str]
) -> int:
    """How many of these there were."""
    statement = statements.load()["forget_empty_items"]
    return len(await connection.fetch(statement, tenant_id, conversation_id, list(ids)))


async def present_items(
    connection: Connection, tenant_id: uuid.UUID, conversation_id: str, ids: Sequence[str]
) -> set[str]:
    statement = statements.load()["present_conversation_items"]
    rows = await connection.fetch(statement, tenant_id, conversation_id, list(ids))
    return {row["id"] for row in rows}


async def find_item(
    connection: Connection, tenant_id: uuid.UUID, conversation_id: str, last_position: int, id: str
) -> bytes | None:
    """The sealed content of one of its first items."""
    statement = statements.load()["find_conversation_item"]
    return await connection.fetchval(statement, tenant_id, conversation_id, last_position, id)


async def find_place(
    connection: Connection, tenant_id: uuid.UUID, conversation_id: str, id: str
) -> int | None:
    """Where a list goes on after this item, also if it was deleted."""
    statement = statements.load()["conversation_item_place"]
    return await connection.fetchval(statement, tenant_id, conversation_id, id)


async def list_items(
    connection: Connection,
    tenant_id: uuid.UUID,
    conversation_id: str,
    last_position: int,
    low: int | None = None,
    high: int | None = None,
    is_ascending: bool = True,
    limit: int | None = None,
) -> list[ItemRow]:
    """Of its first items those between two positions."""
    name = "list_conversation_items_up" if is_ascending else "list_conversation_items_down"
    rows = await connection.fetch(
        statements.load()[name], tenant_id, conversation_id, last_position, low, high, limit
    )
    return [ItemRow(**row) for row in rows]


async def expire_conversations_of_tenant(connection: Connection, tenant_id: uuid.UUID) -> None:
    """They are removed soon (see gateway.conversations)."""
    await connection.execute(statements.load()["expire_conversations_of_tenant"], tenant_id)


async def outdated_conversations(connection: Connection, limit: int) -> dict[uuid.UUID, list[str]]:
    """Ids of some that have expired, by their tenant."""
    found: dict[uuid.UUID, list[str]] = {}
    for row in await connection.fetch(statements.load()["outdated_conversations"], limit):
        found.setdefault(row["tenant_id"], []).append(row["id"])
    return found


async def forget_conversations(
    connection: Connection, tenant_id: uuid.UUID, ids: Sequence[str]
) -> None:
    await connection.execute(statements.load()["forget_conversations"], tenant_id, list(ids))

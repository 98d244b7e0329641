"""What does Anzoth read and write of tool servers, and of what they say that they can do?

Does not know: what a definition says, or what credentials are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from anzoth.db import statements
from anzoth.db.pool import Connection

ToolState = Literal["approved", "pending", "quarantined"]


@dataclass(slots=True, frozen=True)
class ServerRow:
    """One tool server."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    label: str
    kind: str
    url: str | None
    command: str | None
    method: str | None
    approval: str
    taint: str
    timeout_ms: int
    max_result_bytes: int
    calls_per_minute: int | None
    has_credentials: bool
    created_at: datetime
    updated_at: datetime
    listed_at: datetime | None
    note: str | None


@dataclass(slots=True, frozen=True)
class NewServer:
    """A tool server to be stored, in the order of the statement's parameters."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    label: str
    kind: str
    url: str | None
    command: str | None
    method: str | None
    approval: str
    taint: str
    timeout_ms: int
    max_result_bytes: int
    calls_per_minute: int | None
    credentials: bytes | None = field(repr=False)  # sealed


@dataclass(slots=True, frozen=True)
class ServerRules:
    """What of a tool server can change, in the order of the statement's parameters."""

    approval: str
    taint: str
    timeout_ms: int
    max_result_bytes: int
    calls_per_minute: int | None


@dataclass(slots=True, frozen=True)
class Pin:
    """One definition, by its digest."""

    digest: bytes
    definition: bytes = field(repr=False)  # JSON


@dataclass(slots=True, frozen=True)
class ToolRow:
    """What is pinned of one tool."""

    server_id: uuid.UUID
    name: str
    state: ToolState
    pin: Pin
    changed: Pin | None
    """Of a quarantined one: what its server says instead."""
    first_seen_at: datetime
    approved_at: datetime | None

    @property
    def said(self) -> Pin:
        """What its server said last."""
        return self.changed or self.pin


async def lock_servers(connection: Connection, tenant_id: uuid.UUID) -> None:
    """Serialises transactions that decide by which servers a tenant has. Before every other
    lock."""
    await connection.execute(statements.load()["lock_tool_servers"], tenant_id)


async def count_servers(connection: Connection, tenant_id: uuid.UUID) -> int:
    return await connection.fetchval(statements.load()["count_tool_servers"], tenant_id)


async def try_insert_server(connection: Connection, new: NewServer) -> bool:
    """False when the tenant has one of this label, or was deleted."""
    values = [getattr(new, name) for name in NewServer.__slots__]
    made = await connection.fetchval(statements.load()["insert_tool_server"], *values)
    return made is not None


async def list_servers(connection: Connection, tenant_id: uuid.UUID) -> list[ServerRow]:
    rows = await connection.fetch(statements.load()["list_tool_servers"], tenant_id)
    return [ServerRow(**row) for row in rows]


async def lock_server(connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID) -> bool:
    """False when there is none of this id."""
    statement = statements.load()["lock_tool_server"]
    return await connection.fetchval(statement, tenant_id, id) is not None


async def update_server(
    connection: Connection,
    tenant_id: uuid.UUID,
    id: uuid.UUID,
    rules: ServerRules,
    *,
    sets_credentials: bool = False,
    credentials: bytes | None = None,
) -> None:
    values = [getattr(rules, name) for name in ServerRules.__slots__]
    await connection.execute(
        statements.load()["update_tool_server"],
        *(tenant_id, id, *values, credentials, sets_credentials),
    )


async def note_server(
    connection: Connection,
    tenant_id: uuid.UUID,
    id: uuid.UUID,
    note: str | None,
    *,
    is_listed: bool,
) -> None:
    """`is_listed`: it said just now what it can do."""
    await connection.execute(statements.load()["note_tool_server"], tenant_id, id, note, is_listed)


async def find_credentials(
    connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID
) -> bytes | None:
    """Sealed. None: there are none, or no such server."""
    return await connection.fetchval(statements.load()["find_tool_credentials"], tenant_id, id)


async def delete_server(connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID) -> str | None:
    """Its label, with all that was pinned of it. None when there is none of this id."""
    return await connection.fetchval(statements.load()["delete_tool_server"], tenant_id, id)


async def delete_servers(connection: Connection, tenant_id: uuid.UUID) -> None:
    await connection.execute(statements.load()["delete_tool_servers"], tenant_id)


async def list_tools(connection: Connection, tenant_id: uuid.UUID) -> list[ToolRow]:
    """Of all servers, each one's together."""
    return list(map(_tool, await connection.fetch(statements.load()["list_tools"], tenant_id)))


async def list_tools_of_server(
    connection: Connection, tenant_id: uuid.UUID, server_id: uuid.UUID
) -> list[ToolRow]:
    rows = await connection.fetch(statements.load()["list_tools_of_server"], tenant_id, server_id)
    return list(map(_tool, rows))


async def list_approved(
    connection: Connection, tenant_id: uuid.UUID
) -> Sequence[tuple[uuid.UUID, bytes]]:
    """Server and definition (JSON) of what may be called."""
    rows = await connection.fetch(statements.load()["list_approved_tools"], tenant_id)
    return [(row["server_id"], row["definition"]) for row in rows]


async def insert_tool(
    connection: Connection,
    tenant_id: uuid.UUID,
    server_id: uuid.UUID,
    name: str,
    state: ToolState,
    pin: Pin,
) -> None:
    await connection.execute(
        statements.load()["insert_tool"],
        *(tenant_id, server_id, name, state, pin.digest, pin.definition),
    )


async def pin_tool(
    connection: Connection,
    tenant_id: uuid.UUID,
    server_id: uuid.UUID,
    name: str,
    state: ToolState,
    pin: Pin,
) -> None:
    """It is this definition from now on, and no other."""
    await connection.execute(
        statements.load()["pin_tool"],
        *(tenant_id, server_id, name, state, pin.digest, pin.definition),
    )


async def quarantine_tool(
    connection: Connection,
    tenant_id: uuid.UUID,
    server_id: uuid.UUID,
    name: str,
    changed: Pin | None,
) -> None:
    """`changed`: what its server says instead of what is pinned. None: it says that again."""
    said = (None, None) if changed is None else (changed.digest, changed.definition)
    await connection.execute(
        statements.load()["quarantine_tool"], tenant_id, server_id, name, *said
    )


async def delete_tool(
    connection: Connection, tenant_id: uuid.UUID, server_id: uuid.UUID, name: str
) -> None:
    await connection.execute(statements.load()["delete_tool"], tenant_id, server_id, name)


def _tool(row: Mapping[str, Any]) -> ToolRow:
    changed = None
    if row["changed_digest"] is not None:
        changed = Pin(row["changed_digest"], row["changed_definition"])
    return ToolRow(
        server_id=row["server_id"],
        name=row["name"],
        state=row["state"],
        pin=Pin(row["digest"], row["definition"]),
        changed=changed,
        first_seen_at=row["first_seen_at"],
        approved_at=row["approved_at"],
    )

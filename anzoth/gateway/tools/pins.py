"""Does a tool server still say what was approved?

    what it says now          what is pinned      then
    the same                  anything            stays as it is
    another definition        pending             that one is pending
    another definition        approved            quarantined: not called any more, by any gateway
    a tool                    nothing             pending
    nothing                   a tool              gone, with its approval

What is quarantined stays so until a person has approved what the server says by then, even if that
is what was pinned all along: a server that turns to and fro is not to be trusted by itself.

What cannot be a function of a model, or is too large, is left out.

Does not know: how a server is asked, or who approves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import tool_rows
from anzoth.db.store.tool_rows import Pin, ToolRow
from anzoth.errors import DatabaseUnavailable
from anzoth.gateway import audit
from anzoth.gateway.audit import SYSTEM, AuditEvent
from anzoth.gateway.tools.definitions import GovernedTool, ToolDefinition, ToolServer

MAX_TOOLS = 100
"""Of one server."""
MAX_DEFINITION_BYTES = 16_384
MAX_DEFINITIONS_BYTES = 131_072
"""Of one server: all of a tenant's are read together."""
MAX_TOOL_NAME = 64
"""Of `label__tool`, and of which characters: what functions of the OpenAI API may be called."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(slots=True, frozen=True)
class _Tenant:
    """Of a server that was read as this tenant."""

    id: UUID
    cache_salt: str = ""


class Pins:
    """What each tool server was approved to say. One per gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def listed(self, server: ToolServer, definitions: Sequence[ToolDefinition]) -> None:
        """What a server says now, all of it. For one that was deleted meanwhile, nothing is done.

        Raises DatabaseUnavailable.
        """
        try:
            await self._compare(server, definitions)
        except DatabaseDown:
            raise DatabaseUnavailable(
                "What a tool server says cannot be compared with what was approved, because the "
                "database is unavailable. Please retry."
            ) from None

    async def _compare(self, server: ToolServer, definitions: Sequence[ToolDefinition]) -> None:
        async with self._database.tenant(_Tenant(server.tenant_id)) as connection:
            if not await tool_rows.lock_server(connection, server.tenant_id, server.id):
                return
            pinned = {
                row.name: row
                for row in await tool_rows.list_tools_of_server(
                    connection, server.tenant_id, server.id
                )
            }
            usable = dict(_usable(server, definitions, pinned))
            comparison = _Comparison(connection, server)
            for name in pinned.keys() - usable.keys():
                await comparison.gone(pinned[name])
            for name, said in usable.items():
                await comparison.said(name, said, pinned.get(name))
            num_left_out = len(definitions) - len(usable)
            note = _LEFT_OUT.format(num_left_out) if num_left_out else None
            await tool_rows.note_server(
                connection, server.tenant_id, server.id, note, is_listed=True
            )
            await audit.record(connection, *comparison.events)


_LEFT_OUT = (
    "{} of its tools cannot be used. A name has letters, digits, - and _ and up to "
    f"{MAX_TOOL_NAME} characters with the label and two _ in front, and occurs once; a definition "
    f"has up to {MAX_DEFINITION_BYTES:,} bytes, all together {MAX_DEFINITIONS_BYTES:,}, of up to "
    f"{MAX_TOOLS} tools."
)


class _Comparison:
    """What follows from what one server says, within one transaction."""

    def __init__(self, connection: Connection, server: ToolServer) -> None:
        self._server = server
        self._scope = (connection, server.tenant_id, server.id)
        self.events: list[AuditEvent] = []
        """Of what may not be called any more. What is new or pending could never be."""

    async def said(self, name: str, said: Pin, row: ToolRow | None) -> None:
        if row is None:
            await tool_rows.insert_tool(*self._scope, name, "pending", said)
        elif said.digest == row.said.digest:
            return
        elif row.state == "pending":
            await tool_rows.pin_tool(*self._scope, name, "pending", said)
        else:
            is_pinned = said.digest == row.pin.digest
            await tool_rows.quarantine_tool(*self._scope, name, None if is_pinned else said)
            if row.state == "approved":
                digests = {"digest": row.pin.digest.hex(), "changed_digest": said.digest.hex()}
                self.events.append(self._event("tool.quarantined", name, **digests))

    async def gone(self, row: ToolRow) -> None:
        await tool_rows.delete_tool(*self._scope, row.name)
        if row.state == "approved":
            self.events.append(self._event("tool.removed", row.name, digest=row.pin.digest.hex()))

    def _event(self, type: str, name: str, **details: str) -> AuditEvent:
        target = {"id": self._server.id, "label": self._server.label, "tool": name}
        return AuditEvent(type, SYSTEM, self._server.tenant_id, target=target, details=details)


def _usable(
    server: ToolServer, definitions: Sequence[ToolDefinition], pinned: Collection[str]
) -> Iterator[tuple[str, Pin]]:
    """By name. What is pinned comes first: new tools must not push it out."""
    names: set[str] = set()
    room_bytes = MAX_DEFINITIONS_BYTES
    for definition in sorted(definitions, key=lambda definition: definition.name not in pinned):
        pin = None if definition.name in names else try_pin(server, definition)
        if pin is None or len(pin.definition) > room_bytes or len(names) == MAX_TOOLS:
            continue
        names.add(definition.name)
        room_bytes -= len(pin.definition)
        yield definition.name, pin


def try_pin(server: ToolServer, definition: ToolDefinition) -> Pin | None:
    """None for what can be no tool of a model."""
    name = GovernedTool(server, definition).name
    if not _NAME.fullmatch(definition.name) or len(name) > MAX_TOOL_NAME:
        return None
    try:
        pin = Pin(definition.digest, definition.encoded)
    except TypeError:
        return None
    return pin if len(pin.definition) <= MAX_DEFINITION_BYTES else None

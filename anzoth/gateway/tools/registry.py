"""Which tool servers does a tenant have, and who approved what of them?

    create ─▶ the server says what it can do: pending ─▶ approve ─▶ in the catalogue
                                                    (see `pins`)  ◀─ withdraw, or it changes

Behind `/v1/tool_servers` (a key or a user of the tenant) and `anzoth tools` (the operator, as the
tenant). Where a server is, and what runs for it, never changes: whoever could lead it elsewhere
would have the credentials that they may not read. Those are sealed with the tenant's key, and no
view has them. A command is the operator's alone: it runs on this machine.

A plain HTTP tool says nothing of itself, so whoever registers it writes its definition, and with
that has approved it.

Does not know: HTTP, how a server is spoken to, or who may call what.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from anzoth.db.pool import Connection, Database
from anzoth.db.store import tool_rows
from anzoth.db.store.tool_rows import NewServer, Pin, ServerRow, ServerRules, ToolRow
from anzoth.errors import Conflict, InvalidValue, KeyRevoked, StorageFull, ToolServerNotFound
from anzoth.gateway import audit
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.tenant_crypt import TenantKeys
from anzoth.gateway.tools import catalogue
from anzoth.gateway.tools.catalogue import ToolCatalogue, server_of
from anzoth.gateway.tools.definitions import (
    Approval,
    CallLimits,
    Credentials,
    ServerKind,
    Taint,
    ToolDefinition,
    ToolFailure,
    ToolServer,
)
from anzoth.gateway.tools.managing import (
    PinnedTool,
    ServerChange,
    ServerRequest,
    ServerView,
    ToolManager,
)
from anzoth.gateway.tools.pins import MAX_DEFINITION_BYTES, MAX_TOOL_NAME, Pins, try_pin

MAX_SERVERS = 32
"""Of one tenant: all that they can do is read together."""
_LIST_TIMEOUT_S = 30.0
_MAX_NOTE = 500


class ListsTools(Protocol):
    """As much of the connections to tool servers as is needed to see what these say."""

    async def list_tools(
        self, server: ToolServer, credentials: Credentials
    ) -> Sequence[ToolDefinition]: ...


class ToolRegistry:
    """The tool servers of all tenants, each for its own. One per gateway.

    Every method raises DatabaseDown. An id of another tenant is ToolServerNotFound like any other.
    """

    def __init__(
        self,
        database: Database,
        keys: TenantKeys,
        catalogue: ToolCatalogue,
        pins: Pins,
        connections: ListsTools,
        commands: Collection[str],
    ) -> None:
        """`commands`: names of those that the operator's settings have."""
        self._database = database
        self._keys = keys
        self._catalogue = catalogue
        self._pins = pins
        self._connections = connections
        self._commands = commands

    async def list(self, by: ToolManager) -> Sequence[ServerView]:
        """The oldest first."""
        async with self._database.tenant(by.tenant) as connection:
            servers = await tool_rows.list_servers(connection, by.tenant.id)
            tools: dict[uuid.UUID, list[ToolRow]] = {row.id: [] for row in servers}
            for tool in await tool_rows.list_tools(connection, by.tenant.id):
                if tool.server_id in tools:
                    tools[tool.server_id].append(tool)
        return [_view(row, tools[row.id]) for row in servers]

    async def get(self, by: ToolManager, id: str) -> ServerView:
        """Raises ToolServerNotFound."""
        for view in await self.list(by):
            if view.id == id:
                return view
        raise ToolServerNotFound()

    async def create(self, by: ToolManager, request: ServerRequest) -> ServerView:
        """It is asked at once what it can do; if it does not say, its `note` says why.

        Raises InvalidValue, StorageFull, and KeyRevoked for a tenant that was deleted.
        """
        self._check(by, request)
        id = uuid.uuid4()
        sealed = await self._sealed(by, id, request.credentials)
        pin = None if request.tool is None else _pin_of(request, id, by.tenant.id)
        async with self._database.tenant(by.tenant) as connection:
            await tool_rows.lock_servers(connection, by.tenant.id)
            if await tool_rows.count_servers(connection, by.tenant.id) >= MAX_SERVERS:
                raise StorageFull(
                    f"Your organization has {MAX_SERVERS} tool servers, and no more are allowed.",
                    rule="tools.full",
                )
            if not await tool_rows.try_insert_server(connection, _new(by, id, request, sealed)):
                await _refuse_label(connection, by, request.label)
            if pin is not None and request.tool is not None:
                scope = (connection, by.tenant.id, id)
                await tool_rows.insert_tool(*scope, request.tool.name, "approved", pin)
            await audit.record(connection, _created(by, id, request, pin))
        return await self.refresh(by, str(id))

    async def update(self, by: ToolManager, id: str, change: ServerChange) -> ServerView:
        """Raises ToolServerNotFound, and InvalidValue for the environment of a command."""
        server = (await self.get(by, id)).server
        if change.sets_credentials:
            self._check_credentials(by, server.kind, change.credentials)
        sealed = await self._sealed(by, server.id, change.credentials)
        async with self._database.tenant(by.tenant) as connection:
            if not await tool_rows.lock_server(connection, by.tenant.id, server.id):
                raise ToolServerNotFound()
            await tool_rows.update_server(
                *(connection, by.tenant.id, server.id, _changed_rules(server, change)),
                sets_credentials=change.sets_credentials,
                credentials=sealed,
            )
            details = _shown_change(change)
            event = by.event("tool.updated", server.id, server.label, **details)
            await audit.record(connection, event)
        return await self.get(by, id)

    async def delete(self, by: ToolManager, id: str) -> uuid.UUID:
        """With all approvals. Raises ToolServerNotFound."""
        server = (await self.get(by, id)).server
        async with self._database.tenant(by.tenant) as connection:
            if await tool_rows.delete_server(connection, by.tenant.id, server.id) is None:
                raise ToolServerNotFound()
            await audit.record(connection, by.event("tool.deleted", server.id, server.label))
        return server.id

    async def refresh(self, by: ToolManager, id: str) -> ServerView:
        """Asks the server what it can do. Raises ToolServerNotFound."""
        server = (await self.get(by, id)).server
        if server.kind != "http":
            await self._list(by, server)
        return await self.get(by, id)

    async def approve(self, by: ToolManager, id: str, digests: Mapping[str, bytes]) -> ServerView:
        """`digests`: of what was looked at, by the tools' names; all of them are approved, or none.

        Raises ToolServerNotFound, InvalidValue for a tool that is not there, and Conflict where its
        server says something else meanwhile.
        """
        server = (await self.get(by, id)).server
        async with self._database.tenant(by.tenant) as connection:
            rows = await _rows_to_change(connection, server, digests)
            for row in rows:
                if row.said.digest != digests[row.name]:
                    raise Conflict(
                        f"The tool '{row.name}' is defined differently than when you looked at it. "
                        "Look at it again."
                    )
            changed = [row for row in rows if row.state != "approved"]
            for row in changed:
                scope = (connection, by.tenant.id, server.id, row.name)
                await tool_rows.pin_tool(*scope, "approved", row.said)
            await audit.record(connection, *_decided(by, "tool.approved", server, changed))
        return await self.get(by, id)

    async def withdraw(self, by: ToolManager, id: str, names: Collection[str]) -> ServerView:
        """They are not called until they are approved again.

        Raises ToolServerNotFound, and InvalidValue for a tool that is not there.
        """
        server = (await self.get(by, id)).server
        async with self._database.tenant(by.tenant) as connection:
            rows = await _rows_to_change(connection, server, names)
            changed = [row for row in rows if row.state != "pending"]
            for row in changed:
                scope = (connection, by.tenant.id, server.id, row.name)
                await tool_rows.pin_tool(*scope, "pending", row.said)
            await audit.record(connection, *_decided(by, "tool.withdrawn", server, changed))
        return await self.get(by, id)

    async def _list(self, by: ToolManager, server: ToolServer) -> None:
        credentials = await self._catalogue.credentials(by.tenant, server)
        try:
            async with asyncio.timeout(_LIST_TIMEOUT_S):
                found = await self._connections.list_tools(server, credentials)
        except ToolFailure as failure:
            note = str(failure)[:_MAX_NOTE]
        except TimeoutError:
            note = f"It did not say within {_LIST_TIMEOUT_S:.0f} s what it can do."
        else:
            await self._pins.listed(server, found)
            return
        async with self._database.tenant(by.tenant) as connection:
            await tool_rows.note_server(connection, by.tenant.id, server.id, note, is_listed=False)

    def _check(self, by: ToolManager, request: ServerRequest) -> None:
        if request.kind == "command":
            if not by.is_operator:
                raise InvalidValue(
                    "Invalid value for 'kind': a command runs on the server's own machine, so only "
                    "the operator registers one (anzoth tools create).",
                    param="kind",
                )
            if request.command not in self._commands:
                raise InvalidValue(
                    "Invalid value for 'command': [tools.commands] has no such name.",
                    param="command",
                )
        self._check_credentials(by, request.kind, request.credentials)

    @staticmethod
    def _check_credentials(
        by: ToolManager, kind: ServerKind, credentials: Credentials | None
    ) -> None:
        """A process' environment can make it run something else; so it is the operator's."""
        if kind == "command" and not by.is_operator:
            raise InvalidValue(
                "Invalid value for 'credentials': those of a command are the operator's.",
                param="credentials",
            )
        if credentials is None:
            return
        wrong = "headers" if kind == "command" else "environment"
        if getattr(credentials, wrong):
            raise InvalidValue(
                f"Invalid value for 'credentials': this kind of server takes no {wrong}.",
                param=f"credentials.{wrong}",
            )

    async def _sealed(
        self, by: ToolManager, id: uuid.UUID, credentials: Credentials | None
    ) -> bytes | None:
        if credentials is None:
            return None
        return catalogue.sealed(await self._keys.cipher(by.tenant), id, credentials)


def _view(row: ServerRow, tools: Sequence[ToolRow]) -> ServerView:
    return ServerView(
        server_of(row),
        tuple(map(_pinned, tools)),
        row.created_at,
        row.updated_at,
        row.listed_at,
        row.note,
    )


def _pinned(row: ToolRow) -> PinnedTool:
    changed = None if row.changed is None else ToolDefinition.decoded(row.changed.definition)
    definition = ToolDefinition.decoded(row.pin.definition)
    return PinnedTool(definition, row.state, changed, row.first_seen_at, row.approved_at)


def _rules(approval: Approval, taint: Taint, limits: CallLimits) -> ServerRules:
    return ServerRules(
        approval,
        taint,
        round(limits.timeout_s * 1000),
        limits.max_result_bytes,
        limits.calls_per_minute,
    )


def _changed_rules(server: ToolServer, change: ServerChange) -> ServerRules:
    limits = server.limits
    calls = change.calls_per_minute if change.sets_calls_per_minute else limits.calls_per_minute
    return _rules(
        change.approval or server.approval,
        change.taint or server.taint,
        CallLimits(
            change.timeout_s or limits.timeout_s,
            change.max_result_bytes or limits.max_result_bytes,
            calls,
        ),
    )


def _new(
    by: ToolManager, id: uuid.UUID, request: ServerRequest, credentials: bytes | None
) -> NewServer:
    rules = _rules(request.approval, request.taint, request.limits)
    return NewServer(
        id=id,
        tenant_id=by.tenant.id,
        label=request.label,
        kind=request.kind,
        url=request.url,
        command=request.command,
        method=request.method,
        credentials=credentials,
        **{name: getattr(rules, name) for name in ServerRules.__slots__},
    )


def _pin_of(request: ServerRequest, id: uuid.UUID, tenant_id: uuid.UUID) -> Pin:
    """Of what the tenant itself has defined. Raises InvalidValue."""
    assert request.tool is not None
    pin = try_pin(ToolServer(id, tenant_id, request.label, request.kind), request.tool)
    if pin is None:
        raise InvalidValue(
            f"Invalid value for 'tool': expected a name that has up to {MAX_TOOL_NAME} letters, "
            "digits, - and _ with the label and two _ in front, and a definition of up to "
            f"{MAX_DEFINITION_BYTES} bytes.",
            param="tool",
        )
    return pin


async def _refuse_label(connection: Connection, by: ToolManager, label: str) -> None:
    """Raises InvalidValue or KeyRevoked."""
    if any(row.label == label for row in await tool_rows.list_servers(connection, by.tenant.id)):
        raise InvalidValue(
            "Invalid value for 'label': there is a tool server of this label.", param="label"
        )
    raise KeyRevoked("This tenant was deleted.")


async def _rows_to_change(
    connection: Connection, server: ToolServer, names: Collection[str]
) -> Sequence[ToolRow]:
    """Those of these names; until the transaction ends nobody else changes them.

    Raises ToolServerNotFound and InvalidValue.
    """
    if not await tool_rows.lock_server(connection, server.tenant_id, server.id):
        raise ToolServerNotFound()
    rows = await tool_rows.list_tools_of_server(connection, server.tenant_id, server.id)
    found = [row for row in rows if row.name in names]
    if len(found) < len(set(names)):
        raise InvalidValue(
            "Invalid value for 'tools': the server has no tool of one of these names.",
            param="tools",
        )
    return found


# --- what the audit log says about it -----------------------------------------------------------


def _created(by: ToolManager, id: uuid.UUID, request: ServerRequest, pin: Pin | None) -> AuditEvent:
    details: dict[str, Any] = {
        "kind": request.kind,
        "url": request.url,
        "command": request.command,
        "approval": request.approval,
        "taint": request.taint,
        "has_credentials": request.credentials is not None,
    }
    if request.tool is not None and pin is not None:
        details |= {"tool": request.tool.name, "digest": pin.digest.hex()}
    return by.event("tool.created", id, request.label, **details)


def _shown_change(change: ServerChange) -> dict[str, Any]:
    """Credentials are only said to have been set or removed."""
    names = ("approval", "taint", "max_result_bytes")
    details = {name: value for name in names if (value := getattr(change, name)) is not None}
    if change.timeout_s is not None:
        details["timeout_ms"] = round(change.timeout_s * 1000)
    if change.sets_calls_per_minute:
        details["calls_per_minute"] = change.calls_per_minute
    if change.sets_credentials:
        details["credentials"] = "removed" if change.credentials is None else "set"
    return details


def _decided(
    by: ToolManager, type: str, server: ToolServer, rows: Sequence[ToolRow]
) -> list[AuditEvent]:
    return [
        by.event(type, server.id, server.label, row.name, digest=row.said.digest.hex())
        for row in rows
    ]

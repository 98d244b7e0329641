"""How is a tool called, wherever it is, and whatever its server does?

    mcp      over HTTP, by the one way out (`egress`)
    command  over the standard input and output of a process
    http     a request that a template makes of the arguments

A connection to an MCP server is kept for the next call and is one tenant's alone, for one server
with one set of credentials. A call is refused where the server does not list the tool as it was
approved: it lists at the start of a connection, again when it says that something changed, and at
most a minute later. What a server changes without listing it otherwise, nobody can see.

Does not know: who may call what, or whether arguments fit a schema.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from anzoth.errors import AnzothError
from anzoth.gateway.egress.egress import Egress
from anzoth.gateway.egress.failures import EgressFailure
from anzoth.gateway.egress.headers import check_headers
from anzoth.gateway.tools import http_tool
from anzoth.gateway.tools.definitions import (
    Credentials,
    GovernedTool,
    ToolDefinition,
    ToolFailure,
    ToolResult,
    ToolServer,
)
from anzoth.gateway.tools.mcp_connection import (
    LISTING_BYTES,
    McpConnection,
    SessionGone,
    failure_of,
    wire_bytes,
)
from anzoth.gateway.tools.mcp_process import ToolProcess, check_environment
from anzoth.tool_config import ToolsConfig

if TYPE_CHECKING:
    from mcp.client._transport import Transport

_logger = logging.getLogger(__name__)

Listed = Callable[[ToolServer, Sequence[ToolDefinition]], Awaitable[None]]
T = TypeVar("T")

_MAX_CONNECTIONS = 256
_MAX_OF_TENANT = 32
_SOCKETS_PER_CONNECTION = 16
_CLOSING_TIMEOUT_S = 5.0
_MAX_SESSIONS = 2
_ENDS_CONNECTION = ("unreachable", "timeout", "protocol")
_MAX_ARGUMENT_BYTES = 1 << 20
_HTTP_MODULE = "anzoth.gateway.tools.mcp_http"


@dataclass(slots=True)
class _Kept:
    """A connection, and what it was made for: another is made for anything else."""

    server: ToolServer
    credentials: Credentials
    connection: McpConnection

    def fits(self, server: ToolServer, credentials: Credentials) -> bool:
        return self.connection.is_usable and (self.server, self.credentials) == (
            server,
            credentials,
        )


class ToolConnections:
    """The connections of this gateway to all servers of all tenants."""

    def __init__(self, egress: Egress, config: ToolsConfig, on_listed: Listed) -> None:
        """`on_listed` is told what a server lists where a tool of it is not as it was approved."""
        self._egress = egress
        self._config = config
        self._on_listed = on_listed
        self._kept: dict[tuple[UUID, UUID], _Kept] = {}
        self._all: set[McpConnection] = set()
        """Those that are being closed included."""
        self._is_closed = False
        self._loading = asyncio.Lock()
        self._is_loaded = False
        """The SDK, which a gateway without MCP servers does without."""

    async def list_tools(
        self, server: ToolServer, credentials: Credentials
    ) -> Sequence[ToolDefinition]:
        """What the server lists now, in the order of names. Raises ToolFailure."""
        if server.kind == "http":
            raise ToolFailure(
                "protocol", "A plain HTTP tool lists nothing: whoever registers it does."
            )

        async def ask(connection: McpConnection) -> Sequence[ToolDefinition]:
            return list((await connection.definitions(is_fresh=True)).values())

        return await self._asked(server, credentials, ask)

    async def call(
        self, tool: GovernedTool, arguments: Mapping[str, Any], credentials: Credentials
    ) -> ToolResult:
        """Raises ToolFailure. Whoever cancels this cancels the call at the server."""
        server = tool.server
        if server.kind == "http":
            http_tool.require_declared(tool.definition.input_schema, arguments)
            return await self._fetch(server, arguments, credentials)

        _require_sendable(arguments)

        async def ask(connection: McpConnection) -> ToolResult:
            if not _is_as_approved(tool, await connection.definitions()):
                # What it listed may be older than the approval.
                await self._require_as_approved(tool, await connection.definitions(is_fresh=True))
            return await connection.call(tool.definition.name, arguments)

        return await self._asked(server, credentials, ask)

    async def close(self) -> None:
        """Ends everything, calls that are running included."""
        self._is_closed = True
        for connection in self._all:
            connection.end()
        tasks = {connection.task for connection in self._all}
        for _ in range(2):
            if not tasks:
                return
            _, tasks = await asyncio.wait(tasks, timeout=_CLOSING_TIMEOUT_S)
            for task in tasks:
                task.cancel()

    async def _fetch(
        self, server: ToolServer, arguments: Mapping[str, Any], credentials: Credentials
    ) -> ToolResult:
        request = http_tool.request_of(server.url or "", server.method, arguments)
        try:
            answer = await self._egress.fetch(
                request.method,
                request.url,
                headers=credentials.headers,
                body=request.body,
                max_bytes=server.limits.max_result_bytes,
                timeout_s=server.limits.timeout_s,
            )
        except EgressFailure as failure:
            raise failure_of(failure) from None
        return http_tool.result_of(answer)

    async def _require_as_approved(
        self, tool: GovernedTool, listed: Mapping[str, ToolDefinition]
    ) -> None:
        if _is_as_approved(tool, listed):
            return
        try:
            await self._on_listed(tool.server, list(listed.values()))
        except AnzothError as error:  # the call is refused all the same, and the next one too
            _logger.warning("server %s: a change is not written down: %s", tool.server.label, error)
        raise ToolFailure(
            "changed", f"{tool.name} is not what was approved any more; it waits for approval."
        )

    async def _asked(
        self,
        server: ToolServer,
        credentials: Credentials,
        ask: Callable[[McpConnection], Awaitable[T]],
    ) -> T:
        """Within the server's time. Raises ToolFailure."""
        timeout_s = server.limits.timeout_s
        connection: McpConnection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(_MAX_SESSIONS):
                    connection = await self._connection(server, credentials)
                    with connection.in_use():
                        try:
                            return await ask(connection)
                        except SessionGone:
                            connection.retire()
            raise ToolFailure("unreachable", "The server forgets who it speaks with.")
        except TimeoutError:
            failure = ToolFailure("timeout", f"The tool did not answer within {timeout_s:g} s.")
        except ToolFailure as raised:
            failure = raised
        if connection is not None and failure.kind in _ENDS_CONNECTION:
            connection.retire()
        raise failure

    async def _connection(self, server: ToolServer, credentials: Credentials) -> McpConnection:
        """The one that is there, or one that is being made. Raises ToolFailure."""
        async with self._loading:
            if not self._is_loaded:  # it takes a second or more, in which others go on
                await asyncio.to_thread(importlib.import_module, _HTTP_MODULE)
                self._is_loaded = True
        key = (server.tenant_id, server.id)
        kept = self._kept.get(key)
        if kept is not None:
            if kept.fits(server, credentials):
                return kept.connection
            kept.connection.retire()
        self._make_room(server.tenant_id)
        try:
            transport, lost = self._transport(server, credentials)
        except EgressFailure as failure:
            raise failure_of(failure) from None
        except ValueError as error:
            raise ToolFailure("egress_refused", f"Of the credentials, {error}.") from None
        connection = McpConnection(server, transport, lost)
        self._kept[key] = _Kept(server, credentials, connection)
        self._all.add(connection)
        connection.task.add_done_callback(lambda _: self._forget(key, connection))
        return connection

    def _transport(
        self, server: ToolServer, credentials: Credentials
    ) -> tuple[Transport, Callable[[], EgressFailure | None]]:
        """Raises EgressFailure, and ValueError for credentials that cannot be used."""
        if server.kind == "mcp":
            from anzoth.gateway.tools.mcp_http import streams_over_http

            url = server.url or ""
            check_headers(credentials.headers)
            self._egress.require_allowed(url)
            outbound = self._egress.open(_SOCKETS_PER_CONNECTION)
            return streams_over_http(outbound, url, credentials.headers), lambda: None
        argv = self._config.commands.get(server.command or "")
        if argv is None:
            raise EgressFailure("refused", "The operator names no such command any more.")
        check_environment(credentials.environment)
        process = ToolProcess(
            argv,
            credentials.environment,
            self._config.command_memory_mib,
            self._config.command_user,
            max(LISTING_BYTES, wire_bytes(server.limits.max_result_bytes)),
        )
        return process.transport(), lambda: process.failure

    def _make_room(self, tenant_id: UUID) -> None:
        """For one more. Raises ToolFailure."""
        if self._is_closed:
            raise ToolFailure("unreachable", "The server is shutting down.")
        of_tenant = [kept for (tenant, _), kept in self._kept.items() if tenant == tenant_id]
        for among, most in (
            (of_tenant, _MAX_OF_TENANT),
            ([*self._kept.values()], _MAX_CONNECTIONS),
        ):
            if len(among) < most:
                continue
            idle = [kept.connection for kept in among if not kept.connection.num_callers]
            if not idle:
                raise ToolFailure("unreachable", "Too many tools are in use; try again later.")
            oldest = min(idle, key=lambda connection: connection.last_used_s)
            oldest.retire()
            self._kept = {
                key: kept for key, kept in self._kept.items() if kept.connection is not oldest
            }

    def _forget(self, key: tuple[UUID, UUID], connection: McpConnection) -> None:
        self._all.discard(connection)
        kept = self._kept.get(key)
        if kept is not None and kept.connection is connection:
            del self._kept[key]


def _is_as_approved(tool: GovernedTool, listed: Mapping[str, ToolDefinition]) -> bool:
    now = listed.get(tool.definition.name)
    try:
        return now is not None and now.digest == tool.definition.digest
    except TypeError:  # it has none: numbers past 64 bits, halves of surrogate pairs
        return False


def _require_sendable(arguments: Mapping[str, Any]) -> None:
    """What the SDK cannot write would end the connection, for all calls of it."""
    try:
        encoded = json.dumps(dict(arguments), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ToolFailure("protocol", "The arguments cannot be sent as JSON.") from None
    if len(encoded) > _MAX_ARGUMENT_BYTES:
        raise ToolFailure("too_large", "The arguments are too large.")

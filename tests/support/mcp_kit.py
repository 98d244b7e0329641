"""MCP servers on this machine: the SDK's own, and one that says whatever a test wants it to say."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import uvicorn
from mcp.server.mcpserver import MCPServer
from outside_kit import HERE, Asked, Place, egress_to, serving

from anzoth import child
from anzoth.gateway.egress.egress import Egress
from anzoth.gateway.tools.connections import ToolConnections
from anzoth.gateway.tools.definitions import (
    CallLimits,
    GovernedTool,
    ToolDefinition,
    ToolServer,
)
from anzoth.tool_config import ToolsConfig

TENANT = UUID(int=1)
RAW_SERVER = (sys.executable, "-IS", str(Path(__file__).parent / "stdio_server.py"))
ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "string"}}}


def server_at(url: str, **more: Any) -> ToolServer:
    return ToolServer(
        **{"id": uuid4(), "tenant_id": TENANT, "label": "crm", "kind": "mcp", "url": url, **more}
    )


def server_of(command: str = "raw", **more: Any) -> ToolServer:
    return ToolServer(
        **{
            "id": uuid4(),
            "tenant_id": TENANT,
            "label": "cmd",
            "kind": "command",
            "command": command,
            **more,
        }
    )


def limits(**more: Any) -> CallLimits:
    return CallLimits(**{"timeout_s": 10.0, **more})


def tool_named(
    server: ToolServer, definitions: Sequence[ToolDefinition], name: str
) -> GovernedTool:
    (found,) = [one for one in definitions if one.name == name]
    return GovernedTool(server, found)


@dataclass
class Noted:
    """What `on_listed` was told."""

    listings: list[tuple[str, list[str]]] = field(default_factory=list)

    async def __call__(self, server: ToolServer, definitions: Sequence[ToolDefinition]) -> None:
        self.listings.append((server.label, [one.name for one in definitions]))


@contextlib.asynccontextmanager
async def connecting(
    egress: Egress | None = None, commands: Mapping[str, Sequence[str]] | None = None, **config: Any
) -> AsyncIterator[tuple[ToolConnections, Noted]]:
    child.quieten_libraries()
    noted = Noted()
    named = {name: tuple(argv) for name, argv in (commands or {"raw": RAW_SERVER}).items()}
    # As ourselves: nobody else may read where this Python is.
    made = ToolsConfig(commands=named, **{"command_user": getpass.getuser(), **config})
    connections = ToolConnections(egress or egress_to(), made, noted)
    try:
        yield connections, noted
    finally:
        await connections.close()


@contextlib.asynccontextmanager
async def sdk_server(server: MCPServer, *, is_old: bool, **options: Any) -> AsyncIterator[Place]:
    """The SDK's own server over HTTP. `is_old`: it knows the protocol up to 2025 only."""
    inner = server.streamable_http_app(**options)
    place = Place(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            place.asked.append(Asked(f"{scope['method']} {scope['path']}", headers))
            if is_old and headers.get("mcp-method") == "server/discover":
                await send({"type": "http.response.start", "status": 400, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await inner(scope, receive, send)

    listening = socket.create_server((HERE, 0))
    place.port = listening.getsockname()[1]
    web = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1)
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(web.serve(sockets=[listening]))
        try:
            yield place
        finally:
            web.should_exit = True
            web.force_exit = True


Said = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[object]]


@dataclass
class Rogue:
    """Speaks the older era over HTTP, and for some methods whatever a test has it say: what a
    function returns is the result; None means that it wrote an answer by itself."""

    tools: list[dict[str, Any]] = field(
        default_factory=lambda: [{"name": "say", "description": "d", "inputSchema": ANY_OBJECT}]
    )
    by_method: dict[str, Said] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        method = asked.line.partition(" ")[0]
        if method != "POST":
            said = self.by_method.get(method)
            if said is None:
                return write_answer(writer, b"", status="405 no")
            await said({}, writer)
            return None
        message = json.loads(asked.body)
        self.asked.append(message)
        self.headers.append(asked.headers)
        said = self.by_method.get(message["method"], self.usual)
        result = await said(message, writer)
        if result is not None:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            write_answer(writer, json.dumps(answer).encode())
        await writer.drain()
        return None

    async def usual(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> object:
        match message["method"]:
            case "initialize":
                return {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": {"name": "rogue", "version": "1"},
                }
            case "tools/list":
                return {"tools": self.tools}
            case "tools/call":
                return text_result(message["params"]["arguments"].get("x", ""))
        if "id" in message:
            error = {"code": -32601, "message": "no such method"}
            answer = {"jsonrpc": "2.0", "id": message["id"], "error": error}
            write_answer(writer, json.dumps(answer).encode())
        else:
            write_answer(writer, b"", status="202 Accepted")
        return None


def write_answer(
    writer: asyncio.StreamWriter,
    body: bytes,
    status: str = "200 OK",
    content_type: str = "application/json",
    **headers: str,
) -> None:
    fields = {"content-type": content_type, "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


def text_result(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


@contextlib.asynccontextmanager
async def rogue_server(rogue: Rogue) -> AsyncIterator[Place]:
    async with serving(rogue.handle) as place:
        yield place

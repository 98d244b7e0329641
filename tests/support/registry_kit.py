"""A tenant's tool servers on a real database; what the servers say is what a test has them say."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from principals import make_principal

from anzoth.db.pool import Database
from anzoth.gateway import audit, directory
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.gateway.tools.catalogue import ToolCatalogue
from anzoth.gateway.tools.definitions import (
    Credentials,
    GovernedTool,
    ToolDefinition,
    ToolFailure,
    ToolResult,
    ToolServer,
)
from anzoth.gateway.tools.managing import PinnedTool, ServerRequest, ServerView, ToolManager
from anzoth.gateway.tools.pins import Pins
from anzoth.gateway.tools.registry import ToolRegistry

PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or sys.executable
"""One that the user may run as whom commands are run: this one may be in somebody's home."""
URL = "https://crm.example.com/mcp"
MCP = ServerRequest("crm", "mcp", URL)


def listing_command(listing: Path) -> tuple[str, ...]:
    """A process that lists what the file says, which everybody must be able to read."""
    return PYTHON, "-IS", str(Path(__file__).with_name("listing_server.py")), str(listing)


def defined(name: str, description: str = "Does it.", **more: Any) -> ToolDefinition:
    schema = more.pop("schema", {"type": "object", "properties": {"id": {"type": "string"}}})
    return ToolDefinition(name, description, schema, **more)


@dataclass
class SaidByServers:
    """What servers say that they can do, by label, or why they do not; and what they were shown."""

    by_label: dict[str, Sequence[ToolDefinition] | ToolFailure] = field(default_factory=dict)
    shown: list[Credentials] = field(default_factory=list)

    async def list_tools(
        self, server: ToolServer, credentials: Credentials
    ) -> Sequence[ToolDefinition]:
        self.shown.append(credentials)
        said = self.by_label.get(server.label, ())
        if isinstance(said, ToolFailure):
            raise said
        return said

    async def call(
        self, tool: GovernedTool, arguments: Mapping[str, Any], credentials: Credentials
    ) -> ToolResult:
        raise ToolFailure("unreachable", "Nothing is called here.")

    async def close(self) -> None: ...


@dataclass
class World:
    dsn: str
    database: Database
    keys: TenantKeys
    catalogue: ToolCatalogue
    pins: Pins
    registry: ToolRegistry
    said: SaidByServers
    acme: ToolManager
    other: ToolManager
    now_s: float = 1000.0

    async def callable(self, by: ToolManager | None = None) -> set[str]:
        """Names in the catalogue, freshly read."""
        self.now_s += 2
        return set(await self.catalogue.of((by or self.acme).tenant))

    async def says(self, server: ToolServer, *definitions: ToolDefinition) -> dict[str, PinnedTool]:
        """The server says this now; what is known of its tools then."""
        await self.pins.listed(server, definitions)
        return tools_of(await self.registry.get(self.acme, str(server.id)))

    async def approve_all(self, view: ServerView, by: ToolManager | None = None) -> ServerView:
        digests = {tool.said.name: tool.said.digest for tool in view.tools}
        return await self.registry.approve(by or self.acme, str(view.server.id), digests)

    async def events(self, by: ToolManager | None = None) -> list[dict[str, Any]]:
        """What the audit log says about tools."""
        async with self.database.tenant((by or self.acme).tenant) as connection:
            rows = await connection.fetch("SELECT * FROM anzoth.audit_log ORDER BY seq")
        return [dict(row) for row in rows if row["type"].startswith("tool.")]


def tools_of(view: ServerView) -> dict[str, PinnedTool]:
    return {tool.definition.name: tool for tool in view.tools}


def manager(tenant: TenantHandle) -> ToolManager:
    actor = audit.actor_of(make_principal(tenant=tenant), "192.0.2.1")
    return ToolManager(tenant, actor, "req_1")


def operator(of: ToolManager) -> ToolManager:
    return replace(of, actor=audit.operator(), is_operator=True)


def run(dsn: str, scenario: Callable[[World], Awaitable[None]], *, listening: bool = False) -> None:
    """`listening`: the clock stands still, and only notifications end what is known."""

    async def main() -> None:
        database = await Database.open(dsn)
        managers = []
        for name in ("acme", "other"):
            tenant = await directory.create_tenant(dsn, name)
            managers.append(manager(TenantHandle(tenant.id, name, "5a17")))
        keys, said, pins = (
            TenantKeys(database, dsn, MasterKey(bytes(32))),
            SaidByServers(),
            Pins(database),
        )
        catalogue = ToolCatalogue(database, dsn, keys, clock=lambda: world.now_s)
        registry = ToolRegistry(database, keys, catalogue, pins, said, {"notes"})
        world = World(dsn, database, keys, catalogue, pins, registry, said, *managers)
        listener = asyncio.create_task(catalogue.run()) if listening else None
        try:
            await scenario(world)
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
            await database.close()

    asyncio.run(main())

"""What are tools made of in a gateway, and what of it must be running?

Does not know: how any of its parts does its work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anzoth.db.pool import Database
from anzoth.gateway.tenant_crypt import TenantKeys
from anzoth.gateway.tools.calling import ToolCaller
from anzoth.gateway.tools.catalogue import ToolCatalogue
from anzoth.gateway.tools.definitions import (
    Credentials,
    GovernedTool,
    ToolDefinition,
    ToolResult,
    ToolServer,
)
from anzoth.gateway.tools.pins import Pins
from anzoth.gateway.tools.registry import ListsTools, ToolRegistry
from anzoth.telemetry import Metrics
from anzoth.tool_config import ToolsConfig

OnListed = Callable[[ToolServer, Sequence[ToolDefinition]], Awaitable[None]]
"""Told what a server says that it can do."""


class Connections(ListsTools, Protocol):
    """To tool servers (see `connections`)."""

    async def call(
        self, tool: GovernedTool, arguments: Mapping[str, Any], credentials: Credentials
    ) -> ToolResult: ...
    async def close(self) -> None: ...


@dataclass(slots=True, frozen=True)
class ToolService:
    """Tools of all tenants. `catalogue` must be running, and `connections` closed behind it."""

    registry: ToolRegistry
    catalogue: ToolCatalogue
    connections: Connections
    caller: ToolCaller
    config: ToolsConfig


def build(
    database: Database,
    dsn: str,
    keys: TenantKeys,
    metrics: Metrics,
    config: ToolsConfig,
    connect: Callable[[OnListed], Connections],
) -> ToolService:
    catalogue, pins = ToolCatalogue(database, dsn, keys), Pins(database)
    connections = connect(pins.listed)
    registry = ToolRegistry(database, keys, catalogue, pins, connections, config.commands)
    caller = ToolCaller(
        *(database, keys, catalogue, connections, metrics), keeps_arguments=config.keep_arguments
    )
    return ToolService(registry, catalogue, connections, caller, config)

"""How does whoever runs the installation handle the tool servers of a tenant?

These are the functions behind `anzoth tools`. The operator finds the tenant; what is done then is
done as the gateway does it for that tenant, behind the same policies of the database, and servers
are reached by the same way out, from the machine on which the command runs.

Does not know: what a tool server is, or how a command looks.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.gateway import audit, directory
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.gateway.tools.catalogue import ToolCatalogue
from anzoth.gateway.tools.managing import ServerView, ToolManager
from anzoth.gateway.tools.pins import Pins
from anzoth.gateway.tools.registry import ToolRegistry
from anzoth.gateway.tools.service import Connections, OnListed
from anzoth.tool_config import ToolsConfig


@contextlib.asynccontextmanager
async def registry_of(
    dsn: str,
    pepper: Pepper,
    master: MasterKey,
    config: ToolsConfig,
    connect: Callable[[OnListed], Connections],
    tenant: str,
) -> AsyncIterator[tuple[ToolRegistry, ToolManager]]:
    """The tool servers of a tenant (by name), for the operator. Raises DirectoryError and
    DatabaseError."""
    async with pool.operator(dsn) as connection:
        found = await directory.find_tenant(connection, tenant)
    handle = TenantHandle(found.id, found.name, pepper.cache_salt(found.id))
    database = await Database.open(dsn)
    try:
        keys, pins = TenantKeys(database, dsn, master), Pins(database)
        connections = connect(pins.listed)
        catalogue = ToolCatalogue(database, dsn, keys)
        try:
            yield (
                ToolRegistry(database, keys, catalogue, pins, connections, config.commands),
                ToolManager(handle, audit.operator(), is_operator=True),
            )
        finally:
            await connections.close()
    finally:
        await database.close()


async def labelled(registry: ToolRegistry, by: ToolManager, label: str) -> ServerView:
    """Raises DirectoryError."""
    for view in await registry.list(by):
        if view.server.label == label:
            return view
    raise directory.DirectoryError(f"the tenant {by.tenant.name!r} has no tool server {label!r}")

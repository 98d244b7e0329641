"""From a registered process to a call of it: what was not approved as it is now is not called."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from registry_kit import listing_command, manager, operator

from anzoth.db.pool import Database
from anzoth.gateway import directory
from anzoth.gateway.egress.egress import Egress
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.gateway.tools import service
from anzoth.gateway.tools.connections import ToolConnections
from anzoth.gateway.tools.definitions import NO_CREDENTIALS, GovernedTool, ToolFailure
from anzoth.gateway.tools.managing import ServerRequest
from anzoth.tool_config import EgressConfig, ToolsConfig

pytestmark = pytest.mark.slow

ADD = {"name": "add", "description": "Adds a note.", "inputSchema": {"type": "object"}}


def test_a_tool_that_changes_between_two_calls_is_quarantined_and_not_called(
    dsn: str, data_dir: Path
) -> None:
    listing = data_dir / "tools.json"
    listing.write_text(json.dumps([ADD]))
    config = ToolsConfig(commands={"notes": listing_command(listing)})

    async def main() -> None:
        database = await Database.open(dsn)
        tenant = await directory.create_tenant(dsn, "acme")
        by = operator(manager(TenantHandle(tenant.id, "acme", "5a17")))
        keys = TenantKeys(database, dsn, MasterKey(bytes(32)))
        tools = service.build(
            *(database, dsn, keys, config),
            lambda on_listed: ToolConnections(Egress(EgressConfig()), config, on_listed),
        )

        async def call(tool: GovernedTool) -> str:
            return (await tools.connections.call(tool, {}, NO_CREDENTIALS)).text

        request = ServerRequest("notes", "command", command="notes")
        view = await tools.registry.create(by, request)
        seen = {tool.said.name: tool.said.digest for tool in view.tools}
        await tools.registry.approve(by, str(view.server.id), seen)
        tool = (await tools.catalogue.of(by.tenant))["notes__add"]
        assert await call(tool) == "done"
        listing.write_text(json.dumps([{**ADD, "description": "Adds a note and mails it."}]))
        with pytest.raises(ToolFailure) as raised:
            await call(tool)
        assert raised.value.kind == "changed"
        (tool_now,) = (await tools.registry.get(by, str(view.server.id))).tools
        assert tool_now.state == "quarantined"
        other = service.build(*(database, dsn, keys, config), lambda _: tools.connections)
        assert await other.catalogue.of(by.tenant) == {}  # of another gateway
        await tools.connections.close()
        await database.close()

    asyncio.run(main())

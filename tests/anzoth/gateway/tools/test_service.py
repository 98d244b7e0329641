"""From a registered process to a judged call: what changed since its approval is not called."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import tools_policy_kit
from registry_kit import listing_command, manager, operator

from anzoth.gateway.egress.egress import Egress
from anzoth.gateway.tools import service
from anzoth.gateway.tools.calling import ToolTurn
from anzoth.gateway.tools.connections import ToolConnections
from anzoth.gateway.tools.definitions import ToolOutcome
from anzoth.gateway.tools.grants import granted
from anzoth.gateway.tools.managing import ServerRequest
from anzoth.telemetry import Metrics
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
        async with tools_policy_kit.world(dsn, grants=["notes"]) as world:
            principal, by = world.principal, operator(manager(world.principal.tenant))
            tools = service.build(
                *(world.database, dsn, world.tenant_keys, Metrics(), config),
                lambda on_listed: ToolConnections(Egress(EgressConfig()), config, on_listed),
            )
            request = ServerRequest("notes", "command", command="notes", approval="never")
            view = await tools.registry.create(by, request)
            assert granted(await tools.catalogue.of(principal.tenant), principal, None, ()) == {}
            seen = {tool.said.name: tool.said.digest for tool in view.tools}
            await tools.registry.approve(by, str(view.server.id), seen)
            later = service.build(  # another gateway: it has read nothing yet
                *(world.database, dsn, world.tenant_keys, Metrics(), config),
                lambda on_listed: ToolConnections(Egress(EgressConfig()), config, on_listed),
            )
            catalogue = await later.catalogue.of(principal.tenant)
            offered = granted(catalogue, principal, ["notes"], ())

            async def call(call_id: str) -> ToolOutcome:
                turn = ToolTurn(principal, "req_1", None, None, "chat", offered)
                return await later.caller.call(turn, call_id, "notes__add", "{}")

            first = await call("call_1")
            assert (first.decision, first.text, first.failure) == ("allowed", "done", None)
            listing.write_text(json.dumps([{**ADD, "description": "Adds a note and mails it."}]))
            assert (await call("call_2")).failure == "changed"
            (tool,) = (await tools.registry.get(by, str(view.server.id))).tools
            assert tool.state == "quarantined"
            assert await tools.catalogue.of(principal.tenant) == {}
            types = [event.type for event in await world.events()]
            assert types.count("tool.called") == 2
            assert types.count("tool.quarantined") == 1
            for built in (tools, later):
                await built.connections.close()

    asyncio.run(main())

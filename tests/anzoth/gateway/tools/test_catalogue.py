"""What a change makes of the catalogue is known to every gateway at once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from registry_kit import MCP, World, defined, run

from anzoth.gateway.tools.managing import ServerChange

pytestmark = pytest.mark.slow


async def until(world: World, *names: str) -> None:
    """The clock stands still, so that only a notification ends what is known."""
    while set(await world.catalogue.of(world.acme.tenant)) != set(names):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_approvals_quarantines_and_deletions_are_heard_of_before_the_second_is_over(
    dsn: str,
) -> None:
    async def scenario(world: World) -> None:
        async with asyncio.timeout(20):
            world.said.by_label["crm"] = [defined("get"), defined("put")]
            view = await world.registry.create(world.acme, MCP)
            id = str(view.server.id)
            while not await world.catalogue.of(world.acme.tenant):  # until it listens
                await world.approve_all(view)
                await world.registry.withdraw(world.acme, id, ["put"])
                await world.registry.approve(world.acme, id, {"put": defined("put").digest})
                await asyncio.sleep(0.01)
            await until(world, "crm__get", "crm__put")
            await world.says(view.server, defined("get"), defined("put", "Other."))
            await until(world, "crm__get")
            await world.registry.update(world.acme, id, ServerChange(approval="always"))
            while (  # noqa: ASYNC110
                await world.catalogue.of(world.acme.tenant)
            )["crm__get"].server.approval != "always":
                await asyncio.sleep(0.001)
            await world.registry.delete(world.acme, id)
            await until(world)

    run(dsn, scenario, listening=True)


def test_what_a_server_says_unchanged_ends_nothing_that_is_known(dsn: str) -> None:
    async def scenario(world: World) -> None:
        world.said.by_label["crm"] = [defined("get")]
        view = await world.approve_all(await world.registry.create(world.acme, MCP))
        heard: list[object] = []
        listener = await asyncpg.connect(dsn)
        await listener.add_listener("anzoth_tools", lambda *said: heard.append(said[-1]))
        await world.says(view.server, defined("get"))
        await world.registry.create(world.other, MCP)  # announced behind it
        async with asyncio.timeout(20):
            while not heard:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await listener.close()
        assert set(heard) == {str(world.other.tenant.id)}

    run(dsn, scenario)

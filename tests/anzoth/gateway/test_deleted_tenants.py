"""Does every deletion reach every engine, whoever was away when it happened?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_peer import EnginePeer

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.gateway import directory
from anzoth.gateway.deleted_tenants import DeletedTenants
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.keys import Pepper
from anzoth.telemetry import Metrics

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")


@dataclass
class Model:
    """The part of a served model that is looked at."""

    engine: EngineClient


class Flaky:
    """A real database that is away at first."""

    def __init__(self, database: Database, num_failures: int) -> None:
        self.database = database
        self.num_failures = num_failures

    @contextlib.asynccontextmanager
    async def deleted_tenants(self) -> AsyncIterator[Any]:
        self.num_failures -= 1
        if self.num_failures >= 0:
            raise DatabaseDown()
        async with self.database.deleted_tenants() as connection:
            yield connection


@dataclass
class Gateway:
    dsn: str
    peers: list[EnginePeer]
    engines: list[EngineClient]

    async def create(self, name: str) -> str:
        """A tenant's cache salt."""
        return PEPPER.cache_salt((await directory.create_tenant(self.dsn, name)).id)

    def salts(self, peer: EnginePeer) -> set[str]:
        return {salt for purge in peer.purges for salt in purge.cache_salts}


@contextlib.asynccontextmanager
async def gateway(dsn: str, path: Path, num_failures: int = 0) -> AsyncIterator[Gateway]:
    """Two engines and what acts on deletions; `start` begins the latter."""
    database = await Database.open(dsn)
    peers = [EnginePeer(path / f"{number}", lambda *_: []) for number in range(2)]
    engines = [EngineClient(f"m{n}", peer.path, Metrics()) for n, peer in enumerate(peers)]
    models: Any = [Model(engine) for engine in engines]
    flaky: Any = Flaky(database, num_failures)
    deleted = DeletedTenants(flaky, dsn, PEPPER, models)
    for peer in peers:
        await peer.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (*engines, deleted)]
        yield Gateway(dsn, peers, engines)
        for task in tasks:
            task.cancel()
    for peer in peers:
        await peer.stop()
    await database.close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main()

    asyncio.run(bounded())


def test_a_deletion_reaches_every_engine_that_runs(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(dsn, tmp_path) as made:
            salts = {await made.create("acme"), await made.create("other")}
            for name in ("acme", "other"):
                await directory.delete_tenant(dsn, name)
            for peer in made.peers:
                await peer.until(lambda peer=peer: made.salts(peer) == salts)

    run(main)


def test_deletions_before_the_start_are_caught_up_with(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        salt = PEPPER.cache_salt((await directory.create_tenant(dsn, "acme")).id)
        await directory.create_tenant(dsn, "other")
        await directory.delete_tenant(dsn, "acme")
        async with gateway(dsn, tmp_path, num_failures=1) as made:
            for peer in made.peers:
                await peer.until(lambda peer=peer: made.salts(peer) == {salt})

    run(main)


def test_an_engine_that_is_away_is_asked_when_it_is_back(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(dsn, tmp_path) as made:
            salt = await made.create("acme")
            away, here = made.peers
            await away.stop()
            await directory.delete_tenant(dsn, "acme")
            await here.until(lambda: made.salts(here) == {salt})
            assert not away.purges
            await away.start()
            await away.until(lambda: made.salts(away) == {salt})

    run(main)

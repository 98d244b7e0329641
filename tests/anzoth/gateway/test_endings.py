"""Does every deletion reach every engine, whoever was away when it happened?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from engine_peer import EnginePeer

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.errors import AnzothError, KeyRevoked
from anzoth.frames import SamplingParams
from anzoth.gateway import directory, endings
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.endings import Endings
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.purging import Purges
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
    async def ended(self) -> AsyncIterator[Any]:
        self.num_failures -= 1
        if self.num_failures >= 0:
            raise DatabaseDown()
        async with self.database.ended() as connection:
            yield connection


@dataclass
class Gateway:
    dsn: str
    peers: list[EnginePeer]
    engines: list[EngineClient]
    models: list[Model]

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
    purges = Purges(models)
    deleted = Endings(flaky, dsn, PEPPER, purges)
    for peer in peers:
        await peer.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (*engines, purges, deleted)]
        yield Gateway(dsn, peers, engines, models)
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


class Waiting:
    """Somebody whose request runs."""

    def __init__(self) -> None:
        self.error: AnzothError | None = None
        self.ended = asyncio.Event()

    def row(self, row: Any, now_s: float) -> None: ...

    def prompt_row(self, row: Any) -> None: ...

    def lost(self, error: AnzothError) -> None:
        self.error = error
        self.ended.set()


async def begin(engine: EngineClient, tenant_id: UUID, key_id: UUID) -> Waiting:
    waiting = Waiting()
    await engine.submit(
        waiting,
        [1, 2],
        num_choices=1,
        max_tokens=9,
        sampling=SamplingParams(),
        tenant=TenantHandle(tenant_id, "acme", "5a17"),
        key_id=key_id,
    )
    return waiting


async def ready(made: Gateway) -> None:
    async with asyncio.timeout(10):
        while not all(engine.healthy for engine in made.engines):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.005)


async def new_key(dsn: str) -> tuple[UUID, UUID]:
    """Of its tenant and itself."""
    created = await directory.create_key(dsn, PEPPER, KeyRequest("acme", "k"))
    (tenant,) = await directory.list_tenants(dsn)
    return tenant.id, created.id


def test_a_model_that_was_loaded_later_is_told_too(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(dsn, tmp_path) as made:
            late = made.models.pop()
            salts = {await made.create(name) for name in ("acme", "other")}
            await directory.delete_tenant(dsn, "acme")
            await made.peers[0].until(lambda: len(made.salts(made.peers[0])) == 1)
            made.models.append(late)
            await directory.delete_tenant(dsn, "other")
            await made.peers[0].until(lambda: made.salts(made.peers[0]) == salts)
            await made.peers[1].until(lambda: len(made.salts(made.peers[1])) == 1)

    run(main)


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_revoked_keys_requests_end_on_every_engine_and_no_others(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_heard: bool
) -> None:
    if not is_heard:  # the connection is there, but nothing ever comes over it
        monkeypatch.setattr(endings, "KEYS_CHANNEL", "deaf")

    async def main() -> None:
        async with gateway(dsn, tmp_path) as made:
            await directory.create_tenant(dsn, "acme")
            tenant, key = await new_key(dsn)
            _, other = await new_key(dsn)
            _, patient = await new_key(dsn)
            for peer in made.peers:
                peer.pause_after = 0
            await ready(made)
            ended = [await begin(engine, tenant, key) for engine in made.engines]
            going_on = [await begin(made.engines[0], tenant, id) for id in (other, patient)]
            await directory.revoke_key(dsn, str(patient), lets_finish=True)
            await directory.revoke_key(dsn, str(key))
            for waiting in ended:
                async with asyncio.timeout(2):
                    await waiting.ended.wait()
                assert isinstance(waiting.error, KeyRevoked)
            for peer in made.peers:
                await peer.until(lambda peer=peer: len(peer.aborts) == 1)
            assert not any(waiting.ended.is_set() for waiting in going_on)
            with pytest.raises(KeyRevoked):  # it authenticated just before
                await begin(made.engines[0], tenant, key)
            await directory.revoke_key(dsn, str(patient))  # impatient now
            async with asyncio.timeout(2):
                await going_on[1].ended.wait()
            assert not going_on[0].ended.is_set()

    run(main)

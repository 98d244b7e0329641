"""Does every engine forget a file that is not searched any more, whoever was away meanwhile?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_peer import EnginePeer
from files_kit import FileServer, as_owner
from stores_kit import add_files, complete, expire

from anzoth.db.pool import Database
from anzoth.gateway import directory
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.keys import Pepper
from anzoth.gateway.knowledge import gone_files
from anzoth.gateway.knowledge.gone_files import GoneFiles
from anzoth.gateway.purging import Purges
from anzoth.telemetry import Metrics

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
Run = Callable[[Callable[[FileServer], Awaitable[None]]], None]


@dataclass
class Node:
    """A gateway's part in this, and its engines."""

    peers: list[EnginePeer]
    gone: GoneFiles

    def asked(self, peer: EnginePeer) -> set[str]:
        """Files."""
        return {tag for purge in peer.purges for tag in purge.tags or ()}

    async def until_asked(self, *expected: tuple[str, str]) -> None:
        """Every engine, for these salts and files and no others."""
        salt_of = {file: salt for salt, file in expected}
        for peer in self.peers:
            await peer.until(lambda peer=peer: self.asked(peer) >= salt_of.keys())
            assert self.asked(peer) == salt_of.keys()
            for purge in peer.purges:
                assert {salt_of[tag] for tag in purge.tags or ()} == set(purge.cache_salts)


@asynccontextmanager
async def node(dsn: str, folder: Path, name: str = "node") -> AsyncIterator[Node]:
    """Running, with two engines."""
    database = await Database.open(dsn)
    peers = [EnginePeer(folder / f"{name}{number}", lambda *_: []) for number in range(2)]
    engines = [EngineClient(f"m{n}", peer.path, Metrics()) for n, peer in enumerate(peers)]
    models: list[Any] = [SimpleNamespace(engine=engine) for engine in engines]
    purges = Purges(models)
    gone = GoneFiles(database, dsn, PEPPER, purges)
    for peer in peers:
        await peer.start()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (*engines, purges, gone)]
        yield Node(peers, gone)
        for task in tasks:
            task.cancel()
    for peer in peers:
        await peer.stop()
    await database.close()


async def filled(server: FileServer, *names: str, key: str = "good") -> tuple[str, list[str]]:
    """A store with these files, all of them searched."""
    ids = await add_files(server, *names, key=key)
    store = await server.sdk(key).vector_stores.create(file_ids=ids)
    for id in ids:
        await complete(server, store.id, id, principal=server.api.keys.principals[key])
    return store.id, ids


def salts(server: FileServer) -> tuple[str, str]:
    one, two = server.one.tenant.id, server.two.tenant.id
    return PEPPER.cache_salt(one), PEPPER.cache_salt(two)


def test_a_file_that_is_deleted_or_taken_out_is_forgotten_by_every_engine_of_every_gateway(
    run_stores: Run, tmp_path: Path
) -> None:
    async def scenario(server: FileServer) -> None:
        one, two = salts(server)
        store, [deleted, out, kept] = await filled(server, *"abc")
        _, [foreign] = await filled(server, "d", key="foreign")
        [waiting] = await add_files(server, "waiting")
        await server.sdk().vector_stores.files.create(store, file_id=waiting)
        async with node(server.dsn, tmp_path) as first, node(server.dsn, tmp_path, "b") as second:
            await server.sdk().files.delete(deleted)
            await server.sdk().vector_stores.files.delete(out, vector_store_id=store)
            await server.sdk().files.delete(waiting)  # never searched: in no prompt
            await server.sdk("foreign").files.delete(foreign)
            for made in (first, second):
                await made.until_asked((one, deleted), (one, out), (two, foreign))
                assert not any(kept in made.asked(peer) for peer in made.peers)

    run_stores(scenario)


def test_a_store_that_ends_counts_for_all_its_files(run_stores: Run, tmp_path: Path) -> None:
    async def scenario(server: FileServer) -> None:
        one, _ = salts(server)
        gone, [a, b] = await filled(server, *"ab")
        expired, [c] = await filled(server, "c")
        cleanup = server.api.services.stores.cleanup
        async with node(server.dsn, tmp_path) as made:
            await server.sdk().vector_stores.delete(gone)
            await made.until_asked((one, a), (one, b))
            await cleanup.sweep()
            await expire(server, expired)
            await cleanup.sweep()
            await cleanup.sweep()
            await made.until_asked((one, a), (one, b), (one, c))
            assert await server.count("gone_files") == 3

    run_stores(scenario)


def test_what_went_while_a_gateway_was_away_is_forgotten_at_its_start(
    run_stores: Run, tmp_path: Path
) -> None:
    async def scenario(server: FileServer) -> None:
        one, _ = salts(server)
        _, [a, b] = await filled(server, *"ab")
        await server.sdk().files.delete(a)
        async with node(server.dsn, tmp_path) as made:
            await made.until_asked((one, a))
            away, here = made.peers
            await away.stop()  # its process lives: only the connection is lost
            await server.sdk().files.delete(b)
            await here.until(lambda: b in made.asked(here))
            assert b not in made.asked(away)
            await away.start()
            await made.until_asked((one, a), (one, b))

    run_stores(scenario)


def test_a_listener_that_hears_nothing_looks(
    run_stores: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gone_files, "CHANNEL", "deaf")
    monkeypatch.setattr(gone_files, "_LOOK_S", 0.05)

    async def scenario(server: FileServer) -> None:
        one, _ = salts(server)
        _, [a] = await filled(server, "a")
        async with node(server.dsn, tmp_path) as made:
            await server.sdk().files.delete(a)
            await made.until_asked((one, a))

    run_stores(scenario)


def test_each_going_is_told_once_and_one_that_was_committed_late_is_not_missed(
    run_stores: Run, tmp_path: Path
) -> None:
    async def scenario(server: FileServer) -> None:
        told: list[tuple[str, str]] = []
        purges: Any = SimpleNamespace(forget_files=lambda files: told.extend(files))
        gone = GoneFiles(server.database, server.dsn, PEPPER, purges)
        one, _ = salts(server)
        _, [a, late] = await filled(server, *"ab")
        await server.sdk().files.delete(a)
        await gone.look()
        await gone.look()
        assert told == [(one, a)]
        await server.sdk().files.delete(late)
        await as_owner(
            server.dsn,
            "UPDATE anzoth.gone_files SET gone_at = now() - interval '30 s', number = DEFAULT "
            f"WHERE file_id = '{late}'",
        )
        await gone.look()
        await gone.look()
        assert told == [(one, a), (one, late)]

    run_stores(scenario)


def test_a_deleted_tenant_leaves_no_list_of_its_files(run_stores: Run) -> None:
    async def scenario(server: FileServer) -> None:
        await filled(server, *"ab")
        await directory.delete_tenant(server.dsn, "one")
        assert await server.count("gone_files") == 0

    run_stores(scenario)


def test_what_went_long_ago_leaves_the_list_and_nothing_else_can_be_deleted(
    run_stores: Run,
) -> None:
    async def scenario(server: FileServer) -> None:
        purges: Any = SimpleNamespace()
        gone = GoneFiles(server.database, server.dsn, PEPPER, purges)
        _, [a, b] = await filled(server, *"ab")
        for id in (a, b):
            await server.sdk().files.delete(id)
        await as_owner(
            server.dsn,
            f"UPDATE anzoth.gone_files SET gone_at = now() - interval '8 days' "
            f"WHERE file_id = '{a}'",
        )
        await gone.clean_up()
        assert await server.count("gone_files", f"file_id = '{b}'") == 1
        assert await server.count("gone_files") == 1
        async with server.database.outdated_stores() as connection:
            assert await connection.execute("DELETE FROM anzoth.gone_files") == "DELETE 0"
        for principal, num_seen in ((server.one, 1), (server.two, 0)):
            async with server.database.tenant(principal.tenant) as connection:
                assert await connection.execute("DELETE FROM anzoth.gone_files") == "DELETE 0"
                seen = await connection.fetchval("SELECT count(*) FROM anzoth.gone_files")
                assert seen == num_seen

    run_stores(scenario)

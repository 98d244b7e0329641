"""Is every engine asked for what it has to forget, in frames that it takes, while it is served?

`test_endings` and `knowledge.test_gone_files` have the database, and engines that are away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_peer import EnginePeer

from anzoth.gateway import purging
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.purging import Purges
from anzoth.telemetry import Metrics


@asynccontextmanager
async def purging_one(path: Path) -> AsyncIterator[tuple[Purges, EnginePeer, list[Any]]]:
    """With the engine's peer, and the models that are served."""
    peer = EnginePeer(path / "s", lambda *_: [])
    await peer.start()
    client = EngineClient("m", peer.path, Metrics())
    models: list[Any] = [SimpleNamespace(engine=client)]
    purges = Purges(models)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (client, purges)]
        yield purges, peer, models
        for task in tasks:
            task.cancel()
    await peer.stop()


def test_files_of_several_tenants_go_in_frames_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "_MAX_FILES", 3)

    async def main() -> None:
        async with purging_one(tmp_path) as (purges, peer, _):
            files = {(f"salt{n % 2}", f"file{n}") for n in range(8)}
            purges.forget_files(files)
            await peer.until(lambda: len(peer.purges) == 3)
            asked = [
                (salt, tag)
                for purge in peer.purges
                for tag in purge.tags or ()
                for salt in purge.cache_salts
            ]
            assert files <= set(asked)
            assert len({tag for _, tag in asked}) == 8
            assert max(len(purge.tags or ()) for purge in peer.purges) == 3

    asyncio.run(main())


def test_a_tenant_and_a_file_of_another_are_two_frames(tmp_path: Path) -> None:
    async def main() -> None:
        async with purging_one(tmp_path) as (purges, peer, _):
            purges.forget_files([("aa", "file")])
            purges.forget_tenants(["bb"])
            await peer.until(lambda: len(peer.purges) == 2)
            assert {(purge.cache_salts, purge.tags) for purge in peer.purges} == {
                (("bb",), None),
                (("aa",), ("file",)),
            }

    asyncio.run(main())


def test_an_engine_that_is_not_served_any_more_is_not_asked_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        async with purging_one(tmp_path) as (purges, peer, models):
            await peer.stop()
            purges.forget_files([("aa", "file")])
            assert purges._owed
            models.clear()
            while purges._owed:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.005)

    asyncio.run(main())

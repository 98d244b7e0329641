"""What is deleted leaves every node's index, whatever was missed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from knowledge_kit import Gateway, Knowledge, Scenario, run_knowledge, texts

from anzoth.gateway import directory
from anzoth.gateway.knowledge import index_cleanup
from anzoth.gateway.knowledge.index_cleanup import IndexCleanup

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    return lambda scenario: run_knowledge(dsn, tmp_path, scenario, save_after_s=0.05)


def cleanup_of(it: Knowledge, gateway: Gateway) -> IndexCleanup:
    return IndexCleanup(it.database, it.server.dsn, gateway.indexes, gateway.retriever.index)


@contextlib.asynccontextmanager
async def cleaning(it: Knowledge, gateway: Gateway) -> AsyncIterator[IndexCleanup]:
    cleanup = cleanup_of(it, gateway)
    running = asyncio.create_task(cleanup.run())
    try:
        yield cleanup
    finally:
        running.cancel()
        await asyncio.wait({running})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)


async def indexed(it: Knowledge, on: Gateway) -> dict[str, str]:
    """Stores with a snapshot on this node: two of the first tenant and one of the second."""
    stores = {}
    for name, owner in (("a", it.one), ("b", it.one), ("c", it.two)):
        stores[name] = await it.add_store(owner)
        await it.add_file(stores[name], f"fox {name}", principal=owner)
        assert len(texts(await it.search(stores[name], "fox", by=owner, on=on))) == 1
        folder = it.index_of(owner, stores[name], on)
        await until(lambda folder=folder: folder.exists() and bool(list(folder.glob("*manifest*"))))
    return stores


def test_a_deleted_store_leaves_this_node_at_once_and_others_when_they_look(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        async with it.second_gateway(save_after_s=0.05) as second:
            stores = await indexed(it, it.first)
            for name in ("a", "b"):
                await it.search(stores[name], "fox", on=second)
            of_second = it.index_of(it.one, stores["a"], second)
            await until(of_second.exists)
            await it.set_store(stores["a"], "deleted_at = now(), details = NULL")
            await cleanup_of(it, it.first).gone(it.one.tenant.id, stores["a"])
            assert not it.index_of(it.one, stores["a"]).exists()
            assert it.index_of(it.one, stores["b"]).exists()
            async with cleaning(it, second):
                await until(lambda: not of_second.exists())
            assert (it.one.tenant.id, stores["a"]) not in second.indexes.open_stores()
            assert len(texts(await it.search(stores["b"], "fox", on=second))) == 1

    run(scenario)


def test_a_deleted_tenant_is_heard_of_and_its_indexes_go(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        stores = await indexed(it, it.first)
        async with cleaning(it, it.first) as cleanup:
            await until(lambda: not cleanup._must_look.is_set())
            await asyncio.sleep(0)
            await directory.delete_tenant(it.server.dsn, "one")
            folder = it.index_of(it.one, stores["a"]).parent
            await until(lambda: not folder.exists())
        assert it.index_of(it.two, stores["c"]).exists()
        assert len(texts(await it.search(stores["c"], "fox", by=it.two))) == 1

    run(scenario)


def test_what_ended_while_nobody_listened_is_found_by_looking(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        stores = await indexed(it, it.first)
        index = it.first.retriever.index
        for stray in ("lost+found", f"{uuid.uuid4()}/not a name", f"{it.two.tenant.id}/x y"):
            (index / stray).mkdir(parents=True)
        await directory.delete_tenant(it.server.dsn, "one")
        await it.set_store(stores["c"], "expires_at = now()", it.two)
        it.first.indexes._open.clear()  # as after a start: only the disk knows
        async with cleaning(it, it.first):
            await until(
                lambda: (
                    not any(
                        it.index_of(owner, stores[name]).exists()
                        for name, owner in (("a", it.one), ("b", it.one), ("c", it.two))
                    )
                )
            )

    run(scenario)


def test_while_the_retriever_is_away_nothing_is_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cleanup, "RETRY_S", 0.01)

    async def scenario(it: Knowledge) -> None:
        stores = await indexed(it, it.first)
        it.first.retriever.end(signal.SIGKILL)
        async with cleaning(it, it.first) as cleanup:
            await cleanup.gone(it.one.tenant.id, stores["a"])
            assert it.index_of(it.one, stores["a"]).exists()
            it.first.retriever.start()
            await until(lambda: not it.index_of(it.one, stores["a"]).exists())
        assert it.index_of(it.one, stores["b"]).exists()

    run(scenario)

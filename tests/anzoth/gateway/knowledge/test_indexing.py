"""A store's way into the retriever: whatever ends when, searches find what the database has."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from files_kit import as_owner
from knowledge_kit import Gateway, Knowledge, run_knowledge, texts

from anzoth.db.errors import DatabaseDown
from anzoth.db.store import chunk_rows
from anzoth.db.store.chunk_rows import IndexedFile
from anzoth.errors import RetrieverUnavailable
from anzoth.gateway.knowledge import indexing, replay
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.knowledge.replay import ReplayedStore
from anzoth.gateway.retriever_client import RetrieverClient

pytestmark = pytest.mark.slow

Run = Callable[..., None]


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    def run_scenario(scenario: Callable[[Knowledge], Awaitable[None]], **settings: Any) -> None:
        run_knowledge(dsn, tmp_path, scenario, **settings)

    return run_scenario


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)


async def fill(it: Knowledge, store: str, count: int = 4) -> list[str]:
    words = ["one", "two", "three", "four"]
    return [await it.add_file(store, f"fox {word}") for word in words[:count]]


async def all_of(it: Knowledge, store: str, on: Gateway | None = None) -> list[str]:
    return sorted(texts(await it.search(store, "fox", on=on)))


EVERY = ["fox four", "fox one", "fox three", "fox two"]


# --- killed between any two steps ----------------------------------------------------------------

STEPS = {
    "after the stores were checked": (Indexes, "opened"),
    "before the retriever is asked": (RetrieverClient, "ask"),
    "as a replay begins": (replay.Replayer, "replay"),
    "amid a replay": (replay.Replayer, "tell"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_retriever_killed_between_two_steps_costs_a_503_at_most(
    step: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a search answers afterwards is all there is."""
    where, name = STEPS[step]
    original = getattr(where, name)

    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await fill(it, store)
        kills = 0

        def killing(*arguments: Any, **named: Any) -> Any:
            nonlocal kills
            if kills == 0 or (step == "amid a replay" and kills == 1):
                kills += 1
                if step != "amid a replay" or kills == 2:
                    it.first.retriever.end(signal.SIGKILL)
                    it.first.retriever.start()
            return original(*arguments, **named)

        monkeypatch.setattr(where, name, killing)
        with pytest.raises(RetrieverUnavailable):
            await it.search(store, "fox")
        await it.first.until_ready()
        assert await all_of(it, store) == EVERY

    run(scenario)


def test_what_was_put_aside_for_want_of_memory_is_found_again(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        stores = [await it.add_store() for _ in range(4)]
        for store in stores:
            await fill(it, store)
        for _ in range(3):
            for store in stores:
                assert await all_of(it, store) == EVERY
        await until(lambda: stats_of(it).get("evictions", 0) > 0)

    run(scenario, memory_bytes=1, save_after_s=0.05)


# --- snapshots -----------------------------------------------------------------------------------


def test_the_generation_of_each_snapshot_is_written_down_and_one_rolled_back_refused_and_healed(
    run: Run,
) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "fox one")
        assert texts(await it.search(store, "fox")) == ["fox one"]
        folder, kept = it.index_of(it.one, store), it.folder / "kept"
        await written(it, store, 1)
        shutil.copytree(folder, kept)
        gone = await it.add_file(store, "fox two")
        assert len(texts(await it.search(store, "fox"))) == 2
        await it.take_out(store, gone)
        assert texts(await it.search(store, "fox")) == ["fox one"]
        await written(it, store, 2)

        def roll_back() -> None:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)

        await it.first.kill_retriever(roll_back)
        # Whoever starts again knows it from the database alone.
        it.first.indexes._open.clear()
        it.first.indexes.client._stores.clear()
        assert texts(await it.search(store, "fox")) == ["fox one"]
        await until(lambda: stats_of(it).get("quarantines", 0) > 0)

    run(scenario, save_after_s=0.1)


async def written(it: Knowledge, store: str, least: int) -> None:
    """Until this generation, or a later one, stands in the database."""
    async with asyncio.timeout(30):
        while (await it.generation(store) or 0) < least:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def stats_of(it: Knowledge) -> dict[str, int]:
    stats = it.first.indexes.client.last_stats
    return {} if stats is None else {name: getattr(stats, name) for name in stats.__slots__}


def test_a_generation_that_cannot_be_written_now_is_written_later(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge) -> None:
        monkeypatch.setattr(indexing, "_RETRY_S", 0.01)
        original, fails = chunk_rows.set_generation, 2

        async def set_generation(*values: Any) -> None:
            nonlocal fails
            fails -= 1
            if fails >= 0:
                raise DatabaseDown("away")
            await original(*values)

        monkeypatch.setattr(chunk_rows, "set_generation", set_generation)
        store = await it.add_store()
        await it.add_file(store, "fox one")
        await it.search(store, "fox")
        await written(it, store, 1)
        assert fails < 0
        # What somebody says of a store that is not open is not believed.
        it.first.indexes._saved(str(it.two.tenant.id), store, 99)
        assert not it.first.indexes._unwritten

    run(scenario, save_after_s=0.1)


# --- changes that are told -----------------------------------------------------------------------


def test_a_change_that_is_told_needs_no_replay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replays = 0
    original = replay.Replayer.replay

    async def counted(*arguments: Any) -> int:
        nonlocal replays
        replays += 1
        return await original(*arguments)

    monkeypatch.setattr(replay.Replayer, "replay", counted)

    async def scenario(it: Knowledge) -> None:
        store, indexes = await it.add_store(), it.first.indexes
        for file in await fill(it, store, 3):
            indexes.on_change(it.one.tenant, store, file)
        await until(lambda: not indexes._has_changes.is_set())
        assert len(await all_of(it, store)) == 3
        found = await it.search(store, "fox three")
        await it.take_out(store, found.chunks[0].file_id)
        indexes.on_change(it.one.tenant, store, found.chunks[0].file_id)
        await until(lambda: not indexes._has_changes.is_set())
        assert await all_of(it, store) == ["fox one", "fox two"]
        assert replays == 0
        # Of what is not there nothing is told, and nothing breaks.
        indexes.on_change(it.two.tenant, store, found.chunks[0].file_id)
        indexes.on_change(it.one.tenant, "vs_none", "file-none")
        indexes.on_change(it.one.tenant, store, "file-none")
        await it.first.kill_retriever()
        indexes.on_change(it.one.tenant, store, found.chunks[1].file_id)
        await until(lambda: not indexes._has_changes.is_set())
        assert await all_of(it, store) == ["fox one", "fox two"]
        assert replays == 1

    run(scenario)


def test_a_file_that_changes_while_it_is_replayed_is_told_as_it_is_then(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge) -> None:
        monkeypatch.setattr(replay, "PAGE_CHUNKS", 2)
        store = await it.add_store()
        file = await it.add_file(store, *(f"fox {n}" for n in ("one", "two", "three", "four")))
        original, pages = replay.chunk_rows.chunks_to_index, 0

        async def changing(*arguments: Any) -> Any:
            nonlocal pages
            pages += 1
            page = await original(*arguments)
            if pages == 2:
                await it.set_attributes(store, file, lang="en")
            return page

        monkeypatch.setattr(replay.chunk_rows, "chunks_to_index", changing)
        assert await all_of(it, store) == EVERY
        english = {"type": "eq", "key": "lang", "value": "en"}
        assert len(texts(await it.search(store, "fox", filters=english))) == 4

    run(scenario)


def test_chunks_that_say_the_same_in_one_file_are_told_once(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox", "green hen", "red fox", "red fox")
        found = await it.search(store, "fox")
        assert [chunk.position for chunk in found.chunks] == [0, 1]
        assert found.trace["stores"][0]["num_chunks"] == 2

    run(scenario)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE anzoth.chunks SET content = content || '\\x00' WHERE number = 2",
        "UPDATE anzoth.chunks AS c SET vector = (SELECT vector FROM anzoth.chunks WHERE number = 1)"
        " WHERE number = 2",
        "UPDATE anzoth.vector_store_files SET attributes = '\\x0102' WHERE number = 2",
    ],
)
def test_a_file_that_was_damaged_in_the_database_is_left_out_and_the_others_are_found(
    damage: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await fill(it, store)
        await as_owner(it.server.dsn, damage)
        with caplog.at_level(logging.ERROR):
            assert await all_of(it, store) == ["fox four", "fox one", "fox three"]
        assert "is left out of searches" in caplog.text

    run(scenario)


def test_a_file_that_never_stops_changing_ends_its_search_with_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        (file,) = await fill(it, store, 1)
        number = 0

        async def changing(*_: Any) -> IndexedFile:
            nonlocal number
            number += 1
            return IndexedFile(1, number, None, True)

        monkeypatch.setattr(replay.chunk_rows, "find_file", changing)
        replayer = it.first.indexes._replayer
        cipher = await it.keys.cipher(it.one.tenant)

        async def never(_: object) -> None:
            raise AssertionError

        with pytest.raises(RetrieverUnavailable):
            await replayer.tell(ReplayedStore(it.one.tenant, store, 16), cipher, file, never)

    run(scenario)


# --- idle stores ---------------------------------------------------------------------------------


def test_idle_stores_are_closed_and_opened_by_their_next_search(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        indexes = it.first.indexes
        stores = [await it.add_store() for _ in range(3)]
        for store in stores:
            await fill(it, store, 1)
        indexes._max_open = 2
        for store in stores:
            assert await all_of(it, store) == ["fox one"]
        assert indexes.open_stores() == {(it.one.tenant.id, store) for store in stores[1:]}
        async with it.database.tenant(it.one.tenant) as connection:
            rows = await chunk_rows.find_stores(
                connection, it.one.tenant.id, None, stores, indexes.gateway
            )
        async with indexes.opened(it.one.tenant, rows[stores[1]]):
            indexes._close_unused(len(stores), float("inf"))  # as when all are idle for long
            assert indexes.open_stores() == {(it.one.tenant.id, stores[1])}
        for store in stores:
            assert await all_of(it, store) == ["fox one"]

    run(scenario)

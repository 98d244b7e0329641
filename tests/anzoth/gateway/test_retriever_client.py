"""The gateway's end of the retriever, against a real one, with a dictionary as the truth."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from retriever_kit import DIMENSIONS, Retriever, chunks_of, unit

from anzoth.errors import DeadlineExceeded, InvalidValue, PayloadTooLarge, RetrieverUnavailable
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.retriever_client import (
    Apply,
    DeleteFile,
    PutFile,
    RetrieverClient,
    Store,
    StoreSpec,
)
from anzoth.index_frames import MAX_FILE_CHUNKS, Chunks

pytestmark = pytest.mark.slow

TENANTS = [TenantHandle(UUID(int=n), f"tenant{n}", "salt") for n in (1, 2)]


@dataclass
class Truth:
    """What a database would hold of one store."""

    head: int = 0
    files: dict[int, PutFile | DeleteFile] = field(default_factory=dict)
    replays: list[int] = field(default_factory=list)
    """From where each began."""
    fails: bool = False

    def put(self, file: int, text: str, **attributes: Any) -> PutFile:
        self.head += 1
        chunks = chunks_of([(self.head, text, unit(self.head))])
        self.files[file] = made = PutFile(file, self.head, chunks, attributes)
        return made

    def delete(self, file: int) -> DeleteFile:
        self.head += 1
        self.files[file] = made = DeleteFile(file, self.head)
        return made

    async def replay(self, after: int, apply: Apply) -> int:
        self.replays.append(after)
        if self.fails:
            raise ConnectionError
        head = self.head
        for change in list(self.files.values()):
            if change.seq > after:
                await apply(change)
        return head


def spec(tenant: TenantHandle, store: str = "vs_1", generation: int = 0) -> StoreSpec:
    return StoreSpec(store, DIMENSIONS, "plain", bytes([tenant.id.int] * 32), generation)


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[Retriever]:
    made = Retriever(tmp_path)
    made.start()
    yield made
    made.end(signal.SIGKILL)


@asynccontextmanager
async def client_of(retriever: Retriever) -> AsyncIterator[RetrieverClient]:
    made = RetrieverClient(retriever.socket_path)
    running = asyncio.create_task(made.run())
    try:
        await until_ready(made)
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


async def until_ready(client: RetrieverClient) -> None:
    async with asyncio.timeout(60):
        while not client.healthy:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)


def run(retriever: Retriever, body: Callable[[RetrieverClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client_of(retriever) as client:
            await body(client)

    asyncio.run(main())


async def found(store: Store, truth: Truth, text: str, **more: Any) -> list[int]:
    return sorted(row.file for row in (await store.search(truth.head, text=text, **more)).rows)


def test_what_the_retriever_was_not_told_is_replayed_once(retriever: Retriever) -> None:
    async def body(client: RetrieverClient) -> None:
        truth = Truth()
        store = client.store(TENANTS[0], spec(TENANTS[0]), truth.replay)
        for file in range(1, 6):
            truth.put(file, f"word {file}")
        truth.delete(2)
        searches = [found(store, truth, "word") for _ in range(8)]
        assert await asyncio.gather(*searches) == [[1, 3, 4, 5]] * 8
        assert truth.replays == [0]
        await store.put(truth.put(9, "word"))
        await store.delete(truth.delete(1))
        assert await found(store, truth, "word") == [3, 4, 5, 9]
        assert truth.replays == [0]
        truth.put(10, "word")  # another gateway's
        await store.put(truth.put(11, "word"))
        assert await found(store, truth, "word") == [3, 4, 5, 9, 10, 11]
        assert truth.replays == [0, 8]

    run(retriever, body)


def test_a_killed_retriever_is_given_everything_again(retriever: Retriever) -> None:
    async def body(client: RetrieverClient) -> None:
        truth = Truth()
        store = client.store(TENANTS[0], spec(TENANTS[0]), truth.replay)
        for file in range(1, 6):
            await store.put(truth.put(file, "word"))
        vector = np.array(unit(3), "<f4").tobytes()
        best = await store.search(truth.head, vector=vector, k=1)
        assert [row.file for row in best.rows] == [3]
        retriever.end(signal.SIGKILL)
        with pytest.raises(RetrieverUnavailable):
            await found(store, truth, "word")
        assert not client.healthy
        retriever.start()
        await until_ready(client)
        assert await found(store, truth, "word") == [1, 2, 3, 4, 5]
        assert truth.replays == [0]

    run(retriever, body)


def test_a_retriever_that_is_killed_amid_a_replay_is_given_the_whole_of_it(
    retriever: Retriever,
) -> None:
    """The second half alone, and its end, would pass for everything."""

    async def body(client: RetrieverClient) -> None:
        truth = Truth()
        for file in range(1, 5):
            truth.put(file, "word")

        async def interrupted(after: int, apply: Apply) -> int:
            async def applied(change: PutFile | DeleteFile) -> None:
                if change.file == 3 and len(truth.replays) == 1:
                    retriever.restart(signal.SIGKILL)
                    while client.healthy:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    await until_ready(client)
                await apply(change)

            return await truth.replay(after, applied)

        store = client.store(TENANTS[0], spec(TENANTS[0]), interrupted)
        assert await found(store, truth, "word") == [1, 2, 3, 4]
        assert truth.replays == [0, 0]

    run(retriever, body)


def test_attributes_filter_and_a_change_that_comes_too_early_is_replayed(
    retriever: Retriever,
) -> None:
    async def body(client: RetrieverClient) -> None:
        truth = Truth()
        store = client.store(TENANTS[0], spec(TENANTS[0]), truth.replay)
        await store.put(truth.put(1, "word", lang="de"))
        truth.put(2, "word", lang="de")
        later = truth.put(1, "word", lang="en")
        await store.set_attributes(1, later.seq, later.attributes)
        only = {"type": "eq", "key": "lang", "value": "en"}
        assert await found(store, truth, "word", filters=only) == [1]
        assert truth.replays == [1]

    run(retriever, body)


def test_tenants_with_stores_of_one_name_never_meet(retriever: Retriever) -> None:
    async def body(client: RetrieverClient) -> None:
        truths = [Truth(), Truth()]
        stores = [
            client.store(tenant, spec(tenant), truth.replay)
            for tenant, truth in zip(TENANTS, truths, strict=True)
        ]
        await stores[0].put(truths[0].put(1, "canary one"))
        await stores[1].put(truths[1].put(2, "canary two"))
        assert await found(stores[0], truths[0], "canary one two") == [1]
        assert await found(stores[1], truths[1], "canary one two") == [2]
        thief = client.store(TENANTS[0], StoreSpec("vs_1", DIMENSIONS, "plain", bytes(32)), never)
        with pytest.raises(InvalidValue, match="another data key"):
            await found(thief, Truth(), "canary")
        await client.forget(TENANTS[0].id)
        assert not (retriever.index / str(TENANTS[0].id)).exists()
        assert await found(stores[1], truths[1], "canary") == [2]

    run(retriever, body)


async def never(_after: int, _apply: Apply) -> int:
    raise AssertionError("nothing is to be replayed")


def test_a_forgotten_store_that_is_used_again_is_filled_again(retriever: Retriever) -> None:
    async def body(client: RetrieverClient) -> None:
        truth = Truth()
        store = client.store(TENANTS[0], spec(TENANTS[0]), truth.replay)
        await store.put(truth.put(1, "word"))
        async with client_of(retriever) as other:
            await other.forget(TENANTS[0].id, "vs_1")
        assert await found(store, truth, "word") == [1]
        assert truth.replays == [0]

    run(retriever, body)


def test_a_replay_that_fails_fails_its_search_and_the_next_one_tries_again(
    retriever: Retriever,
) -> None:
    async def body(client: RetrieverClient) -> None:
        truth = Truth(fails=True)
        store = client.store(TENANTS[0], spec(TENANTS[0]), truth.replay)
        truth.put(1, "word")
        with pytest.raises(ConnectionError):
            await found(store, truth, "word")
        truth.fails = False
        assert await found(store, truth, "word") == [1]

    run(retriever, body)


def test_errors_are_those_that_a_client_may_see(retriever: Retriever) -> None:
    async def body(client: RetrieverClient) -> None:
        truth = Truth()
        store = client.store(TENANTS[0], spec(TENANTS[0]), truth.replay)
        await store.put(truth.put(1, "word"))
        with pytest.raises(InvalidValue, match=r"filters\.type"):
            await found(store, truth, "word", filters={"type": "like"})
        with pytest.raises(DeadlineExceeded):
            await found(store, truth, "word", timeout_ms=0)
        many = Chunks(range(MAX_FILE_CHUNKS + 1), ["x"] * (MAX_FILE_CHUNKS + 1), b"")
        with pytest.raises(PayloadTooLarge):
            await store.put(PutFile(2, 2, many))
        store.close()
        assert await found(store, truth, "word") == [1]

    run(retriever, body)


def test_without_a_retriever_everything_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        client = RetrieverClient(tmp_path / "none.sock")
        store = client.store(TENANTS[0], spec(TENANTS[0]), never)
        assert client.state == "connecting"
        with pytest.raises(RetrieverUnavailable):
            await store.search(0, text="word")
        with pytest.raises(RetrieverUnavailable):
            await client.forget(TENANTS[0].id)

    asyncio.run(main())

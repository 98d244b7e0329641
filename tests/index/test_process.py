"""The retriever process over a real socket: killed, restarted, damaged, crowded, misused."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from retriever_kit import Peer, Retriever, connected, key_of, numbers, unit

from anzoth.framing import frame
from anzoth.index_frames import (
    PROTOCOL,
    Advance,
    Behind,
    Close,
    Done,
    Fusion,
    Hello,
    Refused,
    SetAttributes,
    Stats,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[Retriever]:
    made = Retriever(tmp_path)
    yield made
    if made.process is not None:
        made.end(signal.SIGKILL)


def run(retriever: Retriever, body: Callable[[Peer], Awaitable[None]]) -> None:
    """`body` with one connection to a running retriever."""

    async def main() -> None:
        async with connected(retriever) as peer:
            await body(peer)

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.02)


async def fill(peer: Peer, tenant: str = "a", store: str = "s", count: int = 5) -> None:
    """Files 1… with a chunk each: number 10 × file, changes 1…"""
    await peer.open(tenant, store)
    for file in range(1, count + 1):
        answer = await peer.put(
            tenant, store, file, file, [(10 * file, f"word {file}", unit(file))]
        )
        assert isinstance(answer, Done), answer


def test_what_was_put_is_found_at_once_by_words_and_by_meaning(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await fill(peer)
        assert peer.hello == Hello(PROTOCOL, retriever.memory_bytes)
        assert numbers(await peer.search("a", "s", 5, "3")) == [30]
        found = await peer.search("a", "s", 5, None, unit(4), k=1)
        assert numbers(found) == [40]
        assert (found.seq, found.exact, found.rows[0].file) == (5, True, 4)
        assert found.rows[0].dense_score == pytest.approx(1, abs=1e-5)
        assert found.trace["num_chunks"] == 5
        both = await peer.search("a", "s", 5, "word 2", unit(2), k=2, fusion=Fusion("rrf"))
        assert numbers(both)[0] == 20
        assert isinstance(await peer.delete("a", "s", 3, 6), Done)
        assert numbers(await peer.search("a", "s", 6, "3")) == []

    retriever.start()
    run(retriever, body)


def test_a_search_that_must_see_more_is_told_from_where_to_replay(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await fill(peer, count=2)
        await peer.put("a", "s", 9, 4, [(90, "late", unit(9))])  # the third is missing
        answer = await peer.search("a", "s", 4, "late")
        assert isinstance(answer, Behind)
        assert answer.seq == 2
        void = await peer.ask(Advance, "a", "s", 1, 3, answer.life + 1)
        assert void == Done(answer.request + 1, 2)
        done = await peer.ask(Advance, "a", "s", 1, 3, answer.life)
        assert done == Done(answer.request + 2, 4)
        assert numbers(await peer.search("a", "s", 4, "late")) == [90]

    retriever.start()
    run(retriever, body)


def test_the_latest_change_of_a_file_wins_in_whatever_order_they_come(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await peer.open("a", "s")
        await peer.put("a", "s", 1, 3, [(30, "new", unit(3))])
        await peer.put("a", "s", 1, 1, [(10, "old", unit(1))])
        await peer.delete("a", "s", 2, 4)
        assert (await peer.put("a", "s", 2, 2, [(20, "gone", unit(2))])).seq == 4
        assert numbers(await peer.search("a", "s", 4, "new old gone")) == [30]

    retriever.start()
    run(retriever, body)


def test_attributes_do_not_overtake_the_content_that_they_belong_to(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await fill(peer, count=1)
        early = await peer.ask(SetAttributes, "a", "s", 1, 3, {"year": 2})
        assert (type(early), early.seq) == (Behind, 1)
        await peer.put("a", "s", 1, 2, [(11, "again", unit(1))], {"year": 1})
        assert (await peer.ask(SetAttributes, "a", "s", 1, 3, {"year": 2})).seq == 3
        only = {"type": "eq", "key": "year", "value": 2}
        assert numbers(await peer.search("a", "s", 3, "again", filters=only)) == [11]
        other = {**only, "value": 1}
        assert numbers(await peer.search("a", "s", 3, "again", filters=other)) == []

    retriever.start()
    run(retriever, body)


def test_sigterm_keeps_every_change_and_kill_only_those_of_a_snapshot(retriever: Retriever) -> None:
    async def first(peer: Peer) -> None:
        await fill(peer, count=3)

    async def second(peer: Peer) -> None:
        assert (await peer.open("a", "s", generation=1)).seq == 3
        assert numbers(await peer.search("a", "s", 3, "2")) == [20]
        await peer.put("a", "s", 4, 4, [(40, "word 4", unit(4))])

    async def third(peer: Peer) -> None:
        assert (await peer.open("a", "s", generation=1)).seq == 3
        assert (await peer.search("a", "s", 4, "4")).seq == 3
        await peer.put("a", "s", 4, 4, [(40, "word 4", unit(4))])
        assert sorted(numbers(await peer.search("a", "s", 4, "word"))) == [10, 20, 30, 40]

    retriever.start()
    run(retriever, first)
    assert retriever.end() == 0
    retriever.start()
    run(retriever, second)
    retriever.restart(signal.SIGKILL)
    run(retriever, third)


def test_killed_in_the_middle_of_puts_it_knows_what_it_has(retriever: Retriever) -> None:
    """Whatever seq it answers: with the changes behind that, everything is there, once."""
    retriever.save_after_s = 0.0
    files: list[int] = []

    async def put(peer: Peer, file: int) -> Any:
        return await peer.put("a", "s", file, file, [(file, f"word w{file}", unit(file))])

    async def until_killed(peer: Peer) -> None:
        await peer.open("a", "s")
        while not peer.saved or len(files) < peer.saved[-1].seq + 5:
            files.append(len(files) + 1)
            await put(peer, files[-1])
        assert retriever.process is not None
        retriever.process.kill()
        await peer.closed.wait()

    async def replayed(peer: Peer) -> None:
        seq = (await peer.open("a", "s")).seq
        assert seq > 0
        for file in files:
            if file > seq:
                await put(peer, file)
        found = [await peer.search("a", "s", files[-1], f"w{file}") for file in files]
        assert list(map(numbers, found)) == [[file] for file in files]

    retriever.start()
    run(retriever, until_killed)
    retriever.end(signal.SIGKILL)
    retriever.start()
    run(retriever, replayed)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["damaged", "another tenant's", "older than the known one"])
def test_a_snapshot_that_is_refused_is_put_aside_and_replayed(
    retriever: Retriever, harm: str
) -> None:
    generation = 7 if harm == "older than the known one" else 1

    async def first(peer: Peer) -> None:
        await fill(peer, "a", "s")
        await fill(peer, "b", "s", count=2)

    async def healed(peer: Peer) -> None:
        assert (await peer.open("b", "s")).seq == 2  # the other is not touched by it
        assert (await peer.open("a", "s", generation)).seq == 0
        answer = await peer.search("a", "s", 5, "word")
        assert (type(answer), answer.seq) == (Behind, 0)
        await fill(peer)
        assert sorted(numbers(await peer.search("a", "s", 5, "word"))) == [10, 20, 30, 40, 50]

    async def again(peer: Peer) -> None:
        assert (await peer.open("a", "s", generation + 1)).seq == 5

    retriever.start()
    run(retriever, first)
    retriever.end()
    folder = retriever.index / "a" / "s"
    if harm == "damaged":
        damage(next(folder.glob("*.0.vectors.sealed")))
    elif harm == "another tenant's":
        for path in (retriever.index / "b" / "s").glob("*.sealed"):
            shutil.copy(path, folder / path.name)
    retriever.start()
    run(retriever, healed)
    assert list((folder / "quarantine").glob("*.manifest.sealed"))
    retriever.restart(signal.SIGTERM)
    run(retriever, again)


def test_a_tiny_budget_changes_no_result(retriever: Retriever) -> None:
    retriever.memory_bytes = 1
    stores = [("a", "s"), ("a", "t"), ("b", "s"), ("c", "s")]

    async def body(peer: Peer) -> None:
        for position, (tenant, store) in enumerate(stores):
            await fill(peer, tenant, store, count=2 + position)
        for _ in range(3):
            await until(lambda: bool(peer.stats) and not peer.stats[-1].loaded_stores)
            assert peer.stats[-1].loaded_bytes == 0
            for position, name in enumerate(stores):
                found = await peer.search(*name, 2 + position, "word", unit(1))
                assert len(numbers(found)) == 2 + position
                assert numbers(found)[0] == 10
            peer.stats.clear()
        await until(lambda: bool(peer.stats))
        assert peer.stats[-1].evictions >= 2 * len(stores)
        assert peer.stats[-1].stores == len(stores)

    retriever.start()
    run(retriever, body)


def test_what_is_forgotten_takes_no_memory(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        async def loaded_bytes() -> int:
            peer.stats.clear()
            await until(lambda: bool(peer.stats))
            return peer.stats[-1].loaded_bytes

        await fill(peer, "a", "s", count=3)
        own = await loaded_bytes()
        await fill(peer, "b", "s", count=3)
        assert await loaded_bytes() == 2 * own > 0
        await asyncio.gather(
            peer.forget("b"), peer.put("b", "s", 9, 9, [(99, "late words", unit(9))])
        )
        assert await loaded_bytes() == own

    retriever.start()
    run(retriever, body)


def test_many_gateways_write_and_search_at_once(retriever: Retriever) -> None:
    async def gateway(position: int) -> None:
        async with connected(retriever) as peer:
            own = f"own{position}"
            await asyncio.gather(peer.open("a", own), peer.open("a", "shared"))

            async def work(file: int) -> None:
                mine = [(file, f"mine {position}", unit(file))]
                await peer.put("a", own, file, file, mine)
                shared = 10 * position + file
                await peer.put("a", "shared", shared, shared, [(shared, "ours", unit(shared))])
                assert file in numbers(await peer.search("a", own, 0, "mine", k=100))

            await asyncio.gather(*map(work, range(1, 11)))
            found = await peer.search("a", own, 10, "mine", k=100)
            assert sorted(numbers(found)) == list(range(1, 11))

    async def main() -> None:
        await asyncio.gather(*map(gateway, range(8)))
        async with connected(retriever) as peer:
            assert (await peer.open("a", "shared")).seq == 80
            found = await peer.search("a", "shared", 80, "ours", k=100)
            assert sorted(numbers(found)) == list(range(1, 81))

    retriever.start()
    asyncio.run(main())


def test_only_what_a_connection_opened_with_the_key_can_be_named_on_it(
    retriever: Retriever,
) -> None:
    async def body(peer: Peer) -> None:
        await fill(peer)
        async with connected(retriever) as other:
            answers = [
                await other.search("a", "s", 0, "word"),
                await other.delete("a", "s", 1, 9),
                await other.put("a", "s", 1, 9, []),
            ]
            assert [answer.code for answer in answers] == ["closed"] * 3
            wrong = await other.open("a", "s", key=key_of("b"))
            assert (type(wrong), wrong.code) == (Refused, "invalid")
            assert (await other.search("a", "s", 0, "word")).code == "closed"
            assert (await other.open("b", "s")).seq == 0
            assert numbers(await other.search("b", "s", 0, "word")) == []
        peer.send(Close("a", "s"))
        assert (await peer.search("a", "s", 0, "word")).code == "closed"

    retriever.start()
    run(retriever, body)


def test_a_forgotten_tenant_is_gone_from_memory_and_disk(retriever: Retriever) -> None:
    async def first(peer: Peer) -> None:
        await fill(peer, "a", "s")
        await fill(peer, "a", "t")
        await fill(peer, "b", "s")

    async def body(peer: Peer) -> None:
        for name in (("a", "s"), ("b", "s")):
            assert (await peer.open(*name)).seq == 5
        await peer.forget("a")
        assert not (retriever.index / "a").exists()
        assert (await peer.search("a", "s", 0, "word")).code == "closed"
        assert (await peer.open("a", "t")).seq == 0
        assert len(numbers(await peer.search("b", "s", 5, "word"))) == 5
        await peer.forget("b", "s")
        assert not (retriever.index / "b" / "s").exists()

    retriever.start()
    run(retriever, first)
    retriever.restart(signal.SIGTERM)
    run(retriever, body)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 3,
        frame(b'{"t":"close"', b""),
        frame(b'{"t":"nothing"}', b""),
        frame(b'{"t":"stats"}', b""),
        frame(b'{"t":"close","tenant":"../b","store":"s"}', b""),
        frame(b'{"t":"close","tenant":"a","store":null}', b""),
        frame(b'{"t":"forget","request":true,"tenant":"a"}', b""),
        frame(b'{"t":"close","tenant":"a","store":"s","more":1}', b""),
        frame(
            b'{"t":"open","request":1,"tenant":"a","store":"s","dimensions":8,"analyzer":"plain"}',
            b"short",
        ),
        b"\xff" * 16,
    ],
)
def test_a_peer_that_sends_anything_else_is_cut_off(data: bytes, retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await fill(peer, count=1)
        async with connected(retriever) as other:
            other.writer.write(data)
            async with asyncio.timeout(30):
                await other.closed.wait()
        assert numbers(await peer.search("a", "s", 1, "word")) == [10]

    retriever.start()
    run(retriever, body)


def test_values_that_mean_nothing_are_refused_and_nothing_changes(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await fill(peer, count=1)
        refused = [
            await peer.search("a", "s", 1, "word", filters={"type": "like"}),
            await peer.search("a", "s", 1, "word", fusion=Fusion("convex", 3)),
            await peer.search("a", "s", 1),
            await peer.search("a", "s", 1, None, [0.0] * 8),
            await peer.put("a", "s", 2, 2, [(20, "zero", [0.0] * 8)]),
            await peer.put("a", "s", 2, 2, [(10, "another file's", unit(2))]),
            await peer.put("a", "s", 2, 2, [(20, "word", unit(2))], {"key": [1]}),
            await peer.open("a", "new", analyzer="klingon"),
            await peer.open("a", "s", dimensions=9),
        ]
        assert [(type(answer), answer.code) for answer in refused] == [(Refused, "invalid")] * 9
        late = await peer.search("a", "s", 1, "word", timeout_ms=0)
        assert late.code == "late"
        assert (await peer.search("a", "s", 2, "word")).seq == 1
        assert numbers(await peer.search("a", "s", 1, "word")) == [10]

    retriever.start()
    run(retriever, body)


def test_snapshots_follow_changes_and_are_announced(retriever: Retriever) -> None:
    retriever.save_after_s = 0.0

    async def body(peer: Peer) -> None:
        await fill(peer)
        await until(lambda: bool(peer.saved) and peer.saved[-1].seq == 5)
        generation = peer.saved[-1].generation
        manifests = list((retriever.index / "a" / "s").glob("*.manifest.sealed"))
        assert [int(path.name.partition(".")[0]) for path in manifests] == [generation]

    retriever.start()
    run(retriever, body)


def test_a_socket_path_that_cannot_be_had_ends_the_start_for_good(retriever: Retriever) -> None:
    retriever.socket_path.write_text("mine")
    retriever.start()
    assert retriever.process is not None
    assert retriever.process.wait(60) == 78


def test_it_reports_that_it_lives(retriever: Retriever) -> None:
    async def body(peer: Peer) -> None:
        await until(lambda: len(peer.stats) > 1)
        assert peer.stats[0] == Stats(0, 0, 0, 0, 0, 0, 0, 0)

    retriever.start()
    run(retriever, body)

"""Files get into vector stores: whole, once, and each for itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import documents
import orjson
import pytest
from documents import damage
from engine_peer import EMBEDDING_HELLO
from ingestion_kit import (
    MODEL,
    Scenario,
    World,
    read_all,
    sentences,
    until_asked,
)

from anzoth.gateway import directory
from anzoth.gateway.knowledge import file_ingestion, ingestion

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]


def test_a_completed_file_has_its_chunks_and_a_change_in_the_log(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "lamps.txt", sentences(70))
        assert await gateway.ingestion.read_next() == "completed"
        assert await world.assert_whole(world.one, store_id, file_id) == 70
        assert world.changes == [(store_id, file_id)]
        chunk = (await world.chunks(world.one, store_id, file_id))[3]
        assert chunk.content.text == sentences(1, start=3).decode()
        assert chunk.content.context == "lamps"
        assert len(world.embedded()) == 70
        file = await world.file(store_id, file_id)
        assert (file.changed_seq, file.attempts) == (1, 0)
        assert file.num_tokens == sum(chunk.content.num_tokens + 2 for chunk in (
            await world.chunks(world.one, store_id, file_id)
        ))  # fmt: skip
        assert gateway.metric("anzoth_ingested_files_total", outcome="completed") == 1
        assert gateway.metric("anzoth_ingested_chunks_total", source="embedded") == 70
        assert await gateway.ingestion.read_next() is None

    run(scenario)


def test_of_a_changed_file_only_what_changed_is_embedded(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id, other = await world.make_store(world.one), await world.make_store(world.one)
        before = sentences(80)
        first = await world.add(world.one, store_id, "a.txt", before)
        await read_all(gateway)
        world.peer.embeds.clear()
        after = before.replace(b"Paragraph 7 says", b"Paragraph 7 denies")
        second = await world.add(world.one, store_id, "a.txt", after)
        third = await world.add(world.one, other, "a.txt", after)
        await read_all(gateway)
        (text,) = world.embedded()
        assert "Paragraph 7 denies" in text
        for store, file_id in ((store_id, first), (store_id, second), (other, third)):
            assert await world.assert_whole(world.one, store, file_id) == 80
        assert (await world.file(store_id, second)).num_tokens < 100
        assert (await world.file(other, third)).num_tokens == 0

    run(scenario)


def test_a_vector_of_another_tenant_or_model_is_never_taken(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        mine, theirs = await world.make_store(world.one), await world.make_store(world.two)
        elsewhere = await world.make_store(world.one, model="org/other")
        await world.add(world.one, mine, "a.txt", sentences(3))
        await read_all(gateway)
        world.peer.embeds.clear()
        file_id = await world.add(world.two, theirs, "a.txt", sentences(3))
        await world.add(world.one, elsewhere, "a.txt", sentences(3))
        assert await read_all(gateway) == ["completed"]  # nobody serves org/other
        assert len(world.embedded()) == 3
        await world.assert_whole(world.two, theirs, file_id)

    run(scenario)


def test_a_model_of_the_same_name_with_other_vectors_is_not_mixed_in(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        former = await world.make_store(world.one, vector_space="former")
        await world.add(world.one, former, "a.txt", sentences(3))
        before = await world.make_store(world.one, vector_space=None)  # of an older version
        now = await world.make_store(world.one)
        outcomes = [await gateway.ingestion.read_next()]
        await world.add(world.one, before, "a.txt", sentences(3))
        outcomes += await read_all(gateway)
        world.peer.embeds.clear()
        file_id = await world.add(world.one, now, "a.txt", sentences(3))
        assert [*outcomes, *await read_all(gateway)] == ["retried", "completed", "completed"]
        assert len(world.embedded()) == 3  # nothing is taken from what may be another's
        await world.assert_whole(world.one, now, file_id)

    run(scenario)


def test_a_file_for_a_store_whose_model_was_replaced_fails_and_says_what_to_do(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one, vector_space="former")
        file_id = await world.add(world.one, store_id, "a.txt", sentences(1))
        await world.change(store_id, file_id, attempts=str(ingestion.MAX_ATTEMPTS - 1))
        assert await gateway.ingestion.read_next() == "failed"
        file = await world.file(store_id, file_id)
        assert (file.error_code, file.num_chunks) == ("server_error", 0)
        assert f"'{MODEL}'" in str(file.error_message)
        assert "Make a new vector store" in str(file.error_message)
        assert not world.peer.embeds

    run(scenario)


HOSTILE = {
    "bomb.docx": documents.zipped(
        {"word/document.xml": b"<a>" + b" " * (8 << 20) + b"</a>"}, documents.word()
    ),
    "entities.docx": documents.zipped(
        {"word/document.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}, documents.word()
    ),
    "locked.pdf": documents.locked_pdf(),
    "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + random.Random(1).randbytes(2000),
    "empty.txt": b"\n \n",
    "../../etc/passwd.pdf": damage(documents.pdf([[("Text.", 11)]]), 9)[:60],
}


def test_hostile_files_fail_alone_with_a_clear_error(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateways = world.gateway(), world.gateway()
        store_id = await world.make_store(world.one)
        bad = [await world.add(world.one, store_id, *file) for file in HOSTILE.items()]
        good = [
            await world.add(world.one, store_id, *file) for file in documents.one_of_each().values()
        ]
        hidden = await world.add(world.one, store_id, "hidden.html", documents.HTML)
        await read_all(*gateways)
        for file_id in bad:
            file = await world.file(store_id, file_id)
            assert (file.status, file.changed_seq, file.num_chunks) == ("failed", 0, 0)
            assert file.error_code in ("invalid_file", "unsupported_file")
            assert (file.error_message or "").endswith(".")
            assert await world.chunks(world.one, store_id, file_id) == []
        for file_id in good:
            await world.assert_whole(world.one, store_id, file_id)
        for chunk in await world.chunks(world.one, store_id, hidden):
            assert "Ignore all rules" not in chunk.content.indexed

    run(scenario)


def test_a_file_added_again_with_other_rules_has_other_chunks(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(9))
        await read_all(gateway)
        before = await world.chunks(world.one, store_id, file_id)
        rules = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
        chunking = orjson.dumps({"type": "static", "static": rules}).decode()
        again = {"status": "'in_progress'", "changed_seq": "0", "chunking": f"'{chunking}'"}
        await world.change(store_id, file_id, **again, next_attempt_at="now()")
        await read_all(gateway)
        after = await world.chunks(world.one, store_id, file_id)
        assert 0 < await world.assert_whole(world.one, store_id, file_id) < len(before)
        assert {chunk.number for chunk in after}.isdisjoint(chunk.number for chunk in before)
        # Longer than the model reads: embedded cut (see assert_whole), kept whole.
        assert max(chunk.content.num_tokens for chunk in after) > EMBEDDING_HELLO.max_model_tokens

    run(scenario)


def test_while_the_engine_is_away_files_wait_and_do_not_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anzoth.gateway.knowledge.chunk_vectors.MAX_WAIT_S", -1.0)

    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(1))
        world.peer.admits = False
        reading = asyncio.create_task(gateway.ingestion.read_next())
        await until_asked(world)
        await world.peer.stop()
        assert await reading == "postponed"
        await world.change(store_id, file_id, next_attempt_at="now()")
        assert await gateway.ingestion.read_next() is None
        assert (await world.file(store_id, file_id)).attempts == 0
        world.peer.admits = True
        await world.peer.start()
        while not world.models.get(MODEL).engine.healthy:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.001)
        assert await gateway.ingestion.read_next() == "completed"

    run(scenario)


def test_a_fault_of_ours_is_tried_again_five_times_and_then_told(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(1))
        world.peer.embeds_fail = True
        for attempt in range(1, ingestion.MAX_ATTEMPTS):
            assert await gateway.ingestion.read_next() == "retried"
            assert await gateway.ingestion.read_next() is None  # not at once
            assert (await world.file(store_id, file_id)).attempts == attempt
            await world.change(store_id, file_id, next_attempt_at="now()")
        assert await gateway.ingestion.read_next() == "failed"
        file = await world.file(store_id, file_id)
        assert (file.status, file.error_code) == ("failed", "server_error")
        assert file.error_message == "The file could not be read because of a fault here."

    run(scenario)


def test_a_file_of_too_many_chunks_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_ingestion, "MAX_FILE_CHUNKS", 5)

    async def scenario(world: World) -> None:
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(6))
        assert await world.gateway().ingestion.read_next() == "failed"
        file = await world.file(store_id, file_id)
        assert file.error_message == (
            "The file makes 6 chunks, and a file may make at most 5. Split it, or choose larger "
            "chunks."
        )

    run(scenario)


def test_a_deleted_file_and_a_deleted_tenant_leave_nothing_to_read(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        mine, theirs = await world.make_store(world.one), await world.make_store(world.two)
        await world.add(world.one, mine, "a.txt", sentences(1))
        file_id = await world.add(world.two, theirs, "a.txt", sentences(1))
        await directory.delete_tenant(world.dsn, "one")
        async with world.database.tenant(world.two.tenant) as connection:
            await connection.execute(
                "UPDATE anzoth.files SET expires_at = now() WHERE id = $1", file_id
            )
        assert await read_all(gateway) == ["failed"]
        file = await world.file(theirs, file_id)
        assert file.error_message == "The file was deleted, or has expired."

    run(scenario)


def test_a_running_ingestion_hears_of_new_files_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "_POLL_S", 3600.0)

    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one)
        files = [await world.add(world.one, store_id, "a.txt", sentences(1))]
        running = asyncio.create_task(gateway.ingestion.run())
        for number in range(1, 5):
            while len(world.changes) < number:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.001)
            files.append(await world.add(world.one, store_id, "a.txt", sentences(1, start=number)))
        while len(world.changes) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait({running})
        for file_id in files:
            await world.assert_whole(world.one, store_id, file_id)

    run(scenario)

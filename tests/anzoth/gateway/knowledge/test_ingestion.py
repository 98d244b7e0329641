"""Files get into vector stores: whole, once, in turn, and each for itself."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import documents
import orjson
import pytest
from documents import damage
from engine_peer import EMBEDDING_HELLO
from ingestion_kit import MODEL, Gateway, Killed, Mortal, Scenario, World, sentences

from anzoth.db.errors import DatabaseDown
from anzoth.gateway import directory
from anzoth.gateway.knowledge import claims, file_ingestion, ingestion

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]


async def read_all(*gateways: Gateway) -> list[str]:
    """How each reading ended, until nobody finds anything to read."""
    outcomes: list[str] = []

    async def work(gateway: Gateway) -> None:
        while (outcome := await gateway.ingestion.read_next()) is not None:
            outcomes.append(outcome)

    await asyncio.gather(*(work(gateway) for gateway in gateways))
    return outcomes


async def until_asked(world: World) -> None:
    """The engine has been asked for vectors."""
    await world.peer.until(lambda: bool(world.peer.embeds))


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


@pytest.mark.parametrize("after_commit", [False, True], ids=["before", "after"])
def test_a_gateway_killed_at_any_step_loses_nothing_and_doubles_nothing(
    run: Run, after_commit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_ingestion, "GROUP_CHUNKS", 4)

    async def scenario(world: World) -> None:
        store_id = await world.make_store(world.one)

        async def add(number: int) -> str:
            return await world.add(
                world.one, store_id, "a.txt", sentences(10, "lamp", 10 * (10 + number))
            )

        whole = await add(0)
        counting = Mortal(world.database)
        await world.gateway(database=counting).ingestion.read_next()
        expected = await world.file(store_id, whole)
        for step in range(counting.num_begun):
            file_id, name = await add(step + 1), uuid.uuid4()
            mortal = Mortal(world.database, step, after_commit=after_commit)
            with pytest.raises(BaseException) as died:  # noqa: PT011  # alone, or in groups
                await world.gateway(name, mortal).ingestion.read_next()
            assert _is_killed(died.value), step
            if (await world.file(store_id, file_id)).status != "completed":
                if step % 2:  # another one takes it up, but not before its time
                    outcome = await world.gateway().ingestion.read_next()
                    if outcome is None:
                        await world.change(store_id, file_id, next_attempt_at="now()")
                        outcome = await world.gateway().ingestion.read_next()
                else:
                    outcome = await world.gateway(name).ingestion.read_next()
                assert outcome == "completed", step
            assert await world.assert_whole(world.one, store_id, file_id) == 10
            # What was written when it died was embedded once, and so counted once.
            assert (await world.file(store_id, file_id)).num_tokens == expected.num_tokens
        await world.assert_whole(world.one, store_id, whole)
        assert await world.head(store_id) == counting.num_begun + 1

    run(scenario)


def _is_killed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_killed, error.exceptions))
    return isinstance(error, Killed)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_moment_a_reading_is_cancelled_it_goes_on(
    run: Run, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_ingestion, "GROUP_CHUNKS", 4)
    chosen = random.Random(seed)

    async def scenario(world: World) -> None:
        store_id, name = await world.make_store(world.one), uuid.uuid4()
        for number in range(5):
            file_id = await world.add(
                world.one, store_id, "a.txt", sentences(10, start=10 * (10 + number))
            )
            for _ in range(3):
                reading = asyncio.create_task(world.gateway(name).ingestion.read_next())
                for _ in range(chosen.randrange(150)):  # turns of the loop
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait({reading})
                if (await world.file(store_id, file_id)).status == "completed":
                    break
            else:
                assert await world.gateway(name).ingestion.read_next() == "completed"
            assert await world.assert_whole(world.one, store_id, file_id) == 10

    run(scenario)


def test_a_lost_database_is_no_attempt_and_the_file_goes_on_at_once(run: Run) -> None:
    async def scenario(world: World) -> None:
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(3))
        fragile = Mortal(world.database, 7, error=DatabaseDown)
        gateway = world.gateway(database=fragile)
        assert await gateway.ingestion.read_next() == "interrupted"
        assert await gateway.ingestion.read_next() == "completed"
        await world.assert_whole(world.one, store_id, file_id)
        assert (await world.file(store_id, file_id)).attempts == 0

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


def test_ten_thousand_files_of_one_tenant_do_not_hold_up_another(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        mine, theirs = await world.make_store(world.one), await world.make_store(world.two)
        for number in range(8):
            await world.add(world.one, mine, f"{number}.txt", sentences(1, start=number))
        await gateway.ingestion.read_next()
        file_id = await world.add(world.two, theirs, "a.txt", sentences(1))
        await gateway.ingestion.read_next()
        await gateway.ingestion.read_next()
        await world.assert_whole(world.two, theirs, file_id)
        assert len(await read_all(gateway)) == 6

    run(scenario)


def test_a_large_file_makes_room_for_others_and_goes_on_where_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_ingestion, "GROUP_CHUNKS", 4)
    monkeypatch.setattr(file_ingestion, "SLICE_S", 0.0)
    monkeypatch.setattr(file_ingestion, "_READING_SHARE", 0)

    async def scenario(world: World) -> None:
        gateway = world.gateway(max_running=1)
        mine, theirs = await world.make_store(world.one), await world.make_store(world.two)
        large = await world.add(world.one, mine, "a.txt", sentences(12))
        world.peer.admits = False  # it waits for its first vectors
        reading = asyncio.create_task(gateway.ingestion.read_next())
        await until_asked(world)
        small = await world.add(world.two, theirs, "a.txt", sentences(1, "cups"))
        world.peer.admits = True
        await world.peer.stop()
        world.peer.embeds.clear()
        await world.peer.start()
        assert await reading == "postponed"
        assert (await world.file(mine, large)).attempts == 0
        assert await read_all(gateway) == ["completed", "completed"]
        assert world.changes == [(theirs, small), (mine, large)]
        await world.assert_whole(world.one, mine, large)
        assert len(world.embedded()) == 13  # none of them twice

    run(scenario)


def test_two_gateways_never_read_the_same_file_at_the_same_time(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateways = [world.gateway() for _ in range(3)]
        files = []
        for principal in (world.one, world.two):
            store_id = await world.make_store(principal)
            for number in range(6):
                text = sentences(5, start=5 * number)
                files.append(
                    (principal, store_id, await world.add(principal, store_id, "a.txt", text))
                )
        assert await read_all(*gateways, *gateways) == ["completed"] * len(files)
        assert len(world.embedded()) == 5 * len(files)
        for principal, store_id, file_id in files:
            await world.assert_whole(principal, store_id, file_id)

    run(scenario)


def test_a_claim_is_renewed_while_its_file_is_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "_RENEW_S", 0.01)

    async def scenario(world: World) -> None:
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(1))

        async def claimed_until() -> datetime:
            async with world.database.tenant(world.one.tenant) as connection:
                return await connection.fetchval(
                    "SELECT next_attempt_at FROM anzoth.vector_store_files WHERE file_id = $1",
                    file_id,
                )

        world.peer.admits = False
        reading = asyncio.create_task(world.gateway().ingestion.read_next())
        await until_asked(world)
        first = await claimed_until()
        while await claimed_until() == first:
            pass
        assert await world.gateway().ingestion.read_next() is None
        reading.cancel()
        await asyncio.wait({reading})
        world.peer.admits = True
        # Whoever ends leaves the file to others, and need not be waited for.
        assert await world.gateway().ingestion.read_next() == "completed"

    run(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "'cancelled'"},
        {"deleted_at": "now()"},
        {"claimed_by": "gen_random_uuid()"},
        {"claimed_by": "NULL", "created_at": "now()"},  # taken out and added again
    ],
    ids=["cancelled", "removed", "claimed", "again"],
)
def test_whoever_has_lost_a_file_writes_nothing_of_it(
    run: Run, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_ingestion, "GROUP_CHUNKS", 2)

    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.one)
        file_id = await world.add(world.one, store_id, "a.txt", sentences(4))
        world.peer.admits = False
        reading = asyncio.create_task(gateway.ingestion.read_next())
        await until_asked(world)
        await world.change(store_id, file_id, **change)
        world.peer.admits = True
        await world.peer.stop()
        await world.peer.start()
        assert await reading == "dropped"
        file = await world.file(store_id, file_id)
        assert (file.changed_seq, file.attempts, await world.head(store_id)) == (0, 0, 0)
        assert world.changes == []
        assert await world.chunks(world.one, store_id, file_id) == []

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


def test_the_handle_of_a_claimed_file_is_the_tenants_own(run: Run) -> None:
    async def scenario(world: World) -> None:
        gateway = world.gateway()
        store_id = await world.make_store(world.two)
        await world.add(world.two, store_id, "a.txt", sentences(1))
        claim = await gateway.claims.try_next([MODEL])
        assert claim is not None
        handle = gateway.claims.handle_of(claim)
        assert (handle.id, handle.name) == (world.two.tenant.id, "two")
        assert claim.project_id == world.two.project_id
        await gateway.claims.renew(claim)
        with pytest.raises(claims.ClaimLost):
            await gateway.claims.renew(replace(claim, gateway=uuid.uuid4()))

    run(scenario)

"""A file is read by one gateway at a time, each tenant in its turn, whoever dies on the way."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from ingestion_kit import (
    MODEL,
    Killed,
    Mortal,
    Scenario,
    World,
    read_all,
    sentences,
    until_asked,
)

from anzoth.db.errors import DatabaseDown
from anzoth.gateway import claimed_work
from anzoth.gateway.knowledge import file_ingestion

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]


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
    monkeypatch.setattr(claimed_work, "RENEW_S", 0.01)

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
        with pytest.raises(claimed_work.ClaimLost):
            await gateway.claims.renew(replace(claim, gateway=uuid.uuid4()))

    run(scenario)

"""What is not searched any more leaves the database: of deleted stores, expired ones, and files."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import openai
import pytest
from files_kit import FileServer, as_owner, owner_of
from stores_kit import TEXT, add_files, chunks_of, complete, expire, insert_some

from anzoth.db import pool
from anzoth.db.store import audit_rows
from anzoth.errors import KeyRevoked, RetrieverUnavailable
from anzoth.gateway import directory
from anzoth.gateway.knowledge import store_cleanup
from anzoth.gateway.knowledge.store_cleanup import StoreCleanup
from anzoth.gateway.knowledge.stores import StoreRequest

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_cleanup, "_MAX_CHUNKS", 2)
    monkeypatch.setattr(store_cleanup, "_MAX_ROWS", 2)


def cleanup_of(server: FileServer) -> StoreCleanup:
    return server.api.services.stores.cleanup


async def filled(server: FileServer, *names: str, key: str = "good") -> tuple[str, list[str]]:
    """A store with these files, all of them searched."""
    principal = server.api.keys.principals[key]
    ids = await add_files(server, *names, key=key)
    store = await server.sdk(key).vector_stores.create(file_ids=ids)
    for id in ids:
        await complete(server, store.id, id, principal=principal)
    return store.id, ids


async def pass_an_hour(server: FileServer) -> None:
    seconds = store_cleanup.REMEMBERED_S + 1
    await as_owner(
        server.dsn,
        f"UPDATE anzoth.vector_stores SET deleted_at = deleted_at - interval '{seconds} s'",
    )


def test_a_deleted_store_is_emptied_soon_and_forgotten_later(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        kept, _ = await filled(server, "kept")
        gone, ids = await filled(server, *"abc")
        [waiting] = await add_files(server, "waiting")
        await server.sdk().vector_stores.files.create(gone, file_id=waiting)
        await server.sdk().vector_stores.delete(gone)
        assert cleanup_of(server)._wanted.is_set()
        await cleanup_of(server).sweep()
        of_kept = len(chunks_of(TEXT))
        assert await server.count("chunks") == of_kept
        assert await server.count("vector_store_files") == 1
        assert await server.count("vector_stores", "emptied_at IS NOT NULL") == 1
        # A list may be at it.
        page = await server.sdk().vector_stores.list(before=gone)
        assert page.data == []
        page = await server.sdk().vector_stores.list(after=gone)
        assert [store.id for store in page.data] == [kept]
        await pass_an_hour(server)
        await cleanup_of(server).sweep()
        assert await server.count("vector_stores") == 1
        for id in (*ids, waiting):
            await server.sdk().files.retrieve(id)

    run_stores(scenario)


def test_an_expired_store_keeps_its_files_without_their_chunks(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store, ids = await filled(server, *"ab")
        [waiting] = await add_files(server, "waiting")
        await server.sdk().vector_stores.files.create(store, file_id=waiting)
        await insert_some(server, store, waiting)
        await expire(server, store)
        await cleanup_of(server).sweep()
        await cleanup_of(server).sweep()
        assert await server.count("chunks") == 0
        listed = server.sdk().vector_stores.files.list(store, order="asc")
        assert [(file.id, file.status) async for file in listed] == [
            *((id, "completed") for id in sorted(ids)),
            (waiting, "cancelled"),
        ]
        await server.sdk().vector_stores.delete(store)
        await cleanup_of(server).sweep()
        assert await server.count("vector_store_files") == 0
        await pass_an_hour(server)
        await cleanup_of(server).sweep()
        assert await server.count("vector_stores") == 0

    run_stores(scenario)


def test_files_that_are_not_searched_lose_their_chunks_and_others_do_not(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store, [out, deleted, kept] = await filled(server, *"abc")
        [cancelled, waiting] = await add_files(server, *"de")
        batch = await server.sdk().vector_stores.file_batches.create(store, file_ids=[cancelled])
        await server.sdk().vector_stores.files.create(store, file_id=waiting)
        await insert_some(server, store, cancelled)
        num_chunks = await insert_some(server, store, waiting)
        await server.sdk().vector_stores.files.delete(out, vector_store_id=store)
        await server.sdk().files.delete(deleted)
        await server.sdk().vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
        await cleanup_of(server).sweep()
        assert await server.count("chunks") == 2 * num_chunks
        for id in (kept, waiting):
            assert await server.count("chunks", f"file_id = '{id}'") == num_chunks
        assert await server.count("vector_store_files", "emptied_at IS NOT NULL") == 3
        assert await server.count("vector_store_files", "deleted_at IS NOT NULL") == 2

    run_stores(scenario)


def test_two_gateways_clean_up_at_the_same_time(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        for number in range(3):
            store, ids = await filled(server, f"{number}a", f"{number}b")
            await server.sdk().vector_stores.files.delete(ids[0], vector_store_id=store)
            await server.sdk().vector_stores.delete(store)
        other = StoreCleanup(server.database)
        await asyncio.gather(cleanup_of(server).sweep(), other.sweep())
        assert await server.count("chunks") == 0
        assert await server.count("vector_store_files") == 0

    run_stores(scenario)


def test_every_gateway_is_told_of_each_store_that_has_ended_and_of_no_other(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        told: list[tuple[UUID, str]] = []
        one, two = server.one.tenant.id, server.two.tenant.id
        is_away = True

        async def on_gone(tenant_id: UUID, store_id: str) -> None:
            if is_away:
                raise RetrieverUnavailable()
            told.append((tenant_id, store_id))

        def gateway() -> StoreCleanup:
            return StoreCleanup(server.database, on_gone)

        first, _ = await filled(server, "a")
        await filled(server, "b")
        foreign, _ = await filled(server, "c", key="foreign")
        cleanup = gateway()
        await cleanup.sweep()
        await server.sdk().vector_stores.delete(first)
        with pytest.raises(RetrieverUnavailable):
            await cleanup.sweep()
        assert await server.count("chunks", f"store_id = '{first}'") == 0
        is_away = False
        await cleanup.sweep()
        await expire(server, foreign)
        await cleanup.sweep()
        await cleanup.sweep()
        assert told == [(one, first), (two, foreign)]
        await gateway().sweep()  # another one, or this one after a restart
        assert set(told[2:]) == {(one, first), (two, foreign)}

    run_stores(scenario)


def test_the_stores_of_a_deleted_tenant_go_with_it(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        _, ids = await filled(server, *"ab")
        await server.sdk().vector_stores.create(name="second", file_ids=ids)
        other, _ = await filled(server, "c", key="foreign")
        await directory.delete_tenant(server.dsn, "one")
        assert await server.count("vector_stores", "deleted_at IS NULL") == 1
        assert await server.count("vector_stores", "details IS NOT NULL") == 1
        await cleanup_of(server).sweep()
        await pass_an_hour(server)
        await cleanup_of(server).sweep()
        assert await server.count("chunks", f"store_id <> '{other}'") == 0
        assert await server.count("vector_stores") == 1
        with pytest.raises(KeyRevoked):  # its key is still in memory here
            await server.api.services.stores.create(owner_of(server.one), StoreRequest())

    run_stores(scenario)


def test_a_tenant_that_is_deleted_while_it_is_busy_keeps_nothing(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        store, ids = await filled(server, *"ab")
        outcomes = await asyncio.gather(
            *(client.vector_stores.create(file_ids=ids) for _ in range(3)),
            *(
                client.vector_stores.file_batches.create(store, file_ids=ids[::-1])
                for _ in range(3)
            ),
            *(client.files.delete(id) for id in ids),
            directory.delete_tenant(server.dsn, "one"),
            return_exceptions=True,
        )
        assert not isinstance(outcomes[-1], BaseException)
        for outcome in outcomes:
            assert not isinstance(outcome, openai.InternalServerError)
        assert await server.count("vector_stores", "deleted_at IS NULL") == 0
        assert await server.count("files", "deleted_at IS NULL") == 0

    run_stores(scenario)


def test_what_is_done_is_in_the_audit_log_without_names(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        a, b, c = await add_files(server, *"abc")
        store = await client.vector_stores.create(name="canary", file_ids=[a])
        await client.vector_stores.update(store.id, name="canary2", metadata={"canary": "x"})
        await client.vector_stores.files.create(store.id, file_id=b, attributes={"canary": 1})
        await client.vector_stores.files.create(store.id, file_id=b)
        batch = await client.vector_stores.file_batches.create(store.id, file_ids=[a, b, c])
        await client.vector_stores.files.delete(b, vector_store_id=store.id)
        await client.vector_stores.delete(store.id)
        async with pool.operator(server.dsn) as connection:
            rows = [row async for row in audit_rows.all_events(connection, server.one.tenant.id)]
        events: list[tuple[str, Any]] = [
            (row.type.removeprefix("vector_store."), row.details)
            for row in rows
            if row.type.startswith("vector_store.") and row.target == {"id": store.id}
        ]
        assert events == [
            ("created", {"model": "org/tiny", "num_files": 1}),
            ("updated", {"fields": "name, metadata"}),
            ("file_added", {"file_id": b}),
            ("file_added", {"batch_id": batch.id, "num_files": 1}),
            ("file_removed", {"file_id": b}),
            ("deleted", {}),
        ]
        assert "canary" not in str(rows)

    run_stores(scenario)

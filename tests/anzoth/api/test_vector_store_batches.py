"""Batches of files in OpenAI's shapes, over real HTTP and a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from files_kit import FileServer
from stores_kit import add_files, complete, complete_waiting, fail

pytestmark = pytest.mark.slow


def test_the_sdk_s_helper_uploads_files_and_polls_until_all_are_searched(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        [there] = await add_files(server, "a")

        async def work() -> None:
            done = 0
            async with asyncio.timeout(20):
                while done < 4:
                    done += await complete_waiting(server)
                    await asyncio.sleep(0.01)

        worker = asyncio.create_task(work())
        uploads: Any = [(f"{number}.txt", b"text") for number in range(3)]
        batch = await server.sdk().vector_stores.file_batches.upload_and_poll(
            store.id, files=uploads, file_ids=[there]
        )
        await worker
        assert batch.id.startswith("vsfb_")
        assert (batch.object, batch.status) == ("vector_store.files_batch", "completed")
        assert batch.vector_store_id == store.id
        assert (batch.file_counts.completed, batch.file_counts.total) == (4, 4)
        files = server.sdk().vector_stores.file_batches.list_files(
            batch.id, vector_store_id=store.id, limit=2
        )
        ids = [file.id async for file in files]
        assert len(set(ids)) == 4
        assert there in ids

    run_stores(scenario)


def test_each_file_may_have_attributes_and_a_strategy_of_its_own(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        batches = server.sdk().vector_stores.file_batches
        store = await server.sdk().vector_stores.create()
        a, b, c, d = await add_files(server, *"abcd")
        static: Any = {
            "type": "static",
            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
        }
        await batches.create(
            store.id,
            files=[
                {"file_id": a, "attributes": {"n": 1}},
                {"file_id": b, "chunking_strategy": static},
            ],
            attributes={"ignored": True},
        )
        await batches.create(
            store.id, file_ids=[c, d], attributes={"n": 2}, chunking_strategy=static
        )
        listed = server.sdk().vector_stores.files.list(store.id)
        found = {
            file.id: (file.attributes, file.chunking_strategy and file.chunking_strategy.type)
            async for file in listed
        }
        assert found == {
            a: ({"n": 1}, "other"),
            b: ({}, "static"),
            c: ({"n": 2}, "static"),
            d: ({"n": 2}, "static"),
        }

    run_stores(scenario)


def test_a_batch_tells_what_became_of_its_files(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        batches = server.sdk().vector_stores.file_batches
        store = await server.sdk().vector_stores.create()
        a, b, c = await add_files(server, *"abc")
        batch = await batches.create(store.id, file_ids=[a, b])
        async with server.client() as client:
            answer = await client.get(f"/vector_stores/{store.id}/file_batches/{batch.id}")
            assert int(answer.headers["openai-poll-after-ms"]) > 0
        await fail(server, store.id, a, "invalid_file", "It is broken.")
        assert (await batches.retrieve(batch.id, vector_store_id=store.id)).status == "in_progress"
        await fail(server, store.id, b, "invalid_file", "It is broken.")
        assert (await batches.retrieve(batch.id, vector_store_id=store.id)).status == "failed"
        other = await batches.create(store.id, file_ids=[b, c])  # b tries again, elsewhere
        await complete(server, store.id, b)
        await fail(server, store.id, c, "invalid_file", "It is broken.")
        ended = await batches.retrieve(other.id, vector_store_id=store.id)
        assert (ended.status, ended.file_counts.completed, ended.file_counts.failed) == (
            *("completed", 1, 1),
        )
        assert (await batches.retrieve(batch.id, vector_store_id=store.id)).file_counts.total == 1
        failed = batches.list_files(other.id, vector_store_id=store.id, filter="failed")
        assert [file.id async for file in failed] == [c]

    run_stores(scenario)


def test_a_cancelled_batch_keeps_what_is_searched(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        batches = server.sdk().vector_stores.file_batches
        store = await server.sdk().vector_stores.create()
        a, b = await add_files(server, *"ab")
        batch = await batches.create(store.id, file_ids=[a, b])
        await complete(server, store.id, a)
        cancelled = await batches.cancel(batch.id, vector_store_id=store.id)
        assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 1)
        assert cancelled.file_counts.completed == 1
        assert await batches.cancel(batch.id, vector_store_id=store.id) == cancelled
        with pytest.raises(AssertionError, match="does not wait"):
            await complete(server, store.id, b)
        again = await batches.create(store.id, file_ids=[b])
        assert again.status == "in_progress"
        await complete(server, store.id, b)
        done = await batches.cancel(again.id, vector_store_id=store.id)
        assert (done.status, done.file_counts.completed) == ("completed", 1)

    run_stores(scenario)


def test_all_files_of_a_batch_are_added_or_none(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        ids = await add_files(server, *"abc")
        foreign = (await add_files(server, "d", key="foreign"))[0]
        path = f"/vector_stores/{store.id}/file_batches"
        async with server.client() as client:

            async def refused(status: int, param: str | None, **body: Any) -> None:
                answer = await client.post(path, json=body)
                assert answer.status_code == status, answer.text
                assert answer.json()["error"]["param"] == param

            await refused(404, "file_ids[2]", file_ids=[ids[0], ids[0], foreign])
            await refused(404, "files[1].file_id", files=[{"file_id": ids[0]}, {"file_id": "x"}])
            await refused(429, None, file_ids=ids)
        assert await server.count("vector_store_files") == 0
        assert await server.count("file_batches") == 0

    run_stores(scenario, store_files=2)


def test_each_field_is_checked(run_stores) -> None:
    one = [{"file_id": "file-1"}]
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "file_ids"),
        ({"file_ids": ["file-1"], "files": one}, "file_ids"),
        ({"file_ids": []}, "file_ids"),
        ({"file_ids": "file-1"}, "file_ids"),
        ({"file_ids": [None]}, "file_ids[0]"),
        ({"file_ids": ["x"] * 2001}, "file_ids"),
        ({"files": []}, "files"),
        ({"files": one * 2001}, "files"),
        ({"files": one * 2}, "files[1].file_id"),
        ({"files": ["file-1"]}, "files[0]"),
        ({"files": [{}]}, "files[0].file_id"),
        ({"files": [{"file_id": "a", "attributes": 5}]}, "files[0].attributes"),
        (
            {"files": [{"file_id": "a", "chunking_strategy": {"type": "x"}}]},
            "files[0].chunking_strategy.type",
        ),
        ({"file_ids": ["a"], "attributes": []}, "attributes"),
        ({"file_ids": ["a"], "chunking_strategy": 5}, "chunking_strategy"),
    ]

    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        path = f"/vector_stores/{store.id}/file_batches"
        async with server.client() as client:
            for body, param in cases:
                refused = await client.post(path, json=body)
                assert refused.status_code == 400, body
                assert refused.json()["error"]["param"] == param
            made = await client.get(f"{path}/vsfb_{'0' * 32}")
            assert made.json()["error"]["param"] == "batch_id"

    run_stores(scenario)


def test_a_batch_is_that_of_its_store(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        stores = server.sdk().vector_stores
        one, two = await stores.create(), await stores.create()
        [id] = await add_files(server, "a")
        batch = await stores.file_batches.create(one.id, file_ids=[id])
        for refused in (
            stores.file_batches.retrieve(batch.id, vector_store_id=two.id),
            stores.file_batches.cancel(batch.id, vector_store_id=two.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await refused
        assert (await stores.file_batches.retrieve(batch.id, vector_store_id=one.id)) == batch

    run_stores(scenario)


def test_two_thousand_files_come_in_one_batch(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        ids = [f"file-{number:032}" for number in range(2000)]
        [model] = await add_files(server, "model")
        async with server.database.tenant(server.one.tenant) as connection:
            await connection.execute(
                "INSERT INTO anzoth.files (tenant_id, id, project_id, purpose, filename, layout, "
                "bytes, received_at) SELECT tenant_id, unnest($1::text[]), project_id, purpose, "
                "filename, layout, 0, now() FROM anzoth.files WHERE id = $2",
                *(ids, model),
            )
        batches = server.sdk().vector_stores.file_batches
        made = await batches.create(
            store.id, files=[{"file_id": id, "attributes": {"id": id}} for id in ids]
        )
        assert made.file_counts.in_progress == 2000
        again = await batches.create(store.id, file_ids=ids)
        assert (again.file_counts.in_progress, again.file_counts.total) == (2000, 2000)

    run_stores(scenario)

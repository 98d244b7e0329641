"""Files in vector stores in OpenAI's shapes, over real HTTP and a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx2
import openai
import pytest
from api_harness import until
from files_kit import FileServer, owner_of
from stores_kit import TEXT, add_files, chunks_of, complete, complete_waiting, fail, insert_some

from anzoth.errors import NotFound
from anzoth.gateway.knowledge.adding import FileToAdd

pytestmark = pytest.mark.slow

STATIC = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100}


def test_the_sdk_adds_shows_changes_and_removes_a_file(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        made = await files.create(
            store.id,
            file_id=id,
            attributes={"lang": "en", "year": 2024, "score": 0.5, "public": True},
            chunking_strategy={"type": "static", "static": {**STATIC}},  # type: ignore[typeddict-item]  # plain ints
        )
        assert (made.id, made.object) == (id, "vector_store.file")
        assert made.vector_store_id == store.id
        assert (made.status, made.usage_bytes, made.last_error) == ("in_progress", 0, None)
        assert made.attributes == {"lang": "en", "year": 2024, "score": 0.5, "public": True}
        assert made.chunking_strategy is not None
        assert made.chunking_strategy.to_dict() == {"type": "static", "static": STATIC}
        assert await files.retrieve(id, vector_store_id=store.id) == made
        await complete(server, store.id, id)
        done = await files.retrieve(id, vector_store_id=store.id)
        assert (done.status, done.usage_bytes) == ("completed", len(TEXT))
        changed = await files.update(id, vector_store_id=store.id, attributes={"lang": "fr"})
        assert changed.attributes == {"lang": "fr"}
        assert [file async for file in files.list(store.id)] == [changed]
        cleared = await files.update(id, vector_store_id=store.id, attributes=None)
        assert cleared.attributes == {}
        deleted = await files.delete(id, vector_store_id=store.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (
            *(id, "vector_store.file.deleted", True),
        )
        with pytest.raises(openai.NotFoundError):
            await files.retrieve(id, vector_store_id=store.id)
        assert [file async for file in files.list(store.id)] == []
        assert (await server.sdk().files.retrieve(id)).id == id

    run_stores(scenario)


def test_the_sdk_s_helper_polls_until_the_file_is_searched(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")

        async def work() -> None:
            async with asyncio.timeout(10):
                while not await complete_waiting(server):  # noqa: ASYNC110  # nothing announces it
                    await asyncio.sleep(0.01)

        worker = asyncio.create_task(work())
        polled = await server.sdk().vector_stores.files.create_and_poll(
            id, vector_store_id=store.id
        )
        assert polled.status == "completed"
        await worker
        async with server.client() as client:
            path = f"/vector_stores/{store.id}/files"
            done = await client.get(f"{path}/{id}")
            assert "openai-poll-after-ms" not in done.headers
            [other] = await add_files(server, "b")
            assert (await client.post(path, json={"file_id": other})).is_success
            assert int((await client.get(f"{path}/{other}")).headers["openai-poll-after-ms"]) > 0

    run_stores(scenario)


def test_an_error_is_shown_and_to_add_the_file_again_tries_again(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        await files.create(store.id, file_id=id)
        await fail(server, store.id, id, "unsupported_file", "This is no document.")
        failed = await files.retrieve(id, vector_store_id=store.id)
        assert failed.status == "failed"
        assert failed.last_error is not None
        assert failed.last_error.to_dict() == {
            "code": "unsupported_file",
            "message": "This is no document.",
        }
        again = await files.create(store.id, file_id=id, attributes={"a": 1})
        assert (again.status, again.last_error, again.attributes) == ("in_progress", None, {"a": 1})
        assert await server.count("vector_store_files", "number = 1 AND attempts = 0") == 1

    run_stores(scenario)


def test_an_automatic_strategy_is_one_that_openai_s_types_do_not_describe(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        ids = await add_files(server, "a", "b")
        for id, said in zip(ids, ({}, {"chunking_strategy": {"type": "auto"}}), strict=True):
            made = await server.sdk().vector_stores.files.create(
                store.id, file_id=id, extra_body=said
            )
            assert made.chunking_strategy is not None
            assert made.chunking_strategy.type == "other"

    run_stores(scenario)


def test_to_add_a_file_twice_changes_nothing_but_what_is_said(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        made = await files.create(store.id, file_id=id, attributes={"a": 1})
        assert await files.create(store.id, file_id=id) == made
        await complete(server, store.id, id)
        again = await files.create(store.id, file_id=id)
        assert (again.status, again.attributes) == ("completed", {"a": 1})
        assert await server.count("vector_stores", "head = 1") == 1
        again = await files.create(store.id, file_id=id, attributes={"a": 2})
        assert (again.status, again.attributes) == ("completed", {"a": 2})
        assert await server.count("vector_store_files", "changed_seq = 2") == 1
        with pytest.raises(openai.BadRequestError, match="another chunking strategy"):
            await files.create(
                store.id,
                file_id=id,
                chunking_strategy={"type": "static", "static": {**STATIC}},  # type: ignore[typeddict-item]  # plain ints
            )
        assert await server.count("vector_store_files") == 1

    run_stores(scenario)


def test_a_file_that_was_taken_out_begins_again_without_its_old_chunks(
    run_stores, monkeypatch
) -> None:
    monkeypatch.setattr("anzoth.gateway.knowledge.store_cleanup._MAX_CHUNKS", 5)

    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id, other] = await add_files(server, "a", "b")
        await files.create(store.id, file_id=id, attributes={"a": 1})
        await files.create(store.id, file_id=other)
        await complete(server, store.id, id, "word " * 50)
        await complete(server, store.id, other)
        kept = len(chunks_of(TEXT))
        assert await server.count("chunks") > 20 + kept
        await files.delete(id, vector_store_id=store.id)
        where = "changed_seq = 3 AND attributes IS NULL AND deleted_at IS NOT NULL"
        assert await server.count("vector_store_files", where) == 1
        again = await files.create(store.id, file_id=id)
        assert (again.status, again.usage_bytes, again.attributes) == ("in_progress", 0, {})
        assert await server.count("chunks") == kept
        assert await server.count("vector_store_files", "number = 1 AND changed_seq = 3") == 1
        await complete(server, store.id, id, "Short.")
        [page] = (await files.content(id, vector_store_id=store.id)).data
        assert page.text == "Short."

    run_stores(scenario)


def test_each_field_is_checked(run_stores) -> None:
    attributes: list[Any] = [
        *("x", [1], {"a": [1]}, {"a": None}, {"a": {}}, {"a": 2**63}, {"a": "x" * 513}),
        *({"x" * 65: 1}, {str(n): n for n in range(17)}),
    ]
    static: list[tuple[Any, str]] = [
        (None, ""),
        (5, ""),
        ({**STATIC, "max_chunk_size_tokens": 99}, ".max_chunk_size_tokens"),
        ({**STATIC, "max_chunk_size_tokens": 4097}, ".max_chunk_size_tokens"),
        ({**STATIC, "chunk_overlap_tokens": 101}, ".chunk_overlap_tokens"),
        ({**STATIC, "chunk_overlap_tokens": -1}, ".chunk_overlap_tokens"),
        ({"max_chunk_size_tokens": 200}, ".chunk_overlap_tokens"),
    ]

    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        path, added = f"/vector_stores/{store.id}/files", {"file_id": id}
        async with server.client() as client:

            async def refused(body: dict[str, Any], param: str, where: str = path) -> None:
                reply = await client.post(where, json=body)
                assert reply.status_code == 400, body
                assert reply.json()["error"]["param"] == param

            await refused({}, "file_id")
            for wrong in (5, "", "x" * 65, "\0"):
                await refused({"file_id": wrong}, "file_id")
            for wrong in attributes:
                await refused({**added, "attributes": wrong}, "attributes")
            for wrong in ("auto", []):
                await refused({**added, "chunking_strategy": wrong}, "chunking_strategy")
            for wrong, param in static:
                strategy = {"type": "static", "static": wrong}
                await refused(
                    {**added, "chunking_strategy": strategy}, f"chunking_strategy.static{param}"
                )
            assert await server.count("vector_store_files") == 0
            await client.post(path, json=added)
            for wrong in attributes:
                await refused({"attributes": wrong}, "attributes", f"{path}/{id}")
            await refused({}, "attributes", f"{path}/{id}")
            for query in ("limit=0", "order=up", "filter=done", "after=x", "before=%00", "x=1"):
                assert (await client.get(f"{path}?{query}")).status_code == 400

    run_stores(scenario)


def test_only_files_of_the_project_can_be_added(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        store = await server.sdk().vector_stores.create()
        [own] = await add_files(server, "a")
        await server.sdk().files.delete(own)
        foreign = await add_files(server, "b", key="foreign")
        elsewhere = await add_files(server, "c", key=await server.add_project())
        async with server.client() as client:
            replies = [
                await client.post(f"/vector_stores/{store.id}/files", json={"file_id": id})
                for id in (own, *foreign, *elsewhere, "file-" + "0" * 32)
            ]
        assert {reply.status_code for reply in replies} == {404}
        assert len({reply.content for reply in replies}) == 1
        assert replies[0].json()["error"]["param"] == "file_id"
        assert await server.count("vector_store_files") == 0

    run_stores(scenario)


def test_a_store_holds_so_many_files_and_no_more(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        ids = await add_files(server, *"abcd")
        outcomes = await asyncio.gather(
            *(files.create(store.id, file_id=id) for id in ids), return_exceptions=True
        )
        refused = [error for error in outcomes if isinstance(error, openai.RateLimitError)]
        assert len(refused) == 2
        assert refused[0].code == "insufficient_quota"
        added = [file.id async for file in files.list(store.id)]
        assert len(added) == 2
        await files.create(store.id, file_id=added[0])  # it is there
        await files.delete(added[0], vector_store_id=store.id)
        other = next(id for id in ids if id not in added)
        await files.create(store.id, file_id=other)
        with pytest.raises(openai.RateLimitError):  # it comes back into a full store
            await files.create(store.id, file_id=added[0])

    run_stores(scenario, store_files=2)


def test_lists_are_filtered_ordered_and_paged_in_both_directions(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        ids = await add_files(server, *"abcde")
        for id in ids:
            await files.create(store.id, file_id=id)
        await complete(server, store.id, ids[1])
        await fail(server, store.id, ids[2], "invalid_file", "It is broken.")
        assert [f.id async for f in files.list(store.id, limit=2)] == ids[::-1]
        assert [f.id async for f in files.list(store.id, limit=2, order="asc")] == ids
        for status, some in (("completed", [ids[1]]), ("failed", [ids[2]]), ("cancelled", [])):
            listed = files.list(store.id, filter=status)  # type: ignore[arg-type]  # a literal
            assert [f.id async for f in listed] == some
        page = await files.list(store.id, before=ids[1], limit=2, filter="in_progress")
        assert [f.id for f in page.data] == [ids[4], ids[3]]
        assert not page.has_more
        page = await files.list(store.id, before=ids[4], limit=2, order="asc")
        assert ([f.id for f in page.data], page.has_more) == (ids[2:4], True)
        async for file in files.list(store.id, limit=2):  # behind one that was just taken out
            await files.delete(file.id, vector_store_id=store.id)
        assert (await server.sdk().vector_stores.retrieve(store.id)).file_counts.total == 0

    run_stores(scenario)


def test_the_content_is_the_whole_text_with_every_character_in_its_place(
    run_stores, monkeypatch
) -> None:
    monkeypatch.setattr("anzoth.gateway.knowledge.store_files._CHUNKS", 3)
    text = 'A "quoted" naïve 🙂 word,\n\n\\ and a\ttab. ' + TEXT
    windows = ((3, 0), (3, 1), (5, 4), (1, 0), (100, 0))

    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        ids = await add_files(server, *map(str, windows))
        for id, window in zip(ids, windows, strict=True):
            await files.create(store.id, file_id=id)
            with pytest.raises(openai.BadRequestError, match="in_progress"):
                await files.content(id, vector_store_id=store.id)
            await complete(server, store.id, id, chunks_of(text, *window))
            page = await files.content(id, vector_store_id=store.id)
            assert page.object == "vector_store.file_content.page"
            [part] = page.data
            assert part.type == "text"
            assert part.text is not None
            pairs = zip(part.text, text, strict=True)
            assert [a for a, b in pairs if a != b and not (a + b).isspace()] == []

    run_stores(scenario)


def test_a_file_that_is_taken_out_while_its_content_is_read_is_cut_off(
    run_stores, monkeypatch
) -> None:
    monkeypatch.setattr("anzoth.gateway.knowledge.store_files._CHUNKS", 1)

    async def scenario(server: FileServer) -> None:
        stores = server.api.services.stores
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        await server.sdk().vector_stores.files.create(store.id, file_id=id)
        await complete(server, store.id, id)
        pieces = await stores.files.content(owner_of(server.one), store.id, id)
        first = await anext(pieces)
        assert first
        assert TEXT.startswith(first)
        # Taken out and added again: another text stands there now.
        await server.sdk().vector_stores.files.delete(id, vector_store_id=store.id)
        await server.sdk().vector_stores.files.create(store.id, file_id=id)
        await complete(server, store.id, id, "Something else altogether.")
        with pytest.raises(NotFound, match="meanwhile"):
            await anext(pieces)
        async with server.client() as client:
            stream = f"/vector_stores/{store.id}/files/{id}/content"
            monkeypatch.setattr(stores.files, "_text", _cut)
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(stream)

    run_stores(scenario)


async def _cut(*_: object) -> Any:
    yield "begun"
    raise NotFound("It is gone.")


def test_a_file_that_is_deleted_leaves_the_store_whatever_comes_first(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        store = await client.vector_stores.create()
        ids = await add_files(server, *(str(number) for number in range(8)))
        added = await asyncio.gather(
            *(client.vector_stores.files.create(store.id, file_id=id) for id in ids),
            *(client.files.delete(id) for id in ids),
            return_exceptions=True,
        )
        for outcome in added[: len(ids)]:
            assert not isinstance(outcome, BaseException) or isinstance(
                outcome, openai.NotFoundError
            )
        assert not [error for error in added[len(ids) :] if isinstance(error, BaseException)]
        assert [file async for file in client.vector_stores.files.list(store.id)] == []

    run_stores(scenario)


def test_two_clients_that_add_the_same_file_agree(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        made = await asyncio.gather(*(files.create(store.id, file_id=id) for _ in range(4)))
        assert made.count(made[0]) == 4
        assert await server.count("vector_store_files") == 1
        assert await server.count("vector_stores", "last_file = 1") == 1

    run_stores(scenario)


def test_whoever_reads_files_hears_of_those_that_wait_and_of_no_others(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        heard: list[str] = []
        connection = await asyncpg.connect(server.dsn)
        try:
            await connection.add_listener(
                "anzoth_ingestion", lambda *said: heard.append(str(said[-1]))
            )
            await files.create(store.id, file_id=id)
            await until(lambda: heard == [""])
            await files.create(store.id, file_id=id)
            await connection.execute("NOTIFY anzoth_ingestion, 'mark'")
            await until(lambda: "mark" in heard)
            assert heard == ["", "mark"]
        finally:
            await connection.close()

    run_stores(scenario)


def test_searches_hear_of_what_is_searched_and_changes(run_stores, monkeypatch) -> None:
    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        heard: list[tuple[str, str, str]] = []
        monkeypatch.setattr(
            server.api.services.stores.files,
            "on_change",
            lambda tenant, store_id, file_id: heard.append((tenant.name, store_id, file_id)),
        )
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        await files.create(store.id, file_id=id)
        await files.update(id, vector_store_id=store.id, attributes={"a": 1})
        assert heard == []
        await complete(server, store.id, id)
        await files.update(id, vector_store_id=store.id, attributes={"a": 1})
        assert heard == []
        await files.update(id, vector_store_id=store.id, attributes={"a": 2})
        await files.create(store.id, file_id=id, attributes={"a": 3})
        await server.sdk().vector_stores.file_batches.create(
            store.id, files=[{"file_id": id, "attributes": {"a": 4}}]
        )
        await files.delete(id, vector_store_id=store.id)
        assert heard == [("one", store.id, id)] * 4

    run_stores(scenario)


def test_a_file_that_is_being_read_can_be_taken_out(run_stores) -> None:
    """Its row is locked by nobody meanwhile; what was inserted so far goes with it."""

    async def scenario(server: FileServer) -> None:
        files = server.sdk().vector_stores.files
        store = await server.sdk().vector_stores.create()
        [id] = await add_files(server, "a")
        await files.create(store.id, file_id=id)
        await insert_some(server, store.id, id)
        await files.delete(id, vector_store_id=store.id)
        await server.api.services.stores.cleanup.sweep()
        assert await server.count("chunks") == 0
        owner = owner_of(server.one)
        added = await server.api.services.stores.files.attach(owner, store.id, FileToAdd(id))
        assert added.status == "in_progress"

    run_stores(scenario)

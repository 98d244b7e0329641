"""Vector stores in OpenAI's shapes, over real HTTP and a real database: one project's alone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import openai
import pytest
from api_harness import MODEL
from engine_peer import EMBEDDING_HELLO
from files_kit import FileServer, as_owner
from stores_kit import add_files, complete, expire

from anzoth.gateway.knowledge.store_access import touch

pytestmark = pytest.mark.slow


def test_the_sdk_makes_shows_changes_and_deletes_a_store(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = await client.vector_stores.create(
            name="Manuals",
            metadata={"team": "a"},
            expires_after={"anchor": "last_active_at", "days": 7},
            extra_body={"description": "of machines"},
        )
        assert made.id.startswith("vs_")
        assert (made.object, made.name, made.metadata) == ("vector_store", "Manuals", {"team": "a"})
        assert made.status == "completed"
        assert made.usage_bytes == made.file_counts.total == 0
        assert made.expires_after is not None
        assert (made.expires_after.anchor, made.expires_after.days) == ("last_active_at", 7)
        assert made.last_active_at is not None
        assert made.expires_at == made.last_active_at + 7 * 86400
        extras: dict[str, Any] = made.model_extra or {}
        assert extras == {"description": "of machines", "embedding_model": MODEL}
        assert await client.vector_stores.retrieve(made.id) == made
        assert [store async for store in client.vector_stores.list()] == [made]
        changed = await client.vector_stores.update(made.id, name="Books", metadata={})
        assert (changed.name, changed.metadata) == ("Books", {})
        assert changed.expires_at == made.expires_at
        deleted = await client.vector_stores.delete(made.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (
            *(made.id, "vector_store.deleted", True),
        )
        with pytest.raises(openai.NotFoundError):
            await client.vector_stores.retrieve(made.id)
        assert [store async for store in client.vector_stores.list()] == []

    run_stores(scenario)


def test_what_is_not_said_has_its_default_and_null_stays(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        async with server.client() as client:
            made = (await client.post("/vector_stores", json={})).json()
            assert (made["name"], made["description"], made["metadata"]) == ("", None, {})
            assert made["expires_at"] is None
            assert "expires_after" not in made
            path = f"/vector_stores/{made['id']}"
            expiry = {"anchor": "last_active_at", "days": 1}
            body = {"name": "a", "metadata": {"b": "c"}, "expires_after": expiry}
            changed = (await client.post(path, json=body)).json()
            assert changed["expires_at"] == changed["last_active_at"] + 86400
            nulls = {"name": None, "metadata": None, "expires_after": None}
            changed = (await client.post(path, json=nulls)).json()
            assert (changed["name"], changed["metadata"]) == ("a", {"b": "c"})
            assert changed["expires_at"] is None
            assert "expires_after" not in changed

    run_stores(scenario)


def test_counts_and_bytes_are_those_of_the_files_in_it(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        ids = await add_files(server, "a", "b")
        made = await client.vector_stores.create(file_ids=[*ids, ids[0]])
        assert (made.status, made.file_counts.in_progress) == ("in_progress", 2)
        other = await client.vector_stores.create()
        await complete(server, made.id, ids[0], "five.")
        made = await client.vector_stores.retrieve(made.id)
        assert (made.status, made.usage_bytes) == ("in_progress", 5)
        await client.vector_stores.files.delete(ids[1], vector_store_id=made.id)
        listed = [store async for store in client.vector_stores.list(order="asc")]
        assert [store.file_counts.total for store in listed] == [1, 0]
        assert [store.id for store in listed] == [made.id, other.id]
        assert [store.status for store in listed] == ["completed", "completed"]

    run_stores(scenario)


def test_a_store_is_made_with_all_of_its_files_or_not_at_all(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        [id] = await add_files(server, "a")
        with pytest.raises(openai.NotFoundError) as raised:
            await server.sdk().vector_stores.create(file_ids=[id, "file-unknown"])
        assert raised.value.param == "file_ids[1]"
        assert await server.count("vector_stores") == 0
        assert await server.count("vector_store_files") == 0

    run_stores(scenario)


def test_each_field_is_checked(run_stores) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": 5}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"description": ["x"]}, "description"),
        ({"description": "x" * 513}, "description"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": 5}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"x" * 65: "a"}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"expires_after": "never"}, "expires_after"),
        ({"expires_after": {"days": 1}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "last_active_at"}}, "expires_after.days"),
        ({"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ({"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ({"file_ids": "file-1"}, "file_ids"),
        ({"file_ids": [7]}, "file_ids[0]"),
        ({"file_ids": ["\0"]}, "file_ids[0]"),
        ({"file_ids": ["x" * 65]}, "file_ids[0]"),
        ({"file_ids": ["x"] * 2001}, "file_ids"),
        ({"chunking_strategy": "auto"}, "chunking_strategy"),
        ({"chunking_strategy": {}}, "chunking_strategy.type"),
        ({"chunking_strategy": {"type": "smart"}}, "chunking_strategy.type"),
        ({"embedding_model": ""}, "embedding_model"),
        ({"embedding_model": 5}, "embedding_model"),
    ]

    async def scenario(server: FileServer) -> None:
        async with server.client() as client:
            for body, param in cases:
                refused = await client.post("/vector_stores", json=body)
                assert refused.status_code == 400, body
                assert refused.json()["error"]["param"] == param
            assert await server.count("vector_stores") == 0

    run_stores(scenario)


def test_lists_are_ordered_and_paged_in_both_directions(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        stores = server.sdk().vector_stores
        ids = [(await stores.create(name=str(number))).id for number in range(5)]
        assert [store.id async for store in stores.list(limit=2)] == ids[::-1]
        assert [store.id async for store in stores.list(limit=2, order="asc")] == ids
        page = await stores.list(limit=2, before=ids[4], order="asc")
        assert [store.id for store in page.data] == ids[2:4]
        assert page.has_more
        page = await stores.list(limit=2, before=ids[2])
        assert [store.id for store in page.data] == [ids[4], ids[3]]
        assert not page.has_more
        page = await stores.list(after=ids[0], before=ids[3], order="asc")
        assert [store.id for store in page.data] == ids[1:3]
        async for store in stores.list(limit=2):  # the next page begins behind a deleted one
            await stores.delete(store.id)
        assert await server.count("vector_stores", "deleted_at IS NULL") == 0
        async with server.client() as client:
            for query in (
                *("limit=0", "limit=101", "order=up", "after=x", "before=%00", "filter=completed"),
            ):
                assert (await client.get(f"/vector_stores?{query}")).status_code == 400

    run_stores(scenario)


def test_another_tenant_and_another_project_find_nothing(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        [id] = await add_files(server, "a")
        made = await client.vector_stores.create(file_ids=[id])
        batch = await client.vector_stores.file_batches.create(made.id, file_ids=[id])
        gone = await client.vector_stores.create()
        await client.vector_stores.delete(gone.id)
        for key in ("foreign", await server.add_project(), "good"):
            own = (await add_files(server, "own", key=key))[0]
            others = [gone.id, "vs_" + "0" * 32]
            if key != "good":
                others.insert(0, made.id)
                assert [store async for store in server.sdk(key).vector_stores.list()] == []
            async with server.client(key) as asking:
                for method, path, body in (
                    ("GET", "", None),
                    ("POST", "", {"name": "mine"}),
                    ("DELETE", "", None),
                    ("GET", "/files", None),
                    ("POST", "/files", {"file_id": own}),
                    ("GET", f"/files/{id}", None),
                    ("POST", f"/files/{id}", {"attributes": {}}),
                    ("DELETE", f"/files/{id}", None),
                    ("GET", f"/files/{id}/content", None),
                    ("POST", "/file_batches", {"file_ids": [own]}),
                    ("GET", f"/file_batches/{batch.id}", None),
                    ("GET", f"/file_batches/{batch.id}/files", None),
                    ("POST", f"/file_batches/{batch.id}/cancel", None),
                ):
                    answers = [
                        await asking.request(method, f"/vector_stores/{other}{path}", json=body)
                        for other in others
                    ]
                    assert {answer.status_code for answer in answers} == {404}, (method, path)
                    assert len({answer.content for answer in answers}) == 1
                cursors = [await asking.get(f"/vector_stores?after={o}") for o in others[-2:]]
                if key != "good":
                    assert [answer.status_code for answer in cursors] == [400, 400]
                    assert cursors[0].content == cursors[1].content
        kept = await client.vector_stores.retrieve(made.id)
        assert (kept.name, kept.file_counts.in_progress) == ("", 1)

    run_stores(scenario)


def test_scopes_tell_readers_from_writers(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        made = await server.sdk().vector_stores.create()
        server.api.keys.principals |= {
            "reader": replace(server.one, scopes=frozenset({"vector_stores:read"})),
            "searcher": replace(server.one, scopes=frozenset({"vector_stores:search"})),
        }
        reader, searcher = server.sdk("reader").vector_stores, server.sdk("searcher").vector_stores
        assert (await reader.retrieve(made.id)).id == made.id
        for refused in (
            reader.delete(made.id),
            reader.create(),
            reader.files.create(made.id, file_id="x"),
            reader.file_batches.create(made.id, file_ids=["x"]),
            searcher.retrieve(made.id),
            searcher.delete(made.id),
        ):
            with pytest.raises(openai.PermissionDeniedError):
                await refused

    run_stores(scenario)


def test_a_key_that_is_granted_certain_stores_finds_and_makes_no_others(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        [id] = await add_files(server, "a")
        stores = server.sdk().vector_stores
        granted, other = [(await stores.create(file_ids=[id])).id for _ in range(2)]
        batch = (await stores.file_batches.create(other, file_ids=[id])).id
        principals = server.api.keys.principals
        principals["granted"] = replace(server.one, knowledge_bases=frozenset({granted}))
        assert [store.id async for store in server.sdk("granted").vector_stores.list()] == [granted]
        assert (await server.sdk("granted").vector_stores.retrieve(granted)).id == granted
        unknown = "vs_" + "0" * 32
        async with server.client("granted") as client:
            assert (await client.get(f"/vector_stores?before={granted}")).is_success
            for method, path in (
                *(("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/files"), ("POST", "/files")),
                *((method, f"/files/{id}") for method in ("GET", "POST", "DELETE")),
                *(("GET", f"/files/{id}/content"), ("POST", "/file_batches")),
                *(("GET", f"/file_batches/{batch}{of}") for of in ("", "/files")),
                ("POST", f"/file_batches/{batch}/cancel"),
            ):
                body = {"file_id": id, "file_ids": [id], "attributes": {}}
                answers = [
                    await client.request(method, f"/vector_stores/{store}{path}", json=body)
                    for store in (other, unknown)
                ]
                assert [answer.status_code for answer in answers] == [404, 404]
                assert answers[0].content == answers[1].content
            cursors = [await client.get(f"/vector_stores?after={o}") for o in (other, unknown)]
            assert [answer.status_code for answer in cursors] == [400, 400]
            assert cursors[0].content == cursors[1].content
            refused = await client.post("/vector_stores", json={})
            assert refused.status_code == 403
        assert server.api.denials.noted[-1][0] == "key.knowledge_base"
        principals["watched"] = replace(principals["granted"], shadow_rules=("key.knowledge_base",))
        watched = server.sdk("watched").vector_stores
        made = await watched.create()
        assert {store.id async for store in watched.list()} == {granted, other, made.id}

    run_stores(scenario)


def test_a_tenant_has_so_many_stores_and_no_more(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        outcomes = await asyncio.gather(
            *(client.vector_stores.create() for _ in range(4)), return_exceptions=True
        )
        refused = [made for made in outcomes if isinstance(made, openai.RateLimitError)]
        assert len(refused) == 2
        assert refused[0].code == "insufficient_quota"
        assert refused[0].response.headers["x-should-retry"] == "false"
        assert await server.count("vector_stores") == 2
        await server.sdk("foreign").vector_stores.create()
        async for store in client.vector_stores.list():
            await client.vector_stores.delete(store.id)
        await client.vector_stores.create()

    run_stores(scenario, tenant_stores=2)


def test_the_embedding_model_is_the_caller_s_the_operator_s_or_the_first(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()

        async def model_of(**fields: Any) -> str:
            made = await client.vector_stores.create(extra_body=fields)
            return (made.model_extra or {})["embedding_model"]

        assert await model_of() == await model_of(embedding_model=MODEL) == MODEL
        with pytest.raises(openai.NotFoundError) as raised:
            await model_of(embedding_model="unheard-of")
        assert (raised.value.code, raised.value.param) == ("model_not_found", "embedding_model")

    run_stores(scenario)


def test_a_store_remembers_its_model_and_stays_when_another_takes_its_name(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        made = await server.sdk().vector_stores.create(name="s")
        engine = server.api.model.engine
        assert engine.hello is not None
        engine.hello = replace(engine.hello, vector_space="another")
        assert await server.sdk().vector_stores.retrieve(made.id) == made
        other = await server.sdk().vector_stores.create(name="t")
        for id, space in ((made.id, EMBEDDING_HELLO.vector_space), (other.id, "another")):
            where = f"id = '{id}' AND vector_space = '{space}'"
            assert await server.count("vector_stores", where) == 1

    run_stores(scenario)


def test_without_the_operator_s_embedding_model_no_store_is_made(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        with pytest.raises(openai.BadRequestError, match="operator") as raised:
            await server.sdk().vector_stores.create()
        assert raised.value.param == "embedding_model"

    run_stores(scenario, embedding_model="elsewhere")


def test_a_model_that_generates_makes_no_vectors(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        for fields in ({}, {"embedding_model": MODEL}):
            with pytest.raises(openai.BadRequestError) as raised:
                await server.sdk().vector_stores.create(extra_body=fields)
            assert raised.value.param == "embedding_model"

    run_files(scenario)


def test_an_expired_store_is_listed_and_nothing_else(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        [id, other] = await add_files(server, "a", "b")
        made = await client.vector_stores.create(
            file_ids=[id], expires_after={"anchor": "last_active_at", "days": 1}
        )
        await complete(server, made.id, id)
        await expire(server, made.id)
        [listed] = [store async for store in client.vector_stores.list()]
        assert (listed.status, listed.file_counts.completed) == ("expired", 1)
        assert (await client.vector_stores.retrieve(made.id)).status == "expired"
        files = client.vector_stores.files
        assert [file.id async for file in files.list(made.id)] == [id]
        assert (await client.vector_stores.update(made.id, name="late")).name == "late"
        for refused in (
            files.create(made.id, file_id=other),
            files.update(id, vector_store_id=made.id, attributes={}),
            files.content(id, vector_store_id=made.id),
            client.vector_stores.file_batches.create(made.id, file_ids=[other]),
            client.vector_stores.update(
                made.id, expires_after={"anchor": "last_active_at", "days": 9}
            ),
        ):
            with pytest.raises(openai.BadRequestError, match="has expired") as raised:
                await refused
            assert raised.value.param == "vector_store_id"
        await client.vector_stores.delete(made.id)

    run_stores(scenario)


def test_use_postpones_the_end_once_a_minute_at_most(run_stores) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = await client.vector_stores.create(
            expires_after={"anchor": "last_active_at", "days": 1}
        )

        async def age(seconds: int) -> None:
            await as_owner(
                server.dsn,
                f"UPDATE anzoth.vector_stores SET last_active_at = now() - interval '{seconds} s',"
                f" expires_at = now() + interval '{86400 - seconds} s'",
            )

        async def left_s() -> int:
            store = await client.vector_stores.retrieve(made.id)
            assert store.expires_at is not None
            assert store.last_active_at is not None
            assert store.expires_at == store.last_active_at + 86400
            return store.expires_at - made.created_at

        async def use() -> None:
            async with server.database.tenant(server.one.tenant) as connection:
                await touch(connection, server.one.tenant.id, made.id)

        await age(50)
        await use()
        assert await left_s() < 86400 - 40
        await age(4000)
        await use()
        assert await left_s() >= 86400
        await age(4000)
        [id] = await add_files(server, "a")
        await client.vector_stores.files.create(made.id, file_id=id)
        assert await left_s() >= 86400
        await expire(server, made.id)
        await use()
        assert (await client.vector_stores.retrieve(made.id)).status == "expired"

    run_stores(scenario)


def test_names_and_attributes_are_nowhere_in_clear(run_stores, postgres) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        [id] = await add_files(server, "a")
        made = await client.vector_stores.create(
            name="canaryname", metadata={"canarykey": "x"}, extra_body={"description": "canaryde"}
        )
        await client.vector_stores.files.create(
            made.id, file_id=id, attributes={"canaryattribute": "canaryvalue"}
        )
        await complete(server, made.id, id, "canarytext")
        # What is committed is in the write-ahead log: this shows that it would be found there.
        await as_owner(
            server.dsn,
            "CREATE TABLE anzoth.control (text text); "
            "INSERT INTO anzoth.control VALUES ('controlcanary')",
        )
        contents: list[bytes] = []
        for path in postgres.data_dir.rglob("*"):
            with contextlib.suppress(OSError):  # folders, sockets, and files that it deletes
                contents.append(path.read_bytes())
        assert any(b"controlcanary" in content for content in contents)
        for secret in (b"canaryname", b"canarykey", b"canaryde", b"canaryatt", b"canarytext"):
            assert not any(secret in content for content in contents)

    run_stores(scenario)

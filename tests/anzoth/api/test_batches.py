"""Batches in OpenAI's shapes, over real HTTP and a real database: one project's alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import batches_kit as kit
import files_kit
import openai
import pytest
from files_kit import FileServer

from anzoth.api.batches import ENDPOINTS
from anzoth.api.routes import ROUTES
from anzoth.batch_config import BatchesConfig
from anzoth.db import pool
from anzoth.db.store import audit_rows

pytestmark = pytest.mark.slow

Run = Callable[..., None]


def test_every_endpoint_of_a_batch_is_a_route_with_the_same_scope() -> None:
    routes = {route.pattern: route for route in ROUTES if route.method == "POST"}
    assert {pattern: routes[pattern].scope for pattern in ENDPOINTS} == ENDPOINTS
    assert all(routes[pattern].inference for pattern in ENDPOINTS)


def test_nobody_else_sees_a_batch_or_makes_one_of_anothers_file(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        elsewhere = await server.add_project()
        kit.grant_all(server)
        made = await kit.create(server, kit.lines(1))
        unknown = "batch_" + "0" * 32
        for key in ("foreign", elsewhere):
            client = server.sdk(key)
            assert [batch async for batch in client.batches.list()] == []
            answers = []
            for id in (made.id, unknown):
                for ask in (client.batches.retrieve, client.batches.cancel):
                    with pytest.raises(openai.NotFoundError) as refused:
                        await ask(id)
                    answers.append(refused.value.body)
            assert answers == answers[:1] * 4
            for file_id in (made.input_file_id, "file-" + "0" * 32):
                with pytest.raises(openai.NotFoundError) as missing:
                    await client.batches.create(
                        input_file_id=file_id, endpoint=kit.CHAT, completion_window="24h"
                    )
                assert missing.value.param == "input_file_id"
            with pytest.raises(openai.BadRequestError):
                await client.batches.list(after=made.id)
        assert (await server.sdk().batches.retrieve(made.id)).status == "validating"

    run_batches(scenario)


def test_lists_have_the_newest_first_and_come_in_pages(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = [await kit.create(server, kit.lines(1)) for _ in range(5)]
        newest_first = [batch.id for batch in reversed(made)]
        assert [batch.id async for batch in client.batches.list(limit=2)] == newest_first
        page = await client.batches.list(limit=2, after=made[3].id)
        assert [batch.id for batch in page.data] == [made[2].id, made[1].id]
        assert page.has_more
        for query in ("after=none", "after=%00", "limit=0", "limit=101", "order=asc"):
            async with server.client() as plain:
                assert (await plain.get(f"/batches?{query}")).status_code == 400

    run_batches(scenario)


def test_what_is_asked_of_a_batch_is_checked(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        batch_file = await kit.upload(server, kit.lines(1))
        other_file = (await server.sdk().files.create(file=files_kit.NOTES, purpose="user_data")).id
        good = {"input_file_id": batch_file, "endpoint": kit.CHAT, "completion_window": "24h"}
        keys = server.api.keys.principals
        keys["no chat"] = replace(
            server.one, scopes=frozenset({"batches:write", "embeddings"}), key_id=kit.uuid.uuid4()
        )
        keys["elsewhere"] = replace(keys["good"], endpoints=("/v1/batches*",))
        async with server.client() as client:
            for wrong, param in (
                ({"input_file_id": other_file}, "input_file_id"),
                ({"input_file_id": 7}, "input_file_id"),
                ({"endpoint": "/v1/models"}, "endpoint"),
                ({"completion_window": "1h"}, "completion_window"),
                ({"metadata": {"a": 7}}, "metadata"),
                (
                    {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
                    "output_expires_after.seconds",
                ),
            ):
                refused = await client.post("/batches", json={**good, **wrong})
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        for key, code in (("no chat", "insufficient_scope"), ("elsewhere", "endpoint_not_allowed")):
            async with server.client(key) as client:
                refused = await client.post("/batches", json=good)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, code)
        assert await server.count("batches") == 0

    run_batches(scenario)


def test_a_tenant_has_as_many_unfinished_batches_as_are_allowed(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, kit.lines(1))
        with pytest.raises(openai.RateLimitError) as refused:
            await kit.create(server, kit.lines(1))
        assert refused.value.code == "rate_limit_exceeded"
        await kit.create(server, kit.lines(1), key="foreign")
        async with kit.working(server):
            await kit.ended(server, made.id)
        await kit.create(server, kit.lines(1))

    run_batches(scenario, batch_config=BatchesConfig(tenant_batches=1))


def test_making_and_cancelling_are_in_the_audit_log(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, kit.lines(1))
        for _ in range(2):
            await server.sdk().batches.cancel(made.id)
        async with pool.operator(server.dsn) as connection:
            log = [event async for event in audit_rows.all_events(connection, server.one.tenant.id)]
        events = [event for event in log if event.type.startswith("batch.")]
        assert [event.type for event in events] == ["batch.created", "batch.cancelled"]
        assert {event.target["id"] for event in events} == {made.id}

    run_batches(scenario)

"""Responses that are kept: conversations go on from them, for whoever they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from checkpoints import write_checkpoint
from files_kit import FileServer, owner_of
from remembering_kit import MODEL, Away, prompt, refused, run_chatting, strict
from responses_kit import CALL, TEMPLATE, TOOL

from anzoth.api.response_items import new_item, output_text
from anzoth.db.store import approval_rows
from anzoth.gateway import directory
from anzoth.gateway.stored_responses import StoredResponse, StoredResponses
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.response_config import ResponsesConfig

pytestmark = pytest.mark.slow

Run = Callable[..., None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("stored"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    return partial(run_chatting, dsn, tmp_path, checkpoint)


def test_a_conversation_goes_on_from_a_response(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        first = await responses.create(model=MODEL, input="one", instructions="Rules.")
        assert first.store is True
        second = await responses.create(model=MODEL, input="two", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        # Instructions are said anew each time.
        assert prompt(server) == "[user]one[assistant]hello there[user]two[assistant]"
        async with responses.stream(
            model=MODEL, input="three", previous_response_id=second.id
        ) as stream:
            third = await stream.get_final_response()
        assert (third.output_text, third.store) == ("hello there", True)
        assert prompt(server).endswith("[user]two[assistant]hello there[user]three[assistant]")
        # Each one stands for itself.
        await responses.delete(first.id)
        await responses.create(model=MODEL, input="four", previous_response_id=third.id)
        assert prompt(server).startswith("[user]one[assistant]hello there[user]two")

    run(scenario)


def test_what_was_kept_is_shown_as_it_was_given(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        first = await responses.create(model=MODEL, input="one", metadata={"a": "b"})
        second = await responses.create(
            model=MODEL,
            input=[
                {"role": "user", "content": [{"type": "input_text", "text": "two"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "done"},
            ],
            previous_response_id=first.id,
        )
        for made in (first, second):
            assert (await responses.retrieve(made.id)).to_dict() == made.to_dict()
        items = [item async for item in responses.input_items.list(second.id, order="asc")]
        assert [item.type for item in items] == [
            *("message", "message", "message", "function_call", "function_call_output"),
        ]
        assert items[0].content[0].text == "one"
        assert items[1] == first.output[0]
        down = [item async for item in responses.input_items.list(second.id, limit=2)]
        assert down == items[::-1]
        page = await responses.input_items.list(second.id, limit=2, after=items[3].id)
        assert [item.id for item in page.data] == [items[2].id, items[1].id]
        assert page.has_more
        with refused(400, "invalid_value", "after"):
            await responses.input_items.list(second.id, after="msg_unknown")
        with refused(400, "unsupported_parameter", "stream"):
            await responses.retrieve(second.id, stream=True)

    run(scenario)


def test_what_is_deleted_or_was_not_kept_is_not_there(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        made = await responses.create(model=MODEL, input="one")
        await responses.delete(made.id)
        unkept = await responses.create(model=MODEL, input="one", store=False)
        assert unkept.store is False
        for id in (made.id, unkept.id, "resp_unknown"):
            for ask in (responses.retrieve, responses.delete, responses.input_items.list):
                with refused(404, "not_found", "response_id"):
                    await ask(id)
        for id in (made.id, unkept.id, "resp_unknown", "resp_\0"):
            with refused(400, "previous_response_not_found", "previous_response_id"):
                await responses.create(model=MODEL, input="two", previous_response_id=id)
        assert await server.count("audit_log", "type = 'response.deleted'") == 1
        assert len(server.api.peer.submits) == 2

    run(scenario)


def test_for_others_a_response_is_like_one_that_never_was(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await strict(server).responses.create(model=MODEL, input="one")
        await server.add_project()
        keys = server.api.keys.principals
        keys["other project"] = replace(keys["other project"], scopes=server.one.scopes)
        for key in ("foreign", "other project"):
            async with server.client(key) as client:
                for method, path in (
                    ("GET", "{}"), ("DELETE", "{}"), ("GET", "{}/input_items"),
                ):  # fmt: skip
                    own, unknown = [
                        await client.request(method, "responses/" + path.format(id))
                        for id in (made.id, "resp_" + "0" * 32)
                    ]
                    assert own.status_code == 404
                    assert own.content == unknown.content
                for body in (
                    {"input": "x", "previous_response_id": "{}"},
                    {"input": [{"type": "item_reference", "id": "{}"}]},
                ):
                    answers = []
                    for response_id, item_id in (
                        (made.id, made.output[0].id), ("resp_" + "0" * 32, "msg_" + "0" * 32),
                    ):  # fmt: skip
                        if isinstance(body["input"], str):
                            sent = {**body, "previous_response_id": response_id}
                        else:
                            sent = {"input": [{"type": "item_reference", "id": item_id}]}
                        for path in ("responses", "responses/input_tokens"):
                            reply = await client.post(path, json={"model": MODEL, **sent})
                            answers.append((path, reply.status_code, reply.content))
                    assert answers[:2] == answers[2:]
                    assert {status for _, status, _ in answers} <= {400, 404}
        assert (await strict(server).responses.retrieve(made.id)).id == made.id

    run(scenario)


def test_a_key_sees_nothing_that_came_from_knowledge_bases_it_is_not_granted(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        kept: StoredResponses = server.api.services.responses
        message = new_item(
            "message", role="assistant", status="completed", content=[output_text("secret")]
        )
        made = {"id": "resp_kb", "output": [message]}
        assert await kept.try_save(owner_of(server.one), StoredResponse(made, [], [], ["vs_1"]))
        keys = server.api.keys.principals
        keys["some"] = replace(server.one, knowledge_bases=frozenset({"vs_2"}))
        keys["both"] = replace(server.one, knowledge_bases=frozenset({"vs_1", "vs_2"}))
        reference = [{"type": "item_reference", "id": message["id"]}]
        for key, is_shown in (("some", False), ("both", True), ("good", True)):
            async with server.client(key) as client:
                replies = [
                    await client.get("responses/resp_kb"),
                    await client.get("responses/resp_kb/input_items"),
                    await client.post(
                        "responses",
                        json={"model": MODEL, "input": "x", "previous_response_id": "resp_kb"},
                    ),
                    await client.post("responses", json={"model": MODEL, "input": reference}),
                ]
                statuses = [reply.status_code for reply in replies]
                assert statuses == ([200] * 4 if is_shown else [404, 404, 400, 404])
        # What goes on from it has it in it, too.
        async with server.client("some") as client:
            for reply in replies[2:]:
                assert (await client.get(f"responses/{reply.json()['id']}")).status_code == 404
            assert (await client.delete("responses/resp_kb")).status_code == 404

    run(scenario)


def test_a_function_is_called_in_a_conversation_that_the_server_remembers(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        server.api.saying = [CALL]
        asked = await responses.create(model=MODEL, input="what is it?", tools=[TOOL])
        (call,) = asked.output
        server.api.saying = ["hello there"]
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "42"}
        answered = await responses.create(
            model=MODEL, input=[output], tools=[TOOL], previous_response_id=asked.id
        )
        assert answered.output_text == "hello there"
        assert prompt(server) == f"(f)[user]what is it?[assistant]{CALL}[tool]42[assistant]"
        # The same with references to the items, as the Vercel AI SDK has it.
        question, *_ = [item async for item in responses.input_items.list(asked.id)]
        given = [{"type": "item_reference", "id": item.id} for item in (question, call)]
        again = await responses.create(model=MODEL, input=[*given, output], tools=[TOOL])
        assert again.store is True
        assert prompt(server) == f"(f)[user]what is it?[assistant]{CALL}[tool]42[assistant]"
        with refused(404, "not_found", "input[1].id"):
            unknown = {"type": "item_reference", "id": "fc_\0"}
            await responses.create(model=MODEL, input=[given[0], unknown])
        for index, twice in (
            (2, {"input": [*given, given[0]]}),
            (0, {"input": given, "previous_response_id": again.id}),
        ):
            with refused(400, "invalid_value", f"input[{index}].id"):
                await responses.create(model=MODEL, **twice)

    run(scenario)


def test_input_is_counted_as_it_is_read(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        first = await responses.create(model=MODEL, input="one")
        for more in ({}, {"instructions": "Rules."}, {"tools": [TOOL]}):
            asked = {"input": "two", "previous_response_id": first.id, **more}
            made = await responses.create(model=MODEL, **asked)
            counted = await responses.input_tokens.count(model=MODEL, **asked)
            assert counted.input_tokens == made.usage.input_tokens
        assert len(server.api.peer.submits) == 4
        assert len(server.api.ledger.records) == 4

    run(scenario)


def test_parsing_gives_what_the_schema_says(run: Run) -> None:
    import pydantic

    class Found(pydantic.BaseModel):
        a: int

    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        server.api.saying = ['{"a": 7}']
        parsed = await responses.parse(model=MODEL, input="x", text_format=Found)
        assert parsed.output_parsed == Found(a=7)
        async with responses.stream(model=MODEL, input="x", text_format=Found) as stream:
            assert (await stream.get_final_response()).output_parsed == Found(a=7)

    run(scenario)


def test_what_cannot_be_kept_says_so(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        first = await responses.create(model=MODEL, input="one")
        services = server.api.services
        away = StoredResponses(Away(), services.files.keys, ResponsesConfig())  # type: ignore[arg-type]  # raises
        server.api.app._services = replace(services, responses=away)
        made = await responses.create(model=MODEL, input="two")
        assert (made.status, made.output_text, made.store) == ("completed", "hello there", False)
        events = [
            event async for event in await responses.create(model=MODEL, input="two", stream=True)
        ]
        assert events[0].response.store is True
        assert events[-1].type == "response.completed"
        assert events[-1].response.store is False
        with refused(503, "database_unavailable", None):
            await responses.create(model=MODEL, input="two", previous_response_id=first.id)
        small = ResponsesConfig(max_kib=1)
        keeping = StoredResponses(server.database, services.files.keys, small)
        server.api.app._services = replace(services, responses=keeping)
        assert (await responses.create(model=MODEL, input="x" * 900)).store is False
        none = ResponsesConfig(retention_days=0)
        keeping = StoredResponses(server.database, services.files.keys, none)
        server.api.app._services = replace(services, responses=keeping)
        assert (await responses.create(model=MODEL, input="one")).store is False
        with refused(400, "unsupported_parameter", "store"):
            await responses.create(model=MODEL, input="one", store=True)
        assert await server.count("responses") == 1

    run(scenario)


def test_what_is_kept_is_sealed(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        server.api.saying = ["general kenobi says"]
        made = await responses.create(
            model=MODEL, input="obi wan says", instructions="be wise now", metadata={"a": "wookiee"}
        )
        connection = await asyncpg.connect(server.dsn)
        try:
            await connection.execute("SET ROLE anzoth_operator")
            rows = [
                row
                for table in ("responses", "response_items", "response_sums")
                for row in await connection.fetch(f"SELECT * FROM anzoth.{table}")
            ]
        finally:
            await connection.close()
        stored = b"".join(
            value if isinstance(value, bytes) else str(value).encode()
            for row in rows
            for value in row
        )
        assert made.id.encode() in stored
        for secret in (b"kenobi", b"obi wan", b"be wise", b"wookiee"):
            assert secret not in stored
        # Moved to another id, it does not open.
        async with server.database.tenant(server.one.tenant) as connection:
            await connection.execute(
                "INSERT INTO anzoth.responses (tenant_id, id, project_id, content, bytes, "
                "expires_at) SELECT tenant_id, 'resp_moved', project_id, content, bytes, "
                "expires_at FROM anzoth.responses"
            )
        async with server.client() as client:
            assert (await client.get("responses/resp_moved")).status_code == 500

    run(scenario)


def test_what_has_expired_is_gone_and_is_removed(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        old, young = [await responses.create(model=MODEL, input="x") for _ in range(2)]
        connection = await asyncpg.connect(server.dsn)
        try:
            await connection.execute("SET ROLE anzoth_operator")
            await connection.execute(
                "UPDATE anzoth.responses SET expires_at = now() WHERE id = $1", old.id
            )
        finally:
            await connection.close()
        with refused(404, "not_found", "response_id"):
            await responses.retrieve(old.id)
        assert await server.count("responses") == 2
        await server.api.services.responses.sweep()
        assert await server.count("responses") == 1
        assert await server.count("response_items") == 2
        assert (await responses.retrieve(young.id)).id == young.id
        await directory.delete_tenant(server.dsn, "one")
        await server.api.services.responses.sweep()
        assert await server.count("responses") == 0
        assert await server.count("response_sums", "num_bytes <> 0") == 0

    run(scenario)


@pytest.mark.parametrize("kept_days", [0, 60])
def test_a_used_approval_is_removed_when_no_response_can_ask_for_it(
    run: Run, kept_days: int
) -> None:
    async def scenario(server: FileServer) -> None:
        keys = TenantKeys(server.database, server.dsn, MasterKey(bytes(32)))
        config = ResponsesConfig(retention_days=kept_days)
        kept = StoredResponses(server.database, keys, config)
        tenant = server.one.tenant
        last_day = max(30, kept_days)
        async with server.database.tenant(tenant) as connection:
            await connection.execute(
                """
                INSERT INTO anzoth.used_approvals
                SELECT $1, 'mcpr_' || days, now() - make_interval(days => days)
                FROM unnest($2::int[]) AS days
                """,
                *(tenant.id, [0, last_day - 1, last_day, 365]),
            )
        await kept.sweep()
        assert await server.count("used_approvals") == 2
        left = f"used_at > now() - interval '{last_day} days'"
        assert await server.count("used_approvals", left) == 2
        async with server.database.tenant(tenant) as connection:
            assert not await approval_rows.try_use(connection, tenant.id, "mcpr_0")

    run(scenario)


def test_the_oldest_make_room(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        config = ResponsesConfig(max_kib=512, tenant_mib=1)
        keys = TenantKeys(server.database, server.dsn, MasterKey(bytes(32)))
        kept = StoredResponses(server.database, keys, config)
        owner = owner_of(server.one)
        content = [output_text("x" * 200_000)]
        for number in range(8):
            item = new_item("message", role="assistant", status="completed", content=content)
            made = StoredResponse({"id": f"resp_{number}", "output": [item]}, [], [])
            assert await kept.try_save(owner, made)
            assert await server.count("response_sums", "num_bytes > 1048576") == 0
        async with server.database.tenant(server.one.tenant) as connection:
            rows = await connection.fetch("SELECT id, bytes FROM anzoth.responses ORDER BY id")
            summed = await connection.fetchval("SELECT num_bytes FROM anzoth.response_sums")
        ids = [row["id"] for row in rows]
        assert ids == [f"resp_{number}" for number in range(8)][-len(ids) :]
        assert len(ids) >= 4
        assert summed == sum(row["bytes"] for row in rows)

    run(scenario)

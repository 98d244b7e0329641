"""Conversations: what is in one, whoever adds to it, and for whom it is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from checkpoints import write_checkpoint
from files_kit import FileServer, owner_of
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter
from remembering_kit import MODEL, Away, prompt, refused, run_chatting, strict
from responses_kit import CALL, TEMPLATE, TOOL

from anzoth.api.response_items import new_item, output_text
from anzoth.db.store import conversation_rows
from anzoth.db.store.conversation_rows import ConversationRow
from anzoth.gateway import directory
from anzoth.gateway.conversations import Conversations, NewItems
from anzoth.gateway.stored_responses import StoredResponse, StoredResponses
from anzoth.response_config import ResponsesConfig

pytestmark = pytest.mark.slow

Run = Callable[..., None]
ITEM = TypeAdapter[Any](ConversationItem)
UNKNOWN = "conv_" + "0" * 32


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("conversations"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    return partial(run_chatting, dsn, tmp_path, checkpoint)


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


def turn(text: str) -> NewItems:
    part = [output_text(text)]
    return NewItems([new_item("message", role="assistant", status="completed", content=part)])


async def texts(server: FileServer, id: str, **query: Any) -> list[str]:
    """All that is in it, the oldest first unless `query` says otherwise."""
    listed = strict(server).conversations.items.list(id, **{"order": "asc", **query})
    return [item.content[0].text async for item in listed]


async def check_bytes(server: FileServer) -> None:
    """What a conversation is said to take is what is in it; and so for the tenant."""
    async with server.database.tenant(server.one.tenant) as connection:
        rows = await connection.fetch(
            "SELECT c.bytes, 256 * (1 + count(i.id)) + length(c.metadata) + "
            "coalesce(sum(length(i.content)), 0)::bigint AS counted FROM anzoth.conversations AS c "
            "LEFT JOIN anzoth.conversation_items AS i ON i.conversation_id = c.id GROUP BY c.id, "
            "c.bytes, c.metadata"
        )
        responses = await connection.fetchval(
            "SELECT coalesce(sum(bytes), 0)::bigint FROM anzoth.responses"
        )
        kept = await connection.fetchval("SELECT num_bytes FROM anzoth.response_sums")
    assert [row["bytes"] for row in rows] == [row["counted"] for row in rows]
    assert kept == responses + sum(row["bytes"] for row in rows)


# --- conversations and their items ----------------------------------------------------------------


def test_a_conversation_is_made_changed_and_deleted(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        conversations = strict(server).conversations
        made = await conversations.create(items=[said("one")], metadata={"topic": "pumps"})
        assert (made.object, made.metadata) == ("conversation", {"topic": "pumps"})
        assert await conversations.retrieve(made.id) == made
        changed = await conversations.update(made.id, metadata={"a": "b" * 512})
        assert changed.metadata == {"a": "b" * 512}
        assert changed.created_at == made.created_at
        await check_bytes(server)
        assert (await conversations.update(made.id, metadata=None)).metadata == {}
        assert (await conversations.retrieve(made.id)).metadata == {}
        empty = await conversations.create()
        assert empty.metadata == {}
        assert await texts(server, empty.id) == []
        await check_bytes(server)
        deleted = await conversations.delete(made.id)
        assert (deleted.id, deleted.deleted) == (made.id, True)
        for ask in (conversations.retrieve, conversations.delete, conversations.items.list):
            for id in (made.id, UNKNOWN):
                with refused(404, "not_found", "conversation_id"):
                    await ask(id)
        assert await server.count("conversation_items") == 0
        assert await server.count("audit_log", "type = 'conversation.deleted'") == 1
        await check_bytes(server)

    run(scenario)


def test_items_are_added_listed_read_and_deleted(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        conversations = strict(server).conversations
        items, id = conversations.items, (await conversations.create()).id
        added = await items.create(
            id,
            items=[
                said("one"),
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "done"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
            ],
            include=["message.output_text.logprobs"],
        )
        for item in added.data:
            ITEM.validate_python(item.to_dict(), strict=True)
        assert (added.first_id, added.last_id) == (added.data[0].id, added.data[3].id)
        await items.create(id, items=[said("two", "assistant"), said("three", "developer")])
        everything = [item async for item in items.list(id, order="asc")]
        assert everything[:4] == added.data
        assert [item async for item in items.list(id, limit=2)] == everything[::-1]
        page = await items.list(id, limit=2, after=everything[3].id)
        assert [item.id for item in page.data] == [everything[2].id, everything[1].id]
        assert page.has_more
        before = await items.list(id, limit=2, extra_query={"before": everything[1].id})
        assert [item.id for item in before.data] == [everything[3].id, everything[2].id]
        for item in everything:
            assert await items.retrieve(item.id, conversation_id=id) == item
        # Who deletes what a page lists still gets the next page.
        async for item in items.list(id, limit=2):
            assert (await items.delete(item.id, conversation_id=id)).id == id
            for ask in (items.retrieve, items.delete):
                with refused(404, "not_found", "item_id"):
                    await ask(item.id, conversation_id=id)
            await check_bytes(server)
        assert (await items.list(id)).data == []
        assert await server.count("audit_log", "type = 'conversation.item_deleted'") == 6
        for cursor in ("msg_unknown", "msg_\0"):
            with refused(400, "invalid_value", "after"):
                await items.list(id, after=cursor)
        with refused(404, "not_found", "item_id"):
            await items.retrieve("msg_unknown", conversation_id=id)

    run(scenario)


def test_what_cannot_be_in_a_conversation_is_refused(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        conversations = strict(server).conversations
        id = (await conversations.create()).id
        for wrong, code, param in (
            ([said("x")] * 21, "invalid_value", "items"),
            ([], "invalid_value", "items"),
            ([said("x"), {"type": "computer_call"}], "unsupported_parameter", "items[1].type"),
            (
                [said("x"), {**said("x"), "role": "tool"}],
                "invalid_value",
                "items[1].role",
            ),
        ):
            with refused(400, code, param):
                await conversations.items.create(id, items=wrong)
            if wrong:
                with refused(400, code, param):
                    await conversations.create(items=wrong)
        with refused(404, "not_found", "items[0].id"):
            await conversations.create(items=[{"type": "item_reference", "id": "msg_unknown"}])
        for metadata in ({"a": 1}, {"a": "b" * 513}, {str(n): "" for n in range(17)}):
            for ask in (conversations.create, partial(conversations.update, id)):
                with refused(400, "invalid_value", "metadata"):
                    await ask(metadata=metadata)
        with refused(400, "unsupported_parameter", "filter"):
            await conversations.items.list(id, extra_query={"filter": "x"})
        assert await server.count("conversations") == 1
        assert await texts(server, id) == []

    run(scenario)


def test_an_item_of_a_response_that_is_kept_can_be_in_conversations(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        made = await sdk.responses.create(model=MODEL, input="one")
        reference = {"type": "item_reference", "id": made.output[0].id}
        conversation = await sdk.conversations.create(items=[said("x"), reference])
        assert await texts(server, conversation.id) == ["x", "hello there"]
        with refused(400, "invalid_value", "items"):
            await sdk.conversations.items.create(conversation.id, items=[reference])
        with refused(400, "invalid_value", "input[0].id"):
            await sdk.responses.create(model=MODEL, input=[reference], conversation=conversation.id)
        # Deleted, it can come back; then it is the last.
        await sdk.conversations.items.delete(reference["id"], conversation_id=conversation.id)
        await sdk.conversations.items.create(conversation.id, items=[said("y"), reference])
        assert await texts(server, conversation.id) == ["x", "y", "hello there"]
        await check_bytes(server)

    run(scenario)


# --- responses in a conversation ------------------------------------------------------------------


def test_a_response_reads_its_conversation_and_adds_to_it(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = await sdk.conversations.create(items=[said("Rules.", "developer")])
        first = await sdk.responses.create(
            model=MODEL, input="one", conversation=conversation.id, instructions="Now."
        )
        assert first.conversation.id == conversation.id
        assert prompt(server) == "[system]Now.\n\nRules.[user]one[assistant]"
        async with sdk.responses.stream(
            model=MODEL, input="two", conversation={"id": conversation.id}, store=False
        ) as stream:
            events = [event async for event in stream]
        assert {event.response.conversation.id for event in (events[0], events[-1])} == {
            conversation.id
        }
        # Instructions are not in it.
        before = "[system]Rules.[user]one[assistant]hello there[user]two[assistant]"
        assert prompt(server) == before
        said_so_far = ["Rules.", "one", "hello there", "two", "hello there"]
        assert await texts(server, conversation.id) == said_so_far
        listed = [item async for item in sdk.conversations.items.list(conversation.id)]
        assert listed[2].to_dict() == first.output[0].to_dict()
        counted = await sdk.responses.input_tokens.count(
            model=MODEL, input="three", conversation=conversation.id
        )
        third = await sdk.responses.create(model=MODEL, input="three", conversation=conversation.id)
        assert third.usage.input_tokens == counted.input_tokens
        assert prompt(server).startswith(before)
        # What is deleted is not read any more.
        await sdk.conversations.items.delete(listed[4].id, conversation_id=conversation.id)
        await sdk.responses.create(model=MODEL, input="four", conversation=conversation.id)
        assert prompt(server).startswith("[user]one[assistant]hello there[user]two")
        await check_bytes(server)

    run(scenario)


def test_a_function_is_called_in_a_conversation(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create()).id
        server.api.saying = [CALL]
        asked = await sdk.responses.create(
            model=MODEL, input="what is it?", tools=[TOOL], conversation=conversation
        )
        server.api.saying = ["hello there"]
        output = {
            "type": "function_call_output",
            "call_id": asked.output[0].call_id,
            "output": "42",
        }
        await sdk.responses.create(
            model=MODEL, input=[output], tools=[TOOL], conversation=conversation
        )
        assert prompt(server) == f"(f)[user]what is it?[assistant]{CALL}[tool]42[assistant]"
        kinds = [item.type async for item in sdk.conversations.items.list(conversation)]
        assert kinds == ["message", "function_call_output", "function_call", "message"]

    run(scenario)


def test_a_turn_costs_what_it_adds(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create(items=[said("so much " * 100)])).id
        first, *_, last = [
            await sdk.responses.create(model=MODEL, input="one", conversation=conversation)
            for _ in range(4)
        ]
        async with server.database.tenant(server.one.tenant) as connection:
            sizes: dict[str, int] = dict(
                await connection.fetch("SELECT id, bytes FROM anzoth.responses")
            )
        # The same but for the digits of a number of tokens and a position.
        assert abs(sizes[last.id] - sizes[first.id]) < 10
        assert len(await texts(server, conversation)) == 9

    run(scenario)


def test_a_response_of_a_conversation_shows_what_it_read_and_can_be_gone_on_from(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create(items=[said("zero")])).id
        first = await sdk.responses.create(model=MODEL, input="one", conversation=conversation)
        second = await sdk.responses.create(model=MODEL, input="two", conversation=conversation)
        assert (await sdk.responses.retrieve(first.id)).to_dict() == first.to_dict()

        async def read(id: str) -> list[str]:
            listed = sdk.responses.input_items.list(id, order="asc")
            return [item.content[0].text async for item in listed]

        assert await read(first.id) == ["zero", "one"]
        assert await read(second.id) == ["zero", "one", "hello there", "two"]
        # A branch: what was added to the conversation since is not in it, nor it there.
        branch = await sdk.responses.create(
            model=MODEL, input="other", previous_response_id=first.id
        )
        assert prompt(server) == "[user]zero[user]one[assistant]hello there[user]other[assistant]"
        assert branch.conversation is None
        assert len(await texts(server, conversation)) == 5
        await sdk.conversations.delete(conversation)
        assert await read(first.id) == ["one"]
        assert await read(branch.id) == ["zero", "one", "hello there", "other"]
        with refused(400, "previous_response_not_found", "previous_response_id"):
            await sdk.responses.create(model=MODEL, input="x", previous_response_id=first.id)

    run(scenario)


def test_responses_at_once_add_one_after_the_other_each_whole(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create(items=[said("zero")])).id
        names = [f"number {number}" for number in range(6)]
        peer = server.api.peer
        peer.pause_after = 1
        asked = [
            asyncio.create_task(
                sdk.responses.create(
                    model=MODEL, input=[said(name), said("again")], conversation=conversation
                )
            )
            for name in names
        ]
        await peer.until(lambda: len(peer.submits) == len(names))
        # All have read the same.
        prompts = {prompt(server, number) for number in range(len(names))}
        assert prompts == {f"[user]zero[user]{name}[user]again[assistant]" for name in names}
        await sdk.conversations.items.create(conversation, items=[said("meanwhile")])
        peer.go_on()
        made = await asyncio.gather(*asked)
        assert {response.conversation.id for response in made} == {conversation}
        zero, meanwhile, *rest = await texts(server, conversation, limit=100)
        assert (zero, meanwhile) == ("zero", "meanwhile")
        turns = [tuple(rest[start : start + 3]) for start in range(0, len(rest), 3)]
        assert sorted(turns) == [(name, "again", "hello there") for name in names]
        async with server.database.tenant(server.one.tenant) as connection:
            rows = await connection.fetch(
                "SELECT position FROM anzoth.conversation_items ORDER BY position"
            )
        assert [row["position"] for row in rows] == list(range(1, 21))
        await check_bytes(server)

    run(scenario)


def test_who_leaves_adds_nothing(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create(items=[said("zero")])).id
        peer = server.api.peer
        peer.pause_after = 1
        stream = await sdk.responses.create(
            model=MODEL, input="one", conversation=conversation, stream=True
        )
        async for event in stream:
            if event.type == "response.in_progress":
                break
        await stream.close()
        await peer.until(lambda: len(peer.aborts) == 1)
        assert await texts(server, conversation) == ["zero"]
        assert await server.count("responses") == 0

    run(scenario)


def test_a_conversation_goes_on_from_one_thing_only(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create()).id
        made = await sdk.responses.create(model=MODEL, input="one", conversation=conversation)
        asks = (sdk.responses.create, sdk.responses.input_tokens.count)
        for ask in asks:
            with refused(400, "invalid_value", "conversation"):
                await ask(
                    model=MODEL,
                    input="two",
                    conversation=conversation,
                    previous_response_id=made.id,
                )
            for unknown in (UNKNOWN, {"id": UNKNOWN}, "conv_\0"):
                with refused(404, "not_found", "conversation"):
                    await ask(model=MODEL, input="two", conversation=unknown)
            for wrong, param in ((7, ""), ({"id": 7}, ".id"), ("", ""), ("x" * 129, "")):
                with refused(400, "invalid_value", f"conversation{param}"):
                    await ask(model=MODEL, input="two", conversation=wrong)
            with refused(400, "missing_required_parameter", "conversation.id"):
                await ask(model=MODEL, input="two", conversation={})
        assert len(server.api.peer.submits) == 1

    run(scenario)


def test_a_response_that_could_not_be_added_says_so(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk, peer = strict(server), server.api.peer
        conversation = (await sdk.conversations.create(items=[said("zero")])).id
        peer.pause_after = 1
        asked = asyncio.create_task(
            sdk.responses.create(model=MODEL, input="one", conversation=conversation)
        )
        await peer.until(lambda: len(peer.submits) == 1)
        await sdk.conversations.delete(conversation)
        peer.go_on()
        made = await asked
        assert (made.status, made.output_text, made.conversation) == (
            *("completed", "hello there"),
            None,
        )
        services = server.api.services
        gone = Conversations(Away(), services.files.keys, ResponsesConfig())  # type: ignore[arg-type]  # raises
        assert not await gone.try_add(owner_of(server.one), conversation, turn("x"))
        server.api.app._services = replace(services, conversations=gone)
        with refused(503, "database_unavailable", None):
            await sdk.responses.create(model=MODEL, input="two", conversation=conversation)

    run(scenario)


# --- for whom -------------------------------------------------------------------------------------


def test_for_others_a_conversation_is_like_one_that_never_was(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = await sdk.conversations.create(items=[said("one")])
        await sdk.responses.create(model=MODEL, input="two", conversation=conversation.id)
        (item, *_) = (await sdk.conversations.items.list(conversation.id)).data
        await server.add_project()
        keys = server.api.keys.principals
        keys["other project"] = replace(keys["other project"], scopes=server.one.scopes)
        named = {"input": "x", "model": MODEL}
        for key in ("foreign", "other project"):
            async with server.client(key) as client:
                for method, path, body in (
                    ("GET", "conversations/{c}", None),
                    ("POST", "conversations/{c}", {"metadata": {}}),
                    ("DELETE", "conversations/{c}", None),
                    ("GET", "conversations/{c}/items", None),
                    ("POST", "conversations/{c}/items", {"items": [said("x")]}),
                    ("GET", "conversations/{c}/items/{i}", None),
                    ("DELETE", "conversations/{c}/items/{i}", None),
                    ("POST", "responses", {**named, "conversation": "{c}"}),
                    ("POST", "responses/input_tokens", {**named, "conversation": "{c}"}),
                ):
                    answers = []
                    for id, item_id in ((conversation.id, item.id), (UNKNOWN, "msg_" + "0" * 32)):
                        sent = body
                        if body is not None and "conversation" in body:
                            sent = {**body, "conversation": id}
                        where = path.format(c=id, i=item_id)
                        reply = await client.request(method, where, json=sent)
                        answers.append((reply.status_code, reply.content))
                    assert answers[0] == answers[1], (method, path)
                    assert answers[0][0] == 404
        assert await texts(server, conversation.id) == ["one", "two", "hello there"]

    run(scenario)


def test_a_key_reads_nothing_that_came_from_knowledge_bases_it_is_not_granted(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        conversation = (await sdk.conversations.create(items=[said("one")])).id
        keys = server.api.keys.principals
        keys["some"] = replace(server.one, knowledge_bases=frozenset({"vs_2"}))
        keys["both"] = replace(server.one, knowledge_bases=frozenset({"vs_1", "vs_2"}))
        own = await strict(server, "some").responses.create(
            model=MODEL, input="two", conversation=conversation
        )
        kept = server.api.services.conversations
        secret = turn("secret")
        owner = owner_of(server.one)
        assert await kept.try_add(owner, conversation, replace(secret, knowledge_bases=["vs_1"]))
        item_id = secret.items[0]["id"]
        named = {"model": MODEL, "input": "x", "conversation": conversation}
        for key, is_shown in (("some", False), ("both", True), ("good", True)):
            async with server.client(key) as client:
                path = f"conversations/{conversation}"
                replies = [
                    await client.get(path),
                    await client.post(path, json={"metadata": {}}),
                    await client.get(f"{path}/items"),
                    await client.get(f"{path}/items/{item_id}"),
                    await client.post(f"{path}/items", json={"items": [said("x")]}),
                    await client.post("responses", json=named),
                    await client.post("responses/input_tokens", json=named),
                ]
                statuses = [reply.status_code for reply in replies]
                assert statuses == [200 if is_shown else 404] * 7, key
        # What was read before is still its own, and only that.
        some = strict(server, "some").responses
        await some.create(model=MODEL, input="three", previous_response_id=own.id)
        assert prompt(server) == "[user]one[user]two[assistant]hello there[user]three[assistant]"
        # What was answered with it has it in it.
        async with server.client("some") as client:
            id = replies[5].json()["id"]
            assert (await client.get(f"responses/{id}")).status_code == 404
            for path in (f"conversations/{conversation}/items/{item_id}",):
                assert (await client.delete(path)).status_code == 404
            # That it was deleted changes nothing: others have answered it.
            await sdk.conversations.items.delete(item_id, conversation_id=conversation)
            assert (await client.get(f"conversations/{conversation}")).status_code == 404
            assert (await client.delete(f"conversations/{conversation}")).status_code == 404

    run(scenario)


def test_what_comes_in_while_somebody_reads_is_not_shown_to_him(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: FileServer) -> None:
        sdk, kept = strict(server), server.api.services.conversations
        owner = owner_of(server.one)
        keys = server.api.keys.principals
        keys["some"] = replace(server.one, knowledge_bases=frozenset({"vs_2"}))
        real = conversation_rows.find_conversation
        for path in ("items", "items?order=asc", "items/{item}", "responses"):
            conversation = (await sdk.conversations.create(items=[said("one")])).id
            secret = replace(turn("secret"), knowledge_bases=["vs_1"])

            async def found_before(
                *of: Any, conversation: str = conversation, secret: NewItems = secret
            ) -> ConversationRow | None:
                row = await real(*of)
                assert await kept.try_add(owner, conversation, secret)
                return row

            async with server.client("some") as client:
                with monkeypatch.context() as patched:
                    patched.setattr(conversation_rows, "find_conversation", found_before)
                    if path == "responses":
                        body = {"model": MODEL, "input": "two", "conversation": conversation}
                        reply = await client.post(path, json=body)
                        assert prompt(server) == "[user]one[user]two[assistant]"
                    else:
                        where = path.format(item=secret.items[0]["id"])
                        reply = await client.get(f"conversations/{conversation}/{where}")
                assert reply.status_code == (404 if "{" in path else 200)
                assert b"secret" not in reply.content
                # Now it is there, and he sees nothing of the conversation any more.
                reply = await client.get(f"conversations/{conversation}")
                assert reply.status_code == 404

    run(scenario)


def test_an_item_brings_its_knowledge_bases_with_it(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses: StoredResponses = server.api.services.responses
        (message,) = turn("secret").items
        made = {"id": "resp_kb", "output": [message]}
        stored = StoredResponse(made, [], [], ["vs_1"])
        assert await responses.try_save(owner_of(server.one), stored)
        reference = [{"type": "item_reference", "id": message["id"]}]
        sdk = strict(server)
        begun = await sdk.conversations.create(items=reference)
        added = await sdk.conversations.create()
        await sdk.conversations.items.create(added.id, items=reference)
        keys = server.api.keys.principals
        keys["some"] = replace(server.one, knowledge_bases=frozenset({"vs_2"}))
        some = strict(server, "some").conversations
        for conversation in (begun, added):
            with refused(404, "not_found", "conversation_id"):
                await some.retrieve(conversation.id)
        with refused(404, "not_found", "items[0].id"):
            await some.create(items=reference)

    run(scenario)


# --- how long, how much, how sealed ---------------------------------------------------------------


def test_what_is_in_a_conversation_is_sealed(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        sdk = strict(server)
        server.api.saying = ["general kenobi says"]
        made = await sdk.conversations.create(
            items=[said("obi wan says")], metadata={"a": "wookiee"}
        )
        await sdk.responses.create(model=MODEL, input="be wise now", conversation=made.id)
        connection = await asyncpg.connect(server.dsn)
        try:
            await connection.execute("SET ROLE anzoth_operator")
            rows = [
                row
                for table in ("conversations", "conversation_items")
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
        # Moved into another conversation, it does not open.
        other = await sdk.conversations.create()
        async with server.database.tenant(server.one.tenant) as connection:
            await connection.execute(
                "INSERT INTO anzoth.conversation_items (tenant_id, conversation_id, id, position, "
                "content) SELECT tenant_id, $1, id, position, content "
                "FROM anzoth.conversation_items",
                other.id,
            )
            await connection.execute("UPDATE anzoth.conversations SET last_position = 9")
        async with server.client() as client:
            reply = await client.get(f"conversations/{other.id}/items")
            assert reply.status_code == 500

    run(scenario)


def test_what_has_expired_is_gone_and_is_removed(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        conversations = strict(server).conversations
        old, used, young = [await conversations.create(items=[said("x")]) for _ in range(3)]

        async def expire(*ids: str, at: str) -> None:
            connection = await asyncpg.connect(server.dsn)
            try:
                await connection.execute("SET ROLE anzoth_operator")
                await connection.execute(
                    f"UPDATE anzoth.conversations SET expires_at = {at} WHERE id = ANY ($1)", ids
                )
            finally:
                await connection.close()

        await expire(old.id, used.id, at="now() + interval '1 day'")
        await conversations.items.create(used.id, items=[said("y")])
        assert await server.count("conversations", "expires_at > now() + interval '29 days'") == 2
        await expire(old.id, at="now()")
        with refused(404, "not_found", "conversation_id"):
            await conversations.retrieve(old.id)
        with refused(404, "not_found", "conversation"):
            await strict(server).responses.create(model=MODEL, input="x", conversation=old.id)
        assert not await server.api.services.conversations.try_add(
            owner_of(server.one), old.id, turn("x")
        )
        await server.api.services.conversations.sweep()
        assert await server.count("conversations") == 2
        assert await server.count("conversation_items") == 3
        await check_bytes(server)
        assert await conversations.retrieve(young.id) == young
        await directory.delete_tenant(server.dsn, "one")
        await server.api.services.conversations.sweep()
        assert await server.count("conversations") == 0
        assert await server.count("response_sums", "num_bytes <> 0") == 0

    run(scenario)


def test_a_conversation_takes_so_much_and_no_more(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        services, owner = server.api.services, owner_of(server.one)
        small = ResponsesConfig(max_kib=2)
        kept = Conversations(server.database, services.files.keys, small)
        server.api.app._services = replace(services, conversations=kept)
        sdk = strict(server)
        with refused(400, "invalid_value", "conversation"):
            await sdk.conversations.create(items=[said("x" * 4096)])
        assert await server.count("conversations") == 0
        id = (await sdk.conversations.create(items=[said("x" * 800)])).id
        with refused(400, "invalid_value", "conversation"):
            await sdk.conversations.items.create(id, items=[said("x" * 2000)])
        assert not await kept.try_add(owner, id, turn("x" * 2000))
        assert len(await texts(server, id)) == 1
        made = await sdk.responses.create(model=MODEL, input="x" * 400, conversation=id)
        assert made.conversation is None
        full = Conversations(server.database, services.files.keys, ResponsesConfig(max_kib=1))
        server.api.app._services = replace(services, conversations=full)
        with refused(400, "invalid_value", "conversation"):
            await sdk.responses.create(model=MODEL, input="x", conversation=id)
        none = ResponsesConfig(retention_days=0)
        keeping = Conversations(server.database, services.files.keys, none)
        server.api.app._services = replace(services, conversations=keeping)
        with refused(400, "unsupported_parameter", None):
            await sdk.conversations.create()
        await check_bytes(server)

    run(scenario)


def test_conversations_and_responses_share_the_room_of_their_tenant(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        config = ResponsesConfig(max_kib=512, tenant_mib=1)
        keys = server.api.services.files.keys
        conversations = Conversations(server.database, keys, config)
        responses = StoredResponses(server.database, keys, config)
        owner = owner_of(server.one)
        first = await conversations.create(owner, {}, turn("x" * 100_000))
        second = await conversations.create(owner, {}, turn("x" * 100_000))
        made = StoredResponse({"id": "resp_0", "output": turn("x" * 100_000).items}, [], [])
        assert await responses.try_save(owner, made)
        # It is the youngest now.
        assert await conversations.try_add(owner, first.id, turn("x" * 100_000))
        # Somebody is adding to the oldest: nobody waits for it.
        async with server.database.tenant(owner.tenant) as connection:
            await connection.execute(
                "SELECT FROM anzoth.conversations WHERE id = $1 FOR UPDATE", second.id
            )
            for number in range(1, 10):
                output = turn("x" * 80_000).items
                made = StoredResponse({"id": f"resp_{number}", "output": output}, [], [])
                assert await responses.try_save(owner, made)
        assert await server.count("responses", "id = 'resp_0'") == 0
        assert await server.count("conversations") == 2
        await conversations.create(owner, {}, turn("x" * 40_000))
        assert await server.count("conversations", f"id = '{second.id}'") == 0
        assert await server.count("conversations", f"id = '{first.id}'") == 1
        assert await server.count("response_sums", "num_bytes > 1048576") == 0
        await check_bytes(server)

    run(scenario)


def test_additions_of_several_gateways_in_any_order_leave_nothing_out(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        draw, owner = random.Random(7), owner_of(server.one)
        keys = server.api.services.files.keys
        gateways = [Conversations(server.database, keys, ResponsesConfig()) for _ in range(3)]
        id = (await gateways[0].create(owner, {}, NewItems([]))).id
        turns = [
            NewItems([item for _ in range(draw.randint(1, 4)) for item in turn(f"t{n}").items])
            for n in range(24)
        ]
        added = await asyncio.gather(
            *(draw.choice(gateways).try_add(owner, id, new) for new in turns)
        )
        assert all(added)
        read = await gateways[0].read(owner, id, None)
        ids = [item["id"] for item in read.items]
        places = [ids.index(new.items[0]["id"]) for new in turns]
        for place, new in zip(places, turns, strict=True):
            assert ids[place : place + len(new.items)] == [item["id"] for item in new.items]
        assert len(ids) == sum(len(new.items) for new in turns) == read.last_position
        assert await gateways[1].read_again(owner, id, 5) == read.items[:5]
        await check_bytes(server)

    run(scenario)

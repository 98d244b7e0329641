"""Conversations and their items, and for whom they are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from conversations_kit import UNKNOWN, check_bytes, said, texts, turn
from files_kit import FileServer, owner_of
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter
from remembering_kit import MODEL, prompt, refused, run_chatting, strict
from responses_kit import TEMPLATE

from anzoth.db.store import conversation_rows
from anzoth.db.store.conversation_rows import ConversationRow
from anzoth.gateway.conversations import NewItems
from anzoth.gateway.stored_responses import StoredResponse, StoredResponses

pytestmark = pytest.mark.slow

Run = Callable[..., None]
ITEM = TypeAdapter[Any](ConversationItem)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("conversations"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    return partial(run_chatting, dsn, tmp_path, checkpoint)


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

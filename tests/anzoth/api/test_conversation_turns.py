"""Responses in a conversation: what they read, what they add, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from conversations_kit import UNKNOWN, check_bytes, said, texts, turn
from files_kit import FileServer, owner_of
from remembering_kit import MODEL, Away, prompt, refused, run_chatting, strict
from responses_kit import CALL, TEMPLATE, TOOL

from anzoth.gateway.conversations import Conversations
from anzoth.response_config import ResponsesConfig

pytestmark = pytest.mark.slow


Run = Callable[..., None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("conversations"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    return partial(run_chatting, dsn, tmp_path, checkpoint)


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

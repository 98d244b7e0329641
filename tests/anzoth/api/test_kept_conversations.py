"""How conversations are kept: sealed, for how long, how much, and whatever is added at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from checkpoints import write_checkpoint
from conversations_kit import check_bytes, said, texts, turn
from files_kit import FileServer, owner_of
from remembering_kit import MODEL, refused, run_chatting, strict
from responses_kit import TEMPLATE

from anzoth.gateway import directory
from anzoth.gateway.conversations import Conversations, NewItems
from anzoth.gateway.stored_responses import StoredResponse, StoredResponses
from anzoth.response_config import ResponsesConfig

pytestmark = pytest.mark.slow


Run = Callable[..., None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("conversations"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    return partial(run_chatting, dsn, tmp_path, checkpoint)


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

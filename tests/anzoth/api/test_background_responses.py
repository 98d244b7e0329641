"""Responses that are made in the background: nobody waits, and each one ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from api_harness import until
from checkpoints import write_checkpoint
from files_kit import FileServer, owner_of
from remembering_kit import MODEL, Away, prompt, refused, run_chatting, strict
from responses_kit import TEMPLATE

from anzoth.errors import InvalidValue
from anzoth.gateway.background_responses import BackgroundResponses
from anzoth.gateway.stored_responses import LOST, StoredResponses
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.response_config import ResponsesConfig

pytestmark = pytest.mark.slow

Run = Callable[..., None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("background"), TEMPLATE)


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Run:
    return partial(run_chatting, dsn, tmp_path, checkpoint)


async def ask(server: FileServer, **fields: Any) -> Any:
    return await strict(server).responses.create(
        **{"model": MODEL, "input": "one", "background": True, **fields}
    )


async def now(server: FileServer, id: str) -> Any:
    return await strict(server).responses.retrieve(id)


async def recorded(server: FileServer, number: int = 1) -> dict[str, Any]:
    await until(lambda: len(server.api.ledger.records) == number)
    found = server.api.ledger.records[-1]
    return {
        name: getattr(found, name)
        for name in ("status", "finish_reason", "error_code", "completion_tokens")
    }


async def ended(server: FileServer, id: str, number: int = 1) -> Any:
    """What it came to, when its usage is written down."""
    await recorded(server, number)
    return await now(server, id)


async def running(server: FileServer, after: int = 1) -> Any:
    """One of which the engine has said `after` tokens and says no more."""
    server.api.peer.pause_after = after
    made = await ask(server)
    await server.api.peer.until(lambda: bool(server.api.peer.submits))
    return made


def other_gateway(server: FileServer) -> StoredResponses:
    keys = TenantKeys(server.database, server.dsn, MasterKey(bytes(32)))
    return StoredResponses(server.database, keys, ResponsesConfig())


def test_it_is_answered_at_once_and_made_while_nobody_waits(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await running(server, after=0)
        assert (made.status, made.background, made.store) == ("queued", True, True)
        assert (made.output, made.usage) == ([], None)
        assert (await now(server, made.id)).to_dict() == made.to_dict()
        await server.sdks.pop("good").close()
        assert not server.api.ledger.records
        server.api.peer.go_on()
        whole = await ended(server, made.id)
        assert (whole.status, whole.output_text) == ("completed", "hello there")
        assert whole.created_at == made.created_at <= whole.completed_at
        assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
        assert (await recorded(server))["status"] == 200
        assert await server.count("responses") == 1
        # And is gone on from like any other.
        await ask(server, input="two", previous_response_id=made.id)
        await recorded(server, 2)
        assert prompt(server) == "[user]one[assistant]hello there[user]two[assistant]"

    run(scenario)


def test_it_is_in_progress_from_its_first_word_on(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await running(server, after=2)
        async with asyncio.timeout(5):
            while (await now(server, made.id)).status == "queued":
                pass
        assert (await now(server, made.id)).status == "in_progress"
        with refused(400, "invalid_value", "previous_response_id"):
            await ask(server, previous_response_id=made.id)
        server.api.peer.go_on()
        assert (await ended(server, made.id, 2)).status == "completed"

    run(scenario)


def test_one_that_is_cut_is_incomplete(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await ask(server, max_output_tokens=1)
        cut = await ended(server, made.id)
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")

    run(scenario)


def test_a_cancelled_one_stops_and_stays_cancelled(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        made = await running(server)
        cancelled = await responses.cancel(made.id)
        assert (cancelled.id, cancelled.status) == (made.id, "cancelled")
        await server.api.peer.until(lambda: bool(server.api.peer.aborts))
        # Of the status that an abandoned request has, whatever its caller was told.
        assert await recorded(server) == {
            "status": 499,
            "finish_reason": "cancelled",
            "error_code": None,
            "completion_tokens": 1,
        }
        assert (await responses.cancel(made.id)).to_dict() == cancelled.to_dict()
        assert (await now(server, made.id)).to_dict() == cancelled.to_dict()
        assert await server.count("audit_log", "type = 'response.cancelled'") == 1

    run(scenario)


def test_what_has_ended_is_not_cancelled_any_more(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        responses = strict(server).responses
        made = await ask(server)
        whole = await ended(server, made.id)
        assert (await responses.cancel(made.id)).to_dict() == whole.to_dict()
        waited_for = await responses.create(model=MODEL, input="one")
        with refused(400, "invalid_value", "response_id"):
            await responses.cancel(waited_for.id)
        for key in ("foreign", await server.add_project()):
            with refused(404, "not_found", "response_id"):
                await strict(server, key).responses.cancel(made.id)

    run(scenario)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_another_gateway_stops_it_too(run: Run, is_deleted: bool) -> None:
    async def scenario(server: FileServer) -> None:
        made, other = await running(server), other_gateway(server)
        if is_deleted:
            await other.delete(owner_of(server.one), made.id, None)
        else:
            await other.cancel(owner_of(server.one), made.id, None)
        await server.api.services.background.renew()
        assert (await recorded(server))["finish_reason"] == "cancelled"
        assert await server.count("responses") == (0 if is_deleted else 1)

    run(scenario)


def test_a_deleted_one_stops_and_does_not_come_back(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await running(server)
        await strict(server).responses.delete(made.id)
        await server.api.peer.until(lambda: bool(server.api.peer.aborts))
        assert (await recorded(server))["finish_reason"] == "cancelled"
        with refused(404, "not_found", "response_id"):
            await now(server, made.id)
        assert await server.count("responses") == 0
        assert await server.count("response_sums", "num_bytes <> 0") == 0

    run(scenario)


def test_one_whose_gateway_died_has_failed_and_stays_so(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await running(server)
        async with server.database.tenant(server.one.tenant) as connection:
            await connection.execute(
                "UPDATE anzoth.responses SET running_until = now() - interval '1 second'"
            )
        lost = await now(server, made.id)
        assert (lost.status, lost.error.code, lost.error.message) == (
            "failed",
            "server_error",
            LOST,
        )
        assert (await strict(server).responses.cancel(made.id)).to_dict() == lost.to_dict()
        # It was held up only, and is too late.
        server.api.peer.go_on()
        assert (await ended(server, made.id)).to_dict() == lost.to_dict()

    run(scenario)


def test_a_gateway_that_ends_says_so_of_what_it_was_making(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        whole = await ended(server, (await ask(server)).id)
        stored, owner = server.api.services.responses, owner_of(server.one)
        queued = await stored.get(owner, whole.id, None)
        queued = replace(
            queued, response={**queued.response, "id": "resp_2", "status": "queued", "output": []}
        )
        gateway = BackgroundResponses(stored)
        runner, has_begun = asyncio.create_task(gateway.run()), asyncio.Event()

        async def work() -> None:
            has_begun.set()
            await asyncio.Event().wait()

        await gateway.add(owner, queued)
        gateway.start(owner, queued, work)
        await has_begun.wait()
        assert (await now(server, "resp_2")).status == "queued"
        runner.cancel()
        await asyncio.wait({runner})
        lost = await now(server, "resp_2")
        assert (lost.status, lost.error.message) == ("failed", LOST)

    run(scenario)


@pytest.mark.parametrize("code", ["key_revoked", "model_unavailable"])
def test_one_that_loses_its_key_or_its_engine_has_failed(run: Run, code: str) -> None:
    async def scenario(server: FileServer) -> None:
        made = await running(server)
        if code == "key_revoked":
            assert server.one.key_id is not None
            server.api.model.engine.end_owners({server.one.key_id})
        else:
            await server.api.peer.stop()
        gone = await ended(server, made.id)
        assert (gone.status, gone.error.code) == ("failed", "server_error")
        assert (await recorded(server))["error_code"] == code

    run(scenario)


def test_what_is_refused_is_refused_at_once(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        with refused(404, "model_not_found", "model"):
            await ask(server, model="nobody's")
        with refused(400, "context_length_exceeded", "input"):
            await ask(server, input="x " * 4000)
        assert await server.count("responses") == 0

    run(scenario)


def test_where_it_cannot_be_kept_it_is_not_made(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        stored: Any = server.api.services.responses
        stored._database = Away()
        server.api.peer.pause_after = 1
        with refused(503, "database_unavailable", None):
            await ask(server)
        await server.api.peer.until(lambda: bool(server.api.peer.aborts))
        stored._database = server.database
        server.api.peer.go_on()
        keys = TenantKeys(server.database, server.dsn, MasterKey(bytes(32)))
        small = StoredResponses(server.database, keys, ResponsesConfig(max_kib=1))
        made = await ask(server, input="x" * 1000)
        kept = await stored.get(owner_of(server.one), made.id, None)
        with pytest.raises(InvalidValue):
            await small.add_running(owner_of(server.one), kept, 30)

    run(scenario)


def test_a_conversation_has_what_was_said_in_the_background(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        conversations = strict(server).conversations
        conversation = (await conversations.create()).id
        made = await ask(server, conversation=conversation)
        assert (await ended(server, made.id)).conversation.id == conversation
        items = [item async for item in conversations.items.list(conversation, order="asc")]
        assert [item.role for item in items] == ["user", "assistant"]

    run(scenario)


def test_batches_have_none(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        api, body = server.api, {"model": MODEL, "input": "one", "background": True}
        call = api.app.call_of_batch(api.request("POST", "/v1/responses", body), server.one)
        assert (await api.app.serve(call)).status == 400
        assert call.failure is not None
        assert call.failure.param == "background"
        assert not api.peer.submits

    run(scenario)

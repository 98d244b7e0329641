"""Batches that are answered by a scripted engine, over real HTTP and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import batches_kit as kit
import files_kit
import pytest
from api_harness import MODEL
from checkpoints import write_embedding_checkpoint
from engine_peer import EMBEDDING_HELLO
from files_kit import FileServer
from principals import make_principal

from anzoth.frames import Refused
from anzoth.gateway.batches import patience
from anzoth.gateway.service_tiers import BATCH_PRIORITY

pytestmark = pytest.mark.slow

Run = Callable[..., None]


def test_the_sdk_makes_a_batch_and_reads_what_came_of_it(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = await kit.create(server, kit.lines(20), metadata={"team": "north"})
        assert made.id.startswith("batch_")
        assert (made.object, made.status, made.endpoint) == ("batch", "validating", kit.CHAT)
        assert made.expires_at == made.created_at + 24 * 3600
        assert await client.batches.retrieve(made.id) == made
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        assert (batch.status, batch.metadata) == ("completed", {"team": "north"})
        assert batch.request_counts is not None
        assert batch.request_counts.total == 20
        assert batch.error_file_id is None
        assert batch.in_progress_at is not None
        assert batch.finalizing_at is not None
        assert batch.completed_at is not None
        assert (batch.failed_at, batch.expired_at, batch.cancelled_at) == (None, None, None)
        output = await kit.read_file(server, batch.output_file_id)
        assert [one["custom_id"] for one in output] == [f"line {n}" for n in range(1, 21)]
        for one in output:
            assert one["id"].startswith("batch_req_")
            assert one["error"] is None
            assert one["response"]["status_code"] == 200
            body = one["response"]["body"]
            assert body["object"] == "chat.completion"
            assert body["choices"][0]["message"]["content"] == "hello there"
        file = await client.files.retrieve(batch.output_file_id or "")
        assert (file.purpose, file.filename) == ("batch_output", f"{made.id}_output.jsonl")
        assert file.expires_at is None

    run_batches(scenario)


def test_its_usage_is_that_of_its_requests_which_are_known_as_a_batchs(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(
            server, [kit.line(str(n), kit.chat_body(service_tier="priority")) for n in range(5)]
        )
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        records = server.api.ledger.records
        assert len(records) == 5
        assert all(record.batch and record.status == 200 for record in records)
        assert {record.service_tier for record in records} == {"default"}
        assert {submit.priority for submit, _ in server.api.peer.submits} == {BATCH_PRIORITY}
        assert batch.usage is not None
        assert batch.usage.input_tokens == sum(record.prompt_tokens for record in records)
        assert batch.usage.output_tokens == sum(record.completion_tokens for record in records) > 0
        output, _ = await kit.results(server, batch)
        assert {one["response"]["request_id"] for one in output.values()} == {
            record.request_id for record in records
        }

    run_batches(scenario)


ASKED = {
    "/v1/completions": {"model": MODEL, "prompt": "hi", "max_tokens": 4},
    "/v1/responses": {"model": MODEL, "input": "hi", "max_output_tokens": 16},
}


@pytest.mark.parametrize("endpoint", ASKED)
def test_other_endpoints_are_asked_as_well(endpoint: str, run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, [kit.line("a", ASKED[endpoint], endpoint)], endpoint)
        async with kit.working(server):
            output, errors = await kit.results(server, await kit.ended(server, made.id))
        assert not errors
        assert output["a"]["response"]["status_code"] == 200
        assert {submit.priority for submit, _ in server.api.peer.submits} == {BATCH_PRIORITY}

    run_batches(scenario)


def test_embeddings_are_made_in_the_background(run_batches: Run, tmp_path: Path) -> None:
    async def scenario(server: FileServer) -> None:
        body = {"model": MODEL, "input": ["hi", "hello"]}
        made = await kit.create(server, [kit.line("a", body, kit.EMBEDDINGS)], kit.EMBEDDINGS)
        async with kit.working(server):
            output, _ = await kit.results(server, await kit.ended(server, made.id))
        assert len(output["a"]["response"]["body"]["data"]) == 2
        assert all(embed.background for embed, _ in server.api.peer.embeds)

    run_batches(scenario, write_embedding_checkpoint(tmp_path / "model"), hello=EMBEDDING_HELLO)


def test_an_input_that_is_wrong_anywhere_fails_as_a_whole_and_asks_nothing(
    run_batches: Run,
) -> None:
    good = kit.line("a")
    wrong = b"\n".join(
        [
            b"\xef\xbb\xbf" + kit.json.dumps(good).encode(),
            b"{",
            b"[]",
            b"",
            *(
                kit.json.dumps(one).encode()
                for one in (
                    {**good, "custom_id": 7},
                    {**good, "custom_id": "b", "method": "GET"},
                    {**good, "custom_id": "c", "url": "/v1/completions"},
                    {**good, "custom_id": "d", "body": "hi"},
                    {"custom_id": "e"},
                    good,
                )
            ),
        ]
    )

    async def scenario(server: FileServer) -> None:
        made, empty = await kit.create(server, wrong), await kit.create(server, b"\n\n")
        async with kit.working(server):
            batch, other = await kit.ended(server, made.id), await kit.ended(server, empty.id)
        assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
        assert batch.failed_at is not None
        assert batch.errors is not None
        assert [(error.line, error.code) for error in batch.errors.data or ()] == [
            (2, "invalid_json_line"),
            (3, "invalid_json_line"),
            (5, "invalid_custom_id"),
            (6, "invalid_method"),
            (7, "mismatched_url"),
            (8, "invalid_body"),
            (9, "missing_required_parameter"),
            (10, "duplicate_custom_id"),
        ]
        assert other.errors is not None
        assert [error.code for error in other.errors.data or ()] == ["empty_file"]
        assert not server.api.peer.submits

    run_batches(scenario)


def test_an_input_has_as_many_requests_as_are_allowed(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        whole, more = await kit.create(server, kit.lines(3)), await kit.create(server, kit.lines(4))
        async with kit.working(server, max_requests=3):
            assert (await kit.ended(server, whole.id)).status == "completed"
            failed = await kit.ended(server, more.id)
        assert failed.errors is not None
        assert [error.code for error in failed.errors.data or ()] == ["too_many_requests"]

    run_batches(scenario)


def test_requests_that_cannot_be_served_stand_in_the_error_file(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(
            server,
            [
                kit.line("good"),
                kit.line("hot", kit.chat_body(temperature=9)),
                kit.line("unknown", {**kit.chat_body(), "model": "nobody"}),
                kit.line("streams", kit.chat_body(stream=True)),
                kit.line("long", kit.chat_body(max_tokens=100_000)),
            ],
        )
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        output, errors = await kit.results(server, batch)
        assert batch.status == "completed"
        assert set(output) == {"good"}
        told = {
            name: (one["response"]["status_code"], one["response"]["body"]["error"]["code"])
            for name, one in errors.items()
        }
        assert told == {
            "hot": (400, "invalid_value"),
            "unknown": (404, "model_not_found"),
            "streams": (400, "unsupported_parameter"),
            "long": (400, "context_length_exceeded"),
        }
        assert all(one["error"] is None for one in errors.values())

    run_batches(scenario)


def test_a_batch_waits_for_the_limits_of_its_key_and_leaves_no_trace_of_that(
    run_batches: Run,
) -> None:
    async def scenario(server: FileServer) -> None:
        keys = server.api.keys.principals
        keys["good"] = make_principal(
            tenant=server.one.tenant,
            project_id=server.one.project_id,
            key_id=server.one.key_id,
            concurrency=1,
        )
        made = await kit.create(server, kit.lines(12))
        async with kit.working(server):
            output, errors = await kit.results(server, await kit.ended(server, made.id))
        assert (len(output), len(errors)) == (12, 0)
        assert [record.status for record in server.api.ledger.records] == [200] * 12
        assert not server.api.denials.noted
        refused = server.api.metrics.render().decode()
        assert 'rule="limit.key.concurrency"' in refused  # it was a test of something

    run_batches(scenario)


def test_a_batch_waits_for_an_engine_that_is_full_or_away(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        peer = server.api.peer
        peer.refusal = Refused(0, "capacity", "full", 1)
        made = await kit.create(server, kit.lines(3))
        async with kit.working(server):
            await peer.until(lambda: len(peer.submits) > 6)
            await peer.stop()
            peer.refusal = None
            await peer.start()
            output, _ = await kit.results(server, await kit.ended(server, made.id))
        assert len(output) == 3

    run_batches(scenario)


def test_a_request_that_ends_its_engine_is_not_made_for_ever(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        peer, script = server.api.peer, server.api.script
        restarts: set[asyncio.Task[None]] = set()

        async def restart() -> None:
            await peer.stop()
            await peer.start()

        def dies(submit: Any, prompt: list[int], choice: int) -> Any:
            peer.pause_after = 1
            restarts.add(asyncio.get_running_loop().create_task(restart()))
            return script(submit, prompt, choice)

        peer.script = dies
        made = await kit.create(server, kit.lines(1))
        async with kit.working(server):
            _, errors = await kit.results(server, await kit.ended(server, made.id))
        assert errors["line 1"]["response"]["status_code"] == 502
        assert len(peer.submits) == patience.MAX_LOST

    run_batches(scenario)


def test_what_a_key_loses_meanwhile_its_requests_are_refused(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        keys, peer = server.api.keys.principals, server.api.peer
        peer.pause_after = 1
        made = await kit.create(server, kit.lines(6))
        async with kit.working(server, concurrency=1):
            await peer.until(lambda: bool(peer.submits))
            revoked = keys.pop("good")
            keys["sees"] = replace(revoked, key_id=kit.uuid.uuid4())
            peer.pause_after = None
            peer.go_on()
            batch = await kit.ended(server, made.id, key="sees")
        output, errors = await kit.results(server, batch, key="sees")
        assert set(output) == {"line 1"}  # which ran already
        for one in errors.values():
            assert one["response"]["status_code"] == 401
            assert one["response"]["body"]["error"]["code"] == "key_revoked"
        assert len(errors) == 5

    run_batches(scenario)


def test_a_grant_that_is_taken_away_is_missing_in_the_rest(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        keys, peer = server.api.keys.principals, server.api.peer
        peer.pause_after = 1
        made = await kit.create(server, kit.lines(3))
        async with kit.working(server, concurrency=1):
            await peer.until(lambda: bool(peer.submits))
            scopes = frozenset({"batches:read", "files:read"})
            keys["good"] = replace(keys["good"], scopes=scopes)
            peer.pause_after = None
            peer.go_on()
            batch = await kit.ended(server, made.id)
        _, errors = await kit.results(server, batch)
        codes = {one["response"]["body"]["error"]["code"] for one in errors.values()}
        assert (len(errors), codes) == (2, {"insufficient_scope"})

    run_batches(scenario)


def test_cancelling_stops_what_runs_and_keeps_what_was_answered(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        peer = server.api.peer
        made = await kit.create(server, kit.lines(30))
        running = asyncio.Event()
        script = server.api.script

        def stops_at_five(submit: Any, prompt: list[int], choice: int) -> Any:
            if len(peer.submits) > 5:
                peer.pause_after = 1
                running.set()
            return script(submit, prompt, choice)

        peer.script = stops_at_five
        async with kit.working(server, concurrency=2):
            await running.wait()
            await kit.until_num_answered(server, made.id, 4)
            cancelling = await server.sdk().batches.cancel(made.id)
            assert cancelling.status == "cancelling"
            assert cancelling.cancelling_at is not None
            batch = await kit.ended(server, made.id)
        assert (batch.status, batch.cancelled_at is not None) == ("cancelled", True)
        output, errors = await kit.results(server, batch)
        assert len(output) >= 4
        assert len(output) + len(errors) == 30
        for one in errors.values():
            assert (one["response"], one["error"]["code"]) == (None, "batch_cancelled")
        assert peer.aborts
        statuses = [record.status for record in server.api.ledger.records]
        assert statuses.count(200) == len(output)
        assert 499 in statuses  # what ran was computed, and counts
        assert (await server.sdk().batches.cancel(made.id)).status == "cancelled"

    run_batches(scenario)


def test_a_batch_that_was_cancelled_before_it_began_asks_nothing(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, kit.lines(3))
        await server.sdk().batches.cancel(made.id)
        again = await server.sdk().batches.cancel(made.id)
        assert again.status == "cancelling"
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        output, errors = await kit.results(server, batch)
        assert (batch.status, len(output), len(errors)) == ("cancelled", 0, 3)
        assert not server.api.peer.submits

    run_batches(scenario)


@pytest.mark.parametrize("is_running", [False, True], ids=["waiting", "running"])
def test_what_is_not_answered_in_its_window_has_expired(is_running: bool, run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        server.api.peer.pause_after = 1
        made = await kit.create(server, kit.lines(3))
        left = "200 milliseconds" if is_running else "-1 second"
        await files_kit.as_owner(
            server.dsn, f"UPDATE anzoth.batches SET expires_at = now() + interval '{left}'"
        )
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        output, errors = await kit.results(server, batch)
        assert (batch.status, len(output), len(errors)) == ("expired", 0, 3)
        assert batch.expired_at is not None
        assert {one["error"]["code"] for one in errors.values()} == {"batch_expired"}

    run_batches(scenario)


def test_a_batch_whose_input_is_deleted_keeps_what_was_answered(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        peer, script = server.api.peer, server.api.script

        def stops_at_four(submit: Any, prompt: list[int], choice: int) -> Any:
            peer.pause_after = 1 if len(peer.submits) > 3 else None
            return script(submit, prompt, choice)

        peer.script = stops_at_four
        begun, new = await kit.create(server, kit.lines(9)), await kit.create(server, kit.lines(9))
        await server.sdk().files.delete(new.input_file_id)
        async with kit.working(server, concurrency=1, dies=True):
            await kit.until_num_answered(server, begun.id, 3)
        await server.sdk().files.delete(begun.input_file_id)
        async with kit.working(server):
            batches = [await kit.ended(server, batch.id) for batch in (begun, new)]
        for batch in batches:
            assert batch.status == "failed"
            assert batch.errors is not None
            assert [error.code for error in batch.errors.data or ()] == ["input_file_not_found"]
        output, errors = await kit.results(server, batches[0])
        assert (set(output), errors) == ({"line 1", "line 2", "line 3"}, {})
        assert batches[1].output_file_id is None

    run_batches(scenario)


def test_its_requests_come_from_where_it_was_made(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        keys = server.api.keys.principals
        keys["good"] = replace(keys["good"], networks=(ip_network("127.0.0.0/8"),))
        made = await kit.create(server, kit.lines(2))
        async with kit.working(server):
            output, errors = await kit.results(server, await kit.ended(server, made.id))
            assert (len(output), errors) == (2, {})

    run_batches(scenario)


def test_who_made_it_from_where_its_key_may_not_be_used_any_more_is_refused(
    run_batches: Run,
) -> None:
    async def scenario(server: FileServer) -> None:
        keys = server.api.keys.principals
        made = await kit.create(server, kit.lines(2))
        keys["sees"] = replace(keys["good"], key_id=kit.other_gateway())
        keys["good"] = replace(keys["good"], networks=(ip_network("10.0.0.0/8"),))
        async with kit.working(server):
            batch = await kit.ended(server, made.id, "sees")
        _, errors = await kit.results(server, batch, "sees")
        codes = {one["response"]["body"]["error"]["code"] for one in errors.values()}
        assert (len(errors), codes) == (2, {"address_not_allowed"})

    run_batches(scenario)


def test_files_of_a_batch_expire_when_it_says_so(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        expiry: Any = {"anchor": "created_at", "seconds": 3600}
        made = await kit.create(server, kit.lines(1), output_expires_after=expiry)
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        file = await server.sdk().files.retrieve(batch.output_file_id or "")
        assert file.expires_at == file.created_at + 3600

    run_batches(scenario)


def test_what_is_said_and_answered_is_sealed(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        peer, script = server.api.peer, server.api.script

        def stops_at_two(submit: Any, prompt: list[int], choice: int) -> Any:
            peer.pause_after = 1 if len(peer.submits) > 1 else None
            return script(submit, prompt, choice)

        peer.script = stops_at_two
        made = await kit.create(server, kit.lines(2), metadata={"about": "the north"})
        async with kit.working(server, concurrency=1):
            await kit.until_num_answered(server, made.id, 1)
            async with server.database.tenant(server.one.tenant) as connection:
                sealed = await connection.fetchval("SELECT content FROM anzoth.batch_answers")
            peer.go_on()
            await kit.ended(server, made.id)
        assert b"hello" not in sealed
        assert b"line" not in sealed
        assert b"north" not in (await kit.row(server, made.id))["metadata"]

    run_batches(scenario)


def test_a_body_that_is_nested_too_deeply_is_the_fault_of_its_line_alone(run_batches: Run) -> None:
    async def scenario(server: FileServer) -> None:
        deep: Any = 1
        for _ in range(300):
            deep = [deep]
        asked = [*kit.lines(2), kit.line("deep", {**kit.chat_body(), "deep": deep})]
        made = await kit.create(server, asked)
        async with kit.working(server):
            batch = await kit.ended(server, made.id)
        assert batch.status == "completed"
        output, errors = await kit.results(server, batch)
        assert sorted(output) == ["line 1", "line 2"]
        assert errors["deep"]["response"]["status_code"] == 400

    run_batches(scenario)

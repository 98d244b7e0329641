"""How far an answer with tools goes: bounds, limits, deadlines, and clients that leave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from api_harness import until
from api_stand_ins import MemorySink
from checkpoints import write_checkpoint
from principals import make_principal
from responses_kit import TEMPLATE
from tools_kit import CRM, TRACE, Run, Tooled, ask_chat, run_tooled, said

from anzoth.api.server_calls import ServerCalls
from anzoth.tool_config import ToolsConfig


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tooled"), TEMPLATE)


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Run:
    return run_tooled(checkpoint, tmp_path)


def test_limits_count_every_token_and_one_request(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        api = tooled.api
        granted = frozenset({"crm"})
        api.keys.principals["good"] = make_principal(tools=granted, rpm=1)
        assert (await tooled.chat(said(), said(), "hello")).status == 200
        assert (await tooled.chat("hello")).status == 429
        # A limit that a later round meets ends the answer: what was called cannot be undone.
        prompt = len(api.tokens("(crm__delete)(crm__lookup)[user]hi[assistant]")) + 1
        key = {"tools": granted, "key_id": UUID(int=77)}
        api.keys.principals["good"] = make_principal(**key, tpm=prompt + 100)
        reply = await tooled.chat(said(), "hello", max_tokens=100)
        assert reply.json["choices"][0]["finish_reason"] == "length"
        assert reply.json["x_anzoth"] == {"ended_by": "limit.key.tpm"}
        assert len(tooled.caller.calls) == 3

    run(scenario)


def test_a_request_keeps_its_place_among_those_that_run_while_its_tools_do(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        api, goes_on = tooled.api, asyncio.Event()
        api.keys.principals["good"] = make_principal(tools=frozenset({"crm"}), concurrency=1)
        tooled.caller.waits_for = goes_on
        task = asyncio.create_task(tooled.chat(said(), "hello"))
        await tooled.caller.called.wait()
        assert (await api.chat()).status == 429
        goes_on.set()
        assert (await task).status == 200
        assert (await api.chat()).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "config", "rule", "num_calls"),
    [
        ({}, ToolsConfig(max_rounds=2), "tools.max_rounds", 2),
        ({}, ToolsConfig(max_calls=3), "tools.max_calls", 3),
        ({"max_tokens": 120}, ToolsConfig(), None, 1),
    ],
    ids=["rounds", "calls", "tokens"],
)
def test_a_model_that_never_stops_calling_is_stopped(
    run: Run, fields: dict[str, Any], config: ToolsConfig, rule: str | None, num_calls: int
) -> None:
    async def scenario(tooled: Tooled) -> None:
        answer = await ask_chat(tooled, f"So.{said()}", **fields)
        assert answer["finish_reason"] == "length"
        assert answer["x_anzoth"] == (rule and {"ended_by": rule})
        assert answer["content"].startswith("So.\n\nSo.")
        assert len(tooled.caller.calls) == 2 * num_calls

    run(scenario, config)


def test_a_maximum_of_tokens_is_that_of_all_rounds(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        length = len(tooled.api.tokens(said())) + 1
        for extra, ending, ended_by in (
            (0, "length", {"ended_by": "request.max_tokens"}),
            (1, "length", None),
            (9, "stop", None),
        ):
            answer = await ask_chat(tooled, said(), "hello there", max_tokens=length + extra)
            assert (answer["finish_reason"], answer["x_anzoth"]) == (ending, ended_by)
            most = tooled.api.peer.submits[-1][0].max_tokens
            assert most == (extra or length)

    run(scenario)


def test_a_result_that_the_context_has_no_room_for_ends_the_answer(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        tooled.caller.answers["crm__lookup"] = "word " * 4000
        answer = await ask_chat(tooled, said(), "hello")
        assert answer["finish_reason"] == "length"
        assert answer["x_anzoth"] == {"ended_by": "request.context_length"}
        # What was asked for as a maximum is one: less room is no error.
        tooled.caller.answers["crm__lookup"] = "word " * 300
        assert (await ask_chat(tooled, said(), "hello", max_tokens=3900))["finish_reason"] == "stop"

    run(scenario)


def test_a_tool_that_hangs_ends_with_the_time_for_tools(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        tooled.caller.hangs.add("crm__lookup")
        tools = [CRM, {"type": "mcp", "server_label": "lab"}]
        reply = await tooled.chat(said() + said("lab__sleep"), tools=tools, include=[TRACE])
        assert reply.json["choices"][0]["finish_reason"] == "length"
        shown = reply.json["x_anzoth"]
        assert shown["ended_by"] == "tools.timeout"
        assert [made["rule"] for made in shown["tool_calls"]] == ["tools.timeout", "key.tool"]
        assert tooled.caller.cancelled == ["crm__lookup"]

    run(scenario, ToolsConfig(timeout_s=0.02))


def test_the_requests_own_deadline_is_an_error_that_is_not_to_be_repeated(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        tooled.caller.hangs.add("crm__lookup")
        headers = {"x-request-timeout-ms": "150"}
        reply = await tooled.chat(said(), headers=headers)
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert reply.headers["x-should-retry"] == "false"
        assert tooled.caller.cancelled == ["crm__lookup"]

    run(scenario)


def test_what_fails_after_a_call_is_not_to_be_repeated(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        lost: list[asyncio.Task[None]] = []
        is_lost = tooled.caller.waits_for = asyncio.Event()
        api = tooled.api

        def gone(_call: Any) -> None:
            lost.append(asyncio.create_task(stop()))

        async def stop() -> None:
            await api.peer.stop()
            await until(lambda: not api.model.engine.healthy)
            is_lost.set()

        tooled.caller.before = gone
        reply = await tooled.chat(said(), "hello")
        assert (reply.status, reply.error["code"]) == (502, "model_unavailable")
        assert reply.headers["x-should-retry"] == "false"
        # Before any call it is an error like others.
        assert "x-should-retry" not in (await tooled.chat(said())).headers

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_tool(run: Run, stream: bool) -> None:
    async def scenario(tooled: Tooled) -> None:
        tooled.caller.hangs.add("crm__lookup")
        sink = MemorySink()
        request = tooled.chat(said(), stream=stream, sink=sink)
        task = asyncio.create_task(request)
        await tooled.caller.called.wait()
        if stream:
            sink.disconnect()
            await task
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert tooled.caller.cancelled == ["crm__lookup"]
        (row,) = tooled.api.ledger.records
        assert row.finish_reason in ("cancelled", "tool_calls")
        assert len(tooled.api.peer.submits) == 1

    run(scenario)


def test_a_client_that_leaves_before_a_tool_is_called_has_none_called(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(tooled: Tooled) -> None:
        loop, sink = asyncio.get_running_loop(), MemorySink()

        def leave(*_: object) -> bool:  # in another thread
            loop.call_soon_threadsafe(sink.disconnect)
            return False

        monkeypatch.setattr(ServerCalls, "_needs_approval", leave)
        await tooled.respond(said(), "hello", stream=True, sink=sink)
        assert not tooled.caller.calls

    run(scenario)


def test_a_client_that_leaves_a_later_round_stops_the_engine(run: Run) -> None:
    async def scenario(tooled: Tooled) -> None:
        api, sink = tooled.api, MemorySink()
        tooled.caller.before = lambda _call: setattr(api.peer, "pause_after", 2)
        task = asyncio.create_task(tooled.chat(said(), "hello there", stream=True, sink=sink))
        await api.peer.until(lambda: len(api.peer.submits) == 2)
        await sink.until(b"hel")
        sink.disconnect()
        await task
        await api.peer.until(lambda: bool(api.peer.aborts))
        assert [(row.request_id, row.status) for row in api.ledger.records] == [
            ("req_test.2", 499),
            ("req_test", 200),
        ]
        assert api.ledger.records[0].finish_reason == "cancelled"

    run(scenario)

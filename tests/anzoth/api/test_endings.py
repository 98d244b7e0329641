"""However a request ends, it leaves exactly one usage record and no work behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario, record, until
from api_stand_ins import PRINCIPAL, MemorySink
from engine_peer import Said

from anzoth.errors import CapacityUnavailable
from anzoth.frames import Submit

Run = Callable[[Scenario], None]
CHAT = "/v1/chat/completions"


def forever(submit: Submit, prompt: list[int], choice: int) -> list[Said]:
    return [Said(10)] * submit.max_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_finished_answer_is_recorded_once_with_everything(stream: bool, run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.cached_tokens = 2
        await api.chat(stream=stream, user="u1", metadata={"run": "7"})
        (found,) = api.ledger.records
        assert found.principal is PRINCIPAL
        assert (found.request_id, found.endpoint, found.model) == ("req_test", CHAT, MODEL)
        assert (found.prompt_tokens, found.cached_tokens) == (
            len(api.tokens("<|bos|><|user|>hi<|assistant|>")),
            2,
        )
        assert found.completion_tokens == len(api.tokens("hello there")) + 1
        assert (found.finish_reason, found.streamed, found.status) == ("stop", stream, 200)
        assert (found.error_code, found.end_user, found.metadata) == (None, "u1", {"run": "7"})
        assert found.ttft_ms is not None
        assert 0 <= found.ttft_ms <= found.duration_ms

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"temperature": 9}, 400, "invalid_value"),
        ({"model": "gpt-9"}, 404, "model_not_found"),
        ({"max_tokens": 100_000}, 400, "context_length_exceeded"),
    ],
)
def test_a_refused_request_is_recorded_once(
    fields: dict[str, Any], status: int, code: str, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        await api.chat(**fields)
        expected = {"finish_reason": None, "completion_tokens": 0, "streamed": False}
        assert record(api) == {"status": status, "error_code": code, **expected}
        assert api.ledger.records[0].prompt_tokens == 0

    run(scenario)


def test_requests_that_are_not_inference_or_not_authenticated_leave_no_record(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.call("GET", "/v1/models")
        await api.chat(key="wrong")
        await api.call("GET", "/healthz", key=None)
        assert api.ledger.records == []

    run(scenario)


def test_a_client_that_leaves_a_stream_stops_the_engine_and_pays_what_it_got(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = forever
        api.peer.pause_after = 3
        sink = MemorySink()
        task = asyncio.create_task(api.chat(stream=True, sink=sink))
        await until(lambda: sink.data.count(b"data: ") == 4)
        sink.disconnect()
        await api.peer.until(lambda: bool(api.peer.aborts))
        assert api.peer.aborts[0].choice is None
        await task
        assert b"[DONE]" not in sink.data
        assert record(api) == {
            "status": 200,
            "finish_reason": "cancelled",
            "error_code": None,
            "completion_tokens": 3,
            "streamed": True,
        }

    run(scenario)


def test_a_cancelled_stream_stops_the_engine_too(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = forever
        api.peer.pause_after = 1
        sink = MemorySink()
        task = asyncio.create_task(api.chat(stream=True, sink=sink))
        await until(lambda: sink.data.count(b"data: ") == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await api.peer.until(lambda: len(api.peer.aborts) == 1)
        assert record(api)["finish_reason"] == "cancelled"

    run(scenario)


def test_a_client_that_leaves_before_an_unstreamed_answer_is_a_499(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = forever
        api.peer.pause_after = 2
        task = asyncio.create_task(api.chat())
        await api.peer.until(lambda: bool(api.peer.submits))
        metric = 'anzoth_requests_total{endpoint="/v1/chat/completions",status="499"} 1.0'
        await until(lambda: api.model.engine.last_stats is not None)
        await until(lambda: (s := api.model.engine.last_stats) is not None and s.step == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await api.peer.until(lambda: len(api.peer.aborts) == 1)
        assert record(api) == {
            "status": 499,
            "finish_reason": "cancelled",
            "error_code": None,
            "completion_tokens": 2,
            "streamed": False,
        }
        assert metric in api.metrics.render().decode()

    run(scenario)


def test_a_client_that_leaves_while_waiting_for_admission_is_a_499(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.admits = False
        task = asyncio.create_task(api.chat())
        await api.peer.until(lambda: bool(api.peer.submits))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await api.peer.until(lambda: len(api.peer.aborts) == 1)
        assert record(api)["status"] == 499
        assert api.ledger.records[0].prompt_tokens == 0

    run(scenario)


def test_an_engine_lost_in_a_stream_is_an_error_frame_without_done(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = forever
        api.peer.pause_after = 3
        sink = MemorySink()
        task = asyncio.create_task(api.chat(stream=True, sink=sink))
        await until(lambda: sink.data.count(b"data: ") == 4)
        await api.peer.stop()
        reply = await task
        assert "[DONE]" not in reply.frames
        *_, last = reply.chunks
        assert last["error"]["code"] == "model_unavailable"
        assert set(last["error"]) == {"message", "type", "param", "code"}
        assert record(api) == {
            "status": 200,
            "finish_reason": "error",
            "error_code": "model_unavailable",
            "completion_tokens": 3,
            "streamed": True,
        }

    run(scenario)


def test_an_engine_lost_before_an_answer_is_a_502(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = forever
        api.peer.pause_after = 3
        task = asyncio.create_task(api.chat())
        await until(lambda: (s := api.model.engine.last_stats) is not None and s.step == 3)
        await api.peer.stop()
        reply = await task
        assert (reply.status, reply.error["code"]) == (502, "model_unavailable")
        assert record(api)["finish_reason"] == "error"
        again = await api.chat()
        assert again.status == 502
        await api.peer.start()
        await until(lambda: api.model.engine.healthy)
        api.peer.script, api.peer.pause_after = api.script, None
        assert (await api.chat()).status == 200

    run(scenario)


def test_a_choice_that_the_engine_gives_up_ends_the_request_with_an_error(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = lambda submit, prompt, choice: [Said(10), Said(None, "error")]
        reply = await api.chat()
        assert (reply.status, reply.error["code"]) == (502, "model_unavailable")
        streamed = await api.chat(stream=True)
        assert streamed.chunks[-1]["error"]["code"] == "model_unavailable"
        assert [found.finish_reason for found in api.ledger.records] == ["error", "error"]

    run(scenario)


def test_what_in_the_request_made_an_answer_impossible_is_said(run: Run) -> None:
    async def scenario(api: Api) -> None:
        why = "The grammar or schema became too complex to follow."
        api.peer.script = lambda submit, prompt, choice: [
            Said(10),
            Said(None, "error", message=why),
        ]
        form = {"type": "json_object"}
        reply = await api.chat(response_format=form)
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
        assert (reply.error["message"], reply.error["param"]) == (why, "response_format")
        streamed = await api.chat(response_format=form, stream=True)
        assert streamed.chunks[-1]["error"] == reply.error
        assert "[DONE]" not in streamed.frames
        assert [found.finish_reason for found in api.ledger.records] == ["error", "error"]
        assert [found.completion_tokens for found in api.ledger.records] == [1, 1]

    run(scenario)


def test_running_requests_can_be_ended_with_an_error_of_our_choice(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = forever
        api.peer.pause_after = 1
        sink = MemorySink()
        task = asyncio.create_task(api.chat(stream=True, sink=sink))
        await until(lambda: sink.data.count(b"data: ") == 2)
        api.app._services.models.end_all(CapacityUnavailable("stopping"))
        reply = await task
        assert reply.chunks[-1]["error"]["message"] == "stopping"
        await api.peer.until(lambda: bool(api.peer.aborts))

    run(scenario)

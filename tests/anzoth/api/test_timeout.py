"""Who names a time gets an answer within it or none, and pays for what was computed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from api_harness import Api, Scenario, record
from engine_peer import NOTHING, Said

from anzoth.api.timeout import HEADER

Run = Callable[[Scenario], None]


def header(value: str) -> dict[str, Any]:
    return {"headers": {HEADER: value}}


@pytest.mark.parametrize("value", ["1000", "86400000", " 2500 "])
def test_the_engine_is_told_what_is_left_of_the_time(value: str, run: Run) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.chat(**header(value))).status == 200
        assert (await api.complete(**header(value), prompt=["hi", "ho"])).status == 200
        left_ms = [submit.timeout_ms for submit, _ in api.peer.submits]
        assert len(left_ms) == 3
        assert all(ms is not None and 0 < ms <= int(value) for ms in left_ms)

    run(scenario)


def test_without_the_header_there_is_no_deadline(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.chat()
        assert api.peer.submits[0][0].timeout_ms is None

    run(scenario)


@pytest.mark.parametrize(
    "value", ["", "0", "-5", "1.5", "1e3", "soon", "86400001", "9" * 5000, "\u0662"]
)
def test_what_is_no_number_of_milliseconds_is_a_400_that_names_the_header(
    value: str, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        for reply in (await api.chat(**header(value)), await api.complete(**header(value))):
            assert (reply.status, reply.error["param"]) == (400, HEADER)
            assert reply.error["code"] == "invalid_value"
        assert not api.peer.submits

    run(scenario)


def test_a_deadline_that_passes_while_an_answer_is_made_is_a_504_that_is_not_retried(
    run: Run,
) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = lambda *_: [Said(10), Said(11), Said(None, "deadline")]
        reply = await api.chat(**header("5000"))
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert reply.error["type"] == "server_error"
        assert reply.headers["x-should-retry"] == "false"
        expected = {"finish_reason": "error", "completion_tokens": 2, "streamed": False}
        assert record(api) == {"status": 504, "error_code": "deadline_exceeded", **expected}
        assert api.ledger.records[0].prompt_tokens == len(api.peer.submits[0][1])

    run(scenario)


def test_a_deadline_that_passes_in_a_stream_is_an_error_frame_without_done(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = lambda *_: [*map(Said, api.tokens("hello there")), NOTHING]
        reply = await api.chat(**header("5000"), stream=True)
        assert reply.status == 200
        assert reply.chunks[-1]["error"]["code"] == "deadline_exceeded"
        assert "[DONE]" not in reply.frames
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in reply.chunks[:-1])
        assert text == "hello there"
        assert record(api)["completion_tokens"] == len(api.tokens("hello there"))

    run(scenario)


def test_what_was_never_begun_costs_nothing(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = lambda *_: [NOTHING]
        assert (await api.chat(**header("5000"))).status == 504
        assert api.ledger.records[0].prompt_tokens == 0

    run(scenario)


def test_of_several_prompts_those_that_were_begun_are_paid_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        begun = api.tokens("hello there")
        api.peer.script = lambda _, prompt, __: [Said(10)] * 99 * (prompt == begun) + [NOTHING]
        reply = await api.complete(**header("5000"), prompt=["hello there", "how are you"])
        assert reply.status == 504
        assert api.ledger.records[0].prompt_tokens == len(begun)

    run(scenario)


def test_an_engine_that_is_too_busy_to_admit_in_time_is_not_waited_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.admits = False
        reply = await api.chat(**header("20"))
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        await api.peer.until(lambda: len(api.peer.aborts) == 1)
        assert api.ledger.records[0].prompt_tokens == 0

    run(scenario)


def test_a_time_that_is_over_before_the_engine_is_asked_is_not_asked_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        request = api.request(
            "POST",
            "/v1/chat/completions",
            {"model": "org/tiny", "messages": [{"role": "user", "content": "hi"}]},
            headers={HEADER: "1000"},
        )
        request.received_at_s -= 1.0
        async with asyncio.timeout(5):
            answer = await api.app(request)
        assert answer.status == 504
        assert not api.peer.submits

    run(scenario)

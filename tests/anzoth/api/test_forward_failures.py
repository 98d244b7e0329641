"""What a backend does wrong costs no request that another target can answer, and leaks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from api_harness import MODEL, Api, until
from api_stand_ins import PRINCIPAL, MemorySink
from forward_kit import BIG, EVENTS, patience, run_far, text_of
from openai_peer import (
    SECRET,
    OpenaiPeer,
    Script,
    chat_chunk,
    chat_stream,
    error,
    event,
    head,
)
from principals import make_principal

from anzoth.gateway.aliases import Target


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return run_far(checkpoint, tmp_path, monkeypatch)


BEFORE_THE_FIRST_EVENT = {
    "closed": Script(),
    "reset": Script([], "reset"),
    "500": error(500),
    "401": error(401),
    "404": error(404),
    "redirect": Script([head(302, location="http://169.254.169.254/")]),
    "429": Script([head(429, retry_after="7"), b"{}"]),
    "hangs before the head": Script([], "hang"),
    "hangs after the head": Script([EVENTS], "hang"),
    "no event": Script([EVENTS]),
    "not JSON": Script([EVENTS, b"data: {nonsense\n\n"]),
    "no object": Script([EVENTS, b"data: [1]\n\n"]),
    "another shape": Script([EVENTS, event({"choices": [{"index": "0", "delta": 5}]})]),
    "an error event": Script([EVENTS, event({"error": {"message": SECRET}})]),
    "a huge event": Script([EVENTS, b"data: " + b"x" * (1 << 20) + b"\n\n"]),
    "compressed": Script([head(content_encoding="gzip"), b"\x1f\x8b"]),
}


@pytest.mark.parametrize("name", BEFORE_THE_FIRST_EVENT)
@pytest.mark.parametrize("stream", [True, False])
def test_what_fails_before_the_first_byte_goes_to_the_next_target(
    run: Any, name: str, stream: bool
) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: BEFORE_THE_FIRST_EVENT[name]
        api.aliases.add("smart", BIG, Target(MODEL, weight=0))
        limited = make_principal(tpm=10_000, rpm=10)
        api.keys.principals["limited"] = limited
        reply = await api.chat(model="smart", stream=stream, key="limited", max_tokens=20)
        assert reply.status == 200
        text = text_of(reply) if stream else reply.json["choices"][0]["message"]["content"]
        assert text == "hello there"
        (usage,) = api.ledger.records
        assert usage.attempts[0].startswith("far:big ")
        assert usage.attempts[1:] == (f"{MODEL} ok",)
        assert (usage.model, usage.target, usage.rule) == ("smart", MODEL, None)
        # Charged once: what the next reservation leaves is what one request used.
        after = await api.chat(model=MODEL, key="limited", max_tokens=20)
        assert after.headers["x-ratelimit-remaining-requests"] == "8"
        used = usage.prompt_tokens + usage.completion_tokens
        left = int(after.headers["x-ratelimit-remaining-tokens"])
        assert 10_000 - left == pytest.approx(used + usage.prompt_tokens + 20, abs=10)

    run(scenario, **patience(name))


@pytest.mark.parametrize("name", BEFORE_THE_FIRST_EVENT)
def test_without_another_target_the_failure_is_ours_and_without_secrets(
    run: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: BEFORE_THE_FIRST_EVENT[name]
        reply = await api.chat(model="smart", stream=True)
        assert reply.status == (503 if name == "429" else 502)
        assert reply.headers.get("retry-after") == ("7" if name == "429" else None)
        assert SECRET not in reply.body.decode() + caplog.text
        assert "127.0.0.1" not in reply.body.decode()
        misconfigured = name in ("401", "404", "redirect")
        (usage,) = api.ledger.records
        assert (usage.rule == "backend.misconfigured") == misconfigured
        assert usage.prompt_tokens == usage.completion_tokens == 0

    run(scenario, **patience(name))


MIDSTREAM = {
    "reset": Script([EVENTS, chat_chunk({"content": "one "})], "reset"),
    "ends early": Script([EVENTS, chat_chunk({"content": "one "})]),
    "hangs": Script([EVENTS, chat_chunk({"content": "one "})], "hang"),
    "garbage": Script([EVENTS, chat_chunk({"content": "one "}), b"data: }\n\n"]),
    "error": Script([EVENTS, chat_chunk({"content": "one "}), event({"error": {"m": SECRET}})]),
}


@pytest.mark.parametrize("name", MIDSTREAM)
def test_what_fails_in_the_midst_of_a_stream_ends_it_with_an_error_frame(
    run: Any, name: str
) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: MIDSTREAM[name]
        api.aliases.add("smart", BIG, Target(MODEL, weight=0))
        reply = await api.chat(model="smart", stream=True)
        assert reply.status == 200
        *chunks, last = reply.frames
        assert [orjson.loads(c)["choices"][0]["delta"] for c in chunks] == [{"content": "one "}]
        assert orjson.loads(last)["error"]["code"] == "model_unavailable"
        assert SECRET not in reply.body.decode()
        assert not api.peer.submits  # nobody says it a second time
        (usage,) = api.ledger.records
        assert (usage.finish_reason, usage.completion_tokens) == ("error", 1)
        assert usage.attempts == ("far:big ok",)

    run(scenario, chunk_timeout_s=0.1 if "hang" in name else 30.0)


def test_a_server_that_does_not_listen_is_a_502(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        assert (await api.chat(model="smart")).status == 502
        assert not peer.asked

    run(scenario, base_url="http://127.0.0.1:1/v1")


@pytest.mark.parametrize("status", [400, 422])
def test_what_it_refuses_is_the_callers_fault_and_says_which_field(run: Any, status: int) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: error(status, param="tools[0].name", code="bad")
        api.aliases.add("smart", BIG, Target(MODEL, weight=0))
        reply = await api.chat(model="smart")
        assert (reply.status, reply.error["param"]) == (400, "tools[0].name")
        assert SECRET not in reply.body.decode()
        (usage,) = api.ledger.records
        assert (usage.rule, usage.attempts) == ("backend.refused", ("far:big invalid_value",))

    run(scenario)


def test_a_client_that_leaves_ends_the_request_there(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: Script([EVENTS, chat_chunk({"content": "one two "})], "hang")
        sink = MemorySink()
        waiting = asyncio.create_task(api.chat(model="smart", stream=True, sink=sink))
        await sink.until(b"one two")
        waiting.cancel()
        async with asyncio.timeout(5):
            await peer.left.wait()
        await asyncio.gather(waiting, return_exceptions=True)
        (usage,) = api.ledger.records
        assert (usage.finish_reason, usage.completion_tokens) == ("cancelled", 2)

    run(scenario)


@pytest.mark.parametrize("stream", [True, False])
def test_a_key_that_is_revoked_ends_its_requests_there_too(run: Any, stream: bool) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: Script([EVENTS, chat_chunk({"content": "one"})], "hang")
        sink = MemorySink()
        waiting = asyncio.create_task(api.chat(model="smart", stream=stream, sink=sink))
        if stream:
            await sink.until(b"one")
        await until(lambda: api.services.backends.num_running == 1 and len(peer.asked) == 1)
        assert PRINCIPAL.key_id is not None
        api.services.backends.end_owners({PRINCIPAL.key_id})
        async with asyncio.timeout(5):
            reply = await waiting
        error = orjson.loads(reply.frames[-1]) if stream else reply.json
        assert error["error"]["code"] == "key_revoked"
        assert api.services.backends.num_running == 0
        assert (await api.chat(model="smart")).error["code"] == "key_revoked"
        assert len(peer.asked) == 1
        backend = api.services.backends.get("far")
        assert backend is not None
        assert backend.breakers["big"].state == "closed"

    run(scenario)


def test_a_target_that_keeps_failing_is_left_alone(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: error(500)
        api.aliases.add("smart", BIG, Target(MODEL, weight=0))
        for _ in range(8):
            assert (await api.chat(model="smart")).status == 200
        assert len(peer.asked) == 5
        assert api.ledger.records[-1].attempts == ("far:big paused", f"{MODEL} ok")
        assert b'anzoth_backend_breaker{backend="far",model="big"} 1.0' in api.metrics.render()

    run(scenario)


def test_a_target_whose_answers_keep_breaking_is_left_alone_too(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: MIDSTREAM["ends early"]
        for _ in range(8):
            await api.chat(model="smart", stream=True)
        assert len(peer.asked) == 5  # ten outcomes: each began well and broke
        metrics = api.metrics.render()
        assert b'backend_attempts_total{backend="far",model="big",outcome="broken"} 5.0' in metrics

    run(scenario)


def test_no_connection_free_says_nothing_about_the_target(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: Script([EVENTS, chat_chunk({"content": "one"})], "hang")
        sink = MemorySink()
        waiting = asyncio.create_task(api.chat(model="smart", stream=True, sink=sink))
        await sink.until(b"one")
        for _ in range(6):
            assert (await api.chat(model="smart")).status == 503
        backend = api.services.backends.get("far")
        assert backend is not None
        assert backend.breakers["big"].state == "closed"
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(scenario, max_connections=1, connect_timeout_s=0.1)


def test_a_limited_key_reserves_an_estimate_and_pays_what_is_reported(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        api.keys.principals["limited"] = make_principal(tpm=1000, key_id=UUID(int=7))
        first = await api.chat(model="smart", key="limited", max_tokens=500)
        reserved = 1000 - int(first.headers["x-ratelimit-remaining-tokens"])
        assert 500 < reserved < 520
        second = await api.chat(model="smart", key="limited", max_tokens=500)
        assert second.status == 200  # the first one used 14 in the end
        refused = await api.chat(model="smart", key="limited", max_tokens=2000)
        assert refused.status == 429
        assert len(peer.asked) == 2
        api.keys.principals["fresh"] = make_principal(tpm=1000, key_id=UUID(int=8))
        unstated = await api.chat(model="smart", key="fresh")  # a guess refuses nobody for good
        assert unstated.status == 200
        assert not {"max_tokens", "max_completion_tokens"} & set(peer.asked[2].body)

    run(scenario)


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": "many"}]
)
def test_usage_that_is_missing_or_impossible_is_estimated(run: Any, usage: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = lambda asked: Script(chat_stream("12345678", usage=usage))
        await api.chat(model="smart", stream=True)
        (record,) = api.ledger.records
        assert record.completion_tokens == 2
        assert 0 < record.prompt_tokens < 10

    run(scenario)

"""Another server answers: in our shape, under our name, once, and whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from api_harness import MODEL, Api, running_api, until
from api_stand_ins import PRINCIPAL, MemorySink, Reply
from openai_peer import (
    KEY_VARIABLE,
    SECRET,
    Asked,
    OpenaiPeer,
    Script,
    chat_chunk,
    chat_stream,
    chat_whole,
    error,
    event,
    head,
)
from principals import make_principal

from anzoth.gateway.aliases import Target
from anzoth.gateway.ledger import row_of
from anzoth.price import Price

Far = Callable[[Api, OpenaiPeer], Any]
BIG = Target("big", "far")
FAR_PRICE = Price(2_000, 1_000, 10_000)
"""In nano-units a token: 2, 1 cached, 10 of output."""
EVENTS = head(content_type="text/event-stream")


def patience(name: str) -> dict[str, float]:
    """Short where the peer hangs; otherwise a slow machine must not look like a hanging peer."""
    limits = ("first_byte_timeout_s", "chunk_timeout_s", "answer_timeout_s")
    return dict.fromkeys(limits, 0.1 if "hang" in name else 30.0)


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An API with one backend `far`, whose model `big` the alias `smart` leads to."""
    monkeypatch.setenv(KEY_VARIABLE, SECRET)

    def run_scenario(scenario: Far, **config: Any) -> None:
        async def main() -> None:
            async with OpenaiPeer().running() as peer:
                made = peer.config(**config)
                async with running_api(
                    checkpoint, tmp_path / "engine.sock", backends=[made]
                ) as api:
                    api.aliases.add("smart", BIG)
                    await scenario(api, peer)

        asyncio.run(main())

    return run_scenario


def text_of(reply: Reply) -> str:
    return "".join(
        choice["delta"].get("content") or "" for c in reply.chunks for choice in c["choices"]
    )


def test_streamed_pieces_joined_are_the_unstreamed_text_in_our_shape(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        whole = await api.chat(model="smart")
        streamed = await api.chat(
            model="smart", stream=True, stream_options={"include_usage": True}
        )
        assert whole.json["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "one two three", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ]
        assert text_of(streamed) == "one two three"
        assert streamed.frames[-1] == "[DONE]"
        assert streamed.chunks[-1]["usage"] == whole.json["usage"]
        for part in (whole.json, *streamed.chunks):
            assert part["model"] == "smart"
            assert part["id"].startswith("chatcmpl-")
            assert part["system_fingerprint"] is None
        assert len({chunk["id"] for chunk in streamed.chunks}) == 1
        assert b"their" not in whole.body + streamed.body

    run(scenario)


def test_usage_is_asked_for_always_and_shown_only_to_who_asks(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        streamed = await api.chat(model="smart", stream=True)
        assert peer.asked[0].body["stream_options"] == {"include_usage": True}
        assert all("usage" not in chunk for chunk in streamed.chunks)
        (usage,) = api.ledger.records
        assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (11, 4, 3)
        assert (usage.model, usage.target, usage.attempts) == ("smart", "far:big", ("far:big ok",))
        assert usage.ttft_ms is not None

    run(scenario)


def test_what_goes_there_is_what_it_needs_and_nothing_about_the_callers_users(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        await api.chat(
            model="smart", user="u", safety_identifier="s", metadata={"a": "b"}, top_k=3,
            invented=1, temperature=0.5, service_tier="flex", prompt_cache_key="k",
        )  # fmt: skip
        (asked,) = peer.asked
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == f"Bearer {SECRET}"
        assert asked.body == {
            "model": "big",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "top_k": 3,
        }

    run(scenario)


def test_an_alias_brings_its_prompt_and_its_parameters(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        api.aliases.add(
            "smart", BIG, system_prompt="Be brief.", defaults={"temperature": 0.1, "max_tokens": 9},
            forced={"top_p": 0.5},
        )  # fmt: skip
        await api.chat(model="smart", top_p=0.9, max_completion_tokens=5)
        await api.chat(model="smart", temperature=None)
        first, second = (asked.body for asked in peer.asked)
        assert first["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (first["top_p"], first["temperature"]) == (0.5, 0.1)
        assert (first["max_completion_tokens"], "max_tokens" in first) == (5, False)
        assert second["max_tokens"] == 9
        refused = await api.complete(model="smart")
        assert (refused.status, refused.error["param"]) == (400, "model")
        assert len(peer.asked) == 2

    run(scenario)


# --- failures -------------------------------------------------------------------------------------

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


# --- other endpoints ------------------------------------------------------------------------------


def test_completions_are_forwarded_too(run: Any) -> None:
    def script(asked: Asked) -> Script:
        choices = [{"index": i, "text": f"t{i}", "finish_reason": "length"} for i in (1, 0)]
        if asked.body.get("stream"):
            return Script(
                [EVENTS, *(event({"choices": [c]}) for c in choices), b"data: [DONE]\n\n"]
            )
        return Script([head(), orjson.dumps({"choices": choices})])

    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        peer.script = script
        whole = await api.complete(model="smart", prompt=["a", "b"], max_tokens=2)
        assert [choice["text"] for choice in whole.json["choices"]] == ["t0", "t1"]
        streamed = await api.complete(model="smart", prompt=["a", "b"], stream=True)
        assert [c["choices"][0]["text"] for c in streamed.chunks] == ["t1", "t0"]
        assert peer.asked[0].path == "/v1/completions"

    run(scenario)


def test_embeddings_are_forwarded_too(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        vectors = [{"index": i, "embedding": [0.5, i], "object": "embedding"} for i in range(2)]
        answer = {"data": vectors, "model": "theirs", "usage": {"prompt_tokens": 5}}
        peer.script = lambda asked: Script([head(), orjson.dumps(answer)])
        reply = await api.embed(model="smart", input=["a", "b"])
        assert reply.json["data"] == vectors
        assert reply.json["model"] == "smart"
        (usage,) = api.ledger.records
        assert (usage.prompt_tokens, usage.finish_reason, usage.target) == (5, "stop", "far:big")
        peer.script = lambda asked: Script([head(), b'{"data": [{"index": 0}]}'])
        assert (await api.embed(model="smart")).status == 502

    run(scenario)


# --- who may --------------------------------------------------------------------------------------


def test_an_alias_is_granted_listed_and_unknown_to_others_by_its_own_name(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        foreign = replace(PRINCIPAL, tenant=replace(PRINCIPAL.tenant, name="foreign"))
        api.keys.principals |= {
            "some": replace(PRINCIPAL, models=("smart",)),
            "other": replace(PRINCIPAL, models=(MODEL,)),
            "foreign": foreign,
        }
        statuses = {
            key: (await api.chat(model="smart", key=key)).status
            for key in ("some", "other", "foreign")
        }
        assert statuses == {"some": 200, "other": 403, "foreign": 404}
        listed = {
            key: [m["id"] for m in (await api.call("GET", "/v1/models", key=key)).json["data"]]
            for key in ("good", "some", "other", "foreign")
        }
        assert listed == {
            "good": [MODEL, "smart"], "some": ["smart"], "other": [MODEL], "foreign": [MODEL],
        }  # fmt: skip
        alone = await api.call("GET", "/v1/models/smart")
        assert (alone.json["id"], alone.json["owned_by"]) == ("smart", "organization")

    run(scenario)


def test_a_backend_that_is_not_for_this_tenant_is_not_asked(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        assert (await api.chat(model="smart")).status == 502
        assert api.ledger.records[0].rule == "backend.misconfigured"
        assert not peer.asked

    run(scenario, tenants=("somebody else",))


def test_a_local_target_is_counted_under_its_own_name_in_metrics(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        api.aliases.add("mine", Target(MODEL))
        reply = await api.chat(model="mine")
        assert reply.json["model"] == "mine"
        metrics = api.metrics.render().decode()
        assert f'anzoth_tokens_total{{kind="prompt",model="{MODEL}"}}' in metrics
        assert "mine" not in metrics
        assert api.ledger.records[0].target == MODEL

    run(scenario)


def test_what_answers_sets_the_price(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        price = Price(1, 1, 2)
        registry = api.services.models
        registry._models[MODEL] = replace(registry.get(MODEL), price=price)
        api.aliases.add("near", Target(MODEL))
        await api.chat(model="near")
        await api.chat(model="smart")
        api.aliases.add("smart", Target("small", "far"))
        await api.chat(model="smart")
        assert [usage.price for usage in api.ledger.records] == [price, FAR_PRICE, None]
        row = row_of(api.ledger.records[1])
        assert (row.input_price, row.cached_input_price, row.output_price) == (2000, 1000, 10_000)
        costs = (row.input_cost, row.cached_input_cost, row.output_cost)
        assert costs == ((11 - 4) * 2, 4 * 1, 3 * 10)

    run(scenario, models=("big", "small"), prices={"big": FAR_PRICE})


def test_a_budget_holds_at_other_servers_and_is_settled_by_what_they_report(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        cost = (11 - 4) * 2 + 4 * 1 + 3 * 10
        api.keys.principals["poor"] = make_principal(budget_per_month=300)
        statuses = [
            (await api.chat(model="smart", key="poor", max_tokens=20, stream=stream)).status
            for stream in (False, True) * 4
        ]
        most = 4 * 2 + 20 * 10  # the message is estimated to have four tokens
        num_served = statuses.count(200)
        assert statuses == [200] * num_served + [429] * (8 - num_served)
        assert 300 - most < num_served * cost <= 300
        assert api.ledger.records[-1].rule == "limit.key.budget_per_month"
        assert len(peer.asked) == num_served

    run(scenario, prices={"big": FAR_PRICE})


def test_a_local_engine_that_is_away_passes_the_request_on(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        await api.peer.stop()
        while api.model.engine.healthy:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0)
        api.aliases.add("smart", Target(MODEL), Target("big", "far", weight=0))
        assert (await api.chat(model="smart")).status == 200
        (usage,) = api.ledger.records
        assert usage.attempts == (f"{MODEL} model_unavailable", "far:big ok")

    run(scenario)


def test_the_key_of_a_backend_is_in_no_repr(run: Any) -> None:
    async def scenario(api: Api, peer: OpenaiPeer) -> None:
        backend = api.services.backends.get("far")
        assert SECRET not in repr(backend) + repr(backend and backend.config)
        assert chat_whole("x")

    run(scenario)

"""Another server answers: in our shape, under our name, once, and whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from api_harness import MODEL, Api
from api_stand_ins import PRINCIPAL
from forward_kit import BIG, EVENTS, FAR_PRICE, run_far, text_of
from openai_peer import (
    SECRET,
    Asked,
    OpenaiPeer,
    Script,
    chat_whole,
    event,
    head,
)
from principals import make_principal

from anzoth.gateway.aliases import Target
from anzoth.gateway.ledger import row_of
from anzoth.price import Price


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return run_far(checkpoint, tmp_path, monkeypatch)


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

"""Chat completions: exact shapes, chunk order, and streamed equals whole."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario, running_api
from api_stand_ins import PRINCIPAL
from checkpoints import EOS_ID
from engine_peer import Said

from anzoth.gateway.aliases import Target

Run = Callable[[Scenario], None]


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def test_a_whole_answer_has_exactly_the_documented_shape(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.cached_tokens = 3
        reply = await api.chat()
        body = reply.json
        assert reply.status == 200
        assert body.pop("id").startswith("chatcmpl-")
        assert isinstance(body.pop("created"), int)
        num_prompt = len(api.tokens("<|bos|><|user|>hi<|assistant|>"))
        assert body == {
            "object": "chat.completion",
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "hello there", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            # The end marker is not text, but it was generated: it counts.
            "usage": usage(num_prompt, len(api.tokens("hello there")) + 1, cached=3),
            "system_fingerprint": "fp_scripted",
        }
        assert list(reply.json) == [
            "id",
            "object",
            "created",
            "model",
            "choices",
            "usage",
            "system_fingerprint",
        ]

    run(scenario)


def test_chunks_come_in_the_documented_order_and_shape(run: Run) -> None:
    async def scenario(api: Api) -> None:
        tokens = api.tokens("hello there")
        reply = await api.chat(stream=True, stream_options={"include_usage": True})
        assert reply.frames[-1] == "[DONE]"
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["x-accel-buffering"] == "no"
        first, *texts, finish, last = reply.chunks
        common = {
            "id": first["id"],
            "object": "chat.completion.chunk",
            "created": first["created"],
            "model": MODEL,
            "system_fingerprint": "fp_scripted",
        }

        def chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            return {**common, "choices": [choice], "usage": None}

        assert first == chunk({"role": "assistant", "content": ""}, None)
        pieces = [api.model.tokenizer.decode([token]) for token in tokens]
        assert texts == [chunk({"content": piece}, None) for piece in pieces]
        assert finish == chunk({}, "stop")
        prompt = len(api.tokens("<|bos|><|user|>hi<|assistant|>"))
        assert last == {**common, "choices": [], "usage": usage(prompt, len(tokens) + 1)}
        assert list(first) == [*common, "choices", "usage"]

    run(scenario)


def test_usage_is_absent_from_chunks_unless_asked_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.chat(stream=True)
        assert all("usage" not in chunk and chunk["choices"] for chunk in reply.chunks)
        assert reply.frames[-1] == "[DONE]"

    run(scenario)


@pytest.mark.parametrize(
    ("asked", "scopes", "served", "priority"),
    [
        (None, {"all"}, None, 0),
        ("auto", {"all"}, "default", 0),
        ("default", {"all"}, "default", 0),
        ("flex", {"chat"}, "flex", -1),
        ("priority", {"chat"}, "default", 0),
        ("priority", {"chat", "priority"}, "priority", 1),
        ("priority", {"all"}, "priority", 1),
        ("scale", {"all"}, "default", 0),
        ("fast", {"all"}, "default", 0),
    ],
)
def test_the_tier_that_served_a_request_is_named_where_one_was_asked_for(
    asked: str | None, scopes: set[str], served: str | None, priority: int, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["tiers"] = replace(PRINCIPAL, scopes=frozenset(scopes))
        whole = await api.chat(key="tiers", service_tier=asked)
        assert whole.json.get("service_tier") == served
        streamed = await api.chat(key="tiers", service_tier=asked, stream=True)
        assert {chunk.get("service_tier") for chunk in streamed.chunks} == {served}
        assert ("service_tier" in whole.json) == (asked is not None)
        assert [submit.priority for submit, _ in api.peer.submits] == [priority, priority]

    run(scenario)


def test_several_choices_begin_in_index_order_and_keep_their_own_text(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello", "how are you today", "🙂"]
        whole = (await api.chat(n=3)).json
        texts = [choice["message"]["content"] for choice in whole["choices"]]
        assert texts == api.saying
        assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
        chunks = (await api.chat(n=3, stream=True)).chunks
        choices = [chunk["choices"][0] for chunk in chunks]
        first_seen = list(dict.fromkeys(choice["index"] for choice in choices))
        assert first_seen == [0, 1, 2]
        for index, text in enumerate(api.saying):
            own = [choice for choice in choices if choice["index"] == index]
            assert own[0]["delta"] == {"role": "assistant", "content": ""}
            assert "".join(choice["delta"].get("content", "") for choice in own) == text
            assert [choice["finish_reason"] for choice in own if choice["finish_reason"]] == [
                "stop"
            ]
        # The prompt is shared: it is counted once.
        assert whole["usage"]["prompt_tokens"] == len(api.peer.submits[0][1])

    run(scenario)


def test_characters_over_several_tokens_are_never_cut(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["漢字🦄"]
        assert len(api.tokens(api.saying[0])) > 2 * len(api.saying[0])
        chunks = (await api.chat(stream=True)).chunks
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(deltas) == api.saying[0]
        assert not any("\ufffd" in delta for delta in deltas)

    run(scenario)


def test_an_answer_cut_by_length_says_so_and_keeps_its_last_token(run: Run) -> None:
    async def scenario(api: Api) -> None:
        tokens = api.tokens("hello there")
        choice = (await api.chat(max_tokens=2)).json["choices"][0]
        assert choice["finish_reason"] == "length"
        assert choice["message"]["content"] == api.model.tokenizer.decode(tokens[:2])

    run(scenario)


def test_half_a_character_at_the_end_is_a_replacement_character(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["漢"]
        assert len(api.tokens("漢")) == 3
        for stream in (False, True):
            reply = await api.chat(max_tokens=2, stream=stream)
            if stream:
                deltas = [c["choices"][0]["delta"].get("content", "") for c in reply.chunks]
                assert "".join(deltas) == "\ufffd"
            else:
                assert reply.json["choices"][0]["message"]["content"] == "\ufffd"

    run(scenario)


def test_a_stop_string_across_tokens_ends_the_text_and_the_engines_work(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello there, general. how are you"]
        for stream in (False, True):
            reply = await api.chat(stop=["ral. h"], stream=stream)
            if stream:
                chunks = [chunk["choices"][0] for chunk in reply.chunks]
                text = "".join(choice["delta"].get("content", "") for choice in chunks)
                finish = chunks[-1]["finish_reason"]
            else:
                choice = reply.json["choices"][0]
                text, finish = choice["message"]["content"], choice["finish_reason"]
            assert (text, finish) == ("hello there, gene", "stop")
            await api.peer.until(
                lambda: (
                    {abort.request for abort in api.peer.aborts}
                    == {submit.request for submit, _ in api.peer.submits}
                )
            )

    run(scenario)


def test_a_stop_string_in_one_choice_aborts_only_that_choice(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello there, general", "how are you today?"]
        choices = (await api.chat(n=2, stop=",")).json["choices"]
        texts = [choice["message"]["content"] for choice in choices]
        assert texts == ["hello there", "how are you today?"]
        await api.peer.until(lambda: bool(api.peer.aborts))
        assert [(abort.choice) for abort in api.peer.aborts] == [0]

    run(scenario)


def test_an_unfinished_stop_string_is_text_after_all(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello there"]
        assert (await api.chat(stop="there!")).json["choices"][0]["message"]["content"] == (
            "hello there"
        )

    run(scenario)


def test_logprobs_name_each_token_with_its_bytes(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hi 漢"]
        choice = (await api.chat(logprobs=True, top_logprobs=2)).json["choices"][0]
        tokens = api.tokens("hi 漢")
        logprobs = choice["logprobs"]
        assert logprobs["refusal"] is None
        assert len(logprobs["content"]) == len(tokens)  # the end marker is not part of the text
        assert b"".join(bytes(e["bytes"]) for e in logprobs["content"]) == "hi 漢".encode()
        first = logprobs["content"][0]
        assert first["logprob"] == -0.5
        literal = api.model.tokenizer.token_bytes
        assert first["top_logprobs"] == [
            {"token": literal(t).decode(), "logprob": -0.25 * t, "bytes": list(literal(t))}
            for t in (4, 5)
        ]

    run(scenario)


def test_logprobs_without_top_have_empty_lists_and_no_logprobs_are_null(run: Run) -> None:
    async def scenario(api: Api) -> None:
        entries = (await api.chat(logprobs=True)).json["choices"][0]["logprobs"]["content"]
        assert all(entry["top_logprobs"] == [] for entry in entries)
        assert (await api.chat(logprobs=False)).json["choices"][0]["logprobs"] is None

    run(scenario)


def test_streamed_logprobs_joined_are_the_whole_ones(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello 🙂 there, general"]
        for stop in (None, ["re, g"]):
            whole = await api.chat(logprobs=True, top_logprobs=1, stop=stop)
            streamed = await api.chat(logprobs=True, top_logprobs=1, stop=stop, stream=True)
            expected = whole.json["choices"][0]["logprobs"]["content"]
            chunks = [chunk["choices"][0] for chunk in streamed.chunks]
            joined = [
                entry
                for choice in chunks
                if choice["logprobs"] is not None
                for entry in choice["logprobs"]["content"]
            ]
            assert joined == expected
            # Each piece of text comes with the tokens that begin in it.
            assert all(c["logprobs"]["content"] for c in chunks if c["delta"].get("content"))

    run(scenario)


def test_minus_infinity_is_a_number_in_json(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.script = lambda submit, prompt, choice: [
            Said(10, None, float("-1e30"), []),
            Said(EOS_ID, "stop"),
        ]
        entries = (await api.chat(logprobs=True)).json["choices"][0]["logprobs"]["content"]
        assert entries[0]["logprob"] == -9999.0

    run(scenario)


def test_the_engine_gets_every_sampling_field_and_the_tenants_secret(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.chat(
            temperature=0.5,
            top_p=0.9,
            top_k=7,
            min_p=0.1,
            typical_p=0.3,
            seed=-3,
            presence_penalty=1,
            frequency_penalty=-1,
            repetition_penalty=1.2,
            logit_bias={"5": -100},
            min_tokens=2,
            ignore_eos=True,
            stop_token_ids=[9],
            max_completion_tokens=5,
        )
        submit, prompt = api.peer.submits[0]
        assert prompt == api.tokens("<|bos|><|user|>hi<|assistant|>")
        assert (submit.cache_salt, submit.tenant) == ("5a17", str(PRINCIPAL.tenant.id))
        assert (submit.num_choices, submit.max_tokens) == (1, 5)
        sampling = submit.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
        assert (sampling.min_p, sampling.typical_p, sampling.seed) == (0.1, 0.3, -3)
        assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, -1)
        assert (sampling.repetition_penalty, sampling.logit_bias) == (1.2, ((5, -100.0),))
        assert (sampling.min_tokens, sampling.ignore_eos) == (2, True)
        assert (sampling.stop_token_ids, sampling.num_logprobs) == ((9,), None)

    run(scenario)


def test_without_a_seed_each_request_gets_its_own(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.chat()
        await api.chat(seed=None)
        seeds = [submit.sampling.seed for submit, _ in api.peer.submits]
        assert seeds[0] != seeds[1]
        assert all(0 <= seed < 2**63 for seed in seeds)

    run(scenario)


def test_without_a_maximum_the_context_is_the_limit(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.chat()
        submit, prompt = api.peer.submits[0]
        assert submit.max_tokens == api.peer.hello.max_model_tokens - len(prompt)

    run(scenario)


def test_a_long_conversation_is_rendered_off_the_loop_with_the_same_result(run: Run) -> None:
    async def scenario(api: Api) -> None:
        messages = [{"role": "user", "content": "hello " * 10, "padding": "x" * 5000}]
        await api.chat(messages=messages)
        expected = api.tokens("<|bos|><|user|>" + "hello " * 10 + "<|assistant|>")
        assert api.peer.submits[0][1] == expected

    run(scenario)


def test_a_templates_refusal_is_a_400(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.chat(messages=[{"role": "user", "content": "refuse me"}])
        assert (reply.status, reply.error["param"]) == (400, "messages")
        assert not api.peer.submits

    run(scenario)


def test_where_a_request_says_nothing_the_checkpoint_does(checkpoint: Path, tmp_path: Path) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    (model / "generation_config.json").write_text('{"temperature": 0.25, "top_k": 7, "top_p": 0.5}')

    async def scenario(api: Api) -> None:
        api.aliases.add("mine", Target(MODEL), defaults={"top_p": 0.75})
        replies = [
            await api.chat(),
            await api.chat(temperature=1, top_k=0),
            await api.chat(model="mine"),
            await api.call("POST", "/v1/completions", {"model": MODEL, "prompt": "a"}),
        ]
        assert [reply.status for reply in replies] == [200] * 4
        asked = [submit.sampling for submit, _ in api.peer.submits]
        assert [(one.temperature, one.top_k, one.top_p) for one in asked] == [
            (0.25, 7, 0.5),
            (1.0, None, 0.5),
            (0.25, 7, 0.75),
            (0.25, 7, 0.5),
        ]
        shown = (await api.call("POST", "/v1/responses", {"model": MODEL, "input": "a"})).json
        assert (shown["temperature"], shown["top_p"]) == (0.25, 0.5)

    async def main() -> None:
        async with running_api(model, tmp_path / "engine.sock") as api:
            await scenario(api)

    asyncio.run(main())

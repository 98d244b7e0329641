"""Embeddings: shapes, encodings, what is refused, what is charged."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario, running_api, until
from checkpoints import write_checkpoint, write_embedding_checkpoint
from engine_peer import EMBEDDING_HELLO, vector_of
from principals import make_principal

from anzoth.api.embeddings import MAX_INPUTS
from anzoth.errors import CapacityUnavailable
from anzoth.frames import Abort, Refused
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ModelLoadError, load_model
from anzoth.model_config import ModelConfig
from anzoth.telemetry import Metrics

Run = Callable[..., None]

HI = [2, 9, 3]  # [CLS] hi [SEP]
HELLO_THERE = [2, 7, 8, 3]


@pytest.fixture
def embedding_run(tmp_path: Path) -> Run:
    """Runs a scenario against an API with an embedding model, described by keyword arguments."""

    def run_scenario(scenario: Scenario, **described: Any) -> None:
        async def main() -> None:
            checkpoint = write_embedding_checkpoint(tmp_path / "model", **described)
            socket = tmp_path / "engine.sock"
            async with running_api(checkpoint, socket, hello=EMBEDDING_HELLO) as api:
                await scenario(api)

        asyncio.run(main())

    return run_scenario


def texts_sent(api: Api) -> list[list[int]]:
    return [text for _, texts in api.peer.embeds for text in texts]


# --- answers --------------------------------------------------------------------------------------


def test_an_answer_has_exactly_the_documented_shape(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.embed(input="hello there")
        assert reply.status == 200
        assert reply.json == {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": vector_of(HELLO_THERE)}],
            "model": MODEL,
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }

    embedding_run(scenario)


def test_base64_is_the_little_endian_float32_of_the_same_numbers(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        plain = (await api.embed(encoding_format="float")).json["data"][0]["embedding"]
        packed = (await api.embed(encoding_format="base64")).json["data"][0]["embedding"]
        assert list(struct.unpack("<4f", base64.b64decode(packed))) == plain

    embedding_run(scenario)


def test_vectors_come_in_the_order_of_the_inputs(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        data = (await api.embed(input=["hello there", "hi", "hello"])).json["data"]
        assert [entry["index"] for entry in data] == [0, 1, 2]
        expected = [vector_of(ids) for ids in (HELLO_THERE, HI, [2, 7, 3])]
        assert [entry["embedding"] for entry in data] == expected

    embedding_run(scenario)


@pytest.mark.parametrize(("given", "sent"), [(HI, [HI]), ([HI, HELLO_THERE], [HI, HELLO_THERE])])
def test_the_models_own_token_ids_are_taken_as_they_are(given, sent, embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.embed(input=given)).status == 200
        assert texts_sent(api) == sent

    embedding_run(scenario)


def test_a_text_is_neither_cut_nor_padded(embedding_run: Run) -> None:
    """tokenizer.json asks for both: training left its settings there."""

    async def scenario(api: Api) -> None:
        await api.embed(input=["hi", "hi " * 20])
        assert texts_sent(api) == [HI, [2] + [9] * 20 + [3]]

    embedding_run(scenario)


def test_the_type_of_an_input_chooses_what_stands_before_it(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        for input_type in ("query", "passage", "document", None):
            assert (await api.embed(input_type=input_type)).status == 200
        query, passage, plain = [2, 4, 6, 9, 3], [2, 5, 6, 9, 3], HI
        assert texts_sent(api) == [query, passage, passage, plain]
        assert (await api.embed(input_type="poem")).error["param"] == "input_type"

    embedding_run(scenario, prompts={"query": "query: ", "passage": "passage: "})


def test_a_default_prompt_stands_before_every_text(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.embed()
        assert texts_sent(api) == [[2, 4, 6, 9, 3]]

    embedding_run(scenario, prompts={"query": "query: "}, default_prompt_name="query")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hi", ""]}, "input[1]"),
        ({"input": ["hi", 3]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [HI, []]}, "input[1]"),
        ({"input": 7}, "input"),
        ({"input": {"text": "hi"}}, "input"),
        ({"input": ["hi"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": [2, 400, 3]}, "input"),
        ({"input": [HI, [2, 400, 3]]}, "input[1]"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 5}, "dimensions"),
        ({"dimensions": 2}, "dimensions"),
        ({"user": 3}, "user"),
    ],
)
def test_an_impossible_request_is_a_400_that_names_the_field(
    fields: dict[str, Any], param: str, embedding_run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.embed(**fields)
        assert (reply.status, reply.error["param"]) == (400, param)
        assert not api.peer.embeds

    embedding_run(scenario)


def test_missing_input_and_model_are_named(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        for body in ({"model": MODEL}, {"input": "hi"}):
            reply = await api.call("POST", "/v1/embeddings", body)
            assert reply.error["code"] == "missing_required_parameter"

    embedding_run(scenario)


def test_too_long_an_input_is_named_by_its_index_and_nothing_is_cut(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.embed(input=["hi", "hi " * 62, "hi " * 63])
        assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
        assert reply.error["param"] == "input[2]"
        assert "64 tokens" in reply.error["message"]
        assert not api.peer.embeds

    embedding_run(scenario)


@pytest.mark.parametrize("given", [[9], [9, 3], [2, 9], [HI, [9, 9]]])
def test_another_tokenizers_ids_are_refused_with_the_way_out(given, embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.embed(input=given)
        assert reply.status == 400
        assert "check_embedding_ctx_length=False" in reply.error["message"]
        assert not api.peer.embeds

    embedding_run(scenario)


def test_only_a_model_trained_for_it_gives_shorter_vectors(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        assert len((await api.embed(dimensions=2)).json["data"][0]["embedding"]) == 2
        assert len((await api.embed(dimensions=4)).json["data"][0]["embedding"]) == 4
        reply = await api.embed(dimensions=3)
        assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
        assert "2, 4" in reply.error["message"]

    embedding_run(scenario, config={"matryoshka_dimensions": [2]})


def test_text_is_not_generated_by_an_embedding_model(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        for reply in (await api.chat(), await api.complete()):
            assert (reply.status, reply.error["param"]) == (400, "model")
            assert "/v1/embeddings" in reply.error["message"]
        assert (await api.call("GET", f"/v1/models/{MODEL}")).status == 200

    embedding_run(scenario)


def test_a_generating_model_makes_no_embeddings(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.embed()
        assert (reply.status, reply.error["param"]) == (400, "model")
        assert (await api.embed(model="nothing")).error["code"] == "model_not_found"

    run(scenario)


def test_a_broken_description_stops_the_start(tmp_path: Path) -> None:
    checkpoint = write_embedding_checkpoint(tmp_path, default_prompt_name="nothing")
    client = EngineClient(MODEL, tmp_path / "no.sock", Metrics())
    with pytest.raises(ModelLoadError, match="default_prompt_name"):
        load_model(ModelConfig(MODEL, checkpoint), client)
    assert load_model(ModelConfig(MODEL, write_checkpoint(tmp_path / "b")), client).template


def test_a_decoder_with_a_described_pooling_makes_embeddings(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path)
    client = EngineClient(MODEL, tmp_path / "no.sock", Metrics())
    (checkpoint / "modules.json").write_text("[]")
    model = load_model(ModelConfig(MODEL, checkpoint), client)
    assert (model.template, model.rerank) == (None, None)
    assert model.embedding


# --- what it costs, and how it ends ---------------------------------------------------------------


def test_tokens_are_charged_and_recorded(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(tpm=10)
        reply = await api.embed(input=["hi", "hello there"], key="limited", user="u")
        assert reply.headers["x-ratelimit-remaining-tokens"] == "3"
        (record,) = api.ledger.records
        assert (record.endpoint, record.model, record.status) == ("/v1/embeddings", MODEL, 200)
        assert (record.prompt_tokens, record.completion_tokens) == (7, 0)
        assert (record.finish_reason, record.end_user) == ("stop", "u")
        refused = await api.embed(input="hello there", key="limited")
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        metrics = api.metrics.render().decode()
        assert 'anzoth_tokens_total{kind="prompt",model="org/tiny"} 7.0' in metrics

    embedding_run(scenario)


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (Refused(0, "capacity", "full", 250), 503, "capacity_unavailable"),
        (Refused(0, "too_long", "too long"), 400, "context_length_exceeded"),
        (Refused(0, "invalid", "no"), 400, "invalid_value"),
        (None, 500, "internal_error"),
    ],
)
def test_what_the_engine_refuses_or_cannot_compute_costs_nothing(
    refusal: Refused | None, status: int, code: str, embedding_run: Run
) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(tpm=3)
        api.peer.refusal, api.peer.embeds_fail = refusal, refusal is None
        for _ in range(2):
            reply = await api.embed(key="limited")
            assert (reply.status, reply.error["code"]) == (status, code)
        assert [record.prompt_tokens for record in api.ledger.records] == [0, 0]
        assert api.model.engine.num_live_requests == 0

    embedding_run(scenario)


def test_a_lost_engine_ends_the_request_as_model_unavailable(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.admits = False
        waiting = asyncio.create_task(api.embed())
        await api.peer.until(lambda: bool(api.peer.embeds))
        await api.peer.stop()
        reply = await waiting
        assert (reply.status, reply.error["code"]) == (502, "model_unavailable")
        assert api.ledger.records[0].finish_reason == "error"

    embedding_run(scenario)


def test_a_client_that_leaves_ends_the_engines_work(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.admits = False
        waiting = asyncio.create_task(api.embed())
        await api.peer.until(lambda: bool(api.peer.embeds))
        waiting.cancel()
        await asyncio.wait({waiting})
        number = api.peer.embeds[0][0].request
        await api.peer.until(lambda: api.peer.aborts == [Abort(number)])
        (record,) = api.ledger.records
        assert (record.status, record.finish_reason, record.prompt_tokens) == (499, "cancelled", 3)

    embedding_run(scenario)


def test_a_drain_that_ran_out_of_time_ends_embeddings_too(embedding_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.admits = False
        waiting = asyncio.create_task(api.embed())
        await until(lambda: api.model.engine.num_live_requests == 1)
        api.model.engine.end_all(CapacityUnavailable("The server is shutting down."))
        assert (await waiting).status == 503
        await api.peer.until(lambda: len(api.peer.aborts) == 1)

    embedding_run(scenario)

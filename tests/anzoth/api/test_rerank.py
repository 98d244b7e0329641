"""Reranking: shapes, order, what is refused, what is charged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario, running_api
from api_stand_ins import PRINCIPAL
from checkpoints import write_rerank_checkpoint
from engine_peer import RERANK_HELLO, score_of
from principals import make_principal

from anzoth.api.rerank import MAX_DOCUMENTS
from anzoth.frames import Refused

Run = Callable[..., None]

HI, HELLO_THERE = [2, 9, 3, 9, 3], [2, 9, 3, 7, 8, 3]  # behind the query "hi"


@pytest.fixture
def rerank_run(tmp_path: Path) -> Run:
    """Runs a scenario against an API with a reranker."""

    def run_scenario(scenario: Scenario, **described: Any) -> None:
        async def main() -> None:
            checkpoint = write_rerank_checkpoint(tmp_path / "model", **described)
            socket = tmp_path / "engine.sock"
            async with running_api(checkpoint, socket, hello=RERANK_HELLO) as api:
                await scenario(api)

        asyncio.run(main())

    return run_scenario


def close_to(score: float) -> Any:
    return pytest.approx(score, rel=1e-6)  # float32 on the way


# --- answers --------------------------------------------------------------------------------------


def test_an_answer_has_exactly_the_documented_shape(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.rerank()
        assert reply.status == 200
        answer = reply.json
        assert answer.pop("id").startswith("rerank-")
        assert answer == {
            "object": "list",
            "model": MODEL,
            "results": [
                {"index": 1, "relevance_score": close_to(score_of(HI))},
                {"index": 0, "relevance_score": close_to(score_of(HELLO_THERE))},
            ],
            "usage": {"prompt_tokens": 11, "total_tokens": 11},
        }
        assert (await api.call("POST", "/rerank", {"model": MODEL})).status == 400

    rerank_run(scenario)


def test_documents_come_back_on_demand_the_best_first(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        documents = ["hi hi hi", {"text": "hi", "title": "ignored"}, "hi hi", "", {"text": "hello"}]
        reply = await api.rerank(documents=documents, return_documents=True, top_n=3)
        results = reply.json["results"]
        assert [result["index"] for result in results] == [3, 1, 4]  # equal ones in their order
        assert [result["document"] for result in results] == [
            {"text": ""},
            {"text": "hi"},
            {"text": "hello"},
        ]

    rerank_run(scenario)


def test_the_engine_gets_pairs_and_where_their_documents_begin(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.rerank(query="hi there", documents=["hello", "hi hi hi"])
        ((embed, texts),) = api.peer.embeds
        assert texts == [[2, 9, 8, 3, 7, 3], [2, 9, 8, 3, 9, 9, 9, 3]]
        assert embed.second_at == (4, 4)

    rerank_run(scenario)


def test_a_family_with_one_token_type_gets_none(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.rerank(documents=["hello"])).status == 200
        ((embed, texts),) = api.peer.embeds
        assert (texts, embed.second_at) == ([[2, 9, 3, 3, 7, 3]], ())

    rerank_run(scenario, architecture="XLMRobertaForSequenceClassification")


def test_long_documents_are_cut_to_what_the_model_takes_or_the_caller_wants(
    rerank_run: Run,
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.rerank(documents=["hi " * 100])
        assert reply.json["usage"]["prompt_tokens"] == 64
        reply = await api.rerank(documents=["hi " * 100], max_tokens_per_doc=7)
        assert reply.json["usage"]["prompt_tokens"] == 11

    rerank_run(scenario)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": ["hi"]}, "query"),
        ({"query": "hi " * 61}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "hi"}, "documents"),
        ({"documents": ["hi", 3]}, "documents[1]"),
        ({"documents": [{"title": "hi"}]}, "documents[0].text"),
        ({"documents": [{"text": 3}]}, "documents[0].text"),
        ({"documents": ["hi"] * (MAX_DOCUMENTS + 1)}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"user": 3}, "user"),
    ],
)
def test_an_impossible_request_is_a_400_that_names_the_field(
    fields: dict[str, Any], param: str, rerank_run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.rerank(**fields)
        assert (reply.status, reply.error["param"]) == (400, param)
        assert not api.peer.embeds

    rerank_run(scenario)


@pytest.mark.parametrize("missing", ["model", "query", "documents"])
def test_what_is_missing_is_named(missing: str, rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.rerank(**{missing: None})
        assert reply.status == 400
        assert reply.error["param"] == missing

    rerank_run(scenario)


def test_a_reranker_neither_generates_nor_embeds(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        for reply in (await api.chat(), await api.complete(), await api.embed()):
            assert (reply.status, reply.error["param"]) == (400, "model")
            assert "ranks documents: use /v1/rerank" in reply.error["message"]

    rerank_run(scenario)


def test_other_models_do_not_rerank(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.rerank()
        assert (reply.status, reply.error["param"]) == (400, "model")
        assert "generates text: use /v1/chat/completions" in reply.error["message"]
        assert (await api.rerank(model="nothing")).error["code"] == "model_not_found"

    run(scenario)


def test_a_key_needs_the_scope_and_the_model(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["old"] = replace(PRINCIPAL, scopes=frozenset({"embeddings"}))
        reply = await api.rerank(key="old")
        assert (reply.status, reply.error["code"]) == (403, "insufficient_scope")
        assert "'rerank'" in reply.error["message"]
        api.keys.principals["other"] = replace(PRINCIPAL, models=("llama-*",))
        assert (await api.rerank(key="other")).error["code"] == "model_not_allowed"

    rerank_run(scenario)


# --- what it costs --------------------------------------------------------------------------------


def test_all_tokens_of_all_pairs_are_charged_and_recorded(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(tpm=15)
        reply = await api.rerank(key="limited", user="u", top_n=1)
        assert reply.headers["x-ratelimit-remaining-tokens"] == "4"
        (record,) = api.ledger.records
        assert (record.endpoint, record.model, record.status) == ("/v1/rerank", MODEL, 200)
        assert (record.prompt_tokens, record.completion_tokens) == (11, 0)
        assert (record.finish_reason, record.end_user) == ("stop", "u")
        refused = await api.rerank(key="limited")
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")

    rerank_run(scenario)


def test_what_the_engine_refuses_costs_nothing(rerank_run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.refusal = Refused(0, "capacity", "full", 250)
        reply = await api.rerank()
        assert (reply.status, reply.error["code"]) == (503, "capacity_unavailable")
        api.peer.refusal, api.peer.embeds_fail = None, True
        assert (await api.rerank()).status == 500
        assert [record.prompt_tokens for record in api.ledger.records] == [0, 0]

    rerank_run(scenario)

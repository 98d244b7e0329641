"""What ranks the results of a search: who may say so, what is said of it, what it costs."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL
from api_stand_ins import Reply
from knowledge_kit import Knowledge
from principals import make_principal
from rerank_kit import RANKER, Ranking, Scenario, run_reranked

from anzoth.gateway.aliases import Target
from anzoth.gateway.principal import Principal

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]
TEXTS = ("red fox", "fox fox river", "snow fox mill", "green hen")


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    """The reranker puts what speaks of snow first, which the fusion does not."""

    def run_scenario(scenario: Scenario) -> None:
        async def prepared(it: Knowledge, ranker: Ranking) -> None:
            ranker.score(lambda query, passage: 0.75 if "snow" in passage else 0.25)
            await scenario(it, ranker)

        run_reranked(dsn, tmp_path, prepared)

    return run_scenario


async def store_of(it: Knowledge) -> str:
    store = await it.add_store()
    await it.add_file(store, *TEXTS)
    return store


async def ask(
    it: Knowledge, store: str, ranker: str | None = None, key: str = "good", **body: Any
) -> Reply:
    options = {} if ranker is None else {"ranking_options": {"ranker": ranker}}
    path = f"/v1/vector_stores/{store}/search"
    return await it.server.api.call("POST", path, {"query": "fox", **options, **body}, key=key)


def first_of(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return reply.json["data"][0]["content"][0]["text"]


def key_of(it: Knowledge, **fields: Any) -> Principal:
    same = {name: getattr(it.one, name) for name in ("tenant", "project_id", "scopes")}
    return make_principal(**same, key_id=uuid.uuid4(), **fields)


def test_the_operators_ranks_what_does_not_say_otherwise(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store, api = await store_of(it), it.server.api
        fused = await ask(it, store)
        assert first_of(fused) != "snow fox mill"
        assert fused.json["trace"]["rerank"] is None
        for word in (None, "auto", "default-2024-11-15", "none"):
            assert (await ask(it, store, word)).json["data"] == fused.json["data"]
        api.services.rerankers.default = RANKER
        api.keys.principals["embeds"] = key_of(it, models=("org/*",))
        for word in (None, "auto", "default-2024-11-15"):
            for key in ("good", "embeds"):  # no grant of the reranker is needed
                assert first_of(await ask(it, store, word, key)) == "snow fox mill"
        off = await ask(it, store, "none")
        assert (off.json["data"], off.json["trace"]["rerank"]) == (fused.json["data"], None)

    run(scenario)


def test_an_answer_shows_the_order_s_reason_beside_the_score(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await store_of(it)
        fused = (await ask(it, store)).json["data"]
        said = (await ask(it, store, RANKER, max_num_results=2)).json
        first, second = said["data"]
        was = {result["chunk"]["id"]: (at, result["score"]) for at, result in enumerate(fused, 1)}
        at, score = was[first["chunk"]["id"]]
        assert at > 1
        assert first["score"] == pytest.approx(score)
        assert first["chunk"]["rerank"] == {"rank": 1, "score": 0.75, "fused_rank": at}
        assert second["chunk"]["rerank"] == {"rank": 2, "score": 0.25, "fused_rank": 1}
        trace = said["trace"]["rerank"]
        num_tokens = 4 * 4 + 2 + 3 + 3 + 2
        spent_ms = trace.pop("ms")
        assert spent_ms >= 0
        assert trace == {
            "model": RANKER, "candidates": 4, "tokens": num_tokens, "skipped": None
        }  # fmt: skip
        assert said["usage"] == {"prompt_tokens": 3, "total_tokens": 3 + num_tokens}

    run(scenario)


def test_the_openai_sdk_names_a_ranker(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store, sdk = await store_of(it), it.server.sdk()
        it.server.api.services.rerankers.default = RANKER
        for word in ("auto", "default-2024-11-15"):
            page = await sdk.vector_stores.search(
                store, query="fox", ranking_options={"ranker": word}
            )
            assert page.data[0].content[0].text == "snow fox mill"
            assert 0 < page.data[0].score < 1
        page = await sdk.vector_stores.search(
            store, query="fox", ranking_options={"ranker": "none"}
        )
        assert page.data[0].content[0].text != "snow fox mill"

    run(scenario)


def test_a_caller_names_what_exists_ranks_and_is_granted(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store, api = await store_of(it), it.server.api
        api.services.rerankers.default = RANKER
        api.keys.principals["embeds"] = key_of(it, models=("org/*",))
        unknown = await ask(it, store, "unheard-of")
        assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
        assert unknown.error["param"] == "ranking_options.ranker"
        embeds = await ask(it, store, MODEL)
        assert (embeds.status, embeds.error["param"]) == (400, "ranking_options.ranker")
        assert embeds.error["message"] == f"The model '{MODEL}' does not rank documents."
        refused = await ask(it, store, RANKER, "embeds")
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        assert ranker.peer.embeds == []
        assert first_of(await ask(it, store, RANKER)) == "snow fox mill"

    run(scenario)


def test_an_alias_of_the_tenant_is_such_a_name(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store, api = await store_of(it), it.server.api
        api.aliases.add("best", Target("gone"), Target(RANKER, weight=0))
        api.aliases.add("gone", Target("gone"))
        api.aliases.add("talks", Target(MODEL))
        api.aliases.add("far", Target("x", "elsewhere"))
        for name, models in (("one alias", ("best",)), ("the model", (RANKER,))):
            api.keys.principals[name] = key_of(it, models=models)
        ranked = await ask(it, store, "best", "one alias")
        assert first_of(ranked) == "snow fox mill"
        assert ranked.json["trace"]["rerank"]["model"] == "best"
        records = {record.request_id: record for record in api.ledger.records}
        ranking = records["req_test.rerank"]
        assert (ranking.model, ranking.target) == ("best", RANKER)
        assert (await ask(it, store, "best", "the model")).status == 403
        for name in ("talks", "far"):
            reply = await ask(it, store, name)
            assert (reply.status, reply.error["param"]) == (400, "ranking_options.ranker")
        gone = await ask(it, store, "gone")
        assert gone.json["trace"]["rerank"]["skipped"] == "it is not served"
        # To another tenant the name means nothing.
        known = api.keys.principals
        known["foreign"] = dataclasses.replace(
            known["foreign"], tenant=dataclasses.replace(it.two.tenant, name="foreign")
        )
        theirs = await it.add_store(it.two)
        assert (await ask(it, theirs, "best", "foreign")).status == 404

    run(scenario)


def test_it_is_counted_as_a_ranking_of_its_own_and_as_no_further_request(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store, api = await store_of(it), it.server.api
        api.keys.principals["limited"] = key_of(it, rpm=2, input_tpm=3 + 26 + 3 + 10)
        reply = await ask(it, store, RANKER, "limited")
        assert first_of(reply) == "snow fox mill"
        ranking, searching = api.ledger.records
        assert (searching.model, searching.prompt_tokens) == (MODEL, 3)
        assert searching.endpoint == "/v1/vector_stores/{vector_store_id}/search"
        assert (ranking.model, ranking.prompt_tokens, ranking.price) == (
            RANKER, 26, ranker.model.price
        )  # fmt: skip
        assert (ranking.endpoint, ranking.request_id) == ("/v1/rerank", "req_test.rerank")
        assert (ranking.status, ranking.finish_reason) == (200, "stop")
        assert ranking.principal is api.keys.principals["limited"]
        assert reply.headers["x-ratelimit-remaining-requests"] == "1"
        # The tokens that are left cover the query and not the ranking: the search goes on without.
        again = await ask(it, store, RANKER, "limited")
        assert again.status == 200
        skipped = again.json["trace"]["rerank"]["skipped"]
        assert skipped == "a limit does not cover its tokens"
        assert len(ranker.peer.embeds) == 1
        assert [record.model for record in api.ledger.records] == [RANKER, MODEL, MODEL]
        assert (await ask(it, store, RANKER, "limited")).status == 429

    run(scenario)


def test_what_is_lost_costs_nothing_and_what_took_too_long_was_computed(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store, api = await store_of(it), it.server.api
        ranker.peer.embeds_fail = True
        lost = await ask(it, store, RANKER)
        assert lost.json["usage"]["total_tokens"] == 3
        assert [record.model for record in api.ledger.records] == [MODEL]
        ranker.peer.embeds_fail, ranker.peer.admits = False, False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("anzoth.gateway.knowledge.searching.MOST_S", 0.02)
            late = await ask(it, store, RANKER)
        assert late.json["usage"]["total_tokens"] == 3 + 26
        _, ranking, _ = api.ledger.records
        assert (ranking.model, ranking.prompt_tokens, ranking.status) == (RANKER, 26, 499)

    run(scenario)

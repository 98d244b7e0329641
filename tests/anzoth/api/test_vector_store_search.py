"""POST /v1/vector_stores/{id}/search: OpenAI's shape, what is refused, what it costs."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL
from api_stand_ins import Reply
from knowledge_kit import Knowledge, Scenario, run_knowledge
from principals import make_principal

from anzoth.api.routes import ROUTES
from anzoth.api.vector_store_search import MAX_QUERIES, normalized, parse_search
from anzoth.errors import InvalidValue, MissingParameter, UnsupportedParameter
from anzoth.index_frames import Fusion

Run = Callable[[Scenario], None]
UNKNOWN = "vs_" + "0" * 32


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    return lambda scenario: run_knowledge(dsn, tmp_path, scenario)


async def ask(
    it: Knowledge, store: str, key: str = "good", headers: dict[str, str] | None = None, **body: Any
) -> Reply:
    path = f"/v1/vector_stores/{store}/search"
    return await it.server.api.call("POST", path, body, key=key, headers=headers)


# --- the body -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranking", "fusion"),
    [
        (None, Fusion("calibrated")),
        ({}, Fusion("calibrated")),
        ({"ranker": "auto", "score_threshold": 0.5}, Fusion("calibrated")),
        ({"fusion": "convex"}, Fusion("convex", 0.5, 0.5)),
        ({"fusion": "rrf"}, Fusion("rrf", 1, 1)),
        ({"hybrid_search": {"embedding_weight": 2, "text_weight": 1}}, Fusion("rrf", 2, 1)),
        (
            {"fusion": "convex", "hybrid_search": {"embedding_weight": 3, "text_weight": 1}},
            Fusion("convex", 0.75, 0.25),
        ),
    ],
)
def test_ranking_options_say_how_the_legs_are_fused(ranking: object, fusion: Fusion) -> None:
    request, _ = parse_search({"query": "fox", "ranking_options": ranking})
    assert request.fusion == fusion


@pytest.mark.parametrize(
    ("body", "param", "error"),
    [
        ({}, "query", MissingParameter),
        ({"query": ""}, "query", InvalidValue),
        ({"query": " "}, "query", InvalidValue),
        ({"query": []}, "query", InvalidValue),
        ({"query": 3}, "query", InvalidValue),
        ({"query": ["fox", 3]}, "query[1]", InvalidValue),
        ({"query": ["fox"] * (MAX_QUERIES + 1)}, "query", InvalidValue),
        ({"query": "x" * 20_000}, "query", InvalidValue),
        ({"max_num_results": 0}, "max_num_results", InvalidValue),
        ({"max_num_results": 51}, "max_num_results", InvalidValue),
        ({"filters": []}, "filters", InvalidValue),
        ({"rewrite_query": "yes"}, "rewrite_query", InvalidValue),
        ({"ranking_options": {"ranker": 3}}, "ranking_options.ranker", InvalidValue),
        ({"ranking_options": {"ranker": ""}}, "ranking_options.ranker", InvalidValue),
        ({"ranking_options": {"ranker": "x" * 257}}, "ranking_options.ranker", InvalidValue),
        ({"ranking_options": {"fusion": "x"}}, "ranking_options.fusion", InvalidValue),
        (
            {"ranking_options": {"score_threshold": 1.1}},
            "ranking_options.score_threshold",
            InvalidValue,
        ),
        (
            {"ranking_options": {"hybrid_search": {"embedding_weight": 1}}},
            "ranking_options.hybrid_search.text_weight",
            MissingParameter,
        ),
        (
            {"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}},
            "ranking_options.hybrid_search",
            InvalidValue,
        ),
        (
            {
                "ranking_options": {
                    "fusion": "calibrated",
                    "hybrid_search": {"embedding_weight": 1, "text_weight": 1},
                }
            },
            "ranking_options.hybrid_search",
            UnsupportedParameter,
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    body: dict[str, Any], param: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        parse_search(body if body == {} or "query" in body else {"query": "fox", **body})
    assert raised.value.param == param  # type: ignore[attr-defined]  # of this API's errors


def test_rewriting_a_query_changes_no_word() -> None:
    assert (
        normalized("  what\tis\n\nthe\u00a0cafe\u0301\u200b \u0000fox² ") == "what is the café fox²"
    )
    body = {"query": ["the  fox", " hen "]}
    assert parse_search({**body, "rewrite_query": True})[0].queries == ("the fox", "hen")
    assert parse_search(body)[0].queries == ("the  fox", " hen ")


# --- the answer -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_a_search_found_is_kept_with_the_request(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        file = await it.add_file(store, "red fox", "green hen", filename="zoo.md")
        await it.add_file(store, "red fox")
        reply = await ask(it, store, query="fox", max_num_results=2)
        explained = await it.server.api.call("GET", "/v1/requests/req_test")
        kept = explained.json["retrieval"]
        assert kept["vector_store_ids"] == [store]
        assert [
            (one["file_id"], one["chunk_id"], one["embedding_rank"], one["dropped"])
            for one in kept["candidates"]
        ] == [
            (
                hit["file_id"],
                hit["chunk"]["id"],
                (hit["chunk"]["embedding"] or {}).get("rank"),
                None,
            )
            for hit in reply.json["data"]
        ]
        assert file in {one["file_id"] for one in kept["candidates"]}
        assert (kept["duplicates"], kept["removed"], kept["degraded"]) == (1, 0, None)
        assert kept["times_ms"].keys() == reply.json["trace"]["times_ms"].keys()
        assert not {"fox", "hen", "zoo"} & set(re.findall("[a-z]+", explained.body.decode()))

    run(scenario)


@pytest.mark.slow
def test_an_answer_has_exactly_the_documented_shape(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        file = await it.add_file(store, "red fox", "green hen", filename="zoo.md", n=3, ok=True)
        reply = await ask(it, store, query="red  fox", rewrite_query=True, max_num_results=1)
        assert reply.status == 200
        assert reply.headers["cache-control"] == "no-store"
        said = reply.json
        (result,) = said["data"]
        trace, score = said["trace"], result["score"]
        legs = result["chunk"].pop("embedding"), result["chunk"].pop("text")
        assert said == {
            "object": "vector_store.search_results.page",
            "search_query": ["red fox"],
            "data": [
                {
                    "file_id": file,
                    "filename": "zoo.md",
                    "score": score,
                    "attributes": {"n": 3, "ok": True},
                    "content": [{"type": "text", "text": "red fox"}],
                    "chunk": {
                        "id": "chunk_1",
                        "position": 0,
                        "start": 0,
                        "end": 7,
                        "page": 1,
                        "last_page": 1,
                        "headings": [],
                        "rerank": None,
                    },
                }
            ],
            "has_more": False,
            "next_page": None,
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
            "trace": trace,
        }
        assert [leg["rank"] for leg in legs] == [1, 1]
        assert trace["degraded"] is None
        assert 0 < score < 1

    run(scenario)


@pytest.mark.slow
def test_the_openai_sdk_searches(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, sdk = await it.add_store(), it.server.sdk()
        for lang in ("en", "de", "fr"):
            await it.add_file(store, f"fox {'one' if lang == 'en' else 'two'}", lang=lang)
        page = await sdk.vector_stores.search(
            store,
            query=["fox one", "fox"],
            max_num_results=5,
            filters={
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "lang", "value": "en"},
                    {"type": "in", "key": "lang", "value": ["de"]},
                ],
            },
            ranking_options={"ranker": "auto", "score_threshold": 0.01},
            rewrite_query=True,
        )
        found = [result async for result in page]
        assert {result.attributes["lang"] for result in found if result.attributes} == {"en", "de"}
        assert {result.content[0].text for result in found} == {"fox one", "fox two"}
        assert found[0].filename == "a.txt"
        with_weights = await sdk.vector_stores.search(
            store,
            query="one",
            extra_body={
                "ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
            },
        )
        assert with_weights.data[0].score == 1.0

    run(scenario)


@pytest.mark.slow
def test_filters_that_mean_nothing_are_a_400_that_names_them(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        for filters in ({"type": "like", "key": "a", "value": 1}, {"type": "and", "filters": [3]}):
            reply = await ask(it, store, query="fox", filters=filters)
            assert (reply.status, reply.error["param"]) == (400, "filters")

    run(scenario)


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_store_that_is_unknown_foreign_or_not_granted_is_the_same_404(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        mine, other, foreign = (
            await it.add_store(),
            await it.add_store(),
            await it.add_store(it.two),
        )
        for store in (mine, other):
            await it.add_file(store, "red fox")
        known = it.server.api.keys.principals
        known["one store"] = dataclasses.replace(it.one, knowledge_bases=frozenset({mine, foreign}))
        known["none"] = dataclasses.replace(it.one, knowledge_bases=frozenset())
        known["watched"] = dataclasses.replace(known["none"], shadow_rules=("key.knowledge_base",))
        bodies = set()
        for key, store in (
            ("good", foreign), ("good", UNKNOWN), ("one store", other), ("one store", UNKNOWN),
            ("one store", foreign), ("none", mine), ("foreign", mine), ("good", "../x"),
        ):  # fmt: skip
            reply = await ask(it, store, key, query="fox")
            assert reply.status == 404, (key, store)
            if store != "../x":
                bodies.add(reply.body)
        assert len(bodies) == 1
        assert b'"vector_store_id"' in bodies.pop()
        for key in ("good", "one store", "watched"):
            assert (await ask(it, mine, key, query="fox")).json["data"][0]["file_id"]
        # Nothing tells whether what is not granted is there.
        rules = {r.rule for r in it.server.api.ledger.records if r.principal is known["one store"]}
        assert rules == {"key.knowledge_base", "request.not_found", None}

    run(scenario)


@pytest.mark.slow
def test_every_route_of_a_store_that_is_not_granted_is_the_same_404(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        mine, other = await it.add_store(), await it.add_store()
        file = await it.add_file(other, "red fox")
        api = it.server.api
        api.keys.principals["one store"] = dataclasses.replace(
            it.one, knowledge_bases=frozenset({mine})
        )
        bodies = set()
        for method, tail in (
            ("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/files"), ("POST", "/files"),
            ("GET", f"/files/{file}"), ("GET", f"/files/{file}/content"),
            ("POST", f"/files/{file}"), ("DELETE", f"/files/{file}"), ("POST", "/file_batches"),
            ("GET", "/file_batches/vsfb_1"), ("GET", "/file_batches/vsfb_1/files"),
            ("POST", "/file_batches/vsfb_1/cancel"), ("POST", "/search"),
        ):  # fmt: skip
            body = {"query": "fox", "file_id": file, "file_ids": [file], "attributes": {}}
            for store in (other, UNKNOWN):
                reply = await api.call(
                    *(method, f"/v1/vector_stores/{store}{tail}", body), key="one store"
                )
                assert reply.status == 404, (method, tail)
                bodies.add(reply.body)
        assert len(bodies) == 1
        driven = {route.pattern for route in ROUTES if "{vector_store_id}" in route.pattern}
        assert len(driven) == 9  # a new route of stores is driven here, too
        listed = await api.call("GET", "/v1/vector_stores", key="one store")
        assert [store["id"] for store in listed.json["data"]] == [mine]
        refused = await api.call("POST", "/v1/vector_stores", {}, key="one store")
        assert (refused.status, refused.error["code"]) == (403, "knowledge_base_not_allowed")

    run(scenario)


@pytest.mark.slow
def test_a_key_without_the_scope_or_one_that_manages_does_not_search(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, known = await it.add_store(), it.server.api.keys.principals
        for name, scopes in (("chats", {"chat"}), ("manages", {"all", "keys:write"})):
            known[name] = dataclasses.replace(it.one, scopes=frozenset(scopes))
            assert (await ask(it, store, name, query="fox")).status == 403
        known["searches"] = dataclasses.replace(it.one, scopes=frozenset({"vector_stores:search"}))
        assert (await ask(it, store, "searches", query="fox")).status == 200

    run(scenario)


# --- what it costs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tokens_of_the_query_are_reserved_counted_and_written_down(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, api = await it.add_store(), it.server.api
        api.keys.principals["limited"] = make_principal(
            **{f: getattr(it.one, f) for f in ("tenant", "project_id", "scopes")},
            key_id=uuid.uuid4(),
            input_tpm=10,
        )
        reply = await ask(it, store, "limited", query="red fox")
        assert reply.status == 200
        (record,) = api.ledger.records
        assert (record.model, record.prompt_tokens, record.completion_tokens) == (MODEL, 4, 0)
        assert (record.finish_reason, record.status) == ("stop", 200)
        assert record.endpoint == "/v1/vector_stores/{vector_store_id}/search"
        reply = await ask(it, store, "limited", query="red fox green hen blue plum")
        assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")
        assert api.ledger.records[-1].prompt_tokens == 0
        assert 'anzoth_tokens_total{kind="prompt",model="org/tiny"} 4.0' in (
            api.metrics.render().decode()
        )

    run(scenario)


@pytest.mark.slow
def test_without_its_model_a_search_counts_as_a_request_and_costs_no_token(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, api = await it.add_store(), it.server.api
        await it.add_file(store, "red fox")
        api.keys.principals["limited"] = make_principal(
            **{f: getattr(it.one, f) for f in ("tenant", "project_id", "scopes")},
            key_id=uuid.uuid4(),
            rpm=1,
        )
        await api.peer.stop()
        async with asyncio.timeout(5):
            while api.model.engine.healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        reply = await ask(it, store, "limited", query="fox")
        assert reply.status == 200
        assert reply.json["data"][0]["chunk"]["embedding"] is None
        assert reply.json["trace"]["degraded"] == "its embedding model does not answer"
        (record,) = api.ledger.records
        assert (record.model, record.prompt_tokens, record.status) == (MODEL, 0, 200)
        assert (await ask(it, store, "limited", query="fox")).status == 429

    run(scenario)


@pytest.mark.slow
def test_a_deadline_ends_a_search(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        assert (await ask(it, store, query="fox")).status == 200
        it.server.api.peer.admits = False
        reply = await ask(it, store, query="fox", headers={"x-request-timeout-ms": "200"})
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        await it.server.api.peer.until(lambda: bool(it.server.api.peer.aborts))

    run(scenario)


@pytest.mark.slow
def test_metrics_show_the_retriever(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        client, metrics = it.first.indexes.client, it.server.api.metrics
        metrics.retriever(lambda: client.last_stats if client.healthy else None)
        store = await it.add_store()
        await it.add_file(store, "red fox")
        assert (await ask(it, store, query="fox")).status == 200
        client.last_stats = None
        async with asyncio.timeout(10):
            while client.last_stats is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        shown = metrics.render().decode()
        for line in ("up 1.0", "stores 1.0", "loaded_stores 1.0", "searches 2.0", "changes 1.0"):
            assert f"anzoth_retriever_{line}\n" in shown
        assert 'anzoth_search_seconds_count{stage="index"} 1.0' in shown

    run(scenario)

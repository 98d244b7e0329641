"""What a search of stores finds: all that was committed, of its own project, the best first.

Real Postgres, real retriever; the engine's vectors are hashed words.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from api_harness import MODEL
from files_kit import as_owner, owner_of
from knowledge_kit import Knowledge, Scenario, run_knowledge, stores_of, texts

from anzoth.errors import (
    CapacityUnavailable,
    DeadlineExceeded,
    InvalidValue,
    NotFound,
    RetrieverUnavailable,
)
from anzoth.frames import Refused
from anzoth.gateway import project_directory
from anzoth.gateway.knowledge.found import MAX_FILTER_BYTES, SearchRequest
from anzoth.gateway.knowledge.query_vectors import Wanted
from anzoth.gateway.limit_rules import Limits
from anzoth.index_frames import Fusion

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]
UNKNOWN = "vs_" + "0" * 32


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    return lambda scenario: run_knowledge(dsn, tmp_path, scenario)


def test_a_chunk_is_found_with_all_that_is_known_of_it(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        file = await it.add_file(
            store, "the red fox", "a green mill", filename="zoo.md", context="animals", lang="en"
        )
        await it.add_file(store, "a blue plum")
        found = await it.search(store, "red fox")
        best = found.chunks[0]
        assert (best.store_id, best.file_id, best.filename) == (store, file, "zoo.md")
        assert best.attributes == {"lang": "en"}
        assert (best.number, best.position) == (1, 0)
        assert (best.content.text, best.content.context) == ("the red fox", "animals")
        assert (best.content.start, best.content.end, best.content.page) == (0, 11, 1)
        assert (best.dense_rank, best.sparse_rank) == (1, 1)
        assert 0.09 < best.score < 1
        assert [chunk.score for chunk in found.chunks] == sorted(
            (chunk.score for chunk in found.chunks), reverse=True
        )
        assert found.is_exact
        assert found.num_query_tokens == 4  # [CLS] red fox [SEP]
        trace = found.trace
        assert set(trace["times_ms"]) == {"check", "embed", "index", "read", "all"}
        (of_store,) = trace["stores"]
        assert (of_store["id"], of_store["head"], of_store["num_chunks"]) == (store, 2, 3)
        assert (trace["degraded"], trace["rounds"], trace["removed"]) == (None, 1, 0)

    run(scenario)


def test_every_change_is_seen_by_the_next_search_on_every_gateway(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        english = {"type": "eq", "key": "lang", "value": "en"}
        async with it.second_gateway() as second:
            for gateway in (it.first, second):
                assert texts(await it.search(store, "fox", on=gateway)) == []
            fox = await it.add_file(store, "the red fox", lang="de")
            hen = await it.add_file(store, "the red hen", lang="de")
            for gateway in (second, it.first):
                found = await it.search(store, "fox", on=gateway)
                assert texts(found) == ["the red fox", "the red hen"]
            await it.set_attributes(store, hen, lang="en")
            for gateway in (it.first, second):
                found = await it.search(store, "fox", on=gateway, filters=english)
                assert texts(found) == ["the red hen"]
                assert found.chunks[0].attributes == {"lang": "en"}
            await it.take_out(store, hen)
            await it.server.files.delete(owner_of(it.one), fox)
            for gateway in (second, it.first):
                assert texts(await it.search(store, "fox", on=gateway)) == []

    run(scenario)


def test_a_hit_whose_file_was_removed_since_is_left_out_and_others_take_its_place(
    run: Run,
) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        gone = [await it.add_file(store, f"fox {n}") for n in ("one", "two")]
        for _ in range(20):
            await it.add_file(store, "fox hen")  # the same words: given once
        await it.add_file(store, "fox hen wolf river")
        original = it.first.searcher.hits

        async def hits(*asked: object) -> object:
            found = await original(*asked)  # type: ignore[arg-type]  # handed through
            for file in gone:
                await it.server.files.delete(owner_of(it.one), file)
            gone.clear()
            return found

        it.first.searcher.hits = hits  # type: ignore[method-assign, assignment]  # the moment between two steps
        found = await it.search(store, "fox", max_results=2)
        assert texts(found) == ["fox hen", "fox hen wolf river"]
        assert found.trace["removed"] == 2
        assert found.trace["duplicates"] == 19
        assert found.trace["rounds"] == 2

    run(scenario)


def test_of_chunks_that_say_the_same_the_best_is_given_once_across_stores_and_queries(
    run: Run,
) -> None:
    async def scenario(it: Knowledge) -> None:
        stores = [await it.add_store() for _ in range(2)]
        for store in stores:
            await it.add_file(store, "red fox", "red fox", "green hen")
        await it.add_file(stores[1], "blue plum")
        found = await it.search(stores, "fox", "plum")
        assert sorted(texts(found)) == ["blue plum", "green hen", "red fox"]
        single = await it.search(stores[1], "plum")
        assert found.chunks[0].score == single.chunks[0].score
        assert texts(found)[0] == "blue plum"  # its better score, not that of "fox"
        assert set(stores_of(found)) <= set(stores)
        assert [s["query"] for s in found.trace["stores"]] == [0, 1, 0, 1]

    run(scenario)


def test_scores_below_the_threshold_are_left_out_and_fusion_is_as_asked(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox", "green hen", "blue plum mill bridge")
        whole = (await it.search(store, "red fox")).chunks
        assert len(whole) > 1
        threshold = (whole[0].score + whole[1].score) / 2
        assert texts(await it.search(store, "red fox", score_threshold=threshold)) == ["red fox"]
        assert texts(await it.search(store, "red fox", score_threshold=1.0)) == []
        by_words = Fusion("rrf", 0.0, 1.0)
        found = await it.search(store, "hen", fusion=by_words)
        assert found.chunks[0].score == 1.0
        assert {chunk.score for chunk in found.chunks[1:]} == {0.0}

    run(scenario)


def test_a_store_of_anybody_else_does_not_exist(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        mine, foreign = await it.add_store(), await it.add_store(it.two)
        await it.add_file(mine, "canary one")
        await it.add_file(foreign, "canary two", principal=it.two)
        gone, expired = await it.add_store(), await it.add_store(expires_after_days=1)
        await it.set_store(gone, "deleted_at = now(), details = NULL")
        await it.set_store(expired, "expires_at = now()")
        other = await project_directory.create_project(it.server.dsn, "one", "other", Limits())
        elsewhere = dataclasses.replace(it.one, project_id=other.id)
        asked = [
            (it.one, foreign), (it.one, UNKNOWN), (it.one, gone), (it.two, mine),
            (elsewhere, mine), (it.two, expired),
        ]  # fmt: skip
        said = set()
        for who, store in asked:
            for ids in ([store], [mine, store]):
                with pytest.raises(NotFound) as raised:
                    await it.search(ids, "canary", by=who)
                said.add((raised.value.message, raised.value.param, raised.value.rule))
        assert len(said) == 1
        with pytest.raises(NotFound):
            await it.search([], "canary")
        for ids in ([expired], [mine, expired]):
            with pytest.raises(InvalidValue, match="has expired"):
                await it.search(ids, "canary")
        assert texts(await it.search(mine, "canary")) == ["canary one"]
        assert texts(await it.search(foreign, "canary", by=it.two)) == ["canary two"]

    run(scenario)


def test_two_tenants_with_the_same_documents_see_their_own(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        owners = (it.one, it.two)
        stores = [await it.add_store(owner) for owner in owners]
        words = ["red fox", "green hen", "blue plum"]
        files = [
            {await it.add_file(store, text, principal=owner) for text in words}
            for store, owner in zip(stores, owners, strict=True)
        ]
        await it.add_file(stores[0], "canary", principal=it.one)
        for store, owner, own in zip(stores, owners, files, strict=True):
            found = await it.search(store, "red fox canary", by=owner)
            assert own <= {chunk.file_id for chunk in found.chunks}
            assert ("canary" in texts(found)) is (owner is it.one)
        with pytest.raises(InvalidValue, match="filters"):
            await it.search(stores[1], "fox", by=it.two, filters={"type": "canary"})

    run(scenario)


def test_filters_are_the_retrievers_to_check(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        for n, (word, lang) in enumerate((("one", "en"), ("two", "de"), ("three", "fr"))):
            await it.add_file(store, f"fox {word}", n=n, lang=lang)
        late = {"type": "gte", "key": "n", "value": 1}
        not_french = {"type": "nin", "key": "lang", "value": ["fr"]}
        both = {"type": "and", "filters": [late, {"type": "or", "filters": [not_french]}]}
        assert texts(await it.search(store, "fox", filters=both)) == ["fox two"]
        for wrong in ({"type": "like"}, {"type": "and", "filters": [{}]}, {}):
            with pytest.raises(InvalidValue) as raised:
                await it.search(store, "fox", filters=wrong)
            assert raised.value.param == "filters"
        with pytest.raises(InvalidValue) as raised:
            SearchRequest(("fox",), filters={"type": "x" * MAX_FILTER_BYTES})
        assert raised.value.param == "filters"

    run(scenario)


@pytest.mark.parametrize("queries", [(), ("",), ("fox", " \n"), ("f" * 70_000,), ("ß" * 40_000,)])
def test_queries_that_cannot_be_are_refused(queries: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue) as raised:
        SearchRequest(queries)
    assert raised.value.param == "query"


def test_without_an_embedder_the_words_decide_and_the_trace_says_so(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, peer = await it.add_store(), it.server.api.peer
        other = await it.add_store(model="gone")
        for each in (store, other):
            await it.add_file(each, "red fox", "green hen")
        found = await it.search([store, other], "fox")
        assert texts(found) == ["red fox", "green hen"]  # the second by meaning alone
        assert [s["degraded"] for s in found.trace["stores"]] == [
            None, "its embedding model is not served"
        ]  # fmt: skip
        found = await it.search(other, "fox")
        assert texts(found) == ["red fox"]
        assert found.chunks[0].dense_rank is None
        assert found.num_query_tokens == 0
        peer.refusal = Refused(0, "capacity", "full", 5)
        found = await it.search(store, "fox")
        assert found.trace["degraded"] == "its embedding model is busy"
        await peer.stop()
        async with asyncio.timeout(5):
            while it.server.api.model.engine.healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        found = await it.search(store, "fox")
        assert texts(found) == ["red fox"]
        assert found.trace["degraded"] == "its embedding model does not answer"
        metrics = it.server.api.metrics.render().decode()
        assert "anzoth_degraded_searches_total 4.0" in metrics
        assert 'anzoth_search_seconds_count{stage="all"} 4.0' in metrics

    run(scenario)


def test_a_model_with_other_vectors_than_the_stores_is_not_asked(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox")
        engine = it.server.api.model.engine
        assert engine.hello is not None
        engine.hello = dataclasses.replace(engine.hello, dimensions=4)
        found = await it.search(store, "fox")
        assert found.trace["degraded"] == "its embedding model was replaced by another"
        assert texts(found) == ["red fox"]
        assert not it.server.api.peer.embeds

    run(scenario)


def test_of_two_stores_of_one_name_only_that_of_the_same_model_is_searched_by_meaning(
    run: Run,
) -> None:
    async def scenario(it: Knowledge) -> None:
        former, now = await it.add_store(), await it.add_store()
        change = f"UPDATE anzoth.vector_stores SET vector_space = 'former' WHERE id = '{former}'"
        await as_owner(it.server.dsn, change)
        for store in (former, now):
            await it.add_file(store, f"red fox {store}", f"green hen {store}")
        for asked in ([former, now], [now, former]):
            found = await it.search(asked, "fox")
            assert {s["id"]: s["degraded"] for s in found.trace["stores"]} == {
                former: "its embedding model was replaced by another",
                now: None,
            }
            assert {chunk.store_id for chunk in found.chunks if chunk.dense_rank} == {now}
            assert {chunk.store_id for chunk in found.chunks if chunk.sparse_rank} == {former, now}
            assert found.trace["degraded"] == "its embedding model was replaced by another"
        assert len(it.server.api.peer.embeds) == 2

    run(scenario)


def test_a_query_longer_than_the_model_reads_is_embedded_cut(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox", "green hen")
        found = await it.search(store, "fox " * 100 + "hen")
        assert found.num_query_tokens == 64
        ((_, (sent,)),) = it.server.api.peer.embeds
        assert (sent[0], sent[-1], len(sent)) == (2, 3, 64)
        assert set(texts(found)) == {"red fox", "green hen"}

    run(scenario)


def test_who_leaves_has_the_engine_told_and_who_waits_too_long_is(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, peer = await it.add_store(), it.server.api.peer
        peer.admits = False
        searching = asyncio.create_task(it.search(store, "fox"))
        await peer.until(lambda: bool(peer.embeds))
        searching.cancel()
        await peer.until(lambda: bool(peer.aborts))
        with pytest.raises(DeadlineExceeded):
            await it.first.searcher.search(
                owner_of(it.one), [store], SearchRequest(("fox",)), key_id=None, timeout_ms=20
            )

    run(scenario)


def test_whoever_counts_is_asked_once_for_each_model_and_may_refuse(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        stores = [await it.add_store(), await it.add_store(), await it.add_store(model="gone")]
        asked: list[Wanted] = []

        async def refuse(wanted: Wanted) -> list[bytes]:
            asked.append(wanted)
            raise CapacityUnavailable() if len(asked) == 1 else InvalidValue("no")

        with pytest.raises(InvalidValue, match="no"):
            await it.first.searcher.search(
                *(owner_of(it.one), stores, SearchRequest(("fox",))), key_id=None, embed=refuse
            )
        assert [(wanted.name, wanted.model is None) for wanted in asked] == [
            (MODEL, False), ("gone", True)
        ]  # fmt: skip

    run(scenario)


def test_a_search_counts_as_activity_of_the_store(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store(expires_after_days=7)
        await it.set_store(
            store, "last_active_at = now() - interval '6 days', expires_at = now() + interval '1 h'"
        )
        await it.search(store, "fox")
        await it.search(store, "fox")
        async with it.database.tenant(it.one.tenant) as connection:
            assert await connection.fetchval(
                "SELECT expires_at = last_active_at + interval '7 days' AND "
                "last_active_at > now() - interval '1 minute' FROM anzoth.vector_stores"
            )

    run(scenario)


def test_a_chunk_that_was_exchanged_in_the_database_is_not_shown(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox", "red hen")
        assert len(texts(await it.search(store, "red"))) == 2
        async with it.database.tenant(it.one.tenant) as connection:
            await connection.execute("DELETE FROM anzoth.chunks WHERE number = 2")
            await connection.execute(
                "INSERT INTO anzoth.chunks SELECT tenant_id, store_id, 2, file_id, 1, '\\x01', "
                "content, vector FROM anzoth.chunks WHERE number = 1"
            )
        assert texts(await it.search(store, "red")) == ["red fox"]

    run(scenario)


def test_while_the_retriever_is_away_a_search_says_so(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox")
        it.first.retriever.end(signal.SIGKILL)
        with pytest.raises(RetrieverUnavailable):
            await it.search(store, "fox")
        it.first.retriever.start()

    run(scenario)

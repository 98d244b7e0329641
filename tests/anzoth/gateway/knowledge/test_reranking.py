"""A reranker decides the order of what is found, and nothing else: with it away, all is as without.

Real Postgres, real retriever; the engines are scripted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from files_kit import owner_of
from knowledge_kit import Knowledge, stores_of, texts
from rerank_kit import RANKER, Ranking, Scenario, by_words, run_reranked

from anzoth.errors import KeyRevoked, RateLimited
from anzoth.frames import Refused
from anzoth.gateway.embedding import EmbeddingRequest
from anzoth.gateway.knowledge import reranking, searching
from anzoth.gateway.knowledge.found import ANSWERABLE, Found, SearchRequest
from anzoth.gateway.knowledge.grounding import KnowledgeUse, Retrieved
from anzoth.gateway.knowledge.rerankers import Reranker, Reranking
from anzoth.gateway.models import ServedModel

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    return lambda scenario: run_reranked(dsn, tmp_path, scenario)


def by(it: Knowledge, model: ServedModel | None) -> Reranking:
    async def score(model: ServedModel, request: EmbeddingRequest) -> Sequence[bytes]:
        return await model.engine.embed(
            request.inputs, dimensions=None, second_at=request.second_at, tenant=it.one.tenant
        )

    return Reranking(Reranker(RANKER, model), score)


async def search(
    it: Knowledge,
    store_ids: str | list[str],
    *queries: str,
    reranking: Reranking | None,
    timeout_ms: int | None = None,
    **request: Any,
) -> Found:
    return await it.first.searcher.search(
        owner_of(it.one),
        [store_ids] if isinstance(store_ids, str) else store_ids,
        SearchRequest(queries, **request),
        key_id=None,
        timeout_ms=timeout_ms,
        reranking=reranking,
    )


async def add_foxes(it: Knowledge) -> str:
    """Of which the fusion would not give that of the snow first."""
    store = await it.add_store()
    await it.add_file(store, "red fox", "fox fox river", "snow fox mill stone bridge", "green hen")
    return store


def prefer(word: str) -> Callable[[list[str], list[str]], float]:
    return lambda query, passage: 0.9 if word in passage else 0.1


def test_the_order_is_the_rerankers_and_scores_stay_what_they_were(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await add_foxes(it)
        before = await search(it, store, "fox", reranking=None)
        assert texts(before)[0] != "snow fox mill stone bridge"
        assert before.trace["rerank"] is None
        assert [chunk.reranked for chunk in before.chunks] == [None] * 4
        ranker.score(prefer("snow"))
        found = await search(it, store, "fox", reranking=by(it, ranker.model))
        others = [text for text in texts(before) if "snow" not in text]
        assert texts(found) == ["snow fox mill stone bridge", *others]  # of equal ones the first
        assert {chunk.number: chunk.score for chunk in found.chunks} == pytest.approx(
            {chunk.number: chunk.score for chunk in before.chunks}
        )
        best = found.chunks[0].reranked
        assert best is not None
        assert (best.rank, best.score) == (1, pytest.approx(0.9))
        assert best.fused_rank == texts(before).index("snow fox mill stone bridge") + 1
        trace = found.trace["rerank"]
        assert (trace["model"], trace["candidates"], trace["skipped"]) == (RANKER, 4, None)
        assert trace["tokens"] == found.num_rerank_tokens == 4 * 4 + 2 + 3 + 5 + 2
        assert set(found.trace["times_ms"]) == {"check", "embed", "index", "read", "rerank", "all"}

    run(scenario)


def test_it_reads_each_query_with_each_passage_under_its_headings(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox", context="summer")
        await it.add_file(store, "green hen")
        found = await search(it, store, "fox", "hen", reranking=by(it, ranker.model))
        assert sorted(ranker.pairs) == [
            ("fox", "green hen"), ("fox", "summer red fox"),
            ("hen", "green hen"), ("hen", "summer red fox"),
        ]  # fmt: skip
        ((embed, sent),) = ranker.peer.embeds
        assert embed.second_at == tuple(ids.index(3) + 1 for ids in sent)
        # Each passage has the score of the query that it answers best.
        scores = {
            chunk.content.text: chunk.reranked and chunk.reranked.score for chunk in found.chunks
        }
        assert scores == {
            "red fox": by_words(["fox"], ["summer", "red", "fox"]),
            "green hen": by_words(["hen"], ["green", "hen"]),
        }

    run(scenario)


def test_what_the_fusion_put_behind_the_results_can_become_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await it.add_store()
        for number in range(6):
            await it.add_file(store, "fox " + "river " * number + "mill")
        await it.add_file(store, "fox " + "stone " * 8 + "canary")
        fused = texts(await search(it, store, "fox", reranking=None))
        assert fused.index("fox " + "stone " * 8 + "canary") >= 2
        ranker.score(prefer("canary"))
        found = await search(it, store, "fox", reranking=by(it, ranker.model), max_results=1)
        assert texts(found) == ["fox " + "stone " * 8 + "canary"]
        assert found.trace["rerank"]["candidates"] == 7
        monkeypatch.setattr(searching, "NUM_CANDIDATES", 2)
        found = await search(it, store, "fox", reranking=by(it, ranker.model), max_results=1)
        assert texts(found) == fused[:1]
        assert found.trace["rerank"]["candidates"] == 2
        found = await search(it, store, "fox", reranking=by(it, ranker.model), max_results=3)
        assert (len(found.chunks), found.trace["rerank"]["candidates"]) == (3, 3)

    run(scenario)


def test_whether_there_is_an_answer_is_not_the_rerankers_to_say(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scores are high for what answers nothing and low for what answers, on another's scale;
    and what the fusion is sure of may be behind the results."""

    def has_answer(found: Found) -> bool:
        return Retrieved(KnowledgeUse(("vs",)), ("q",), found, {}).has_answer

    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await it.add_store()
        others = ["green hen mill", "blue plum mill", "music piano mill", "one two mill", "apple"]
        await it.add_file(store, "red fox", *others)
        fused = (await search(it, store, "red fox", reranking=None)).chunks
        low = [chunk.content.text for chunk in fused if chunk.score < ANSWERABLE]
        assert len(low) >= 2
        ranker.score(lambda query, passage: -5.0 if " ".join(passage) in low else -6.0)
        found = await search(it, store, "red fox", reranking=by(it, ranker.model), max_results=2)
        assert set(texts(found)) <= set(low)
        assert has_answer(found)
        assert found.best_score is not None
        assert found.best_score >= ANSWERABLE
        ranker.score(lambda query, passage: 0.99)
        nothing = await search(it, store, "snow", reranking=by(it, ranker.model))
        assert nothing.chunks
        assert not has_answer(nothing)

    run(scenario)


def test_a_threshold_is_the_fusions_whoever_ranks(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await add_foxes(it)
        fused = (await search(it, store, "fox", reranking=None)).chunks
        threshold = (fused[1].score + fused[2].score) / 2
        ranker.score(lambda query, passage: -len(passage))
        found = await search(
            it, store, "fox", reranking=by(it, ranker.model), score_threshold=threshold
        )
        assert {chunk.number for chunk in found.chunks} == {chunk.number for chunk in fused[:2]}
        assert found.trace["rerank"]["candidates"] == 2
        none = await search(it, store, "fox", reranking=by(it, ranker.model), score_threshold=1.0)
        assert texts(none) == []
        assert none.trace["rerank"]["skipped"] is None
        assert len(ranker.peer.embeds) == 1  # nothing to rank: it is not asked

    run(scenario)


def test_chunks_of_several_stores_are_on_one_scale_and_none_is_given_twice_or_after_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        first, second = await it.add_store(), await it.add_store()
        await it.add_file(first, "red fox", "green fox river")
        await it.add_file(second, "red fox", "snow fox")
        gone = [await it.add_file(second, "snow fox wolf")]
        ranker.score(lambda query, passage: 1 / len(passage) + ("snow" in passage))
        rows = it.first.searcher.rows

        async def rows_of_what_is_left(*asked: Any) -> Any:
            if gone:
                await it.server.files.delete(owner_of(it.one), gone.pop())
            return await rows(*asked)

        monkeypatch.setattr(it.first.searcher, "rows", rows_of_what_is_left)
        found = await search(it, [first, second], "fox", reranking=by(it, ranker.model))
        assert texts(found) == ["snow fox", "red fox", "green fox river"]
        assert stores_of(found)[0] == second
        assert (found.trace["removed"], found.trace["duplicates"]) == (1, 1)
        assert len(ranker.pairs) == 3

    run(scenario)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("away", "it does not answer"),
        ("not served", "it is not served"),
        ("full", "it is busy"),
        ("fails", "it cannot score these passages"),
        ("limit", "a limit does not cover its tokens"),
        ("long query", "it cannot take that much text"),
        ("slow", "it took too long"),
        ("late", "it took too long"),
    ],
)
def test_without_it_the_order_is_the_fusions_and_the_trace_says_why(
    trouble: str, reason: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await add_foxes(it)
        query = "fox " * 70 if trouble == "long query" else "fox"
        fused = texts(await search(it, store, query, reranking=None, max_results=2))
        model: ServedModel | None = ranker.model
        timeout_ms = None
        if trouble == "away":
            await ranker.away()
        elif trouble == "not served":
            model = None
        elif trouble == "full":
            ranker.peer.refusal = Refused(0, "capacity", "full", 5)
        elif trouble == "fails":
            ranker.peer.embeds_fail = True
        elif trouble in ("slow", "late"):
            ranker.peer.admits = False
        if trouble == "slow":
            monkeypatch.setattr(searching, "MOST_S", 0.02)
        elif trouble == "late":  # for the request's own time, of which much is left
            monkeypatch.setattr(searching, "PART_OF_TIME", 0.001)
            timeout_ms = 20_000
        asked = by(it, model)
        if trouble == "limit":

            async def refuse(model: ServedModel, request: EmbeddingRequest) -> Sequence[bytes]:
                raise RateLimited()

            asked = Reranking(asked.by, refuse)
        found = await search(
            it, store, query, reranking=asked, timeout_ms=timeout_ms, max_results=2
        )
        assert texts(found) == fused
        assert [chunk.reranked for chunk in found.chunks] == [None, None]
        trace = found.trace["rerank"]
        assert (trace["model"], trace["skipped"]) == (RANKER, reason)
        assert found.trace["degraded"] is None
        # What it was computing when the time was over was computed; of all else nothing was.
        assert (found.num_rerank_tokens > 0) is (trouble in ("slow", "late"))
        if trouble in ("slow", "late"):
            await ranker.peer.until(lambda: bool(ranker.peer.aborts))
        metrics = it.server.api.metrics.render().decode()
        assert "anzoth_skipped_rerankings_total 1.0" in metrics

    run(scenario)


def test_whoever_leaves_meanwhile_and_whose_key_ends_gets_no_other_order(run: Run) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await add_foxes(it)
        ranker.peer.admits = False
        asking = asyncio.create_task(search(it, store, "fox", reranking=by(it, ranker.model)))
        await ranker.peer.until(lambda: bool(ranker.peer.embeds))
        asking.cancel()
        await ranker.peer.until(lambda: bool(ranker.peer.aborts))
        with pytest.raises(asyncio.CancelledError):
            await asking
        ranker.model.engine.end_owners({it.one.tenant.id})
        with pytest.raises(KeyRevoked):
            await search(it, store, "fox", reranking=by(it, ranker.model))

    run(scenario)


def test_all_queries_with_all_passages_are_bounded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        store = await add_foxes(it)
        monkeypatch.setattr(reranking, "MAX_TOKENS", 50)
        one = await search(it, store, "fox", reranking=by(it, ranker.model))
        assert one.trace["rerank"]["skipped"] is None
        two = await search(it, store, "fox", "hen", reranking=by(it, ranker.model))
        assert two.trace["rerank"]["skipped"] == "it cannot take that much text"

    run(scenario)

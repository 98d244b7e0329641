"""Chats from knowledge bases whose passages a reranker puts in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api, until
from checkpoints import EOS_ID
from engine_peer import HELLO, EnginePeer, Said
from grounded_kit import Run, ask, run_grounded, search_in
from knowledge_kit import Knowledge
from listed_searcher import ListedSearcher
from principals import make_principal
from rerank_kit import RANKER, Ranking, run_reranked

from anzoth.api.grounded import NO_ANSWER
from anzoth.gateway.aliases import Target
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import load_model
from anzoth.model_config import ModelConfig


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return run_grounded(checkpoint, tmp_path, monkeypatch)


def ranked_by(name: str) -> dict[str, Any]:
    return search_in("vs_1", ranking_options={"ranker": name})


def test_every_way_into_a_knowledge_base_is_ranked_by_the_operators(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.aliases.add("helpdesk", Target(MODEL), knowledge_bases=("vs_1",))
        api.keys.principals["of_kb"] = make_principal(default_knowledge_bases=("vs_1",))
        await ask(api, tools=[search_in("vs_1")])
        assert searcher.rerankings == [None]
        searcher.rerankings.clear()
        api.services.rerankers.default = RANKER
        ways: tuple[dict[str, Any], ...] = (
            {"tools": [search_in("vs_1")]}, {"model": "helpdesk"}, {"key": "of_kb"},
            {"tools": [ranked_by("auto")]},
        )  # fmt: skip
        for fields in ways:
            assert (await ask(api, **fields)).status == 200
        assert [made and made.by.name for made in searcher.rerankings] == [RANKER] * 4
        await ask(api, tools=[ranked_by("none")])
        assert searcher.rerankings[-1] is None

    run(scenario)


def test_a_ranker_that_cannot_be_is_refused_by_name_before_anything_is_searched(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        param = "tools[0].ranking_options.ranker"
        unknown = await ask(api, tools=[ranked_by("unheard-of")])
        assert (unknown.status, unknown.error["code"], unknown.error["param"]) == (
            404, "model_not_found", param
        )  # fmt: skip
        talks = await ask(api, tools=[ranked_by(MODEL)], stream=True)
        assert (talks.status, talks.error["param"]) == (400, param)
        assert searcher.asked == []
        assert api.peer.submits == []

    run(scenario)


Scenario = Callable[[Knowledge, Ranking], Awaitable[None]]


@pytest.fixture
def run_chats(dsn: str, tmp_path: Path, checkpoint: Path) -> Callable[[Scenario], None]:
    """The real search, and beside it a model called `chat`, which says nothing."""

    def run_scenario(scenario: Scenario) -> None:
        async def with_chat(it: Knowledge, ranker: Ranking) -> None:
            api, socket = it.server.api, tmp_path / "chat.sock"
            engine = EngineClient("chat", socket, api.metrics)
            peer = EnginePeer(
                socket,
                lambda submit, prompt, choice: [Said(EOS_ID, "stop")],
                replace(HELLO, max_model_tokens=4096),
            )
            await peer.start()
            try:
                api.services.models.add(load_model(ModelConfig("chat", checkpoint), engine))
                await until(lambda: engine.healthy)
                api.keys.principals["good"] = replace(it.one, scopes=frozenset({"all"}))
                await scenario(it, ranker)
            finally:
                await peer.stop()

        run_reranked(dsn, tmp_path, with_chat)

    return run_scenario


@pytest.mark.slow
def test_its_order_is_in_the_trace_and_it_has_no_say_in_whether_there_is_an_answer(
    run_chats: Callable[[Scenario], None],
) -> None:
    async def scenario(it: Knowledge, ranker: Ranking) -> None:
        api, store = it.server.api, await it.add_store()
        await it.add_file(store, "red fox", "fox fox river", "snow fox mill", "green hen")
        api.services.rerankers.default = RANKER
        ranker.score(lambda query, passage: -1.0 if "snow" in passage else -9.0)

        async def chat(question: str, **options: Any) -> dict[str, Any]:
            tool = search_in(store, trace=True, **options)
            reply = await ask(api, question, model="chat", tools=[tool])
            assert reply.status == 200
            return reply.json

        said = (await chat("fox"))["x_anzoth"]["retrieval"]
        assert said["results"][0]["text"] == "snow fox mill"
        assert said["results"][0]["rerank"]["score"] == -1.0
        assert said["search"]["rerank"]["candidates"] == 4
        assert said["has_answer"] is True
        # As the embedding of its query, what the operator's reranker takes is nobody's cost.
        assert [record.model for record in api.ledger.records] == ["chat"]
        ranker.score(lambda query, passage: 9.0)
        answer = await chat("winter")
        assert answer["choices"][0]["message"]["content"] == NO_ANSWER
        await chat("fox", ranking_options={"ranker": RANKER})
        named = [record for record in api.ledger.records if record.model == RANKER]
        assert [record.prompt_tokens for record in named] == [26]
        await ranker.away()
        said = (await chat("fox"))["x_anzoth"]["retrieval"]
        assert said["search"]["rerank"]["skipped"] == "it does not answer"
        assert said["has_answer"] is True

    run_chats(scenario)

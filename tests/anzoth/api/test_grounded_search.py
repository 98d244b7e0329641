"""Chats over the real search: a database, a retriever, HTTP and OpenAI's SDK."""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from api_harness import until
from checkpoints import EOS_ID
from engine_peer import HELLO, EnginePeer, Said
from knowledge_kit import Knowledge, run_knowledge

from anzoth.api.grounded import NO_ANSWER
from anzoth.frames import Submit
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import load_model
from anzoth.model_config import ModelConfig

pytestmark = pytest.mark.slow

CLAIM = "The pump runs on salt water"
Scenario = Callable[[Knowledge, EnginePeer, openai.AsyncOpenAI], Awaitable[None]]


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Callable[[Scenario], None]:
    """Beside the model that embeds, one chats: it says CLAIM, and where it read it."""

    def run_scenario(scenario: Scenario) -> None:
        async def with_chat(it: Knowledge) -> None:
            api, socket = it.server.api, tmp_path / "chat.sock"
            engine = EngineClient("chat", socket, api.metrics)
            model = load_model(ModelConfig("chat", checkpoint), engine)

            def script(submit: Submit, prompt: list[int], choice: int) -> list[Said]:
                answer = answer_to(model.tokenizer.decode(prompt))
                tokens = model.tokenizer.encode(answer, add_special_tokens=False)
                return [*(Said(token, None) for token in tokens), Said(EOS_ID, "stop")]

            peer = EnginePeer(socket, script, replace(HELLO, max_model_tokens=4096))
            await peer.start()
            try:
                api.services.models.add(model)
                await until(lambda: engine.healthy)
                api.keys.principals["good"] = replace(it.one, scopes=frozenset({"all"}))
                await scenario(it, peer, it.server.sdk())
            finally:
                await peer.stop()

        run_knowledge(dsn, tmp_path, with_chat)

    return run_scenario


def answer_to(prompt: str) -> str:
    """Passages stand in the order of their files' ids, which no test knows."""
    (number,) = re.findall(r"\[(\d+)\][^\[]*salt water", prompt)
    return f"{CLAIM} [{number}]."


def asking(question: str, *store_ids: str) -> dict[str, Any]:
    return {
        "model": "chat",
        "messages": [{"role": "user", "content": question}],
        "tools": [{"type": "file_search", "vector_store_ids": [*store_ids]}],
    }


def test_an_answer_cites_what_was_found_where_it_stands_in_the_file(run: Any) -> None:
    async def scenario(it: Knowledge, peer: EnginePeer, sdk: openai.AsyncOpenAI) -> None:
        store = await it.add_store()
        lines = ("the pump runs on salt water", "its warranty lasts two years")
        file = await it.add_file(store, *lines, filename="pump.md")
        await it.add_file(store, "green hens lay eggs", filename="hens.md")
        asked = asking("what does the pump run on", store)
        said = await sdk.chat.completions.create(**asked)
        message = said.choices[0].message
        (annotation,) = message.annotations or []
        cited = cast(Any, annotation).file_citation
        assert (cited["file_id"], cited["filename"]) == (file, "pump.md")
        assert (cited["quote"], cited["start"], cited["end"]) == (lines[0], 0, len(lines[0]))
        assert (cited["page"], cited["verified"]) == (1, True)
        model = it.server.api.services.models.get("chat")
        prompt = model.tokenizer.decode(peer.submits[0][1])
        # The whole section, of which one line was what was looked for.
        assert all(line in prompt for line in lines)
        assert file in peer.submits[0][0].tags
        stream = await sdk.chat.completions.create(**asked, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
        answer = "".join(delta.content or "" for delta in deltas)
        assert answer == message.content == answer_to(prompt)
        (found,) = [made for d in deltas for made in (d.model_extra or {}).get("annotations", ())]
        assert found["file_citation"] == cited

    run(scenario)


def test_what_is_nowhere_is_said_and_what_was_taken_out_is_nowhere(run: Any) -> None:
    async def scenario(it: Knowledge, peer: EnginePeer, sdk: openai.AsyncOpenAI) -> None:
        store = await it.add_store()
        file = await it.add_file(store, "the pump runs on salt water")
        nowhere = await sdk.chat.completions.create(**asking("who painted guernica", store))
        assert nowhere.choices[0].message.content == NO_ANSWER
        question = asking("what does the pump run on", store)
        there = await sdk.chat.completions.create(**question)
        assert there.choices[0].message.content == f"{CLAIM} [1]."
        await it.take_out(store, file)
        gone = await sdk.chat.completions.create(**question)
        assert gone.choices[0].message.content == NO_ANSWER
        assert gone.usage is not None
        assert gone.usage.total_tokens == 0

    run(scenario)


def test_another_tenants_store_is_none_and_a_retriever_that_is_away_is_no_answer(run: Any) -> None:
    async def scenario(it: Knowledge, peer: EnginePeer, sdk: openai.AsyncOpenAI) -> None:
        theirs = await it.add_store(it.two)
        await it.add_file(theirs, "the pump runs on salt water", principal=it.two)
        with pytest.raises(openai.NotFoundError) as foreign:
            await sdk.chat.completions.create(**asking("pump water salt runs", theirs))
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.chat.completions.create(**asking("pump water salt runs", "vs_none"))
        assert foreign.value.body == unknown.value.body
        own = await it.add_store()
        await it.add_file(own, "the pump runs on salt water")
        it.first.retriever.end(signal.SIGKILL)
        await until(lambda: not it.first.indexes.client.healthy)
        with pytest.raises(openai.InternalServerError) as away:
            await sdk.chat.completions.create(**asking("pump water salt runs", own))
        assert away.value.status_code == 503
        assert peer.submits == []

    run(scenario)

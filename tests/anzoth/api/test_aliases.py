"""An alias is a model of its own to whoever asks: answered, granted and counted by its own name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from api_harness import MODEL, Api, Scenario, running_api
from api_stand_ins import PRINCIPAL
from checkpoints import write_embedding_checkpoint
from engine_peer import EMBEDDING_HELLO

ALIASES = ("gpt-4o-mini", "org/other")


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Callable[[Scenario], None]:
    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            socket = tmp_path / "engine.sock"
            async with running_api(checkpoint, socket, aliases=ALIASES) as api:
                await scenario(api)

        asyncio.run(main())

    return run_scenario


Run = Callable[[Scenario], None]


def test_the_answer_names_what_was_asked_for_and_the_same_engine_gives_it(run: Run) -> None:
    async def scenario(api: Api) -> None:
        whole = await api.chat(model="gpt-4o-mini")
        assert whole.json["model"] == "gpt-4o-mini"
        streamed = await api.chat(model="org/other", stream=True)
        assert {chunk["model"] for chunk in streamed.chunks} == {"org/other"}
        completed = await api.complete(model="gpt-4o-mini")
        assert completed.json["model"] == "gpt-4o-mini"
        direct = await api.chat()
        assert direct.json["model"] == MODEL
        assert direct.json["choices"] == whole.json["choices"]
        assert len(api.peer.submits) == 4

    run(scenario)


def test_usage_is_written_down_under_the_name_that_was_asked_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        await api.chat(model="gpt-4o-mini")
        await api.chat()
        assert [usage.model for usage in api.ledger.records] == ["gpt-4o-mini", MODEL]

    run(scenario)


@pytest.mark.parametrize(
    ("granted", "allowed", "refused"),
    [
        (("org/tiny",), {MODEL}, set(ALIASES)),
        (("gpt-*",), {"gpt-4o-mini"}, {MODEL, "org/other"}),
        (("org/*",), {MODEL, "org/other"}, {"gpt-4o-mini"}),
    ],
)
def test_a_grant_neither_reaches_an_alias_nor_comes_from_one(
    run: Run, granted: tuple[str, ...], allowed: set[str], refused: set[str]
) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["some"] = replace(PRINCIPAL, models=granted)
        for name in allowed:
            assert (await api.chat(model=name, key="some")).status == 200
            assert (await api.call("GET", f"/v1/models/{name}", key="some")).json["id"] == name
        for name in refused:
            reply = await api.chat(model=name, key="some")
            assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")
            assert (await api.call("GET", f"/v1/models/{name}", key="some")).status == 403
        listed = (await api.call("GET", "/v1/models", key="some")).json["data"]
        assert {model["id"] for model in listed} == allowed

    run(scenario)


def test_the_list_does_not_say_what_stands_behind_an_alias(run: Run) -> None:
    async def scenario(api: Api) -> None:
        listed = (await api.call("GET", "/v1/models")).json["data"]
        assert [model["id"] for model in listed] == [MODEL, *ALIASES]
        assert {tuple(model) for model in listed} == {("id", "object", "created", "owned_by")}

    run(scenario)


def test_vectors_are_made_under_an_alias_too(tmp_path: Path) -> None:
    async def main() -> None:
        checkpoint = write_embedding_checkpoint(tmp_path / "checkpoint")
        socket = tmp_path / "engine.sock"
        async with running_api(
            checkpoint, socket, hello=EMBEDDING_HELLO, aliases=("text-embedding-3-small",)
        ) as api:
            answer = await api.embed(model="text-embedding-3-small")
            assert answer.json["model"] == "text-embedding-3-small"
            assert answer.json["data"] == (await api.embed()).json["data"]

    asyncio.run(main())

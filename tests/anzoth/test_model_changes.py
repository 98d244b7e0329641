"""The gateway serves what the supervisor said last, and one bad model harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from engine_peer import EnginePeer

from anzoth.gateway.models import ModelLoadError
from anzoth.model_changes import ModelChanges
from anzoth.price import Price
from anzoth.telemetry import Metrics

Scenario = Callable[[ModelChanges, Path], Awaitable[None]]


def entry(folder: Path, name: str, **changes: object) -> dict[str, Any]:
    return {
        "name": name,
        "path": str(folder),
        "socket": str(folder / "engine.sock"),
        "aliases": [],
        "prices": {},
        "stall_timeout_s": 60.0,
        **changes,
    }


def run(tmp_path: Path, scenario: Scenario) -> None:
    async def main() -> None:
        write_checkpoint(tmp_path)
        peer = EnginePeer(tmp_path / "engine.sock", lambda *_: [])
        await peer.start()
        changes = ModelChanges(Metrics())
        running = asyncio.create_task(changes.registry.run())
        await asyncio.sleep(0)
        try:
            await scenario(changes, tmp_path)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await peer.stop()

    asyncio.run(main())


async def serve(changes: ModelChanges, *entries: dict[str, Any]) -> dict[str, str]:
    request = {"do": "serve", "models": entries, "drain_s": 0.0}
    return dict((await changes.serve(request, lambda _event: None))["failed"])


def names(changes: ModelChanges) -> list[str]:
    return [model.name for model in changes.registry]


def test_models_come_ready_and_go_with_their_aliases(tmp_path: Path) -> None:
    async def scenario(changes: ModelChanges, folder: Path) -> None:
        assert await serve(changes, entry(folder, "a"), entry(folder, "b", aliases=["c"])) == {}
        assert names(changes) == ["a", "b", "c"]
        assert all(engine.healthy for engine in changes.registry.engines)
        assert await serve(changes, entry(folder, "a")) == {}
        assert names(changes) == ["a"]

    run(tmp_path, scenario)


def test_a_model_and_its_aliases_have_their_prices_and_a_new_price_is_taken_over(
    tmp_path: Path,
) -> None:
    async def scenario(changes: ModelChanges, folder: Path) -> None:
        one, two = ({"input": n, "cached_input": n, "output": n} for n in (1, 2))
        named = {"aliases": ["b", "c"], "prices": {"a": one, "b": two, "c": one}}
        assert await serve(changes, entry(folder, "a", **named)) == {}
        prices = {model.name: model.price for model in changes.registry}
        assert prices == {"a": Price(1, 1, 1), "b": Price(2, 2, 2), "c": Price(1, 1, 1)}
        assert await serve(changes, entry(folder, "a", prices={"a": two})) == {}
        assert changes.registry.get("a").price == Price(2, 2, 2)

    run(tmp_path, scenario)


def test_the_same_said_twice_changes_nothing(tmp_path: Path) -> None:
    async def scenario(changes: ModelChanges, folder: Path) -> None:
        await serve(changes, entry(folder, "a"))
        before = changes.registry.get("a")
        await serve(changes, entry(folder, "a"))
        assert changes.registry.get("a") is before

    run(tmp_path, scenario)


def test_a_model_that_changed_is_replaced_under_its_name(tmp_path: Path) -> None:
    async def scenario(changes: ModelChanges, folder: Path) -> None:
        await serve(changes, entry(folder, "a", aliases=["old"]))
        before = changes.registry.get("a")
        await serve(changes, entry(folder, "a", aliases=["new"]))
        assert changes.registry.get("a") is not before
        assert names(changes) == ["a", "new"]

    run(tmp_path, scenario)


def test_a_model_that_cannot_be_loaded_is_told_and_the_others_are_served(tmp_path: Path) -> None:
    async def scenario(changes: ModelChanges, folder: Path) -> None:
        broken = write_checkpoint(folder / "broken", "{% for %}")
        failed = await serve(changes, entry(broken, "bad"), entry(folder, "good"))
        assert list(failed) == ["bad"]
        assert "chat template" in failed["bad"]
        assert names(changes) == ["good"]

    run(tmp_path, scenario)


def test_at_the_start_a_bad_model_is_left_out_unless_it_must_load(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    broken = write_checkpoint(tmp_path / "broken", "{% for %}")
    models = [entry(broken, "bad"), entry(tmp_path, "good")]
    changes = ModelChanges(Metrics())
    changes.begin(models, must_load=False)
    assert names(changes) == ["good"]
    with pytest.raises(ModelLoadError, match="model bad"):
        ModelChanges(Metrics()).begin(models, must_load=True)

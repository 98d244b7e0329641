"""What the gateway needs of a checkpoint is read, or refused; models come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from api_harness import until
from api_stand_ins import PRINCIPAL
from checkpoints import write_checkpoint
from engine_peer import EnginePeer, Said

from anzoth.errors import AnzothError, ModelNotFound, ModelUnavailable
from anzoth.frames import PromptRow, Row, SamplingParams
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ModelLoadError, ModelRegistry, load_model
from anzoth.model_config import BUNDLED_MODEL_DIR, ModelConfig
from anzoth.telemetry import Metrics


def engine() -> EngineClient:
    return EngineClient("m", Path("nowhere"), Metrics())


def test_a_checkpoint_is_loaded_with_its_template_and_date(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path)
    model = load_model(ModelConfig("m", directory), engine())
    assert model.template is not None
    assert model.created == int((directory / "config.json").stat().st_mtime)


def test_a_checkpoint_without_a_template_is_served_without_chat(tmp_path: Path) -> None:
    model = load_model(ModelConfig("m", write_checkpoint(tmp_path, None)), engine())
    assert model.template is None


def test_a_checkpoint_says_how_it_is_shown_passages(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path)
    assert load_model(ModelConfig("m", directory), engine()).passage_layout == "marked"
    file = directory / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "passage_layout": "lines"}))
    assert load_model(ModelConfig("m", directory), engine()).passage_layout == "lines"
    file.write_text(json.dumps({**config, "passage_layout": "rows"}))
    with pytest.raises(ModelLoadError, match=r"passage_layout .* 'rows'; expected one of marked"):
        load_model(ModelConfig("m", directory), engine())
    assert load_model(ModelConfig("m", BUNDLED_MODEL_DIR), engine()).passage_layout == "lines"


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json"])
def test_a_missing_file_is_named(missing: str, tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path)
    (directory / missing).unlink()
    with pytest.raises(ModelLoadError, match=missing):
        load_model(ModelConfig("m", directory), engine())


def test_a_broken_template_stops_the_start(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, "{% for %}")
    with pytest.raises(ModelLoadError, match="model m: the chat template is broken"):
        load_model(ModelConfig("m", directory), engine())


def test_models_are_found_by_name_and_listed_in_order(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path)
    models = tuple(load_model(ModelConfig(name, directory), engine()) for name in ("b", "a"))
    registry = ModelRegistry(models)
    assert [model.name for model in registry] == ["b", "a"]
    assert registry.get("a") is models[1]
    with pytest.raises(ModelNotFound):
        registry.get("c")


def test_an_alias_shares_everything_but_the_name(tmp_path: Path) -> None:
    model = load_model(ModelConfig("m", write_checkpoint(tmp_path)), engine())
    registry = ModelRegistry()
    registry.add(model, ("a", "b"))
    assert [named.name for named in registry] == ["m", "a", "b"]
    assert registry.engines == [model.engine]
    alias = registry.get("a")
    assert (alias.engine, alias.tokenizer) == (model.engine, model.tokenizer)


# --- models that come and go -------------------------------------------------------------------


class Kept:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.error: AnzothError | None = None

    def row(self, row: Row, now_s: float) -> None:
        self.rows.append(row)

    def prompt_row(self, row: PromptRow) -> None: ...

    def lost(self, error: AnzothError) -> None:
        self.error = error


Scenario = Callable[[ModelRegistry, EnginePeer, Metrics], Awaitable[None]]


def run_with_engine(tmp_path: Path, scenario: Scenario) -> None:
    """A registry that runs, and an engine whose requests pause after their first token."""

    async def main() -> None:
        peer = EnginePeer(
            tmp_path / "engine.sock", lambda *_: [Said(3), Said(4), Said(1, "stop")], pause_after=1
        )
        await peer.start()
        metrics, registry = Metrics(), ModelRegistry()
        client = EngineClient("m", peer.path, metrics)
        registry.add(load_model(ModelConfig("m", write_checkpoint(tmp_path)), client), ("alias",))
        runner = asyncio.create_task(registry.run())
        await until(lambda: client.healthy)
        try:
            await scenario(registry, peer, metrics)
        finally:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
            await peer.stop()

    asyncio.run(main())


async def begin(registry: ModelRegistry) -> Kept:
    kept = Kept()
    await registry.get("m").engine.submit(
        kept,
        [1, 2],
        num_choices=1,
        max_tokens=5,
        sampling=SamplingParams(),
        tenant=PRINCIPAL.tenant,
    )
    await until(lambda: len(kept.rows) == 1)
    return kept


def test_a_model_that_goes_is_unknown_at_once_and_ends_what_it_began(tmp_path: Path) -> None:
    async def scenario(registry: ModelRegistry, peer: EnginePeer, metrics: Metrics) -> None:
        kept = await begin(registry)
        leaving = asyncio.create_task(registry.remove("m", drain_s=60))
        await asyncio.sleep(0)
        for name in ("m", "alias"):
            with pytest.raises(ModelNotFound):
                registry.get(name)
        assert list(registry) == []
        peer.go_on()
        await leaving
        assert [row.finish for row in kept.rows] == [None, None, "stop"]
        assert kept.error is None
        assert b'anzoth_engine_up{model="m"}' not in metrics.render()

    run_with_engine(tmp_path, scenario)


def test_what_does_not_end_in_time_is_ended_with_an_error(tmp_path: Path) -> None:
    async def scenario(registry: ModelRegistry, peer: EnginePeer, metrics: Metrics) -> None:
        kept = await begin(registry)
        await registry.remove("m", drain_s=0)
        assert isinstance(kept.error, ModelUnavailable)
        assert "unloaded" in str(kept.error)

    run_with_engine(tmp_path, scenario)


def test_the_end_of_the_gateway_also_ends_what_a_leaving_model_still_does(tmp_path: Path) -> None:
    async def scenario(registry: ModelRegistry, peer: EnginePeer, metrics: Metrics) -> None:
        kept = await begin(registry)
        leaving = asyncio.create_task(registry.remove("m", drain_s=60))
        await asyncio.sleep(0)
        registry.end_all(ModelUnavailable())
        await leaving
        assert isinstance(kept.error, ModelUnavailable)

    run_with_engine(tmp_path, scenario)


def test_a_model_that_comes_while_others_run_is_connected(tmp_path: Path) -> None:
    async def scenario(registry: ModelRegistry, peer: EnginePeer, metrics: Metrics) -> None:
        second = EnginePeer(tmp_path / "second.sock", lambda *_: [])
        await second.start()
        client = EngineClient("second", second.path, metrics)
        registry.add(load_model(ModelConfig("second", tmp_path), client))
        await until(lambda: client.healthy)
        assert registry.get("m").engine.healthy
        await second.stop()

    run_with_engine(tmp_path, scenario)

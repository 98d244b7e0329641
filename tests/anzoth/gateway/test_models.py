"""What the gateway needs of a checkpoint is read, or refused, at start."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_harness import write_checkpoint

from anzoth.config import ModelConfig
from anzoth.errors import ModelNotFound
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ModelLoadError, ModelRegistry, load_model
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

"""The whole API over a scripted engine; see `api_harness`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import batches_kit
import files_kit
import pytest
from api_harness import Scenario, running_api
from checkpoints import write_checkpoint
from engine_peer import HELLO

from anzoth.gateway.batches import patience


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario against a fresh API."""

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            async with running_api(checkpoint, tmp_path / "engine.sock") as api:
                await scenario(api)

        asyncio.run(main())

    return run_scenario


@pytest.fixture
def wide_run(checkpoint: Path, tmp_path: Path) -> Callable[[Scenario], None]:
    """The same with a model that reads longer prompts."""
    hello = replace(HELLO, max_model_tokens=4096)

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            async with running_api(checkpoint, tmp_path / "engine.sock", hello=hello) as api:
                await scenario(api)

        asyncio.run(main())

    return run_scenario


@pytest.fixture
def run_files(dsn: str, tmp_path: Path, checkpoint: Path) -> Callable[..., None]:
    """Runs a scenario against a gateway that serves files."""

    def run_scenario(scenario: files_kit.Scenario, **settings: int) -> None:
        files_kit.run_files(dsn, tmp_path, checkpoint, scenario, **settings)

    return run_scenario


@pytest.fixture
def run_batches(
    dsn: str, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Runs a scenario against a gateway whose keys may make batches; nobody works on these."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(patience, "MAX_PAUSE_S", 0.01)

    def run_scenario(
        scenario: files_kit.Scenario, model: Path = checkpoint, **settings: Any
    ) -> None:
        async def main() -> None:
            async with files_kit.serving(dsn, tmp_path, model, **settings) as server:
                batches_kit.grant_all(server)
                await scenario(server)

        asyncio.run(main())

    return run_scenario

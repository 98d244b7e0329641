"""One parser host for a module's tests: they run in one loop, each with a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ingestion_kit import Scenario, world

from anzoth.ingest.host import ParserHost

TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def host(runner: asyncio.Runner) -> Iterator[ParserHost]:
    made = ParserHost()
    yield made
    runner.run(made.close())


@pytest.fixture
def run(
    dsn: str, tmp_path: Path, runner: asyncio.Runner, host: ParserHost
) -> Callable[[Scenario], None]:
    """Runs a scenario in a world of its own."""

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            async with asyncio.timeout(TIMEOUT_S), world(dsn, tmp_path, host) as made:
                await scenario(made)

        runner.run(main())

    return run_scenario

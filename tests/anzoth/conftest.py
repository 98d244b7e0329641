"""A real Postgres for the tests: one embedded cluster per session, one fresh database per test."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from anzoth.db import cluster, embedded, migrate

START_TIMEOUT_S = 60.0


@dataclass
class Postgres:
    """A cluster whose warden is a child of the test session."""

    data_dir: Path
    warden: subprocess.Popen[bytes] | None = None
    names: Iterator[str] = field(default_factory=lambda: (f"test{n}" for n in itertools.count()))

    def dsn(self, database: str = cluster.DATABASE) -> str:
        return cluster.dsn_of(self.data_dir, database)

    def start(self) -> None:
        self.warden = subprocess.Popen(
            [sys.executable, "-m", "anzoth.db.warden"], stdin=subprocess.PIPE
        )
        assert self.warden.stdin is not None
        settings = {"data_dir": str(self.data_dir), "log_level": "error"}
        self.warden.stdin.write(json.dumps(settings).encode() + b"\n")
        self.warden.stdin.flush()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not asyncio.run(embedded.can_connect(self.dsn())):
            assert self.warden.poll() is None, "the warden ended"
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    def stop(self) -> None:
        assert self.warden is not None
        assert self.warden.stdin is not None
        self.warden.stdin.close()
        assert self.warden.wait(30) == 0

    def create_database(self, template: str = "template1") -> str:
        """A fresh database's name."""
        name = next(self.names)
        asyncio.run(self.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return name

    def drop_database(self, name: str) -> None:
        """With whoever is connected; a vacuum that runs there by chance is waited for."""
        give_up_at_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                asyncio.run(self.execute(f"DROP DATABASE {name} WITH (FORCE)"))
            except asyncpg.InsufficientPrivilegeError:
                if time.monotonic() > give_up_at_s:
                    raise
                time.sleep(0.1)
            else:
                return

    async def execute(self, statement: str, database: str = cluster.DATABASE) -> None:
        connection = await asyncpg.connect(self.dsn(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def open_folder() -> Path:
    """A short path that the user whom Postgres runs as may enter; pytest's own are closed."""
    memory = Path("/dev/shm")  # where it is large: a cluster is a thousand small files
    is_large = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30
    path = Path(tempfile.mkdtemp(prefix="anzoth-test-", dir=memory if is_large else None))
    path.chmod(0o711)
    return path


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory for a cluster of the test's own."""
    path = open_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    made = Postgres(open_folder())
    made.start()
    yield made
    made.stop()
    shutil.rmtree(made.data_dir)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """One that may be stopped."""
    made = Postgres(open_folder())
    made.start()
    yield made
    if made.warden is not None and made.warden.poll() is None:
        made.stop()
    shutil.rmtree(made.data_dir)


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    """A migrated database that is only ever copied."""
    name = postgres.create_database()
    asyncio.run(migrate.migrate(postgres.dsn(name)))
    return name


@pytest.fixture
def empty_dsn(postgres: Postgres) -> Iterator[str]:
    """A database with nothing in it."""
    name = postgres.create_database()
    yield postgres.dsn(name)
    postgres.drop_database(name)


@pytest.fixture
def dsn(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """A migrated database with no rows."""
    name = postgres.create_database(migrated_template)
    yield postgres.dsn(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def embedding_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from checkpoints import write_embedding_checkpoint

    return write_embedding_checkpoint(tmp_path_factory.mktemp("embedding"))


@pytest.fixture
def run_stores(dsn: str, tmp_path: Path, embedding_checkpoint: Path) -> Callable[..., None]:
    """Runs a scenario against a gateway that keeps vector stores."""
    import stores_kit

    def run_scenario(scenario: stores_kit.Scenario, **settings: Any) -> None:
        stores_kit.run_stores(dsn, tmp_path, embedding_checkpoint, scenario, **settings)

    return run_scenario

"""A whole installation for tests: `anzoth serve` as a user runs it, with the bundled model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from typer.testing import CliRunner

from anzoth.cli import build

START_TIMEOUT_S = 90.0
"""Generous: a first start initialises a database on a machine that may be busy."""


@dataclass
class Installation:
    """One data directory, and the server that runs on it."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self, *arguments: str) -> None:
        """Starts the server and waits until it says that it is ready."""
        with (self.data_dir / "serve.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "anzoth.cli", "serve", "--port", "0"]
                + ["--data-dir", str(self.data_dir), *arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # tests may signal its whole group
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            state = self.state()
            if state is not None and state["pid"] == self.process.pid:
                self.url = state["url"]
                return
            assert self.process.poll() is None, f"the server ended:\n{self.log()}"
            assert time.monotonic() < deadline_s, f"the server is not ready:\n{self.log()}"
            time.sleep(0.05)

    def state(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.data_dir / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def log(self) -> str:
        return (self.data_dir / "serve.log").read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 40.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def cli(self, *arguments: str) -> Any:
        """One `anzoth` command with --json, run in this process; returns what it printed."""
        where = ("--data-dir", str(self.data_dir), "--json")
        done = CliRunner().invoke(build(), [*arguments, *where])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def create_key(self, name: str, *arguments: str) -> str:
        return self.cli("keys", "create", "--tenant", "default", "--name", name, *arguments)["key"]

    def client(self, key: str | None, **options: Any) -> httpx2.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def pids(self) -> set[int]:
        """Every process whose command line or parent chain belongs to this installation."""
        assert self.process is not None
        found = {self.process.pid}
        while True:
            more = {pid for pid, parent in _parents().items() if parent in found} - found
            if not more:
                return found
            found |= more


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
    return parents


def alive(pids: set[int]) -> set[int]:
    return pids & set(_parents())


@contextlib.contextmanager
def installation(**environment: str) -> Iterator[Installation]:
    """A fresh installation in a short path that Postgres' own user may enter.

    With one engine, unless ANZOTH_EMBEDDINGS says otherwise: most tests are about that one.
    """
    environment = {"ANZOTH_EMBEDDINGS": "false", **environment}
    data_dir = Path(tempfile.mkdtemp(prefix="anzoth-e2e-"))
    data_dir.chmod(0o711)
    made = Installation(data_dir, environment)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
        shutil.rmtree(data_dir, ignore_errors=True)

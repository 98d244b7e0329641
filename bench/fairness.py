"""Does a tenant notice that another one floods the server?

    python bench/fairness.py                      the bundled model, about two minutes
    python bench/fairness.py --model m=DIR --prompt-tokens 512

Starts a server of its own and measures, each time for `--seconds`. Tenant B sends one short
request a second, whatever happens to the others (open loop):

    alone       nobody else is there
    beside      tenant A keeps 64 long requests in flight
    same        the flood is of B's own tenant: what B would see if tenants were not told apart

and once the flood without B. Fair is: B's time to first token beside the flood stays near what it
is alone (it meets at most a running step or two), far from `same`, and A's tokens per second are
hardly fewer than without B.
The last line is one JSON object. Every figure is from one run on one machine: compare within it.
"""

from __future__ import annotations

import argparse
import asyncio
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
from dataclasses import replace
from pathlib import Path
from typing import Any

from load import Load, Outcome, send, summary

NUM_FLOODING = 64
START_TIMEOUT_S = 180.0
WARM_UP_S = 5.0
"""Of the flood, before anything counts: until all of its requests are about."""


def cli(data_dir: Path, *arguments: str) -> Any:
    """What an `anzoth` command with --json prints."""
    command = [sys.executable, "-P", "-m", "anzoth.cli", *arguments]
    done = subprocess.run(
        [*command, "--data-dir", str(data_dir), "--json"], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


@contextlib.contextmanager
def serving(model: str | None) -> Iterator[tuple[str, Path]]:
    """The URL and the data directory of a server that lasts as long as the block."""
    data_dir = Path(tempfile.mkdtemp(prefix="anzoth-fairness-"))
    data_dir.chmod(0o711)  # the embedded database may run as another user
    command = [sys.executable, "-P", "-m", "anzoth.cli", "serve", "--port", "0"]
    command += ["--data-dir", str(data_dir), *(["--model", model] if model else [])]
    with (data_dir / "serve.log").open("w") as log:
        process = subprocess.Popen(
            command,
            env={"ANZOTH_EMBEDDINGS": "false", **os.environ},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _url(data_dir, process), data_dir
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(data_dir, ignore_errors=True)


def _url(data_dir: Path, process: subprocess.Popen[bytes]) -> str:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads((data_dir / "server.json").read_text())["url"]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{(data_dir / 'serve.log').read_text()}")


async def measure(quiet: Load | None, flood: Load | None, seconds: float) -> dict[str, Any]:
    """What B sees in `seconds`, and the flood's tokens per second meanwhile."""
    flooded: list[Outcome] = []
    stop = asyncio.Event()

    async def client(first: int) -> None:
        assert flood is not None
        for index in range(first, 1 << 30, NUM_FLOODING):
            if stop.is_set():
                return
            flooded.append(await send(flood, index))

    async with asyncio.TaskGroup() as group:
        if flood is not None:
            for first in range(NUM_FLOODING):
                group.create_task(client(first))
            await asyncio.sleep(WARM_UP_S)
        started_s = time.perf_counter()
        num_before = len(flooded)
        asked: list[asyncio.Task[Outcome]] = []
        for index in range(int(seconds) if quiet is not None else 0):
            assert quiet is not None
            await asyncio.sleep(max(0.0, started_s + index - time.perf_counter()))
            asked.append(group.create_task(send(quiet, index)))
        await asyncio.sleep(max(0.0, started_s + seconds - time.perf_counter()))
        stop.set()
        # Whole requests that ended within the time: over many, those cut at both ends cancel out.
        ended = flooded[num_before:]
    outcomes = [task.result() for task in asked]
    return {
        "quiet": summary(outcomes, seconds),
        "flood": summary(ended, seconds) if flood is not None else None,
    }


async def compare(given: argparse.Namespace, url: str, data_dir: Path) -> dict[str, Any]:
    def load(tenant: str, prompt_tokens: int, max_tokens: int, seed: int) -> Load:
        made = cli(data_dir, "keys", "create", "--tenant", tenant, "--name", "fairness")
        return Load(url, made["key"], given.name, prompt_tokens, max_tokens, given.vocab_size, seed)

    for tenant in ("a", "b"):
        cli(data_dir, "tenants", "create", tenant)
    flood = load("a", given.prompt_tokens, given.max_tokens, 1)
    quiet = load("b", 32, 8, 2)
    await measure(quiet, None, 3)  # warm-up
    results = {"alone": await measure(quiet, None, given.seconds)}
    results["without B"] = await measure(None, flood, given.seconds)
    results["beside"] = await measure(replace(quiet, seed=3), replace(flood, seed=4), given.seconds)
    results["same"] = await measure(
        replace(quiet, seed=5, key=flood.key), replace(flood, seed=6), given.seconds
    )
    return results


def table(results: dict[str, Any]) -> str:
    lines = [f"{'':12}{'B first token p50':>20}{'p99':>12}{'A tokens/s':>14}   failed"]
    for name, result in results.items():
        first = {"p50": float("nan"), "p99": float("nan"), **(result["quiet"]["ttft_ms"] or {})}
        flood = result["flood"] or {"output_tokens_per_s": 0.0, "failed": {}}
        failed = {**result["quiet"]["failed"], **flood["failed"]} or "none"
        times = f"{first['p50']:17.1f} ms{first['p99']:9.1f} ms"
        lines.append(f"{name:12}{times}{flood['output_tokens_per_s']:14.1f}   {failed}")
    alone = results["without B"]["flood"]["output_tokens_per_s"]
    beside = results["beside"]["flood"]["output_tokens_per_s"]
    if alone:
        lines.append(f"A's throughput beside B: {100 * beside / alone:.1f} % of that without")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="NAME=PATH of a checkpoint; default: the bundled model")
    parser.add_argument("--seconds", type=float, default=25.0, help="of each measurement")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="of the flood's requests")
    parser.add_argument("--max-tokens", type=int, default=128, help="of the flood's requests")
    parser.add_argument("--vocab-size", type=int, default=1000)
    given = parser.parse_args()
    given.name = given.model.partition("=")[0] if given.model else "anzoth-default"
    with serving(given.model) as (url, data_dir):
        results = asyncio.run(compare(given, url, data_dir))
    print(table(results))
    print(json.dumps(results))


if __name__ == "__main__":
    main()

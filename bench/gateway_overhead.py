"""How much time does the gateway add to a request?

    python bench/gateway_overhead.py                    500 requests a second, a minute or two
    python bench/gateway_overhead.py --rate 200 --seconds 20 --in-memory

Two servers run side by side, and the load goes to one and the other in turn:

    bare      our HTTP server and a handler that parses the body and answers with fixed bytes
    gateway   the product's own `anzoth.server` on a real Postgres, with a stub engine in another
              process that answers at once: key, limits (requests, tokens and concurrency of key and
              tenant), template, tokens, journal, engine socket, text, usage row

Open loop: requests start at Poisson times whatever the servers do, and a time counts from the
intended start. What the gateway adds is the difference of the medians (and of the p99s). Both
servers and the load generator share the machine, as the second line of the result says. The last
line is one JSON object.

`wait_for_disk = false` is measured too: by default no answer leaves before its beginning is on the
disk, which takes as long as one fdatasync there unless the engine takes longer anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from own_postgres import Postgres

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from api_harness import MODEL
from checkpoints import write_checkpoint
from engine_peer import EnginePeer, Said

from anzoth import child
from anzoth.account_config import AccountsConfig
from anzoth.config import Config, HttpConfig, JournalConfig, ServerConfig
from anzoth.db import migrate
from anzoth.gateway import directory, keys
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway_settings import gateway_settings, offered_model
from anzoth.http.messages import Request, Response
from anzoth.http.server import HttpServer
from anzoth.model_config import ModelConfig

NUM_CONNECTIONS = 64
LIMITS = Limits(rpm=10**8, tpm=10**9, concurrency=10_000)
BODY = orjson.dumps(
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello there, how are you today? " * 4}],
        "max_tokens": 4,
        "temperature": 0,
    }
)
ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-" + "0" * 24,
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41},
    }
)


# --- the servers ------------------------------------------------------------------------------


def listening() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    made.listen(1024)
    made.set_inheritable(True)
    return made


async def _serve_bare(fd: int) -> None:
    async def answer(request: Request) -> Response:
        orjson.loads(await request.read_body(1 << 20))
        return Response(200, ANSWER, headers=[("content-type", "application/json")])

    server = HttpServer(answer, HttpConfig())
    await server.start(socket.socket(fileno=fd))
    await asyncio.get_running_loop().create_future()


async def _serve_engine(path: str) -> None:
    peer = EnginePeer(Path(path), lambda submit, prompt, choice: [Said(42), Said(42, "length")])
    await peer.start()
    await asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def part(name: str, argument: str, *fds: int) -> Iterator[int]:
    """Runs one of the two functions above in a process of its own, whose id it is."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--part", name, argument], pass_fds=fds
    )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


# --- the load -----------------------------------------------------------------------------------


def request_of(key: str) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\n"
        b"content-type: application/json\r\nauthorization: Bearer %b\r\n"
        b"content-length: %d\r\n\r\n%b" % (key.encode(), len(BODY), BODY)
    )


class _Connection(asyncio.Protocol):
    """One keep-alive connection of the load: one request at a time, as little work as possible."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due_s: float | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def ask(self, due_s: float) -> None:
        assert self._transport is not None
        self._due_s, self._received = due_s, b""
        self._transport.write(self._load.request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) == int(head.partition(b"content-length: ")[2].partition(b"\r")[0]):
            assert self._due_s is not None
            took_s = time.perf_counter() - self._due_s
            self._due_s = None
            self._load.answered(self, head, took_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, unanswered=self._due_s is not None)


@dataclass(slots=True)
class Load:
    """Keeps connections to one server open, and what it saw."""

    address: tuple[str, int]
    pid: int
    """Of the server."""
    request: bytes
    times_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    """Processor time of the server, in all its threads."""
    failures: list[str] = field(default_factory=list)
    _idle: list[_Connection] = field(default_factory=list)
    _num_open: int = 0
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, rate: float, seconds: float, chosen: random.Random) -> None:
        """Adds to `times_s`, `cpu_s` and `failures`."""
        self.cpu_s -= cpu_s(self.pid)
        at_s = time.perf_counter()
        end_s = at_s + seconds
        while (at_s := at_s + chosen.expovariate(rate)) < end_s:
            if (early_s := at_s - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            await self.ask(at_s)
        await self._quiet.wait()
        self.cpu_s += cpu_s(self.pid)

    async def ask(self, due_s: float) -> None:
        connection = self._idle.pop() if self._idle else await self._connect()
        self._num_open += 1
        self._quiet.clear()
        connection.ask(due_s)

    def answered(self, connection: _Connection, head: bytes, took_s: float) -> None:
        self._idle.append(connection)
        self._ended()
        if head.startswith(b"HTTP/1.1 200"):
            self.times_s.append(took_s)
        else:
            self.failures.append(head.partition(b"\r\n")[0].decode())

    def lost(self, connection: _Connection, *, unanswered: bool) -> None:
        if unanswered:
            self.failures.append("connection lost")
            self._ended()
        else:
            self._idle.remove(connection)

    def _ended(self) -> None:
        self._num_open -= 1
        if not self._num_open:
            self._quiet.set()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: _Connection(self), *self.address)
        return made

    def forget(self) -> None:
        """What was seen so far was the warm-up."""
        self.times_s.clear()
        self.failures.clear()
        self.cpu_s = 0.0

    def summary(self) -> dict[str, Any]:
        times_ms = sorted(time_s * 1000 for time_s in self.times_s)
        return {
            "requests": len(times_ms),
            "failed": len(self.failures),
            "p50_ms": round(statistics.median(times_ms), 3),
            "p90_ms": round(times_ms[int(0.9 * len(times_ms))], 3),
            "p99_ms": round(times_ms[int(0.99 * len(times_ms))], 3),
            "cpu_ms": round(self.cpu_s * 1000 / len(times_ms), 3),
        }


async def _until_ready(load: Load) -> None:
    async with asyncio.timeout(60):
        while not load.times_s:
            with contextlib.suppress(OSError):
                await load.run(1000, 0.01, random.Random(0))
            await asyncio.sleep(0.05)
    load.forget()


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in all its threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


# --- the measurement ----------------------------------------------------------------------------


async def _measure(given: argparse.Namespace, folder: Path, wait_for_disk: bool) -> dict[str, Any]:
    data_dir = folder / "data"
    data_dir.mkdir(mode=0o711)
    postgres = Postgres(data_dir)
    await postgres.start()
    try:
        pepper = keys.load_pepper(data_dir)
        await migrate.migrate(postgres.dsn)
        await directory.create_tenant(postgres.dsn, "bench")
        wanted = directory.KeyRequest("bench", "bench", limits=LIMITS)
        key = (await directory.create_key(postgres.dsn, pepper, wanted)).key.text
        engine = folder / "engine.sock"
        gateway, bare = listening(), listening()
        config = Config(
            ServerConfig(data_dir=data_dir, drain_s=1.0, log_level="error"),
            journal=JournalConfig(wait_for_disk=wait_for_disk),
            accounts=AccountsConfig("closed"),
        )
        model = ModelConfig(MODEL, write_checkpoint(folder / "checkpoint"))
        settings = gateway_settings(
            config,
            listen_fd=gateway.fileno(),
            control_socket=folder / "gateway.sock",
            dsn=postgres.dsn,
            models=[offered_model(model, engine)],
            models_must_load=True,
        )
        with (
            part("engine", str(engine)),
            part("bare", str(bare.fileno()), bare.fileno()) as bare_pid,
        ):
            process = await child.start("anzoth.server", settings, pass_fds=(gateway.fileno(),))
            loads = {
                "bare": Load(bare.getsockname(), bare_pid, request_of(key)),
                "gateway": Load(gateway.getsockname(), process.pid, request_of(key)),
            }
            for load in loads.values():
                await _until_ready(load)
                await load.run(given.rate / 2, 2, random.Random(0))  # warm-up
                load.forget()
            chosen = random.Random(given.seed)
            for _ in range(given.rounds):
                for load in loads.values():
                    await load.run(given.rate, given.seconds / given.rounds, chosen)
            process.terminate()
            await process.wait()
    finally:
        postgres.stop()
    found = {name: load.summary() for name, load in loads.items()}
    return {
        **found,
        "added_p50_ms": round(found["gateway"]["p50_ms"] - found["bare"]["p50_ms"], 3),
        "added_p99_ms": round(found["gateway"]["p99_ms"] - found["bare"]["p99_ms"], 3),
        "added_cpu_ms": round(found["gateway"]["cpu_ms"] - found["bare"]["cpu_ms"], 3),
        "ratio_p50": round(found["gateway"]["p50_ms"] / found["bare"]["p50_ms"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=24.0, help="of load, for each server")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-memory", action="store_true", help="data and journal in /dev/shm")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        name, argument = given.part
        work = _serve_bare(int(argument)) if name == "bare" else _serve_engine(argument)
        uvloop.run(work)
        return
    results: dict[str, Any] = {"rate": given.rate, "cores": os.cpu_count()}
    for wait_for_disk in (True, False):
        made = tempfile.mkdtemp(prefix="anzoth-o-", dir="/dev/shm" if given.in_memory else None)
        Path(made).chmod(0o711)
        try:
            name = "durable" if wait_for_disk else "not waiting for the disk"
            results[name] = uvloop.run(_measure(given, Path(made), wait_for_disk))
        finally:
            shutil.rmtree(made, ignore_errors=True)
        for server in ("bare", "gateway"):
            print(f"{name:26}{server:9}{results[name][server]}")
        print(f"{name:26}added    p50 {results[name]['added_p50_ms']} ms, ", end="")
        print(f"p99 {results[name]['added_p99_ms']} ms, cpu {results[name]['added_cpu_ms']} ms")
    print(json.dumps(results))


if __name__ == "__main__":
    main()

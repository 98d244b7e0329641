"""Where does the time of a hybrid search go, in this process and end to end in the retriever's?

    python bench/hybrid_search.py [--chunks 100000] [--data hard] [--queries 300] [--turns 5]

The collection is that of `dense_search.py`: a vector and six words a query, the best 10 fused
(calibrated). It is searched in this process and by a retriever process over its socket, in turns,
and printed as one JSON line each: medians of

- `cpu_ms`: processor time of the process that searches, from the frame to its answer and back;
- `wall_ms`, the same by the clock, and of it `filter_ms`, `dense_ms`, `sparse_ms`, `fusion_ms` (the
  other leg's scores, and fusing) and `rest_ms`: making the query's vector and terms and, in the
  retriever, frames, socket and threads.

`--keep FOLDER` keeps the snapshot (with nothing secret in it) for the next run: to measure two
versions of the code beside each other, run each with the same folder, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from dense_search import DATA, DIMENSIONS, Floats, filled, texts

from anzoth.index.snapshot import Owner, open_collection, save_collection
from anzoth.index_frames import Decoder, Hits, Message, Open, Search, encode

OWNER = Owner("tenant", "store", bytes(32))
PARTS = ("filter_ms", "dense_ms", "sparse_ms", "fusion_ms")
START_TIMEOUT_S = 60

Ask = Callable[[Floats, str], Any]
"""Answers a query; what it returns has a `trace` in it."""


def make(folder: Path, data: str, num_chunks: int) -> None:
    rng = np.random.default_rng(0)
    collection = filled(DATA[data](num_chunks, rng), rng)
    collection.merge()
    folder.mkdir(parents=True)
    save_collection(collection, folder, OWNER, 1)


@contextlib.contextmanager
def retriever(index: Path) -> Iterator[tuple[Ask, Callable[[], int]]]:
    """A process that has the store open: how to ask it, and its processor time in ns."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as peer:
        path = str(Path(folder) / "s")
        settings = {"socket": path, "folder": str(index), "memory_bytes": 1 << 40}
        command = [sys.executable, "-P", "-m", "anzoth.index.process"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(orjson.dumps({**settings, "log_level": "critical"}) + b"\n")
        process.stdin.flush()
        ends = time.monotonic() + START_TIMEOUT_S
        while peer.connect_ex(path):
            if time.monotonic() > ends:
                raise TimeoutError("the retriever does not start")
            time.sleep(0.05)
        decoder, numbers = Decoder(), iter(range(1, sys.maxsize))

        def answered(message: Message, payload: bytes) -> Any:
            peer.sendall(encode(message, payload))
            while True:
                for answer, _ in decoder.feed(peer.recv(1 << 16)):
                    if getattr(answer, "request", None) == getattr(message, "request", 0):
                        return answer

        def ask(vector: Floats, text: str) -> Any:
            search = Search(next(numbers), OWNER.tenant, OWNER.store, 0, 10, text)
            return answered(search, vector.tobytes())

        opening = Open(next(numbers), OWNER.tenant, OWNER.store, DIMENSIONS, "plain", 1)
        answered(opening, OWNER.data_key)
        try:
            # Linux's number for the clock of another process.
            yield ask, lambda: time.clock_gettime_ns((~process.pid << 3) | 2)
        finally:
            process.terminate()
            process.wait()


def timed(ask: Ask, cpu_ns: Callable[[], int], vector: Floats, text: str) -> dict[str, float]:
    cpu, began = cpu_ns(), time.perf_counter_ns()
    answer = ask(vector, text)
    wall_ms = (time.perf_counter_ns() - began) / 1e6
    trace = answer.trace if isinstance(answer, Hits) else answer.trace._asdict()
    parts = {name: trace[name] for name in PARTS}
    rest_ms = wall_ms - sum(parts.values())
    return {"cpu_ms": (cpu_ns() - cpu) / 1e6, "wall_ms": wall_ms, **parts, "rest_ms": rest_ms}


def report(where: str, taken: list[dict[str, float]], num_chunks: int) -> None:
    result: dict[str, Any] = {"where": where, "chunks": num_chunks}
    for name in taken[0]:
        values = [one[name] for one in taken]
        quantiles = np.quantile(values, [0.25, 0.5, 0.75, 0.99]).round(3).tolist()
        result[name] = dict(zip(("p25", "p50", "p75", "p99"), quantiles, strict=True))
    print(json.dumps(result), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--data", choices=DATA, default="hard")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        index = (chosen.keep or Path(temporary)) / f"{chosen.data}-{chosen.chunks}"
        folder = index / OWNER.tenant / OWNER.store
        if not folder.exists():
            make(folder, chosen.data, chosen.chunks)
        collection = open_collection(folder, OWNER, 1)
        rng = np.random.default_rng(1)
        queries = DATA[chosen.data](chosen.queries, rng)
        asked = list(zip(queries, texts(chosen.queries, 6, rng), strict=True))
        gc.collect()
        gc.freeze()
        with retriever(index) as (ask, its_cpu_ns):
            engines: dict[str, tuple[Ask, Callable[[], int]]] = {
                "here": (
                    lambda vector, text: collection.search(vector, text),
                    time.process_time_ns,
                ),
                "retriever": (ask, its_cpu_ns),
            }
            taken: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
            for turn in range(chosen.turns + 1):
                for name, engine in engines.items():
                    found = [timed(*engine, *query) for query in asked]
                    taken[name] += found if turn else []  # the first one warms up
        for name, own in taken.items():
            report(name, own, chosen.chunks)


if __name__ == "__main__":
    main()

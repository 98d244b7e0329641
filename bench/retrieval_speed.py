"""How long does one keyword query take, beside bm25s in the same run?

    python bench/retrieval_speed.py [--chunks 100000] [--queries 300] [--repeats 5]

Chunks are made up: a vocabulary of 200,000 words after Zipf (exponent 1.07), about 100 words each,
three in ten of them repeating one of the same chunk. `short` queries have 4 words that less than a
tenth of the chunks have; `long` ones 8 of those and 4 that more than a tenth have. k is 10.

Every engine answers every query once a repeat, in turns, one query at a time and warm; then a
query's time is the median of its repeats, in **processor time of the process**, because the machine
may be shared. Printed are p50 and p90 over the queries, the ratio of medians to bm25s with numba,
and whether the scores are bm25s's. bm25s and numba are asked for only here
(`pip install bm25s numba`); without them ours are measured alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pyroaring import BitMap

from anzoth.index import compiled
from anzoth.index.sparse import SparseSegment

VOCABULARY = 200_000
EXPONENT = 1.07
MEAN_LENGTH = 101
BURSTINESS = 0.3
K = 10
SEED = 0
NUM_COLD = 50

Query = list[str]
Engine = Callable[[Query], Any]
"""Answers one query; what it returns is not looked at."""


def make_chunks(count: int, rng: np.random.Generator) -> list[list[str]]:
    weights = np.arange(1, VOCABULARY + 1) ** -EXPONENT
    cumulative = np.cumsum(weights / weights.sum())
    words = [f"w{number}" for number in range(VOCABULARY)]
    chunks = []
    for length in np.maximum(10, rng.gamma(4, MEAN_LENGTH / 4, count)).astype(int):
        chosen = np.searchsorted(cumulative, rng.random(length))
        repeats = rng.random(length) < BURSTINESS
        chosen[repeats] = chosen[rng.integers(0, length, repeats.sum())]
        chunks.append([words[min(number, VOCABULARY - 1)] for number in chosen.tolist()])
    return chunks


def make_queries(
    frequencies: dict[str, int], chunks: int, count: int, rng: np.random.Generator
) -> dict[str, list[Query]]:
    content = [word for word, df in frequencies.items() if 20 < df < chunks / 10]
    stop_like = [word for word, df in frequencies.items() if df >= chunks / 10]
    weights = np.array([frequencies[word] for word in content], float)
    weights /= weights.sum()

    def pick(num: int) -> Query:
        return rng.choice(content, num, replace=False, p=weights).tolist()

    return {
        "short": [pick(4) for _ in range(count)],
        "long": [
            [*pick(8), *rng.choice(stop_like, 4, replace=False).tolist()] for _ in range(count)
        ],
    }


def bm25s_engines(chunks: list[list[str]]) -> dict[str, Any]:
    """bm25s's index for each of its backends that is installed. Any: it has no types."""
    try:
        import bm25s  # type: ignore[import-not-found]  # installed for this bench only
    except ModuleNotFoundError:
        print("bm25s is not installed: nothing to compare with (pip install bm25s numba)")
        return {}
    engines: dict[str, Any] = {}
    for backend in ("numpy", "numba"):
        try:
            index = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend=backend)
            index.index(chunks, show_progress=False)
        except ImportError:
            print("numba is not installed: bm25s is measured with numpy only")
            continue
        engines[f"bm25s {backend}"] = index
    return engines


def bm25s_search(index: Any, query: Query) -> Any:
    return index.retrieve([query], k=K, show_progress=False, n_threads=0)


def measured(
    engines: dict[str, Engine], queries: Sequence[Query], repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of processor time for each query: the median of its repeats."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in queries] for name in engines}
    for engine in engines.values():
        for query in queries:
            engine(query)
    for _ in range(repeats):
        for name, engine in engines.items():
            for query, taken in zip(queries, times[name], strict=True):
                started = time.process_time_ns()
                engine(query)
                taken.append((time.process_time_ns() - started) / 1e6)
    return {name: [statistics.median(taken) for taken in times[name]] for name in engines}


def same_scores(segment: SparseSegment, index: Any, queries: Sequence[Query]) -> bool:
    return all(
        np.allclose(
            bm25s_search(index, query)[1][0], segment.search(segment.query(query), K)[1], rtol=1e-5
        )
        for query in queries
    )


def cold_ms(data: bytes, queries: Sequence[Query]) -> list[float]:
    """The first query of a segment that was just opened, and opening it."""
    taken = []
    for query in queries:
        started = time.process_time_ns()
        segment = SparseSegment.from_bytes(memoryview(data))
        segment.search(segment.query(query), K)
        taken.append((time.process_time_ns() - started) / 1e6)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    chunks = make_chunks(options.chunks, rng)
    started = time.process_time()
    segment = SparseSegment.build(chunks)
    build_s = time.process_time() - started
    frequencies = dict(segment.statistics({word for chunk in chunks for word in chunk}).frequencies)
    data = segment.to_bytes()
    segment = SparseSegment.from_bytes(memoryview(data))
    by_numpy = SparseSegment(segment._parts, use_compiled=False)
    others = bm25s_engines(chunks)
    del chunks
    result: dict[str, Any] = {
        "chunks": options.chunks,
        "postings": sum(frequencies.values()),
        "bytes_per_chunk": round(len(data) / options.chunks),
        "build_s": round(build_s, 2),
        "compiled": compiled.load() is not None,
        "seed": SEED,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    filters = {
        f"filtered, {part:.0%} allowed": BitMap(np.flatnonzero(rng.random(len(segment)) < part))
        for part in (0.5, 0.1, 0.01)
    }
    queries = make_queries(frequencies, options.chunks, options.queries, rng)
    for kind, asked in queries.items():
        engines: dict[str, Engine] = {
            "anzoth": lambda query: segment.search(segment.query(query), K),
            "anzoth, numpy": lambda query: by_numpy.search(by_numpy.query(query), K),
            **{
                f"anzoth, {name}": lambda query, allow=allow: segment.search(
                    segment.query(query), K, allow
                )
                for name, allow in filters.items()
            },
            **{name: partial(bm25s_search, index) for name, index in others.items()},
        }
        times = measured(engines, asked, options.repeats)
        times["anzoth, opened for it"] = cold_ms(data, asked[:NUM_COLD])
        mean_df = statistics.mean(sum(frequencies[word] for word in query) for query in asked)
        print(f"\n{kind}: {len(asked)} queries, {mean_df:,.0f} postings each (ms of processor)")
        base = statistics.median(times["bm25s numba"]) if "bm25s numba" in times else None
        for name, taken in times.items():
            p50, p90 = np.percentile(taken, (50, 90))
            ratio = f"{p50 / base:8.2f}×" if base else ""
            print(f"  {name:28} p50 {p50:8.3f}  p90 {p90:8.3f} {ratio}")
            result[f"{kind}: {name}"] = {"p50_ms": round(p50, 4), "p90_ms": round(p90, 4)}
        for name, index in others.items():
            is_same = same_scores(segment, index, asked[:NUM_COLD])
            print(f"  the scores of {name}: {'ours' if is_same else 'OTHERS THAN OURS'}")
            result[f"{kind}: same scores as {name}"] = is_same
    print(f"\n{json.dumps(result)}")


if __name__ == "__main__":
    main()

"""How fast and how complete is dense and hybrid search, beside exact search and usearch?

    python bench/dense_search.py [--chunks 100000] [--data clustered hard] [--queries 300]

Everything is measured in one run, one thread, in turns, and printed as one JSON line a data set.
Times are of the processor, because the aims are (a shared machine's clock says more about its other
users):

- `coded_ms`, `graph_ms`, `exact_ms`: the 10 nearest by codes, through a graph (built for this
  bench, a minute for each 100,000 rows), by looking at all; and what part of them each finds.
  `for_64` is what a leg of a hybrid search asks for;
- usearch (float32, same M and expansion at building, same `ef` at search) where it is installed;
- `filtered_1_percent_ms`, `_10_percent_ms`, `_50_percent_ms`: the first must be exact and below
  `coded_ms`;
- `hybrid_ms`: a vector and six words through the collection, fused (calibrated);
- `cold_open_ms`: opening an encrypted snapshot of 10,000 chunks from the page cache.

`clustered`: a hundred points a cluster, as passages about one matter are. `hard`: a normal
distribution whose deviations fall with the square root of the dimension: no clusters to follow.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyroaring import BitMap

from anzoth.index.collection import Collection
from anzoth.index.dense import FlatVectors, Floats, Vectors, unit_vectors
from anzoth.index.graph import EF_CONSTRUCTION, LINKS, GraphVectors, load_hnswlib
from anzoth.index.rows import as_bitmap
from anzoth.index.snapshot import Owner, open_collection, save_collection

DIMENSIONS = 384
COLD_CHUNKS = 10_000
VOCABULARY = 50_000
WORDS_PER_CHUNK = 60


def clustered(count: int, rng: np.random.Generator) -> Floats:
    centres = np.random.default_rng(1).standard_normal((1000, DIMENSIONS), np.float32)
    chosen = centres[rng.integers(0, len(centres), count)]
    return unit_vectors(chosen + 0.6 * rng.standard_normal((count, DIMENSIONS)), DIMENSIONS)


def hard(count: int, rng: np.random.Generator) -> Floats:
    deviations = np.arange(1, DIMENSIONS + 1) ** -0.5
    return unit_vectors(rng.standard_normal((count, DIMENSIONS)) * deviations, DIMENSIONS)


DATA: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "clustered": clustered,
    "hard": hard,
}


def texts(count: int, words: int, rng: np.random.Generator) -> list[str]:
    ranks = np.arange(1, VOCABULARY + 1)
    cumulated = np.cumsum(ranks**-1.07)
    drawn = np.searchsorted(cumulated, rng.random((count, words)) * cumulated[-1])
    return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]


def times_ms(call: Callable[[int], Any], count: int) -> tuple[dict[str, float], list[Any]]:
    """Of the processor, per call: median and 99th percentile; and what the calls returned."""
    for number in range(min(20, count)):
        call(number)
    spent, results = [], []
    for number in range(count):
        before = time.process_time()
        results.append(call(number))
        spent.append(1000 * (time.process_time() - before))
    return {
        "p50": round(float(np.median(spent)), 4),
        "p99": round(float(np.quantile(spent, 0.99)), 4),
    }, results


def recall(found: list[Any], truth: list[Any]) -> float:
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return round(hits / sum(map(len, truth)), 4)


def filled(matrix: Floats, rng: np.random.Generator) -> Collection:
    collection = Collection(DIMENSIONS, "plain")
    for file, start in enumerate(range(0, len(matrix), 1000)):
        own = matrix[start : start + 1000]
        written = texts(len(own), WORDS_PER_CHUNK, rng)
        collection.put(file, range(start, start + len(own)), written, own, {"tenth": file % 10})
    return collection


def measure_usearch(matrix: Floats, queries: Floats, ef: int, truth: list[Any]) -> dict[str, Any]:
    try:
        from usearch.index import Index  # pyright: ignore[reportMissingImports]  # bench only
    except ImportError:
        return {"usearch": "not installed: pip install usearch"}
    index: Any = Index(
        ndim=DIMENSIONS, metric="ip", dtype="f32", connectivity=LINKS,
        expansion_add=EF_CONSTRUCTION, expansion_search=ef,
    )  # fmt: skip
    index.add(np.arange(len(matrix)), matrix, threads=1)
    spent, found = times_ms(lambda at: index.search(queries[at], 10, threads=1).keys, len(queries))
    return {"usearch_ms": spent, "usearch_recall_at_10": recall(found, truth)}


def in_turns(
    engines: dict[str, Callable[[int], Any]], count: int
) -> tuple[dict[str, dict[str, float]], dict[str, list[Any]]]:
    """As `times_ms`, each query by each engine before the next query."""
    spent: dict[str, list[float]] = {name: [] for name in engines}
    results: dict[str, list[Any]] = {name: [] for name in engines}
    for number in range(-min(20, count), count):
        for name, engine in engines.items():
            before = time.process_time()
            result = engine(number)
            if number >= 0:
                spent[name].append(1000 * (time.process_time() - before))
                results[name].append(result)
    quantiles = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
    times = {
        name: {at: round(float(np.quantile(own, part)), 4) for at, part in quantiles.items()}
        for name, own in spent.items()
    }
    return times, results


def measure(name: str, num_chunks: int, num_queries: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    matrix, queries = DATA[name](num_chunks, rng), DATA[name](num_queries, rng)
    collection = filled(matrix, rng)
    before = time.process_time()
    collection.merge()
    result: dict[str, Any] = {"data": name, "chunks": num_chunks}
    result["merge_s"] = round(time.process_time() - before, 1)
    vectors = collection.state.parts[0].segment.vectors
    result["form"] = type(vectors).__name__
    flat = FlatVectors(vectors.matrix)
    engines: dict[str, Vectors] = {"coded": vectors, "exact": flat}
    if load_hnswlib() is not None:
        before = time.process_time()
        engines["graph"] = graph = GraphVectors.build(flat)
        result |= {"graph_s": round(time.process_time() - before, 1), "ef": graph.ef}
    for k, suffix in ((10, ""), (64, "_for_64")):
        times, found = in_turns(
            {name: lambda at, own=own, k=k: own.search(queries[at], k).rows
             for name, own in engines.items()},
            num_queries,
        )  # fmt: skip
        for engine, own in times.items():
            result[f"{engine}{suffix}_ms"] = own
            result[f"{engine}{suffix}_recall"] = recall(found[engine], found["exact"])
        if k == 10 and "ef" in result:
            result |= measure_usearch(matrix, queries, result["ef"], found["exact"])
    allowed: dict[str, BitMap] = {}
    for percent in (1, 10, 50):
        chosen = np.sort(rng.choice(num_chunks, num_chunks * percent // 100, replace=False))
        allowed[f"filtered_{percent}_percent"] = as_bitmap(chosen.astype(np.uint32))
    times, _ = in_turns(
        {"unfiltered": lambda at: vectors.search(queries[at], 10)}
        | {
            name: lambda at, a=allow: vectors.search(queries[at], 10, a)
            for name, allow in allowed.items()
        },
        num_queries,
    )
    result |= {f"{name}_ms": own for name, own in times.items()}
    asked = texts(num_queries, 6, rng)
    hybrid_ms, answers = times_ms(
        lambda at: collection.search(queries[at], asked[at], 10), num_queries
    )
    result["hybrid_ms"] = hybrid_ms
    for leg in ("dense_ms", "sparse_ms", "fusion_ms"):  # by the clock, to see who takes the time
        traced = [getattr(answer.trace, leg) for answer in answers]
        result[f"hybrid_{leg}_by_clock"] = round(float(np.median(traced)), 4)
    return result


def measure_cold_open(num_opened: int = 11) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    collection = filled(clustered(COLD_CHUNKS, rng), rng)
    collection.merge()
    owner = Owner("tenant", "store", bytes(32))
    with tempfile.TemporaryDirectory() as folder:
        save_collection(collection, Path(folder), owner, 1)
        spent, _ = times_ms(lambda _: open_collection(Path(folder), owner, 1), num_opened)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {"cold_open_ms": spent, "chunks": COLD_CHUNKS, "bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--data", nargs="*", choices=DATA, default=list(DATA))
    chosen = parser.parse_args()
    print(json.dumps(measure_cold_open()), flush=True)
    for name in chosen.data:
        print(json.dumps(measure(name, chosen.chunks, chosen.queries)), flush=True)


if __name__ == "__main__":
    main()

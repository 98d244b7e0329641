"""Which vectors of a large segment are nearest to a query, through an hnswlib graph?

The graph proposes rows, whose scores are then computed from the vectors themselves. It is built
once and never changed: nothing is added beside queries (hnswlib forbids it), nothing is deleted in
it (a caller names the rows it allows), and whatever it cannot answer is answered exactly.

Without hnswlib (it is compiled while installing) there are no graphs, and one log line says so.

Does not know: what a row means, who deleted it, when a graph pays (vectors.py), or how it is kept
on disk.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
from pyroaring import BitMap

from anzoth.index.dense import GATHERED_ROW, FlatVectors, Floats, Found, best, unit_vectors
from anzoth.index.rows import Rows

log = logging.getLogger(__name__)

EXACT_ROWS = 10_000
"""So few allowed rows are always looked at one by one: a graph that must walk past the others takes
longer (measured with 100,000 rows: 1 % allowed 0.19 against 15.8 ms, 10 % 2.3 against 2.6 ms)."""

LINKS = 16  # M
EF_CONSTRUCTION = 100  # 200 took 1.7 times as long to build and bought 0.02 recall (100,000 × 384)
RECALL_AT = 10
RECALL_AIM = 0.985  # on the sample, for 0.98 on queries that come
SAMPLED_QUERIES = 256
EF_STEPS = (128, 160, 200, 256, 320, 400, 512, 640, 800, 1024, 1280, 1600, 2048)
"""The least is what a leg of a hybrid search asks for and some more."""

# What a search costs in rows that a scan reads in that time. Measured on one slow AVX-512 core with
# 30,000 × 384, 2026-11-27: a scanned row 0.3 µs, a unit of `ef` 4 µs (clustered) to 12 µs (high
# intrinsic dimension), times rows / allowed rows under a filter.
ROWS_PER_EF = 30


class GraphVectors:
    """An hnswlib graph in front of the exact vectors, which it keeps beside it.

    Memory: 4·d bytes a row for the vectors, and 4·d + 148 for the graph with its own copy of them.
    """

    def __init__(self, flat: FlatVectors, graph: Any, ef: int, sampled_recall: float) -> None:
        """`graph` is an hnswlib.Index, which has no types, over the rows of `flat`."""
        self._flat = flat
        self._graph = graph
        self.ef = ef
        self.sampled_recall = sampled_recall
        graph.set_ef(ef)

    @classmethod
    def build(cls, flat: FlatVectors, threads: int = 1) -> GraphVectors:
        """Links the rows and chooses `ef` for them. Takes minutes per 100,000 rows and releases
        the interpreter meanwhile. Raises ImportError without hnswlib."""
        hnswlib = load_hnswlib()
        if hnswlib is None:
            raise ImportError("hnswlib is not installed")
        num_rows, dimensions = flat.matrix.shape
        graph = hnswlib.Index("ip", dimensions)
        graph.init_index(num_rows, M=LINKS, ef_construction=EF_CONSTRUCTION, random_seed=100)
        graph.add_items(flat.matrix, np.arange(num_rows), num_threads=threads)
        return cls(flat, graph, *_tune(graph, flat))

    @property
    def matrix(self) -> Floats:
        return self._flat.matrix

    @property
    def index_pending(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        return 2 * self._flat.nbytes

    @property
    def graph(self) -> Any:
        """The hnswlib.Index, to be saved; whoever changes it breaks searches that are running."""
        return self._graph

    def search(self, query: Floats, k: int, allow: BitMap | None = None) -> Found:
        """The k nearest among `allow` (rows of this segment; None: all)."""
        num_rows = len(self.matrix)
        num_allowed = num_rows if allow is None else len(allow)
        if k > self.ef or self.exact_is_cheaper(num_allowed):
            return self._flat.search(query, k, allow)
        try:
            # One thread: with more, threads of hnswlib's own would fight for the interpreter.
            labels, _ = self._graph.knn_query(
                query,
                k=k,
                num_threads=1,
                filter=None if num_allowed == num_rows or allow is None else allow.__contains__,
            )
        except RuntimeError:  # fewer than k rows can be reached
            return self._flat.search(query, k, allow)
        rows = np.sort(labels[0]).astype(np.uint32)
        scores = self._flat.scores(query, rows)
        order = best(scores, k)
        return Found(rows[order], scores[order], False)

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """Inner products of given rows, in their order. Raises IndexError for a row not here."""
        return self._flat.scores(query, rows)

    def exact_is_cheaper(self, num_allowed: int) -> bool:
        """Whether looking at every allowed row takes less than walking the graph past the rest."""
        if num_allowed <= EXACT_ROWS:
            return True
        num_rows = len(self.matrix)
        exact = min(num_allowed * GATHERED_ROW, num_rows)
        return exact <= ROWS_PER_EF * self.ef * num_rows / num_allowed


@functools.cache
def load_hnswlib() -> Any:
    """The module, or None where it is not installed; says so once. It has no types."""
    try:
        import hnswlib  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        log.warning(
            "hnswlib is not installed: large knowledge bases are searched without a graph, slower"
        )
        return None
    return hnswlib


def _tune(graph: Any, flat: FlatVectors) -> tuple[int, float]:
    """The least `ef` that reaches `RECALL_AIM` on sampled queries, or the largest; and its recall.

    A sampled query lies between two rows, as a question lies between passages. The two are not
    counted: that a graph finds a row from itself says little.
    """
    num_rows = len(flat.matrix)
    rng = np.random.default_rng(num_rows)
    pairs = rng.integers(0, num_rows, (2, SAMPLED_QUERIES))
    queries = unit_vectors(
        0.8 * flat.matrix[pairs[0]] + 0.6 * flat.matrix[pairs[1]], flat.matrix.shape[1]
    )
    k = RECALL_AT + 2
    truth = [
        set(flat.search(query, k).rows.tolist()) - {int(a), int(b)}
        for query, a, b in zip(queries, *pairs, strict=True)
    ]
    ef, recall = EF_STEPS[0], 0.0
    for ef in EF_STEPS:
        graph.set_ef(ef)
        try:
            labels, _ = graph.knn_query(queries, k=k, num_threads=1)
        except RuntimeError:  # too little of the graph is connected for so small an ef
            continue
        hits = sum(len(want & set(got)) for want, got in zip(truth, labels.tolist(), strict=True))
        recall = hits / sum(map(len, truth))
        if recall >= RECALL_AIM:
            break
    return ef, recall

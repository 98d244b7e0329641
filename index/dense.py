"""Which vectors of a segment are nearest to a query: exactly, or through a graph?

Vectors are float32 of length one, so the inner product is the cosine. Up to `GRAPH_FROM` rows all
are looked at; above, an hnswlib graph proposes candidates, whose scores are then computed from the
vectors themselves. The graph is built once and never changed: nothing is added beside queries
(hnswlib forbids it), nothing is deleted in it (a caller names the rows it allows), and whatever the
graph cannot answer is answered exactly.

Without hnswlib (it is compiled while installing) every search is exact, and one log line says so.

Does not know: what a row means, who deleted it, or how vectors are kept on disk.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyroaring import BitMap

from anzoth.index.rows import Rows, as_rows

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

GRAPH_FROM = 10_000
"""Rows from which on a graph is built: below, looking at all of them takes less than a millisecond
(384 dimensions, one core) and cannot be wrong."""
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
# 30,000 × 384, 2026-11-27: a scanned row 0.3 µs, a gathered one 0.4 to 0.9 µs, a unit of `ef` 4 µs
# (clustered) to 12 µs (high intrinsic dimension), times rows / allowed rows under a filter.
GATHERED_ROW = 2
ROWS_PER_EF = 30
GATHER_BLOCK = 512  # rows gathered at a time: 0.8 MB of 384 dimensions stays in the second cache

CHECKED_ROWS = 4096  # rows checked and scaled at a time, so that a large array is not copied twice


class BadVector(ValueError):
    """A vector that cannot be compared: wrong shape, not finite, or of length zero."""


class Found(NamedTuple):
    """Rows and their inner products, best first, equal ones by row. `exact`: none is missed."""

    rows: Rows
    scores: Floats
    exact: bool


class Vectors(Protocol):
    """The vectors of one segment. Immutable; any number of threads may search."""

    @property
    def matrix(self) -> Floats: ...

    @property
    def graph_pending(self) -> bool:
        """A graph would pay and is missing."""
        ...

    def search(self, query: Floats, k: int, allow: BitMap | None = None) -> Found: ...

    def scores(self, query: Floats, rows: Rows) -> Floats: ...


def unit_vectors(values: ArrayLike, dimensions: int) -> Floats:
    """The vectors scaled to length one: float32, (n, dimensions), contiguous, a copy.

    Raises BadVector with the position of the first vector that is not one.
    """
    try:
        given = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise BadVector("vectors must be arrays of numbers, all of one length") from None
    if given.size == 0 and given.ndim <= 2:
        return np.empty((0, dimensions), np.float32)
    if given.ndim != 2 or given.shape[1] != dimensions:
        raise BadVector(f"expected vectors of {dimensions} dimensions, got an array {given.shape}")
    unit = np.empty(given.shape, np.float32)
    for start in range(0, len(given), CHECKED_ROWS):
        block = given[start : start + CHECKED_ROWS].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        # float64 holds the square of any float32, so a length is finite where its vector is; below
        # 1e-30 the numbers are subnormal and have no direction left.
        for wrong, why in ((~np.isfinite(lengths), "is not finite"), (lengths < 1e-30, "is zero")):
            if wrong.any():
                raise BadVector(f"vector {start + int(np.argmax(wrong))} {why}")
        unit[start : start + CHECKED_ROWS] = block / lengths[:, None]
    return unit


def unit_vector(values: ArrayLike, dimensions: int) -> Floats:
    """One vector scaled to length one, shape (dimensions,). Raises BadVector."""
    given = np.asarray(values)
    if given.shape != (dimensions,):
        raise BadVector(f"expected a vector of {dimensions} dimensions, got {given.shape}")
    return unit_vectors(given[None], dimensions)[0]


def best(scores: Floats, k: int) -> NDArray[np.intp]:
    """Positions of the k largest scores, best first, equal ones by position.

    Any score among the k best is at least the k-th largest maximum of blocks, which bounds what has
    to be sorted without partitioning all scores.
    """
    k = min(k, len(scores))
    if k <= 0:
        return np.empty(0, np.intp)
    block = min(64, len(scores) // (4 * k))
    if block < 2:
        return np.argsort(-scores, kind="stable")[:k]
    whole = len(scores) // block * block
    maxima = scores[:whole].reshape(-1, block).max(axis=1)
    bound = np.partition(maxima, -k)[-k]
    candidates = np.flatnonzero(scores >= bound)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


class FlatVectors:
    """All vectors, compared one by one: exact. O(rows × dimensions)."""

    def __init__(self, matrix: Floats, *, graph_pending: bool = False) -> None:
        """`matrix`: float32 (n, d), rows of length one (`unit_vectors`); must not change later."""
        self._matrix = np.ascontiguousarray(matrix, np.float32)
        self.graph_pending = graph_pending

    @property
    def matrix(self) -> Floats:
        return self._matrix

    def search(self, query: Floats, k: int, allow: BitMap | None = None) -> Found:
        """The k nearest among `allow` (rows of this segment; None: all)."""
        if allow is None:
            scores = self._matrix @ query
            chosen = best(scores, k)
            return Found(chosen.astype(np.uint32), scores[chosen], True)
        rows = as_rows(allow)
        if len(rows) * GATHERED_ROW < len(self._matrix):
            scores = self.scores(query, rows)
        else:
            scores = (self._matrix @ query)[rows]
        chosen = best(scores, k)
        return Found(rows[chosen], scores[chosen], True)

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """Inner products of given rows, in their order. Raises IndexError for a row not here."""
        if len(rows) and int(rows.max()) >= len(self._matrix):
            raise IndexError(f"row {int(rows.max())} of {len(self._matrix)}")
        scores = np.empty(len(rows), np.float32)
        gathered = np.empty((min(GATHER_BLOCK, len(rows)), self._matrix.shape[1]), np.float32)
        for start in range(0, len(rows), GATHER_BLOCK):
            block = rows[start : start + GATHER_BLOCK]
            # With "raise" numpy would gather into a second buffer; the bounds are checked above.
            np.take(self._matrix, block, axis=0, out=gathered[: len(block)], mode="clip")
            np.dot(gathered[: len(block)], query, out=scores[start : start + len(block)])
        return scores


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
    def graph_pending(self) -> bool:
        return False

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


def build_vectors(matrix: Floats, threads: int = 1) -> Vectors:
    """The vectors of a segment as its size asks for: exact, or behind a graph.

    `matrix`: float32 (n, d), rows of length one.
    """
    flat = FlatVectors(matrix)
    if len(matrix) < GRAPH_FROM or load_hnswlib() is None:
        return flat
    vectors = GraphVectors.build(flat, threads)
    if vectors.exact_is_cheaper(len(matrix)):
        log.info(
            "%d vectors stay without a graph: with ef %d it is slower", len(matrix), vectors.ef
        )
        return flat
    return vectors


@functools.cache
def load_hnswlib() -> Any:
    """The module, or None where it is not installed; says so once. It has no types."""
    try:
        import hnswlib  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        log.warning(
            "hnswlib is not installed: dense search stays exact, slower from %d", GRAPH_FROM
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

"""Which vectors of a segment are nearest to a query, exactly?

Vectors are float32 of length one, so the inner product is the cosine. Here all that are allowed are
looked at; larger segments are searched by way of codes (coded.py) or a graph (graph.py), which name
candidates whose scores are computed here.

Does not know: what a row means, who deleted it, or how vectors are kept on disk.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyroaring import BitMap

from anzoth.index.compiled import Kernel, address, load_dense
from anzoth.index.rows import Rows, as_rows

Floats = NDArray[np.float32]

GATHERED_ROW = 2
"""What a gathered row costs in rows that are read one after the other (measured 1.3 to 3)."""
GATHER_BLOCK = 512  # rows gathered at a time: 0.8 MB of 384 dimensions stays in the second cache
MIN_LENGTH = 1e-30
"""Below, the numbers are subnormal and have no direction left."""
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
    def index_pending(self) -> bool:
        """Something that would make searches faster is missing: a merge makes it."""
        ...

    @property
    def nbytes(self) -> int:
        """What they hold in memory, about."""
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
        # float64 holds the square of any float32, so a length is finite where its vector is.
        is_short = lengths < MIN_LENGTH
        for wrong, why in ((~np.isfinite(lengths), "is not finite"), (is_short, "is zero")):
            if wrong.any():
                raise BadVector(f"vector {start + int(np.argmax(wrong))} {why}")
        unit[start : start + CHECKED_ROWS] = block / lengths[:, None]
    return unit


def unit_vector(values: ArrayLike, dimensions: int) -> Floats:
    """One vector scaled to length one, shape (dimensions,). Raises BadVector."""
    given = np.asarray(values)
    if given.shape != (dimensions,):
        raise BadVector(f"expected a vector of {dimensions} dimensions, got {given.shape}")
    if given.dtype != np.float32:
        return unit_vectors(given[None], dimensions)[0]
    # As there, in fewer calls: a search pays for each.
    wide = given.astype(np.float64)
    length = math.sqrt(wide.dot(wide))
    if not MIN_LENGTH <= length < math.inf:
        return unit_vectors(given[None], dimensions)[0]
    return (wide / length).astype(np.float32)


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

    def __init__(
        self, matrix: Floats, *, index_pending: bool = False, use_compiled: bool = True
    ) -> None:
        """`matrix`: float32 (n, d), rows of length one (`unit_vectors`); must not change later."""
        self._matrix = np.ascontiguousarray(matrix, np.float32)
        self._matrix_at = address(self._matrix)
        self._kernel = load_dense() if use_compiled else None
        self.index_pending = index_pending

    @property
    def matrix(self) -> Floats:
        return self._matrix

    @property
    def nbytes(self) -> int:
        return self._matrix.nbytes

    def search(self, query: Floats, k: int, allow: BitMap | None = None) -> Found:
        """The k nearest among `allow` (rows of this segment; None: all)."""
        rows = None if allow is None else as_rows(allow)
        if rows is None:
            scores = self._all_scores(query)
        elif len(rows) * GATHERED_ROW < len(self._matrix):
            scores = self.scores(query, rows)
        else:
            scores = self._all_scores(query)[rows]
        chosen = best(scores, k)
        found = chosen.astype(np.uint32) if rows is None else rows[chosen]
        return Found(found, scores[chosen], True)

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """Inner products of given rows, in their order. Raises IndexError for a row not here."""
        if len(rows) and int(rows.max()) >= len(self._matrix):
            raise IndexError(f"row {int(rows.max())} of {len(self._matrix)}")
        if self._kernel is not None:
            return self._products(self._kernel, query, rows, len(rows))
        scores = np.empty(len(rows), np.float32)
        gathered = np.empty((min(GATHER_BLOCK, len(rows)), self._matrix.shape[1]), np.float32)
        for start in range(0, len(rows), GATHER_BLOCK):
            block = rows[start : start + GATHER_BLOCK]
            # With "raise" numpy would gather into a second buffer; the bounds are checked above.
            np.take(self._matrix, block, axis=0, out=gathered[: len(block)], mode="clip")
            np.dot(gathered[: len(block)], query, out=scores[start : start + len(block)])
        return scores

    def _all_scores(self, query: Floats) -> Floats:
        if self._kernel is None:
            return self._matrix @ query
        return self._products(self._kernel, query, None, len(self._matrix))

    def _products(self, kernel: Kernel, query: Floats, rows: Rows | None, count: int) -> Floats:
        query = np.ascontiguousarray(query, np.float32)
        scores = np.empty(count, np.float32)
        rows = None if rows is None else np.ascontiguousarray(rows, np.uint32)
        kernel.products(
            self._matrix_at,
            self._matrix.shape[1],
            address(query),
            None if rows is None else address(rows),
            count,
            address(scores),
        )
        return scores

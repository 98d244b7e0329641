"""In what form are a segment's vectors kept, so that searching them is fast?

| rows                   | form                                                       |
|------------------------|------------------------------------------------------------|
| to `FLAT_TO`           | all are looked at, which is exact                          |
| to `CODED_TO`          | a bit a dimension, then the vectors of candidates (coded)  |
| more, or no kernel     | an hnswlib graph, where there is hnswlib and it is faster  |

Does not know: how each of them searches.
"""

from __future__ import annotations

import logging

from anzoth.index.coded import MAX_DIMENSIONS, CodedVectors
from anzoth.index.compiled import load_dense
from anzoth.index.dense import FlatVectors, Floats, Vectors
from anzoth.index.graph import GraphVectors, load_hnswlib

log = logging.getLogger(__name__)

FLAT_TO = 10_000
"""Below, looking at all takes less than a millisecond (384 dimensions, one core)."""
CODED_TO = 500_000
"""Codes are read from end to end, 3 to 6 ns a row of 384 dimensions, and a graph is not; but it
takes a minute of building for each 100,000 rows, and twice the memory. Where they really meet was
not measured: at 100,000 rows codes take half to all of a graph's time."""


def build_vectors(matrix: Floats, threads: int = 1) -> Vectors:
    """The vectors of a segment as its size asks for. Takes seconds for each 100,000 rows, with a
    graph a minute.

    `matrix`: float32 (n, d), rows of length one.
    """
    num_rows = len(matrix)
    if num_rows < FLAT_TO:
        return FlatVectors(matrix)
    kernel = load_dense() if matrix.shape[1] <= MAX_DIMENSIONS else None
    if kernel is not None and (num_rows <= CODED_TO or load_hnswlib() is None):
        return CodedVectors.build(matrix, kernel)
    flat = FlatVectors(matrix)
    if load_hnswlib() is None:
        return flat
    vectors = GraphVectors.build(flat, threads)
    if vectors.exact_is_cheaper(num_rows):
        log.info("%d vectors stay without a graph: with ef %d it is slower", num_rows, vectors.ef)
        return flat
    return vectors

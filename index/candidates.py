"""What does each leg say of the other's candidates, and which of both are best?

Each leg knows the scores of the candidates that it found. Those of the other's it computes,
exactly, and then the two lists are fused (fusion.py). The default fusion is one call of the kernel
from the lists to the best k (`native/fusion.cpp`); here is what it computes, and what runs for the
other methods and where there is no kernel.

Does not know: filters, or how either leg found its candidates.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

import numpy as np

from anzoth.index.bm25 import K1, B, Query
from anzoth.index.compiled import Kernel, address, load_dense
from anzoth.index.dense import Floats
from anzoth.index.fusion import (
    ALIKE,
    CENTRE,
    LEAST_WEIGHT,
    NEIGHBOURS_PART,
    NUM_NEIGHBOURS,
    NUM_SMOOTHED,
    SLOPE,
    Calibrated,
    Leg,
    Method,
    fuse,
    union,
)
from anzoth.index.rows import Rows
from anzoth.index.state import State

# As native/fusion.cpp declares them.
_METHOD = Struct("@3d2q5d")
_HIT = Struct("@qqdifif")


class Hit(NamedTuple):
    """A chunk that was found, by which leg, and how well. Ranks count from 1."""

    number: int
    file: int
    score: float
    dense_rank: int | None
    dense_score: float | None
    sparse_rank: int | None
    sparse_score: float | None


def best(
    state: State,
    vector: Floats | None,
    words: Sequence[Query],
    dense: Leg,
    sparse: Leg,
    k: int,
    method: Method,
) -> list[Hit]:
    """The best k of the candidates of both legs, best first, ties by row.

    `vector` None: there is no dense leg. `words`: of each part; empty: there is no sparse leg.
    """
    kernel = load_dense()
    if kernel is not None and isinstance(method, Calibrated):
        return _by_kernel(kernel, state, vector, words, dense, sparse, k, method)
    rows = union(dense, sparse)
    fused = fuse(
        dense if vector is None else Leg.of(rows, _dense_scores(state, vector, rows)),
        Leg.of(rows, _sparse_scores(state, words, rows)) if words else sparse,
        k,
        method,
    )
    return [Hit(*state.chunk(one.row), *one[1:]) for one in fused]


def _dense_scores(state: State, vector: Floats, rows: Rows) -> Floats:
    scores = np.empty(len(rows), np.float32)
    for at, own, where in state.split(rows):
        scores[where] = state.parts[at].segment.vectors.scores(vector, own)
    return scores


def _sparse_scores(state: State, words: Sequence[Query], rows: Rows) -> Floats:
    scores = np.empty(len(rows), np.float32)
    for at, own, where in state.split(rows):
        scores[where] = state.parts[at].segment.sparse.scores(words[at], own)
    return scores


def _by_kernel(
    kernel: Kernel,
    state: State,
    vector: Floats | None,
    words: Sequence[Query],
    dense: Leg,
    sparse: Leg,
    k: int,
    method: Calibrated,
) -> list[Hit]:
    k = min(k, len(dense.rows) + len(sparse.rows))
    if not k:
        return []
    packed_method = _METHOD.pack(
        method.background,
        max(1e-6, 1 - method.background),
        (K1 + 1) / method.ceiling if method.ceiling > 0 else 0.0,
        NUM_SMOOTHED,
        NUM_NEIGHBOURS,
        NEIGHBOURS_PART,
        ALIKE,
        LEAST_WEIGHT,
        SLOPE,
        CENTRE,
    )
    found = np.empty(k * _HIT.size, np.uint8)
    count = kernel.fuse(
        state.packed,
        len(state.parts),
        state.parts[0].segment.vectors.matrix.shape[1],
        None if vector is None else address(vector),
        b"".join([posting.packed for query in words for posting in query.postings]),
        array("d", [weight for query in words for weight in query.weights]).tobytes(),
        array("q", [len(query.postings) for query in words]).tobytes() if words else None,
        K1,
        B,
        words[0].average_length if words else 1.0,
        *(address(dense.rows), address(dense.scores), len(dense.rows)),
        *(address(sparse.rows), address(sparse.scores), len(sparse.rows)),
        packed_method,
        k,
        address(found),
    )
    return [
        Hit(
            number,
            file,
            score,
            dense_rank or None,
            dense_score if dense_rank else None,
            sparse_rank or None,
            sparse_score if sparse_rank else None,
        )
        for number, file, score, dense_rank, dense_score, sparse_rank, sparse_score in (
            _HIT.iter_unpack(found[: count * _HIT.size].data)
        )
    ]

"""Which chunks of a collection's state answer a query, and how sure is that?

Both legs search every part for candidates; then each leg scores the candidates of both, and the two
lists are fused.

Does not know: where a query comes from, or how the state came about (see `collection`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Literal, NamedTuple

import numpy as np
from pyroaring import BitMap

from anzoth.index.dense import Floats
from anzoth.index.filters import Filter
from anzoth.index.fusion import (
    Calibrated,
    Convex,
    Fused,
    Leg,
    Rrf,
    background_of_sum,
    fuse,
    union,
)
from anzoth.index.rows import Rows
from anzoth.index.sparse import Statistics
from anzoth.index.state import State

MIN_CANDIDATES = 64
"""What each leg gives to the fusion at least; otherwise twice what is asked for."""

Fusion = Literal["calibrated"] | Convex | Rrf


class Hit(NamedTuple):
    """A chunk that was found, by which leg, and how well. Ranks count from 1."""

    number: int
    file: int
    score: float
    dense_rank: int | None
    dense_score: float | None
    sparse_rank: int | None
    sparse_score: float | None


@dataclass(slots=True, frozen=True)
class Trace:
    """What a search did."""

    num_chunks: int
    num_allowed: int
    dense_candidates: int
    sparse_candidates: int
    filter_ms: float
    dense_ms: float
    sparse_ms: float
    fusion_ms: float


@dataclass(slots=True, frozen=True)
class Answer:
    hits: list[Hit]
    exact: bool
    """No leg missed a chunk. Otherwise the dense leg used a graph."""
    trace: Trace


class Search:
    """One query on one state."""

    def __init__(
        self, state: State, vector: Floats | None, terms: list[str], num_candidates: int
    ) -> None:
        self._state = state
        self._vector = vector
        self._terms = terms
        self._num_candidates = num_candidates
        self._exact = True

    def answer(self, k: int, filters: Filter | None, fusion: Fusion) -> Answer:
        times = [time.perf_counter()]

        def tick() -> None:
            times.append(time.perf_counter())

        state = self._state
        allowed = [part.allowed(filters) for part in state.parts]
        tick()
        dense = self._dense(allowed)
        tick()
        statistics = (
            reduce(add, (part.segment.sparse.statistics(set(self._terms)) for part in state.parts))
            if state.parts
            else Statistics(0, 0, {})
        )
        sparse = self._sparse(allowed, statistics)
        tick()
        rows = union(dense, sparse)
        fused = fuse(
            Leg.of(rows, self._dense_scores(rows)) if self._vector is not None else dense,
            Leg.of(rows, self._sparse_scores(rows, statistics)) if self._terms else sparse,
            k,
            self._calibrated(statistics) if fusion == "calibrated" else fusion,
        )
        hits = list(map(self._hit, fused))
        tick()
        spent = [1000 * (after - before) for before, after in pairwise(times)]
        num_allowed = sum(
            len(part.segment) if allow is None else len(allow)
            for part, allow in zip(state.parts, allowed, strict=True)
        )
        counts = (state.num_live, num_allowed, len(dense.rows), len(sparse.rows))
        return Answer(hits, self._exact, Trace(*counts, *spent))

    def _dense(self, allowed: list[BitMap | None]) -> Leg:
        if self._vector is None:
            return _leg([], 0)
        found = []
        for part, offset, allow in zip(
            self._state.parts, self._state.offsets, allowed, strict=False
        ):
            rows, scores, exact = part.segment.vectors.search(
                self._vector, self._num_candidates, allow
            )
            self._exact &= exact
            found.append((rows + np.uint32(offset), scores))
        return _leg(found, self._num_candidates)

    def _sparse(self, allowed: list[BitMap | None], statistics: Statistics) -> Leg:
        if not self._terms:
            return _leg([], 0)
        found = []
        for part, offset, allow in zip(
            self._state.parts, self._state.offsets, allowed, strict=False
        ):
            rows, scores = part.segment.sparse.search(
                self._terms, self._num_candidates, allow, statistics
            )
            found.append((rows + np.uint32(offset), scores))
        return _leg(found, self._num_candidates)

    def _dense_scores(self, rows: Rows) -> Floats:
        assert self._vector is not None
        scores = np.empty(len(rows), np.float32)
        for part, own, where in self._state.split(rows):
            scores[where] = part.segment.vectors.scores(self._vector, own)
        return scores

    def _sparse_scores(self, rows: Rows, statistics: Statistics) -> Floats:
        scores = np.empty(len(rows), np.float32)
        for part, own, where in self._state.split(rows):
            scores[where] = part.segment.sparse.scores(self._terms, own, statistics)
        return scores

    def _calibrated(self, statistics: Statistics) -> Calibrated:
        usual = 0.0
        if self._vector is not None and self._state.parts:
            total, size = self._state.sample
            usual = background_of_sum(float(total @ self._vector), size)
        return Calibrated(usual, statistics.ceiling(self._terms), self._state.vectors)

    def _hit(self, fused: Fused) -> Hit:
        part, row = self._state.place(fused.row)
        return Hit(int(part.segment.numbers[row]), int(part.segment.files[row]), *fused[1:])


def _leg(found: list[tuple[Rows, Floats]], k: int) -> Leg:
    """The best k of several parts' lists."""
    if len(found) == 1:
        return Leg(*found[0])
    rows = np.concatenate([np.empty(0, np.uint32), *(rows for rows, _ in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
    best = Leg.of(rows, scores)
    return Leg(best.rows[:k], best.scores[:k])

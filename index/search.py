"""Which chunks of a collection's state answer a query, and how sure is that?

Both legs search every part for candidates; then each leg scores the candidates of both, and the two
lists are fused.

Does not know: where a query comes from, or how the state came about (see `collection`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal, NamedTuple

import numpy as np
from pyroaring import BitMap

from anzoth.index.bm25 import Hits, Query
from anzoth.index.candidates import Hit, best
from anzoth.index.dense import Floats, Found
from anzoth.index.filters import Filter
from anzoth.index.fusion import Calibrated, Convex, Leg, Rrf, background_of_sum
from anzoth.index.segment import Part
from anzoth.index.sparse import Statistics
from anzoth.index.state import State

MIN_CANDIDATES = 64
"""What each leg gives to the fusion at least; otherwise twice what is asked for."""

Fusion = Literal["calibrated"] | Convex | Rrf


class Trace(NamedTuple):
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
        now, state = time.perf_counter, self._state
        began = now()
        allowed = [part.allowed(filters) for part in state.parts]
        filtered = now()
        dense = self._dense(allowed)
        searched = now()
        words = self._words()
        sparse = self._sparse(allowed, words)
        read = now()
        method = self._calibrated(words) if fusion == "calibrated" else fusion
        hits = best(state, self._vector, words, dense, sparse, k, method)
        ended = now()
        trace = Trace(
            state.num_live,
            sum(map(_num_allowed, state.parts, allowed)),
            len(dense.rows),
            len(sparse.rows),
            1000 * (filtered - began),
            1000 * (searched - filtered),
            1000 * (read - searched),
            1000 * (ended - read),
        )
        return Answer(hits, self._exact, trace)

    def _words(self) -> list[Query]:
        """What the terms are in each part. Empty: there are none."""
        if not self._terms:
            return []
        segments = [part.segment.sparse for part in self._state.parts]
        if len(segments) == 1:  # its own statistics are those of the collection
            return [segments[0].query(self._terms)]
        distinct = dict.fromkeys(self._terms)
        statistics = reduce(
            add, (segment.statistics(distinct) for segment in segments), Statistics(0, 0, {})
        )
        return [segment.query(self._terms, statistics) for segment in segments]

    def _dense(self, allowed: list[BitMap | None]) -> Leg:
        vector = self._vector
        if vector is None:
            return self._leg([])
        found = [
            part.segment.vectors.search(vector, self._num_candidates, allow)
            for part, allow in zip(self._state.parts, allowed, strict=True)
        ]
        self._exact = all(one.exact for one in found)
        return self._leg(found)

    def _sparse(self, allowed: list[BitMap | None], words: list[Query]) -> Leg:
        if not words:
            return self._leg([])
        found = [
            part.segment.sparse.search(query, self._num_candidates, allow)
            for part, query, allow in zip(self._state.parts, words, allowed, strict=True)
        ]
        return self._leg(found)

    def _leg(self, found: Sequence[Found | Hits]) -> Leg:
        """The best of the lists of all parts, whose own rows they name."""
        if len(found) == 1:
            return Leg(found[0][0], found[0][1])
        both = Leg.of(
            np.concatenate(
                [
                    np.empty(0, np.uint32),
                    *(
                        own[0] + np.uint32(offset)
                        for own, offset in zip(found, self._state.offsets)  # noqa: B905  # one more offset
                    ),
                ]
            ),
            np.concatenate([np.empty(0, np.float32), *(own[1] for own in found)]),
        )
        return Leg(both.rows[: self._num_candidates], both.scores[: self._num_candidates])

    def _calibrated(self, words: list[Query]) -> Calibrated:
        usual = 0.0
        if self._vector is not None and self._state.parts:
            total, size = self._state.sample
            usual = background_of_sum(float(total.dot(self._vector)), size)
        return Calibrated(usual, words[0].ceiling if words else 0.0, self._state.vectors)


def _num_allowed(part: Part, allow: BitMap | None) -> int:
    return len(part.segment) if allow is None else len(allow)

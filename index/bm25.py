"""Which documents does BM25 put first, and what is the score of given ones?

score(d) = Σ over the query's terms t of
    weight(t) · tf / (tf + k1 · (1 - b + b · length(d) / average length))

A posting keeps, beside tf, an impact: that quotient (the saturation) in 255ths, rounded up. A
search adds up impacts in 16 bits, each through a table of its term that makes it an upper bound of
what the term can add to the score; it then scores exactly the documents with the k largest sums,
and after that every other document whose sum reaches the k-th of these scores. A document that was
left out has a bound below the k-th score, so **the answer is always that of scoring every
document**; the coarseness of impacts costs time only.

That holds for any weights and any average length, which is how segments of one collection answer by
common statistics although their impacts were made with their own: where the average length given,
A', is above the segment's A, a saturation x becomes at most x / (x + ρ(1 - x)) with ρ = A / A',
because k1 · (1 - b + b · length / A') ≥ ρ · k1 · (1 - b + b · length / A).

Scores are added up in float64, in the order of the query's terms, and rounded to float32 once. They
are what the order goes by; equal ones stand in the order of rows.

This is the reference, and what runs where `native/bm25.cpp` was not compiled. Does not know: texts,
files, or where postings come from.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anzoth.index.compiled import Kernel, address

K1, B = 1.5, 0.75
"""Lucene's formula (without its constant factor k1 + 1) at bm25s's defaults."""
BLOCK = 64
MAX_SUM = 65535
MOST_TERMS_PRUNED = 4096
"""With more terms their bounds would share 16 bits too thinly: then every row is scored."""
SELECTIVE = 16
"""One in so many documents allowed, or fewer: all of those are scored, and nothing is bounded."""
_ROUNDING = 1e-9
"""Relative; far above what float64 loses on the way to a bound."""
_NARROWING = 1e-6
"""Relative; above what rounding a score to float32 loses."""

Hits = tuple[NDArray[np.uint32], NDArray[np.float32]]
"""Rows and scores, best first."""


@dataclass(slots=True, frozen=True, eq=False)
class Posting:
    """The documents with one term, ascending, and how often they have it."""

    ids: NDArray[np.uint32] = field(repr=False)
    impacts: NDArray[np.uint8] = field(repr=False)
    frequencies: NDArray[np.unsignedinteger] = field(repr=False)
    idf: float
    """By the statistics of its own segment."""
    packed: bytes = field(repr=False)
    """Where the three arrays lie, and their length: native/bm25.cpp's struct Posting."""


@dataclass(slots=True, frozen=True, eq=False)
class Query:
    """What the terms of one query are in one segment."""

    postings: Sequence[Posting]
    weights: Sequence[float]
    average_length: float
    """That scores go by."""
    ceiling: float
    """Σ idf of its terms, those included that no document has: what scores come near to, and never
    reach, as the terms are repeated."""
    loosening: float
    """ρ above; 1 where the impacts were made with this average length or a greater one."""


def norms(lengths: NDArray[np.uint32], average_length: float) -> NDArray[np.float64]:
    """k1 · (1 - b + b · length / average length)."""
    return K1 * ((1.0 - B) + B * (lengths.astype(np.float64) / average_length))


def impacts(
    frequencies: NDArray[np.unsignedinteger], norm: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Saturations in 255ths, rounded up: 1 to 255."""
    tf = frequencies.astype(np.float64)
    return np.clip(np.ceil(tf / (tf + norm) * 255), 1, 255).astype(np.uint8)


class Scorer:
    """Scores the documents of one segment. Threads may share it."""

    def __init__(self, lengths: NDArray[np.uint32], kernel: Kernel | None) -> None:
        """`kernel` None: numpy computes."""
        self._lengths = lengths
        self._lengths_at = address(lengths)
        self._kernel = kernel
        self._rooms: list[_Room] = []

    def scores(self, query: Query, rows: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Of ascending rows."""
        if self._kernel is None:
            return self._scores(query, rows)
        scores = np.empty(len(rows), np.float64)
        self._kernel.scores(*self._arguments(query), address(rows), len(rows), address(scores))
        return scores

    def top_k(self, query: Query, k: int, allowed: NDArray[np.uint32] | None) -> Hits:
        """The best k ≥ 1 of the documents that have any of the terms, and are in `allowed`.

        `allowed`: ascending rows; None: all. O(Σ df + N) with a small constant for N.
        """
        scale = (MAX_SUM - len(query.postings)) / sum(query.weights)
        if len(query.postings) > MOST_TERMS_PRUNED:
            scale = 0.0
            if allowed is None:
                allowed = np.arange(len(self._lengths), dtype=np.uint32)
        elif allowed is not None and SELECTIVE * len(allowed) <= len(self._lengths):
            scale = 0.0
        if self._kernel is None:
            return self._top_k(query, k, allowed, scale)
        k = min(k, len(self._lengths))
        rows, scores = np.empty(k, np.uint32), np.empty(k, np.float32)
        try:
            room = self._rooms.pop()
        except IndexError:
            room = _Room(len(self._lengths))
        count = self._kernel.top_k(
            *self._arguments(query),
            len(self._lengths),
            scale,
            query.loosening,
            room.sums_at,
            *(None, None, 0)
            if allowed is None
            else (room.slots_at, address(allowed), len(allowed)),
            k,
            address(rows),
            address(scores),
        )
        self._rooms.append(room)
        return rows[:count], scores[:count]

    def _arguments(self, query: Query) -> tuple[object, ...]:
        frequency_bytes = query.postings[0].frequencies.itemsize if query.postings else 1
        return (
            b"".join([posting.packed for posting in query.postings]),
            array("d", query.weights).tobytes(),
            len(query.postings),
            frequency_bytes,
            self._lengths_at,
            K1,
            B,
            query.average_length,
        )

    # --- the reference ------------------------------------------------------------------------

    def _scores(self, query: Query, rows: NDArray[np.uint32]) -> NDArray[np.float64]:
        scores = np.zeros(len(rows), np.float64)
        norm = norms(self._lengths[rows], query.average_length)
        for posting, weight in zip(query.postings, query.weights, strict=True):
            at = np.searchsorted(posting.ids, rows)
            at[at == len(posting.ids)] = 0
            (found,) = np.nonzero(posting.ids[at] == rows)
            tf = posting.frequencies[at[found]].astype(np.float64)
            scores[found] += weight * (tf / (tf + norm[found]))
        return scores

    def _top_k(
        self, query: Query, k: int, allowed: NDArray[np.uint32] | None, scale: float
    ) -> Hits:
        if scale == 0.0:
            assert allowed is not None
            return _best(allowed, self._scores(query, allowed), k)
        sums = self._sums(query, scale)
        if allowed is not None:
            only = np.zeros_like(sums)
            only[allowed] = sums[allowed]
            sums = only
        maxima = sums.reshape(-1, BLOCK).max(axis=1)
        # k blocks reach `low`, so k documents do; among those the k-th largest sum itself is found.
        low = max(1, int(np.partition(maxima, -k)[-k])) if k <= len(maxima) else 1
        rows = _between(sums, maxima, low, MAX_SUM + 1)
        if len(rows) > k:
            low = int(np.partition(sums[rows], -k)[-k])
            rows = rows[sums[rows] >= low]
        scores = self._scores(query, rows)
        cut = 1
        if len(rows) >= k:
            kth = float(np.partition(scores.astype(np.float32), -k)[-k])
            cut = max(1, int(scale * kth * (1.0 - _NARROWING)))
        if cut < low:
            others = _between(sums, maxima, cut, low)
            scores = np.concatenate((scores, self._scores(query, others)))
            rows = np.concatenate((rows, others))
        return _best(rows, scores, k)

    def _sums(self, query: Query, scale: float) -> NDArray[np.uint16]:
        """Upper bounds of all scores, in 1 / scale, up to a multiple of BLOCK."""
        sums = np.zeros(-(-len(self._lengths) // BLOCK) * BLOCK, np.uint16)
        x = np.arange(256) / 255
        saturation = x / (x + query.loosening * (1.0 - x))
        for posting, weight in zip(query.postings, query.weights, strict=True):
            bounds = (scale * weight * (1.0 + _ROUNDING) * saturation).astype(np.uint16) + 1
            sums[posting.ids] += bounds[posting.impacts]
        return sums


class _Room:
    """What a search writes into; kept for the next, because fresh pages cost as much as it."""

    def __init__(self, num_documents: int) -> None:
        self._sums = np.empty(num_documents + BLOCK, np.uint16)
        self._slots = np.zeros(num_documents, np.uint32)
        self.sums_at = address(self._sums)
        self.slots_at = address(self._slots)


def _between(
    sums: NDArray[np.uint16], maxima: NDArray[np.uint16], low: int, high: int
) -> NDArray[np.uint32]:
    """Documents with low ≤ sum < high, ascending."""
    (blocks,) = np.nonzero(maxima >= low)
    among = sums.reshape(-1, BLOCK)[blocks]
    which, offsets = np.nonzero((among >= low) & (among < high))
    return (blocks[which] * BLOCK + offsets).astype(np.uint32)


def _best(rows: NDArray[np.uint32], scores: NDArray[np.float64], k: int) -> Hits:
    (found,) = np.nonzero(scores > 0)
    rows, rounded = rows[found], scores[found].astype(np.float32)
    order = np.lexsort((rows, -rounded))[:k]
    return rows[order], rounded[order]

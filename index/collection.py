"""What does one store of one tenant hold, and which of its chunks answer a query?

A collection is a row of immutable parts: a base and, behind it, the files that came since. Whoever
searches takes the row as it is at that moment and keeps it; whoever writes puts another row in its
place, in one assignment. So a file is searchable, replaced or gone the moment that `put` or
`delete` returns, for searches that begin from then on, and never half. Small parts are joined as
they come, each chunk a few times at most; `merge` makes a new base of everything while searches and
writes go on. What was deleted still counts in the weights of words until its part is merged.

Rows are numbered through all parts, in the order in which chunks came; merging keeps that order,
and equal scores are given in it.

Does not know: tenants, databases, which thread merges, or how it is kept on disk (snapshot.py).
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from operator import add
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pyroaring import BitMap

from anzoth.index.analyzer import analyzer
from anzoth.index.dense import Floats, unit_vector, unit_vectors
from anzoth.index.filters import Attributes, Filter, check_attributes
from anzoth.index.fusion import (
    Calibrated,
    Convex,
    Fused,
    Leg,
    Rrf,
    background,
    fuse,
    union,
)
from anzoth.index.rows import Rows, as_bitmap, as_rows
from anzoth.index.segment import Part, Segment, merged
from anzoth.index.sparse import Statistics

MAX_CHUNKS = 4_000_000
"""Of one collection, deleted ones that are not merged yet included."""
DELTA_CHUNKS = 4_000
"""Behind the base, beyond which a merge is due; and the most that `put` itself joins."""
DEAD_SHARE = 0.2
"""Of all rows, beyond which a merge is due."""
MIN_CANDIDATES = 64
"""What each leg gives to the fusion at least; otherwise twice what is asked for."""
SAMPLED_CHUNKS = 256
"""To know how similar a query is to anything (fusion.background)."""

Fusion = Literal["calibrated"] | Convex | Rrf


class CollectionFull(Exception):
    """The collection has no room for so many chunks."""


class BadChunks(ValueError):
    """Chunks that contradict each other or those that are there."""


@dataclass(slots=True, frozen=True)
class Hit:
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


@dataclass(frozen=True, eq=False)
class State:
    """All that a search sees, at one moment."""

    parts: tuple[Part, ...]

    @cached_property
    def offsets(self) -> list[int]:
        """Where each part's rows begin; last, how many there are."""
        return [0, *np.cumsum([len(part.segment) for part in self.parts]).tolist()]

    @property
    def num_rows(self) -> int:
        return self.offsets[-1]

    @cached_property
    def num_live(self) -> int:
        return sum(len(part.live) for part in self.parts)

    @cached_property
    def sample(self) -> Floats:
        """Vectors of live chunks, the same ones as long as the same chunks live."""
        live = [as_rows(p.live) + np.uint32(at) for p, at in zip(self.parts, self.offsets)]  # noqa: B905  # one more offset
        rows = np.concatenate([np.empty(0, np.uint32), *live])
        size = min(SAMPLED_CHUNKS, len(rows))
        return self.vectors(rows[np.random.default_rng(0).choice(len(rows), size, replace=False)])

    def part_of(self, file: int) -> int | None:
        """The position of the part where this file lives."""
        return next((at for at, part in enumerate(self.parts) if part.has(file)), None)

    def place(self, row: int) -> tuple[Part, int]:
        at = bisect_right(self.offsets, row) - 1
        return self.parts[at], row - self.offsets[at]

    def split(self, rows: Rows) -> Iterable[tuple[Part, Rows, slice]]:
        """Ascending rows by part: the part, its own rows, and where they stand among these."""
        bounds = np.searchsorted(rows, self.offsets).tolist()
        for part, offset, start, end in zip(
            self.parts, self.offsets, bounds, bounds[1:], strict=False
        ):
            if start < end:
                yield part, rows[start:end] - np.uint32(offset), slice(start, end)

    def vectors(self, rows: Rows) -> Floats:
        """Of rows in any order, (n, d)."""
        if len(self.parts) == 1:
            return self.parts[0].segment.vectors.matrix[rows]
        ascending, inverse = np.unique(rows, return_inverse=True)
        found = [part.segment.vectors.matrix[own] for part, own, _ in self.split(ascending)]
        return np.concatenate(found)[inverse] if found else np.empty((0, 0), np.float32)


class Collection:
    """One store of one tenant, in memory. Any number of threads may search and write."""

    def __init__(
        self,
        dimensions: int,
        analyzer_name: str = "english",
        *,
        max_chunks: int = MAX_CHUNKS,
        parts: Sequence[Part] = (),
    ) -> None:
        """`parts`: of a snapshot. Raises KeyError: no such analyzer."""
        self.dimensions = dimensions
        self.analyzer_name = analyzer_name
        self._analyzer = analyzer(analyzer_name)
        self._max_chunks = max_chunks
        self._state = State(tuple(parts))
        self._writing = threading.Lock()
        self._merging = threading.Lock()
        self._num_frozen = 0  # parts that a merge is reading: only their live rows may change

    # --- writing ------------------------------------------------------------------------------

    def put(
        self,
        file: int,
        numbers: Sequence[int],
        texts: Sequence[str],
        vectors: ArrayLike,
        attributes: Attributes | None = None,
    ) -> None:
        """Adds a file, or replaces it by this. No chunks: it is deleted.

        `numbers` are the chunks' own, `vectors` (n, dimensions) of any length above zero. Raises
        BadVector, BadAttributes, BadChunks, CollectionFull; then nothing has changed.
        """
        matrix = unit_vectors(vectors, self.dimensions)
        checked = check_attributes(attributes or {})
        if not len(numbers) == len(texts) == len(matrix):
            raise BadChunks(f"{len(numbers)} numbers, {len(texts)} texts, {len(matrix)} vectors")
        if len(set(numbers)) < len(numbers):
            raise BadChunks("two chunks have the same number")
        if not numbers:
            self.delete(file)
            return
        if len(numbers) > self._max_chunks:
            raise CollectionFull(f"a collection holds {self._max_chunks} chunks")
        segment = Segment.build(
            file, np.array(numbers, np.int64), list(map(self._analyzer.terms, texts)), matrix
        )
        added = Part.of(segment, BitMap(range(len(segment))), {file: checked})
        with self._writing:
            parts = self._without(file)
            self._check_room(parts, segment)
            self._state = State((*self._joined(parts, added),))

    def delete(self, file: int) -> bool:
        """False: there was no such file."""
        with self._writing:
            known = self._state.part_of(file) is not None
            self._state = State(tuple(self._without(file)))
        return known

    def set_attributes(self, file: int, attributes: Attributes) -> bool:
        """Replaces all attributes of a file. False: there is none. Raises BadAttributes."""
        checked = check_attributes(attributes)
        with self._writing:
            at = self._state.part_of(file)
            if at is None:
                return False
            parts = list(self._state.parts)
            parts[at] = parts[at].with_attributes(file, checked)
            self._state = State(tuple(parts))
        return True

    @property
    def merge_due(self) -> bool:
        """Whether searches would gain from a merge now."""
        state = self._state
        behind = sum(len(part.segment) for part in state.parts[1:])
        num_dead = state.num_rows - state.num_live
        return (
            behind > DELTA_CHUNKS
            or num_dead > DEAD_SHARE * max(state.num_rows, MIN_CANDIDATES)
            or any(part.segment.vectors.graph_pending for part in state.parts)
        )

    def merge(self, threads: int = 1) -> None:
        """Makes one part of all that are there, without what was deleted. Takes minutes where a
        graph is built; searches and writes go on meanwhile, another merge waits."""
        with self._merging:
            with self._writing:
                sources = self._state.parts
                self._num_frozen = len(sources)
            try:
                base: tuple[Part, ...] = ()
                segment: Segment | None = None
                if any(part.live for part in sources):
                    alive = [(part.segment, part.live) for part in sources]
                    segment = Segment.merge(alive, threads)
                with self._writing:
                    now, behind = (
                        self._state.parts[: len(sources)],
                        self._state.parts[len(sources) :],
                    )
                    if segment is not None:
                        base = (merged(sources, now, segment),)
                    self._state = State(tuple(part for part in (*base, *behind) if part.live))
            finally:
                with self._writing:
                    self._num_frozen = 0

    def _without(self, file: int) -> list[Part]:
        parts = list(self._state.parts)
        at = self._state.part_of(file)
        if at is not None:
            parts[at] = parts[at].without(file)
            if not parts[at].live and at >= self._num_frozen:
                del parts[at]
        return parts

    def _check_room(self, parts: list[Part], new: Segment) -> None:
        num_rows = sum(len(part.segment) for part in parts)
        if num_rows + len(new) > self._max_chunks:
            raise CollectionFull(
                f"{len(new)} chunks do not fit: the collection holds {self._max_chunks} and has "
                f"{num_rows}, of which {num_rows - sum(len(part.live) for part in parts)} are "
                "deleted and go with the next merge"
            )
        for part in parts:
            taken = [row for row in part.segment.find(new.numbers).tolist() if row in part.live]
            if taken:
                number = part.segment.numbers[taken[0]]
                raise BadChunks(f"chunk {number} is another file's")

    def _joined(self, parts: list[Part], new: Part) -> list[Part]:
        """The parts with this behind them, joined with those before it that are not much larger: so
        their number grows with the logarithm of what they hold."""
        start, size = len(parts), len(new.live)
        while start > self._num_frozen:
            live = len(parts[start - 1].live)
            if live > 2 * size or size + live > DELTA_CHUNKS:
                break
            start, size = start - 1, size + live
        joining = [*parts[start:], new]
        if len(joining) > 1:
            segment = Segment.merge([(part.segment, part.live) for part in joining])
            new = merged(joining, joining, segment)
        return [*parts[:start], new]

    # --- reading ------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What is there now. It does not change any more."""
        return self._state

    @property
    def num_chunks(self) -> int:
        return self._state.num_live

    @property
    def nbytes(self) -> int:
        """What it holds in memory, about."""
        return sum(part.segment.nbytes for part in self._state.parts)

    @property
    def files(self) -> list[int]:
        return [file for part in self._state.parts for file in part.files]

    def attributes(self, file: int) -> Attributes | None:
        """None: no such file."""
        state = self._state
        at = state.part_of(file)
        return None if at is None else state.parts[at].attributes.attributes(file)

    def search(
        self,
        vector: ArrayLike | None = None,
        text: str | None = None,
        k: int = 10,
        filters: Filter | None = None,
        fusion: Fusion = "calibrated",
    ) -> Answer:
        """The k chunks that answer best to a vector, to a text's words, or to both.

        Raises BadVector, and ValueError: no query, or k below 1.
        """
        if k < 1 or (vector is None and text is None):
            raise ValueError("a search needs a vector or a text, and k of at least 1")
        return _Search(
            self._state,
            None if vector is None else unit_vector(vector, self.dimensions),
            [] if text is None else self._analyzer.terms(text),
            max(MIN_CANDIDATES, 2 * k),
        ).answer(k, filters, fusion)

    def check_integrity(self) -> None:
        """Raises AssertionError: not a state that writes can lead to."""
        state = self._state
        numbers = [part.segment.numbers[as_rows(part.live)] for part in state.parts]
        chunks = np.concatenate([np.empty(0, np.int64), *numbers])
        assert len(np.unique(chunks)) == len(chunks) == self.num_chunks <= self._max_chunks
        files = self.files
        assert len(set(files)) == len(files)
        for at, part in enumerate(state.parts):
            segment = part.segment
            lengths = (segment.files, segment.sparse, segment.vectors.matrix)
            assert all(len(segment) == len(each) for each in lengths)
            assert part.live or at < self._num_frozen
            assert part.live <= BitMap(range(len(segment)))
            for file, rows in segment.rows_of_file.items():
                alive = len(part.live & as_bitmap(rows))
                assert alive == (len(rows) if part.has(file) else 0)


class _Search:
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
            usual = background(self._state.sample @ self._vector)
        return Calibrated(usual, statistics.ceiling(self._terms), self._state.vectors)

    def _hit(self, fused: Fused) -> Hit:
        part, row = self._state.place(fused.row)
        return Hit(
            int(part.segment.numbers[row]),
            int(part.segment.files[row]),
            fused.score,
            fused.dense_rank,
            fused.dense_score,
            fused.sparse_rank,
            fused.sparse_score,
        )


def _leg(found: list[tuple[Rows, Floats]], k: int) -> Leg:
    """The best k of several parts' lists."""
    if len(found) == 1:
        return Leg(*found[0])
    rows = np.concatenate([np.empty(0, np.uint32), *(rows for rows, _ in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
    best = Leg.of(rows, scores)
    return Leg(best.rows[:k], best.scores[:k])

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
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from pyroaring import BitMap

from anzoth.index.analyzer import analyzer
from anzoth.index.dense import unit_vector, unit_vectors
from anzoth.index.filters import Attributes, Filter, check_attributes
from anzoth.index.rows import as_bitmap, as_rows
from anzoth.index.search import MIN_CANDIDATES, Answer, Fusion, Search
from anzoth.index.segment import Part, Segment, merged
from anzoth.index.state import State

MAX_CHUNKS = 4_000_000
"""Of one collection, deleted ones that are not merged yet included."""
DELTA_CHUNKS = 4_000
"""Behind the base, beyond which a merge is due; and the most that `put` itself joins."""
DEAD_SHARE = 0.2
"""Of all rows, beyond which a merge is due."""


class CollectionFull(Exception):
    """The collection has no room for so many chunks."""


class BadChunks(ValueError):
    """Chunks that contradict each other or those that are there."""


class Collection:
    """One store of one tenant, in memory. Any number of threads may search and write."""

    def __init__(
        self,
        dimensions: int,
        analyzer_name: str = "english",
        *,
        max_chunks: int = MAX_CHUNKS,
        parts: Sequence[Part] = (),
        seq: int = 0,
    ) -> None:
        """`parts` and `seq`: of a snapshot. Raises KeyError: no such analyzer."""
        self.dimensions = dimensions
        self.analyzer_name = analyzer_name
        self._analyzer = analyzer(analyzer_name)
        self.seq = seq
        """Up to where a log of changes is in it, for snapshots: whoever follows one says so."""
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
            or any(part.segment.vectors.index_pending for part in state.parts)
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
        return Search(
            self._state,
            None if vector is None else unit_vector(vector, self.dimensions),
            [] if text is None else self._analyzer.query_terms(text),
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

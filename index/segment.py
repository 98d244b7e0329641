"""What is kept of a set of chunks, once and for all: their words, vectors, numbers and files?

A segment never changes. A part of a collection is a segment with what does change: which rows live,
and the attributes of their files; a change makes another part over the same segment.

Does not know: the other segments, queries, or files on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from anzoth.index.dense import Floats, Vectors
from anzoth.index.filters import AttributeIndex, Attributes, Filter
from anzoth.index.rows import Rows, as_bitmap, as_rows
from anzoth.index.sparse import SparseSegment
from anzoth.index.vectors import build_vectors

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Segment:
    """Row r is the chunk `numbers[r]` of the file `files[r]`, in words and as a vector."""

    numbers: Numbers = field(repr=False)
    files: Numbers = field(repr=False)
    sparse: SparseSegment = field(repr=False)
    vectors: Vectors = field(repr=False)

    @classmethod
    def build(
        cls, file: int, numbers: Numbers, documents: Sequence[Sequence[str]], matrix: Floats
    ) -> Self:
        """Of the chunks of one file: their terms, and vectors of length one."""
        files = np.full(len(numbers), file, np.int64)
        return cls(numbers, files, SparseSegment.build(documents), build_vectors(matrix))

    @classmethod
    def merge(cls, sources: Sequence[tuple[Segment, BitMap]], threads: int = 1) -> Self:
        """One segment of the live rows of at least one, in their order. May take minutes."""
        kept = [(segment, as_rows(live)) for segment, live in sources]
        matrix = np.concatenate([segment.vectors.matrix[rows] for segment, rows in kept])
        return cls(
            np.concatenate([segment.numbers[rows] for segment, rows in kept]),
            np.concatenate([segment.files[rows] for segment, rows in kept]),
            SparseSegment.merge([(segment.sparse, live) for segment, live in sources]),
            build_vectors(matrix, threads),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def nbytes(self) -> int:
        """What it holds in memory, about."""
        return self.vectors.nbytes + self.sparse.nbytes + 32 * len(self)

    @cached_property
    def rows_of_file(self) -> Mapping[int, Rows]:
        """The rows of each file, ascending."""
        order = np.argsort(self.files, kind="stable").astype(np.uint32)
        files, starts = np.unique(self.files[order], return_index=True)
        return dict(zip(files.tolist(), np.split(order, starts[1:]), strict=True))

    def find(self, numbers: Numbers) -> Rows:
        """The rows of those of these chunks that are here."""
        at = np.searchsorted(self._ascending, numbers).clip(max=len(self) - 1)
        return self._by_number[at[self._ascending[at] == numbers]]

    @cached_property
    def _by_number(self) -> Rows:
        return np.argsort(self.numbers, kind="stable").astype(np.uint32)

    @cached_property
    def _ascending(self) -> Numbers:
        return self.numbers[self._by_number]


@dataclass(slots=True, frozen=True, eq=False)
class Part:
    segment: Segment
    live: BitMap = field(repr=False)
    attributes: AttributeIndex = field(repr=False)

    @classmethod
    def of(cls, segment: Segment, live: BitMap, attributes: Mapping[int, Attributes]) -> Self:
        index = AttributeIndex(segment.rows_of_file, len(segment), attributes)
        return cls(segment, live, index)

    @property
    def files(self) -> list[int]:
        """Those with live rows. A file lives and dies as a whole."""
        return [file for file in self.segment.rows_of_file if self.has(file)]

    def has(self, file: int) -> bool:
        rows = self.segment.rows_of_file.get(file)
        return rows is not None and int(rows[0]) in self.live

    def without(self, file: int) -> Part:
        return replace(self, live=self.live - as_bitmap(self.segment.rows_of_file[file]))

    def with_attributes(self, file: int, attributes: Attributes) -> Part:
        return replace(self, attributes=self.attributes.replaced(file, attributes))

    def allowed(self, filters: Filter | None) -> BitMap | None:
        """The live rows that the filter allows; None: all rows of the segment."""
        if filters is not None:
            return self.live & self.attributes.rows(filters)
        return None if len(self.live) == len(self.segment) else self.live


def merged(sources: Sequence[Part], now: Sequence[Part], segment: Segment) -> Part:
    """The part over `segment`, which was merged of `sources`, with what happened meanwhile.

    `now`: the same segments; fewer rows may live, and files may have other attributes.
    """
    lives = [np.isin(as_rows(a.live), as_rows(b.live)) for a, b in zip(sources, now, strict=True)]
    live = as_bitmap(np.flatnonzero(np.concatenate(lives)).astype(np.uint32))
    attributes = {file: part.attributes.attributes(file) for part in now for file in part.files}
    return Part.of(segment, live, attributes)

"""Which parts make up a collection at one moment, and where does each row stand?

Rows are numbered through all parts. A state never changes: whoever searches keeps the one that was
there when the search began.

Does not know: how one state follows another (see `collection`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from struct import Struct

import numpy as np

from anzoth.index.compiled import address
from anzoth.index.dense import Floats
from anzoth.index.rows import Rows, as_rows
from anzoth.index.segment import Part

_PART = Struct("@6q")

SAMPLED_CHUNKS = 256
"""To know how similar a query is to anything (fusion.background)."""


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
    def packed(self) -> bytes:
        """Where each part's rows begin, and what they have: native/fusion.cpp's struct Part."""
        packed = []
        for part, offset in zip(self.parts, self.offsets):  # noqa: B905  # one more offset
            segment = part.segment
            arrays = (segment.numbers, segment.files, segment.vectors.matrix)
            packed.append(_PART.pack(offset, *map(address, arrays), *segment.sparse.place))
        return b"".join(packed)

    @cached_property
    def sample(self) -> tuple[Floats, int]:
        """The sum of some live chunks' vectors, and of how many; the same ones as long as the same
        chunks live."""
        live = [as_rows(p.live) + np.uint32(at) for p, at in zip(self.parts, self.offsets)]  # noqa: B905  # one more offset
        rows = np.concatenate([np.empty(0, np.uint32), *live])
        size = min(SAMPLED_CHUNKS, len(rows))
        chosen = rows[np.random.default_rng(0).choice(len(rows), size, replace=False)]
        return self.vectors(chosen).sum(axis=0, dtype=np.float64).astype(np.float32), size

    def part_of(self, file: int) -> int | None:
        """The position of the part where this file lives."""
        return next((at for at, part in enumerate(self.parts) if part.has(file)), None)

    def chunk(self, row: int) -> tuple[int, int]:
        """Its number and its file's."""
        at = bisect_right(self.offsets, row) - 1
        segment, own = self.parts[at].segment, row - self.offsets[at]
        return int(segment.numbers[own]), int(segment.files[own])

    def split(self, rows: Rows) -> Iterable[tuple[int, Rows, slice]]:
        """Ascending rows by part: its position, its own rows, and where they stand among these."""
        bounds = np.searchsorted(rows, self.offsets).tolist()
        for at, (start, end) in enumerate(pairwise(bounds)):
            if start < end:
                yield at, rows[start:end] - np.uint32(self.offsets[at]), slice(start, end)

    def vectors(self, rows: Rows) -> Floats:
        """Of rows in any order, (n, d)."""
        if len(self.parts) == 1:
            return self.parts[0].segment.vectors.matrix[rows]
        ascending, inverse = np.unique(rows, return_inverse=True)
        found = [self.parts[at].segment.vectors.matrix[own] for at, own, _ in self.split(ascending)]
        return np.concatenate(found)[inverse] if found else np.empty((0, 0), np.float32)

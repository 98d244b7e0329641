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

import numpy as np

from anzoth.index.dense import Floats
from anzoth.index.rows import Rows, as_rows
from anzoth.index.segment import Part

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

    def place(self, row: int) -> tuple[Part, int]:
        at = bisect_right(self.offsets, row) - 1
        return self.parts[at], row - self.offsets[at]

    def split(self, rows: Rows) -> Iterable[tuple[Part, Rows, slice]]:
        """Ascending rows by part: the part, its own rows, and where they stand among these."""
        if len(self.parts) == 1 and len(rows):
            yield self.parts[0], rows, slice(len(rows))
            return
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

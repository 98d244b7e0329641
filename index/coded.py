"""Which vectors of a segment are nearest to a query, by way of one bit a dimension?

After RaBitQ (Gao and Long, SIGMOD 2024). A vector o is kept beside its code: o less the centre c
of all, turned by a rotation that is the same for all, and of that the signs s of the D coordinates.
With r = o - c, its direction u, and t = <u, s> / √D (about 0.8), the inner product with a query q
is

    <q, o> = <q - c, r> + <c, o> + <q, c> - <c, c>
    <q - c, r> ≈ |r| / (t √D) · <turned q - c, s>

The error of that has a known size, whatever the vectors are, because the rotation is random and
independent of them: a standard deviation of at most |q - c| · |r| / t · √((1 - t²) / (D - 1)).

A search reads the codes from end to end (a 32nd of the vectors) for estimates of all rows. It looks
at the vectors of those with the 2k best estimates; what the k-th best of them reaches is a bar that
the rows which are sought must reach. Then it looks at every other row whose estimate, raised by
`MARGIN` standard deviations, reaches the bar, best estimates first, while the bar rises. So scores
are exact, and a row that belongs to the k nearest is missing only where its estimate is that far
off: of those that just belong one in 44 (one in 15 where a long list is asked for), of the others
fewer. That holds for any k and any filter.

There is no search here without the compiled kernel (`native/dense.cpp`).

Does not know: when codes pay (vectors.py), or how they are kept on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from anzoth.index.compiled import Kernel, address
from anzoth.index.dense import FlatVectors, Floats, Found
from anzoth.index.rows import Rows, as_rows

BLOCK = 32
"""Rows whose codes lie side by side."""
MIXED = 64
"""Coordinates that are mixed with each other at a time; codes have a multiple of that many bits."""
NUM_TURNS = 3
MARGIN = 2.0
LONG_MARGIN = 1.5
LONG = 32
"""From so many on, rows at the end of the list matter less than the time to be sure of them."""
ROUNDING = 1e-5
"""Above what float32 loses in an estimate."""
MAX_DIMENSIONS = 4096
"""Sums of the kernel have 16 bits."""
CODED_AT_ONCE = 1024
"""Rows; what is made of them on the way stays in the second cache."""
MIN_ROWS_PER_K = 8
"""With fewer rows allowed for each that is sought all of them are looked at."""


class CodedVectors:
    """Vectors with a code each. Memory: 4·d bytes a row, and d/8 + 8 for its code."""

    def __init__(self, matrix: Floats, codes: Codes, kernel: Kernel) -> None:
        """`codes`: of the rows of `matrix`."""
        self._flat = FlatVectors(matrix)
        self._kernel = kernel
        self._rooms: list[NDArray[np.float32]] = []
        self.codes = codes
        _, orders, signs = _rotation(_num_bits(matrix.shape[1]))
        self._packed = np.array(
            [
                *map(address, (codes.bits, codes.factors, codes.offsets)),
                *codes.bits.shape[:2],
                address(self._flat.matrix),
                self._flat.matrix.shape[1],
                *map(address, (codes.centre, orders, signs)),
            ],
            np.uint64,
        ).tobytes()

    @classmethod
    def build(cls, matrix: Floats, kernel: Kernel) -> Self:
        return cls(matrix, Codes.of(matrix), kernel)

    @property
    def matrix(self) -> Floats:
        return self._flat.matrix

    @property
    def index_pending(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        return self._flat.nbytes + self.codes.nbytes

    def search(self, query: Floats, k: int, allow: BitMap | None = None) -> Found:
        """The k nearest among `allow` (rows of this segment; None: all)."""
        num_allowed = len(self.matrix) if allow is None else len(allow)
        if self.exact_is_cheaper(num_allowed, k):
            return self._flat.search(query, k, allow)
        query = np.ascontiguousarray(query, np.float32)
        rows, scores = np.empty(k, np.uint32), np.empty(k, np.float32)
        allowed = None if allow is None else as_rows(allow)
        if allowed is not None and int(allowed[-1]) >= len(self.matrix):
            raise IndexError(f"row {allowed[-1]} of {len(self.matrix)}")
        room = self._room()
        count = self._kernel.nearest(
            self._packed,
            address(query),
            (MARGIN if k < LONG else LONG_MARGIN) * self.codes.spread,
            ROUNDING,
            self.codes.largest_factor,
            len(self.matrix),
            *(None, 0) if allowed is None else (address(allowed), len(allowed)),
            k,
            address(room),
            address(rows),
            address(scores),
        )
        self._rooms.append(room)
        return Found(rows[:count], scores[:count], False)

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """Inner products of given rows, in their order. Raises IndexError for a row not here."""
        return self._flat.scores(query, rows)

    def estimates(self, query: Floats) -> Floats:
        """What the codes say of the inner product with each row."""
        query, room = np.ascontiguousarray(query, np.float32), self._room()
        self._kernel.estimates(self._packed, address(query), len(self.matrix), address(room))
        estimates = room[2 * len(self.codes.bits) :][: len(self.matrix)].copy()
        self._rooms.append(room)
        return estimates

    def exact_is_cheaper(self, num_allowed: int, k: int) -> bool:
        """Whether the vectors of all allowed rows are fewer bytes than the codes of all rows."""
        num_rows, dimensions = self.matrix.shape
        code_bytes = self.codes.nbytes // num_rows
        return num_allowed <= max(MIN_ROWS_PER_K * k, num_rows * code_bytes // (4 * dimensions))

    def _room(self) -> NDArray[np.float32]:
        """What a search writes into; kept for the next, because fresh pages cost as much as it."""
        try:
            return self._rooms.pop()
        except IndexError:
            return np.empty((BLOCK + 2) * len(self.codes.bits), np.float32)


@dataclass(frozen=True, eq=False)
class Codes:
    """Of n rows, in blocks of 32: there are more codes than rows."""

    bits: NDArray[np.uint8] = field(repr=False)
    """(blocks, D / 8, 32): eight signs a byte, the least bit first."""
    factors: Floats = field(repr=False)
    """|r| / (t √D)."""
    offsets: Floats = field(repr=False)
    """<c, o>."""
    centre: Floats = field(repr=False)
    spread: float
    """Standard deviation of an estimate's error, in parts of |q - c| and the row's factor."""

    @classmethod
    def of(cls, matrix: Floats) -> Self:
        """Of at least one row, with at most `MAX_DIMENSIONS`."""
        num_rows, dimensions = matrix.shape
        num_bits = _num_bits(dimensions)
        num_blocks = -(-num_rows // BLOCK)
        bits = np.zeros((num_blocks * BLOCK, num_bits // 8), np.uint8)
        factors = np.zeros(num_blocks * BLOCK, np.float32)
        offsets = np.zeros(num_blocks * BLOCK, np.float32)
        centre = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
        alignments = np.ones(num_rows)
        for start in range(0, num_rows, CODED_AT_ONCE):
            own = slice(start, min(start + CODED_AT_ONCE, num_rows))
            rest = matrix[own] - centre
            turned_rest = turned(rest)
            squares = np.einsum("nd,nd->n", rest, rest)
            reaches = np.abs(turned_rest).sum(axis=1)
            is_apart = squares > ROUNDING**2
            np.divide(squares, reaches, out=factors[own], where=is_apart)
            np.divide(reaches**2, squares * num_bits, out=alignments[own], where=is_apart)
            offsets[own] = matrix[own] @ centre
            bits[own] = np.packbits(turned_rest > 0, axis=1, bitorder="little")
        spread = np.sqrt((1 - alignments.mean()) * num_bits / (num_bits - 1))
        blocks = bits.reshape(num_blocks, BLOCK, -1).transpose(0, 2, 1)
        return cls(np.ascontiguousarray(blocks), factors, offsets, centre, float(spread))

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes + self.factors.nbytes + self.offsets.nbytes

    @cached_property
    def largest_factor(self) -> float:
        return float(self.factors.max())

    def sections(self) -> list[bytes]:
        """All but `spread`, for `from_sections`."""
        arrays = (self.bits, self.factors, self.offsets, self.centre)
        return [array.tobytes() for array in arrays]

    @classmethod
    def from_sections(
        cls, sections: Sequence[memoryview], spread: float, num_rows: int, dimensions: int
    ) -> Self:
        """Views of what `sections` gave. Raises ValueError: not the codes of so many rows."""
        bits, *numbers = sections
        num_blocks = -(-num_rows // BLOCK)
        factors, offsets, centre = (np.frombuffer(each, np.float32) for each in numbers)
        if not len(factors) == len(offsets) == num_blocks * BLOCK or len(centre) != dimensions:
            raise ValueError("codes of other rows")
        shape = (num_blocks, _num_bits(dimensions) // 8, BLOCK)
        return cls(np.frombuffer(bits, np.uint8).reshape(shape), factors, offsets, centre, spread)


def turned(vectors: Floats) -> Floats:
    """The vectors rotated: (…, d) to (…, D). Codes in snapshots depend on which rotation it is."""
    dimensions = vectors.shape[-1]
    num_bits = _num_bits(dimensions)
    if dimensions < num_bits:
        vectors = np.pad(vectors, [(0, 0)] * (vectors.ndim - 1) + [(0, num_bits - dimensions)])
    mixing, orders, signs = _rotation(num_bits)
    for order, own_signs in zip(orders, signs, strict=True):
        flipped: Floats = vectors.take(order, axis=-1) * own_signs
        vectors = (flipped.reshape(-1, MIXED) @ mixing).reshape(flipped.shape)
    return vectors


@cache
def _rotation(num_bits: int) -> tuple[Floats, NDArray[np.int64], Floats]:
    """A Hadamard matrix of length-one rows, and before each product with it in which order and
    with which signs coordinates go in, (NUM_TURNS, D) each."""
    # Raw bits: what numpy makes of them may change from version to version.
    raw = np.random.PCG64(0).random_raw
    orders = np.empty((NUM_TURNS, num_bits), np.int64)
    signs = np.empty((NUM_TURNS, num_bits), np.float32)
    for turn in range(NUM_TURNS):
        orders[turn] = np.argsort(raw(num_bits), kind="stable")
        signs[turn] = 1 - 2 * (raw(num_bits) >> np.uint64(63)).astype(np.float32)
    mixing = [[(-1) ** (i & j).bit_count() for j in range(MIXED)] for i in range(MIXED)]
    return (np.array(mixing) / np.sqrt(MIXED)).astype(np.float32), orders, signs


def _num_bits(dimensions: int) -> int:
    return -(-dimensions // MIXED) * MIXED

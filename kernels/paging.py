"""Which tokens of one step belong together, and where do their keys and values lie?

A step is a run of T token rows: the owed tokens of sequence 0, then of sequence 1, and so on.

    token rows:   [ seq 0 ………… | seq 1 | seq 2 …… | padding ]
                    0            s1      s2         s3        T
    sequence i :  context  [ 0 …………… first | first …………… context_len )
                             in the cache    its rows of this step

Keys and values of position p of a sequence lie in slot `table[p // block] * block + p % block`.
This is plain metadata in numpy: a backend turns it into whatever its attention kernel wants, once
per step and not once per layer.

Does not know: tensors of a model, layers, or why these sequences share a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class PagedLayout:
    """Row ranges, context lengths and block tables of the S sequences of one step."""

    query_starts: IntArray
    """[S+1]: rows of sequence i are [query_starts[i], query_starts[i+1])."""
    context_lens: IntArray
    """[S]: positions known after this step's keys and values are written, its own rows included."""
    block_tables: IntArray
    """[S, B]: physical blocks in order; entries past the context are never read."""
    block_size_tokens: int
    num_rows: int
    """T, padding rows included."""

    @property
    def num_queries(self) -> IntArray:
        return np.diff(self.query_starts)


def slots_of(layout: PagedLayout, sequence: IntArray, position: IntArray) -> IntArray:
    """The cache slot of each (sequence index, position) pair; the two arrays broadcast."""
    block = layout.block_tables[sequence, position // layout.block_size_tokens]
    return block * layout.block_size_tokens + position % layout.block_size_tokens


def padded_rows(num_rows: int) -> int:
    """How many rows a step of `num_rows` tokens is computed with.

    Two reasons. A matrix library picks another kernel for one, two or three rows, and then the same
    token gets another rounding alone than in a batch; four rows and more agreed bit for bit
    (oneDNN in torch 2.13, AVX-512-BF16, 1 and 2 threads, bf16 and fp32, K 80…4096, N 96…18992). And
    every new row count costs about 0.2 ms per weight shape to prepare, so there should be few.
    """
    multiple = 4 if num_rows <= 64 else 16 if num_rows <= 256 else 64
    return -(-num_rows // multiple) * multiple

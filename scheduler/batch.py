"""Which tensors does one step need?

The owed tokens of all scheduled sequences are laid end to end, decodes and prompt chunks alike, and
padded to a row count the kernels like (kernels/paging.padded_rows). Work per sequence is a list
slice; everything per token is numpy.

Does not know: models, layers, or how the batch was chosen. It changes no sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from anzoth.kernels.paging import PagedLayout, padded_rows, slots_of
from anzoth.scheduler.sequence import ScheduledSequence


@dataclass(slots=True, frozen=True, eq=False)
class Batch:
    """The inputs of one step. T: token rows with padding; R: rows to sample, with padding."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    slots: torch.Tensor
    """The slot of each real token row; padding rows have none."""
    layout: PagedLayout
    sample_rows_R: torch.Tensor
    """Token rows behind which a token is drawn, one for each place, in order; the last one is
    repeated as padding. Possibly none."""
    score_rows: list[range]
    """For each scheduled sequence, the token rows behind which its prompt is scored."""


def build_batch(scheduled: Sequence[ScheduledSequence], block_size_tokens: int) -> Batch:
    """Tensors for computing positions [computed, computed + num_rows) of each sequence."""
    num_tokens_S = np.array([item.num_rows for item in scheduled], dtype=np.int64)
    computed_S = np.array([item.sequence.num_computed_tokens for item in scheduled], dtype=np.int64)
    query_starts = np.zeros(len(scheduled) + 1, dtype=np.int64)
    np.cumsum(num_tokens_S, out=query_starts[1:])
    num_tokens = int(query_starts[-1])
    num_rows = padded_rows(num_tokens)

    token_ids_T = np.zeros(num_rows, dtype=np.int64)
    token_ids_T[:num_tokens] = np.fromiter(
        chain.from_iterable(_tokens(item) for item in scheduled), np.int64, num_tokens
    )
    sequence_of_row = np.repeat(np.arange(len(scheduled)), num_tokens_S)
    positions_T = np.zeros(num_rows, dtype=np.int64)
    positions_T[:num_tokens] = (
        np.arange(num_tokens) + (computed_S - query_starts[:-1])[sequence_of_row]
    )
    layout = PagedLayout(
        query_starts=query_starts,
        context_lens=computed_S + num_tokens_S,
        block_tables=_block_tables(scheduled, computed_S + num_tokens_S, block_size_tokens),
        block_size_tokens=block_size_tokens,
        num_rows=num_rows,
    )
    sample_rows = _sample_rows(scheduled, query_starts)
    return Batch(
        token_ids_T=torch.from_numpy(token_ids_T),
        positions_T=torch.from_numpy(positions_T),
        slots=torch.from_numpy(slots_of(layout, sequence_of_row, positions_T[:num_tokens])),
        layout=layout,
        sample_rows_R=torch.from_numpy(sample_rows),
        score_rows=[
            range(stop - item.num_scored, stop)
            for item, start in zip(scheduled, query_starts.tolist(), strict=False)
            for stop in [start + _num_prompt_rows(item)]
        ],
    )


def _tokens(item: ScheduledSequence) -> list[int]:
    first = item.sequence.num_computed_tokens
    return [*item.sequence.token_ids[first : first + item.num_tokens], *item.drafts]


def _num_prompt_rows(item: ScheduledSequence) -> int:
    """Leading rows with a token of the prompt that another one follows."""
    sequence = item.sequence
    return min(item.num_tokens, sequence.num_prompt_tokens - 1 - sequence.num_computed_tokens)


def _sample_rows(scheduled: Sequence[ScheduledSequence], query_starts: np.ndarray) -> np.ndarray:
    stops = query_starts[1:].tolist()
    rows: list[int] = []
    for item, stop in zip(scheduled, stops, strict=True):
        if item.samples:
            rows.extend(range(stop - 1 - len(item.drafts), stop))
    if rows:
        rows += rows[-1:] * (padded_rows(len(rows)) - len(rows))
    return np.array(rows, dtype=np.int64)


def _block_tables(
    scheduled: Sequence[ScheduledSequence], context_lens: np.ndarray, block_size_tokens: int
) -> np.ndarray:
    """[S, B]: the blocks that each context reaches into; entries past them are never used."""
    num_blocks_S = -(-context_lens // block_size_tokens)
    tables = np.zeros((len(scheduled), int(num_blocks_S.max())), dtype=np.int64)
    for row, item, num_blocks in zip(tables, scheduled, num_blocks_S.tolist(), strict=True):
        assert len(item.sequence.block_table) >= num_blocks, "scheduled without enough blocks"
        row[:num_blocks] = item.sequence.block_table[:num_blocks]
    return tables

"""Which tensors does one step need?

The owed tokens of all scheduled sequences are laid end to end, decodes and prompt chunks alike, and
padded to a row count the kernels like (kernels/paging.padded_rows). What is done for each sequence
is a step of a list comprehension; everything per token or block is numpy.

Does not know: models, layers, or how the batch was chosen. It changes no sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    context_lens = computed_S + num_tokens_S
    query_starts = np.zeros(len(scheduled) + 1, dtype=np.int64)
    np.cumsum(num_tokens_S, out=query_starts[1:])
    num_tokens = int(query_starts[-1])
    num_rows = padded_rows(num_tokens)

    token_ids_T = np.zeros(num_rows, dtype=np.int64)
    token_ids_T[:num_tokens] = _tokens(scheduled)
    sequence_of_row = np.repeat(np.arange(len(scheduled)), num_tokens_S)
    positions_T = np.zeros(num_rows, dtype=np.int64)
    positions_T[:num_tokens] = (
        np.arange(num_tokens) + (computed_S - query_starts[:-1])[sequence_of_row]
    )
    layout = PagedLayout(
        query_starts=query_starts,
        context_lens=context_lens,
        block_tables=_block_tables(scheduled, -(-context_lens // block_size_tokens)),
        block_size_tokens=block_size_tokens,
        num_rows=num_rows,
    )
    return Batch(
        token_ids_T=torch.from_numpy(token_ids_T),
        positions_T=torch.from_numpy(positions_T),
        slots=torch.from_numpy(slots_of(layout, sequence_of_row, positions_T[:num_tokens])),
        layout=layout,
        sample_rows_R=torch.from_numpy(_sample_rows(scheduled, query_starts[1:])),
        score_rows=[
            _score_rows(item, start) if item.num_scored else _NO_ROWS
            for item, start in zip(scheduled, query_starts[:-1].tolist(), strict=True)
        ],
    )


def _tokens(scheduled: Sequence[ScheduledSequence]) -> list[int]:
    token_ids: list[int] = []
    for item in scheduled:
        known, first = item.sequence.token_ids, item.sequence.num_computed_tokens
        if item.num_rows == 1:
            token_ids.append(known[first])
        else:
            token_ids += known[first : first + item.num_tokens]
            token_ids += item.drafts
    return token_ids


def _score_rows(item: ScheduledSequence, start: int) -> range:
    """The last of the leading rows with a token of the prompt that another one follows."""
    sequence = item.sequence
    stop = start + min(
        item.num_tokens, sequence.num_prompt_tokens - 1 - sequence.num_computed_tokens
    )
    return range(stop - item.num_scored, stop)


def _sample_rows(scheduled: Sequence[ScheduledSequence], stops: np.ndarray) -> np.ndarray:
    """The last rows of each sequence, as many as it has places."""
    num_places_S = np.array([len(item.places) for item in scheduled], dtype=np.int64)
    num_places = int(num_places_S.sum())
    if not num_places:
        return np.zeros(0, dtype=np.int64)
    rows = np.arange(num_places) + np.repeat(stops - np.cumsum(num_places_S), num_places_S)
    return np.pad(rows, (0, padded_rows(num_places) - num_places), mode="edge")


def _block_tables(scheduled: Sequence[ScheduledSequence], num_blocks_S: np.ndarray) -> np.ndarray:
    """[S, B]: the blocks that each context reaches into; entries past them are never used."""
    tables = [
        item.sequence.block_table[:num_blocks]
        for item, num_blocks in zip(scheduled, num_blocks_S.tolist(), strict=True)
    ]
    blocks = np.frombuffer(b"".join(tables), dtype=np.int64)
    assert len(blocks) == num_blocks_S.sum(), "scheduled without enough blocks"
    tables_SB = np.zeros((len(scheduled), int(num_blocks_S.max())), dtype=np.int64)
    tables_SB[np.arange(tables_SB.shape[1]) < num_blocks_S[:, None]] = blocks
    return tables_SB


_NO_ROWS = range(0)

"""What kernel tests share: random paged layouts."""

import numpy as np
import pytest
import torch

from anzoth.kernels.paging import PagedLayout, padded_rows


@pytest.fixture(autouse=True)
def one_thread():
    """Thread start-up and busy neighbours would dominate these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_layout():
    """(num_queries, context_lens) -> (layout, number of slots), with shuffled blocks."""

    def make(num_queries, context_lens, block_size=4, seed=0):
        rng = np.random.default_rng(seed)
        needed = [-(-n // block_size) for n in context_lens]
        num_blocks = sum(needed) + 3
        free = rng.permutation(num_blocks).tolist()
        tables = np.zeros((len(needed), max(needed)), dtype=np.int64)
        for row, count in zip(tables, needed, strict=True):
            row[:count] = [free.pop() for _ in range(count)]
        starts = np.concatenate(([0], np.cumsum(num_queries)))
        layout = PagedLayout(
            query_starts=starts,
            context_lens=np.array(context_lens),
            block_tables=tables,
            block_size_tokens=block_size,
            num_rows=padded_rows(int(starts[-1])),
        )
        return layout, num_blocks * block_size

    return make

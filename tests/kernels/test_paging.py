import numpy as np
import pytest

from anzoth.kernels.paging import padded_rows, slots_of


def test_a_slot_is_its_block_and_the_offset_in_it(make_layout):
    layout, _ = make_layout([1, 1], [9, 5], block_size=4)
    for sequence, context_len in enumerate((9, 5)):
        for position in range(context_len):
            block = layout.block_tables[sequence, position // 4]
            slot = slots_of(layout, np.array([sequence]), np.array([position]))
            assert slot.tolist() == [block * 4 + position % 4]


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 63, 64, 65, 200, 257, 2048, 2049])
def test_padding_never_shrinks_and_stays_below_a_quarter(num_rows):
    padded = padded_rows(num_rows)
    assert padded >= max(num_rows, 4)
    assert padded - num_rows < max(4, num_rows / 4)


def test_few_different_row_counts_are_ever_used():
    assert len({padded_rows(n) for n in range(1, 2049)}) < 64

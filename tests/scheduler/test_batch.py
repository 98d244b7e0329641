"""The tensors of a step, on a step small enough to write down."""

from array import array

import numpy as np

from anzoth.frames import SamplingParams
from anzoth.scheduler.batch import build_batch
from anzoth.scheduler.sequence import ScheduledSequence, Sequence


def _item(token_ids, num_computed, num_tokens, block_table):
    sequence = Sequence(
        request=0,
        choice=0,
        tenant="t",
        cache_salt="s",
        token_ids=token_ids,
        num_prompt_tokens=len(token_ids),
        max_tokens=9,
        sampling=SamplingParams(),
        arrival_s=0.0,
        num_computed_tokens=num_computed,
        block_table=array("q", block_table),
    )
    return ScheduledSequence(sequence, num_tokens)


def test_a_mixed_step_is_laid_end_to_end_and_padded():
    decode = _item([10, 11, 12, 13, 14], 4, 1, [7, 2])
    chunk = _item([20, 21, 22, 23, 24, 25, 26], 2, 3, [5, 1])
    whole = _item([30, 31], 0, 2, [4, 9, 9])
    batch = build_batch([decode, chunk, whole], block_size_tokens=4)
    assert batch.token_ids_T.tolist() == [14, 22, 23, 24, 30, 31, 0, 0]
    assert batch.positions_T.tolist() == [4, 2, 3, 4, 0, 1, 0, 0]
    assert batch.slots.tolist() == [8, 22, 23, 4, 16, 17]
    assert batch.layout.query_starts.tolist() == [0, 1, 4, 6]
    assert batch.layout.context_lens.tolist() == [5, 5, 2]
    assert batch.layout.block_tables.tolist() == [[7, 2], [5, 1], [4, 0]]
    assert batch.layout.num_rows == 8
    assert batch.sample_rows_R.tolist() == [0, 5, 5, 5]


def test_a_step_in_which_nothing_is_sampled_has_no_rows_to_sample():
    batch = build_batch([_item([1, 2, 3, 4], 0, 3, [0])], block_size_tokens=4)
    assert batch.sample_rows_R.numel() == 0


def test_no_two_tokens_of_a_step_share_a_slot():
    rng = np.random.default_rng(0)
    blocks = rng.permutation(200).tolist()
    items = []
    for _ in range(20):
        length = int(rng.integers(1, 40))
        computed = int(rng.integers(0, length))
        table = [blocks.pop() for _ in range(-(-length // 5))]
        owed = length - computed
        items.append(_item(list(range(length)), computed, int(rng.integers(1, owed + 1)), table))
    batch = build_batch(items, block_size_tokens=5)
    slots = batch.slots.tolist()
    assert len(set(slots)) == len(slots) == sum(item.num_tokens for item in items)

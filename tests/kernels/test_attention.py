"""Paged attention on CPU against the float64 reference, and what must hold to the bit."""

import numpy as np
import pytest
import torch

from anzoth.kernels import reference
from anzoth.kernels.cpu.attention import paged_attention, plan_attention
from anzoth.kernels.paging import slots_of

# Allowed error beyond twice that of the same formula evaluated by torch in the same type.
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}

STEPS = {
    "decode": ([1, 1, 1, 1, 1], [1, 7, 16, 17, 65]),
    "whole prompts": ([3, 20, 1], [3, 20, 1]),
    "a chunk behind a cached prefix": ([5, 11], [37, 90]),
    "mixed": ([1, 9, 1, 1, 30, 2], [40, 9, 3, 71, 44, 18]),
}


def _random(layout, num_slots, heads, kv_heads, head_dim, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(layout.num_rows, heads, head_dim, generator=generator).to(dtype)
    k = torch.randn(num_slots, kv_heads, head_dim, generator=generator).to(dtype)
    v = torch.randn(num_slots, kv_heads, head_dim, generator=generator).to(dtype)
    return q, k, v


def _run(layout, q, k, v, window=None, softcap=None):
    plan = plan_attention(
        layout,
        num_heads=q.shape[1],
        num_kv_heads=k.shape[1],
        dtype=q.dtype,
        window=window,
    )
    return paged_attention(q, k, v, plan, scale=0.3, softcap=softcap)


def _used_slots(layout):
    return np.concatenate(
        [
            slots_of(layout, np.array([i]), np.arange(context_len))
            for i, context_len in enumerate(layout.context_lens)
        ]
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(6, 2, 20), (4, 4, 32), (5, 1, 8)])
@pytest.mark.parametrize(
    "mask", [{}, {"window": 6}, {"softcap": 1.5}, {"window": 6, "softcap": 1.5}], ids=str
)
@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_matches_the_reference(make_layout, step, heads, kv_heads, head_dim, mask, dtype):
    layout, num_slots = make_layout(*STEPS[step])
    q, k, v = _random(layout, num_slots, heads, kv_heads, head_dim, dtype)
    exact = reference.paged_attention(q.double(), k.double(), v.double(), layout, scale=0.3, **mask)
    same_type = reference.paged_attention(q, k, v, layout, scale=0.3, **mask)
    real = slice(0, int(layout.query_starts[-1]))
    allowed = 2 * (same_type.double() - exact)[real].abs().max() + ROUNDING[dtype]
    error = (_run(layout, q, k, v, **mask).double() - exact)[real].abs().max()
    assert error <= allowed


def test_a_soft_cap_bounds_every_score_in_the_reference_itself(make_layout):
    """Scores of ±100 capped at 0.01 leave an average of the values; uncapped they choose one."""
    layout, num_slots = make_layout([1], [9])
    q, k, v = _random(layout, num_slots, 2, 2, 8, torch.float64)
    used = _used_slots(layout)
    average = v[used].mean(0).flatten()
    for scale, softcap, is_average in ((100.0, 0.01, True), (100.0, None, False)):
        out = reference.paged_attention(q, k, v, layout, scale=scale, softcap=softcap)[0]
        assert torch.allclose(out, average, atol=0.03) == is_average


def test_soft_capped_queries_in_several_pieces_are_the_same_queries(make_layout, monkeypatch):
    layout, num_slots = make_layout([30, 1, 1], [44, 90, 20])
    q, k, v = _random(layout, num_slots, 6, 2, 16, torch.float32)
    whole = _run(layout, q, k, v, window=40, softcap=2.0)
    monkeypatch.setattr("anzoth.kernels.cpu.attention._MAX_SCORES", 1)
    torch.testing.assert_close(
        _run(layout, q, k, v, window=40, softcap=2.0), whole, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 6])
def test_slots_that_are_not_in_a_context_are_never_read(make_layout, window, softcap):
    layout, num_slots = make_layout(*STEPS["mixed"])
    q, k, v = _random(layout, num_slots, 6, 2, 20, torch.bfloat16)
    before = _run(layout, q, k, v, window, softcap)
    unused = np.ones(num_slots, dtype=bool)
    unused[_used_slots(layout)] = False
    k[unused] = v[unused] = float("nan")
    assert unused.any()
    assert torch.equal(_run(layout, q, k, v, window, softcap), before)


def test_where_the_blocks_lie_makes_no_difference(make_layout):
    first, num_slots = make_layout(*STEPS["mixed"], seed=1)
    second, _ = make_layout(*STEPS["mixed"], seed=2)
    q, k, v = _random(first, num_slots, 6, 2, 20, torch.float32)
    k2, v2 = torch.zeros_like(k), torch.zeros_like(v)
    k2[_used_slots(second)], v2[_used_slots(second)] = k[_used_slots(first)], v[_used_slots(first)]
    assert not np.array_equal(first.block_tables, second.block_tables)
    assert torch.equal(_run(first, q, k, v), _run(second, q, k2, v2))


def test_long_contexts_are_split_into_several_groups_and_agree(make_layout, monkeypatch):
    layout, num_slots = make_layout([1] * 6, [70, 80, 90, 100, 110, 120])
    q, k, v = _random(layout, num_slots, 4, 2, 16, torch.float32)
    together = _run(layout, q, k, v)
    monkeypatch.setattr("anzoth.kernels.cpu.attention._MAX_GROUP_CONTEXT", 128)
    plan = plan_attention(layout, num_heads=4, num_kv_heads=2, dtype=q.dtype)
    assert len(plan.groups) == 6
    torch.testing.assert_close(_run(layout, q, k, v), together, rtol=0, atol=1e-6)


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
    reason="equal to the bit where it was measured: AVX-512-BF16 without AMX",
)
@pytest.mark.parametrize("window", [None, 6, 600])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_token_gets_the_same_bits_alone_and_in_any_company(
    make_layout, window, dtype, heads, softcap
):
    num_queries = [1, 5, 1, 40, 2, 30, 60, 33]
    context_lens = [700, 33, 1030, 830, 18, 1300, 240, 400]
    layout, num_slots = make_layout(num_queries, context_lens, block_size=16)
    q, k, v = _random(layout, num_slots, heads, 2, 24, dtype)
    together = _run(layout, q, k, v, window, softcap)
    for row in range(int(layout.query_starts[-1])):
        i = int(np.searchsorted(layout.query_starts, row, side="right")) - 1
        context_len = layout.context_lens[i] - (layout.query_starts[i + 1] - 1 - row)
        alone = type(layout)(
            query_starts=np.array([0, 1]),
            context_lens=np.array([context_len]),
            block_tables=layout.block_tables[i : i + 1],
            block_size_tokens=16,
            num_rows=4,
        )
        q_alone = q[row : row + 1].repeat(4, 1, 1)
        assert torch.equal(_run(alone, q_alone, k, v, window, softcap)[0], together[row])

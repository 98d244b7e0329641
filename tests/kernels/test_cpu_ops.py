"""Norm, rotation, activation, cache write and linear layers against their formulas."""

import pytest
import torch

from anzoth.kernels import reference
from anzoth.kernels.cpu import linear, pointwise

# Relative to the largest value: a few units in the last place of the type.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1.2e-2, torch.float16: 2e-3}
DTYPES = list(TOLERANCE)


def _close(actual, exact, dtype):
    assert actual.dtype == dtype
    allowed = TOLERANCE[dtype] * max(1.0, exact.abs().max().item())
    assert (actual.double() - exact).abs().max().item() <= allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 48), (5, 7, 20), (1, 1)])
@pytest.mark.parametrize("has_weight", [True, False])
def test_rms_norm_matches_its_formula(dtype, shape, has_weight):
    x = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).to(dtype)
    weight = torch.linspace(0.5, 2, shape[-1]).to(dtype) if has_weight else None
    exact = reference.rms_norm(x.double(), None if weight is None else weight.double(), 1e-5)
    _close(pointwise.rms_norm(x, weight, 1e-5), exact, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_float32_norm_weight_is_not_rounded_to_the_type_of_the_rows(dtype):
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(8)).to(dtype)
    weight = 1 + torch.linspace(-1e-3, 1e-3, 64)
    assert (weight.to(dtype) == 1).sum() > 16
    exact = reference.rms_norm(x.double(), weight.double(), 1e-6)
    assert torch.equal(pointwise.rms_norm(x, weight, 1e-6), exact.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_pairs", [10, 7])
def test_rope_matches_its_formula(dtype, num_pairs):
    x = torch.randn(5, 3, 20, generator=torch.Generator().manual_seed(2)).to(dtype)
    angles = torch.outer(torch.tensor([0.0, 1, 2, 77, 4096]), torch.logspace(0, -4, num_pairs))
    exact = reference.rope(x.double(), angles.cos().double(), angles.sin().double())
    _close(pointwise.rope(x, angles.cos(), angles.sin()), exact, dtype)


def test_rope_leaves_the_dimensions_past_its_angles_alone():
    x = torch.randn(4, 2, 12, generator=torch.Generator().manual_seed(9))
    for rope in (reference.rope, pointwise.rope):
        turned = rope(x, torch.zeros(4, 3), torch.ones(4, 3))
        assert torch.equal(turned[..., 6:], x[..., 6:])
        torch.testing.assert_close(turned[..., :3], -x[..., 3:6])


def test_rope_reads_a_slice_of_a_wider_row():
    wide = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(3))
    cos, sin = torch.rand(4, 4), torch.rand(4, 4)
    expected = pointwise.rope(wide[:, :3].contiguous(), cos, sin)
    assert torch.equal(pointwise.rope(wide[:, :3], cos, sin), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["swiglu", "geglu"])
def test_an_activation_matches_its_formula_and_leaves_its_input_alone(dtype, name):
    gate_up = (4 * torch.randn(6, 2 * 37, generator=torch.Generator().manual_seed(4))).to(dtype)
    before = gate_up.clone()
    exact = getattr(reference, name)(gate_up.double())
    _close(getattr(pointwise, name)(gate_up), exact, dtype)
    assert torch.equal(gate_up, before)


def test_written_keys_and_values_lie_in_their_slots_and_nowhere_else():
    k_cache, v_cache = torch.zeros(12, 2, 3), torch.zeros(12, 2, 3)
    keys, values = torch.randn(3, 2, 3), torch.randn(3, 2, 3)
    slots = torch.tensor([7, 0, 3])
    pointwise.write_kv(k_cache, v_cache, keys, values, slots)
    assert torch.equal(k_cache[slots], keys)
    assert torch.equal(v_cache[slots], values)
    for cache in (k_cache, v_cache):
        assert cache.abs().sum(dim=(1, 2)).nonzero()[:, 0].tolist() == [0, 3, 7]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(48, 112), (33, 7)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("num_rows", [4, 12])
def test_linear_matches_its_formula(dtype, inputs, outputs, has_bias, num_rows):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(num_rows, inputs, generator=generator).to(dtype)
    weight = (torch.randn(outputs, inputs, generator=generator) / inputs**0.5).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype) if has_bias else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    prepared = linear.prepare_linear(weight.clone(), bias)
    _close(prepared(x), exact, dtype)


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_logits_are_float32_whichever_way_the_head_is_multiplied(monkeypatch, limit):
    monkeypatch.setattr(linear, "_MAX_FLOAT32_HEAD_BYTES", limit)
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(4, 64, generator=generator).bfloat16()
    weight = torch.randn(50, 64, generator=generator).bfloat16()
    logits = linear.prepare_head(weight)(x)
    exact = x.double() @ weight.double().T
    assert logits.dtype == torch.float32
    relative = ((logits.double() - exact).abs() / exact.abs().max()).max().item()
    assert relative < (1e-6 if limit else 8e-3)


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
    reason="equal to the bit where it was measured: AVX-512-BF16 without AMX",
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_row_of_a_linear_gets_the_same_bits_with_any_number_of_rows(dtype):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(80, 192, generator=generator).to(dtype)
    prepared = linear.prepare_linear(torch.randn(200, 192, generator=generator).to(dtype))
    whole = prepared(x)
    for first, last in [(0, 4), (3, 11), (40, 80), (10, 70)]:
        assert torch.equal(prepared(x[first:last].contiguous()), whole[first:last])

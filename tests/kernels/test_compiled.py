"""The compiled CPU kernels, each build that this processor can run, against the formulas.

And what must hold to the bit: a row alone is the row in a batch, wherever its blocks lie, however
its prompt was cut, and whatever lies in slots that are not its own.
"""

import numpy as np
import pytest
import torch

from anzoth.kernels import reference
from anzoth.kernels.cpu import library, pointwise
from anzoth.kernels.cpu.compiled import Compiled
from anzoth.kernels.paging import slots_of

# Relative to the largest value: a few units in the last place of the type.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3}
DTYPES = list(TOLERANCE)

STEPS = {
    "decode": ([1, 1, 1, 1, 1], [1, 7, 64, 65, 200]),
    "whole prompts": ([3, 70, 1], [3, 70, 1]),
    "a chunk behind a cached prefix": ([5, 40], [37, 190]),
    "mixed": ([1, 9, 1, 1, 30, 2], [40, 9, 130, 71, 44, 18]),
}
SHAPES = [(6, 2, 20), (4, 4, 32), (5, 1, 8), (8, 2, 128), (2, 1, 80)]
"""Query heads, key/value heads, head dimension."""


@pytest.fixture(params=list(library.BUILDS))
def compiled(request):
    build = library.load_build(request.param)
    if build is None:
        pytest.skip(f"this processor or installation has no {request.param} kernels")
    return Compiled(build)


def test_the_best_build_for_this_processor_was_compiled():
    """Without it everything works, slowly: a test machine must not fall back unnoticed."""
    loaded = library.load()
    assert loaded is not None
    able = [name for name, (needed, _) in library.BUILDS.items() if needed <= _flags()]
    assert loaded.instructions == able[0]


def _flags():
    return library.processor_flags()


@pytest.fixture
def fresh():
    """`library.load` remembers its answer: forget it before and after."""
    library.load.cache_clear()
    yield
    library.load.cache_clear()


@pytest.mark.parametrize(("choice", "expected"), [("torch", None), ("avx2", "avx2")])
def test_the_environment_can_choose_another_build(fresh, monkeypatch, choice, expected):
    monkeypatch.setenv(library.VARIABLE, choice)
    loaded = library.load()
    assert (loaded and loaded.instructions) == expected


def test_a_processor_without_the_instructions_is_told_what_it_costs(fresh, monkeypatch, caplog):
    monkeypatch.setattr(library, "processor_flags", frozenset)
    library.load_build.cache_clear()
    try:
        assert library.load() is None
    finally:
        library.load_build.cache_clear()
    assert "several times slower" in caplog.text


# --- linear ---------------------------------------------------------------------------------------


def _close(actual, exact, dtype):
    assert actual.dtype == dtype
    allowed = TOLERANCE[dtype] * max(1.0, exact.abs().max().item())
    assert (actual.double() - exact).abs().max().item() <= allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(48, 112), (33, 7), (1, 1), (700, 65)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("num_rows", [1, 2, 12, 13, 40, 200])
def test_linear_matches_its_formula(compiled, dtype, inputs, outputs, has_bias, num_rows):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(num_rows, inputs, generator=generator).to(dtype)
    weight = (torch.randn(outputs, inputs, generator=generator) / inputs**0.5).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype) if has_bias else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    prepared = compiled.prepare_linear(weight.clone(), bias)
    _close(prepared(x), exact, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_are_float32_and_not_rounded_to_the_type_of_the_weights(compiled, dtype):
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(4, 64, generator=generator).to(dtype)
    weight = torch.randn(50, 64, generator=generator).to(dtype)
    _close(compiled.prepare_head(weight)(x), x.double() @ weight.double().T, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_a_linear_gets_the_same_bits_with_any_number_of_rows(compiled, dtype):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(300, 193, generator=generator).to(dtype)
    prepared = compiled.prepare_linear(torch.randn(200, 193, generator=generator).to(dtype))
    whole = prepared(x)
    for first, last in [(0, 1), (3, 11), (40, 80), (10, 299), (299, 300)]:
        assert torch.equal(prepared(x[first:last]), whole[first:last])


def test_a_linear_reads_a_slice_of_wider_rows(compiled):
    x = torch.randn(5, 90, generator=torch.Generator().manual_seed(8))
    prepared = compiled.prepare_linear(torch.eye(30))
    assert torch.equal(prepared(x[:, 20:50]), x[:, 20:50])
    assert torch.equal(prepared(x[:, ::3]), x[:, ::3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_not_numbers_stay_visible(compiled, dtype):
    """They become a failure of their row; rounding must not turn them into numbers."""
    x = torch.ones(3, 8, dtype=dtype)
    x[1, 4] = float("nan")
    out = compiled.prepare_linear(torch.eye(8).to(dtype))(x)
    assert out.isnan().any(dim=1).tolist() == [False, True, False]
    assert compiled.rms_norm(x, None, 1e-6).isnan().any(dim=1).tolist() == [False, True, False]


# --- element by element ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 48), (5, 7, 20), (1, 1), (3, 1000)])
@pytest.mark.parametrize("weight_dtype", [None, *DTYPES])
def test_rms_norm_matches_its_formula(compiled, dtype, shape, weight_dtype):
    x = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).to(dtype)
    weight = None if weight_dtype is None else torch.linspace(0.5, 2, shape[-1]).to(weight_dtype)
    exact = reference.rms_norm(x.double(), None if weight is None else weight.double(), 1e-5)
    _close(compiled.rms_norm(x, weight, 1e-5), exact, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "num_pairs"), [(20, 10), (20, 7), (64, 32), (96, 24)])
def test_rope_matches_its_formula_and_reads_a_slice_of_wider_rows(
    compiled, dtype, head_dim, num_pairs
):
    wide = torch.randn(5, 4, head_dim, generator=torch.Generator().manual_seed(2)).to(dtype)
    x = wide[:, :3]
    angles = torch.outer(torch.tensor([0.0, 1, 2, 77, 4096]), torch.logspace(0, -4, num_pairs))
    exact = reference.rope(x.double(), angles.cos().double(), angles.sin().double())
    turned = compiled.rope(x, angles.cos(), angles.sin())
    _close(turned, exact, dtype)
    assert torch.equal(turned[..., 2 * num_pairs :], x[..., 2 * num_pairs :])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["swiglu", "geglu"])
@pytest.mark.parametrize("width", [37, 64])
def test_an_activation_matches_its_formula_and_leaves_its_input_alone(compiled, dtype, name, width):
    generator = torch.Generator().manual_seed(4)
    gate_up = (4 * torch.randn(6, 2 * width, generator=generator)).to(dtype)
    gate_up[0, :4] = torch.tensor([0.0, 120.0, -120.0, -1e-3]).to(dtype)
    before = gate_up.clone()
    exact = getattr(reference, name)(gate_up.double())
    _close(getattr(compiled, name)(gate_up), exact, dtype)
    assert torch.equal(gate_up, before)


@pytest.mark.parametrize("vocab_size", [5, 32, 100, 1031])
def test_forbidden_logits_are_infinitely_unlikely_and_the_others_as_they_were(compiled, vocab_size):
    generator = np.random.default_rng(vocab_size)
    logits = torch.randn(4, vocab_size, generator=torch.Generator().manual_seed(1))
    allowed = generator.integers(0, 2, (2, -(-vocab_size // 32) * 32), dtype=np.uint8)
    allowed[0, :32], allowed[1, :32] = 0, 1  # words that are all or nothing
    words = np.packbits(allowed, axis=1, bitorder="little").view(np.int32)
    expected = logits.clone()
    for row, bits in zip((3, 1), allowed[:, :vocab_size], strict=True):
        expected[row, torch.from_numpy(bits == 0)] = -torch.inf
    for forbid in (compiled.forbid, pointwise.forbid):
        masked = logits.clone()
        forbid(masked, [3, 1], words)
        assert torch.equal(masked, expected)


# --- attention ------------------------------------------------------------------------------------


def _case(make_layout, step, shape, dtype, seed=0):
    """A layout with shuffled blocks, queries, and keys and values slot by slot."""
    heads, kv_heads, head_dim = shape
    layout, num_slots = make_layout(*step, block_size=16, seed=seed)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(layout.num_rows, heads, head_dim, generator=generator).to(dtype)
    k, v = torch.randn(2, num_slots, kv_heads, head_dim, generator=generator).to(dtype)
    return layout, q, k, v


def _run(compiled, layout, q, k, v, window=None, softcap=None, garbage=0.0):
    """Writes all keys and values that belong to a context, then attends."""
    k_cache, v_cache = torch.full_like(k, garbage), torch.full_like(v, garbage)
    used = torch.from_numpy(_used_slots(layout))
    compiled.write_kv(k_cache, v_cache, k[used], v[used], used)
    return _attend(compiled, layout, q, k_cache, v_cache, window, softcap)


def _attend(compiled, layout, q, k_cache, v_cache, window=None, softcap=None):
    plan = compiled.plan_attention(
        layout, num_heads=q.shape[1], num_kv_heads=k_cache.shape[1], dtype=q.dtype, window=window
    )
    return compiled.paged_attention(q, k_cache, v_cache, plan, scale=0.3, softcap=softcap)


def _used_slots(layout):
    contexts = enumerate(layout.context_lens)
    return np.concatenate([slots_of(layout, np.array([i]), np.arange(n)) for i, n in contexts])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "mask", [{}, {"window": 6}, {"softcap": 1.5}, {"window": 70, "softcap": 1.5}], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_matches_the_reference(compiled, make_layout, step, shape, mask, dtype):
    layout, q, k, v = _case(make_layout, STEPS[step], shape, dtype)
    exact = reference.paged_attention(q.double(), k.double(), v.double(), layout, scale=0.3, **mask)
    out = _run(compiled, layout, q, k, v, **mask)
    _close(out, exact, dtype)
    assert not out[int(layout.query_starts[-1]) :].any(), "padding rows are zero"


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 6])
def test_what_lies_in_slots_that_are_not_in_a_context_cannot_reach_an_answer(
    compiled, make_layout, window, softcap
):
    layout, q, k, v = _case(make_layout, STEPS["mixed"], (6, 2, 20), torch.bfloat16)
    clean = _run(compiled, layout, q, k, v, window, softcap)
    poisoned = _run(compiled, layout, q, k, v, window, softcap, garbage=float("nan"))
    assert torch.equal(poisoned, clean)


def test_where_the_blocks_lie_makes_no_difference(compiled, make_layout):
    first, q, k, v = _case(make_layout, STEPS["mixed"], (6, 2, 20), torch.float32, seed=1)
    second, *_ = _case(make_layout, STEPS["mixed"], (6, 2, 20), torch.float32, seed=2)
    k2, v2 = torch.zeros_like(k), torch.zeros_like(v)
    k2[_used_slots(second)], v2[_used_slots(second)] = k[_used_slots(first)], v[_used_slots(first)]
    assert not np.array_equal(first.block_tables, second.block_tables)
    assert torch.equal(_run(compiled, first, q, k, v), _run(compiled, second, q, k2, v2))


@pytest.mark.parametrize("window", [None, 6, 100])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_token_gets_the_same_bits_alone_and_in_any_company(
    compiled, make_layout, window, dtype, heads, softcap
):
    step = ([1, 5, 1, 40, 2, 30], [300, 33, 130, 230, 18, 63])
    layout, q, k, v = _case(make_layout, step, (heads, 2, 24), dtype)
    k_cache, v_cache = torch.zeros_like(k), torch.zeros_like(v)
    compiled.write_kv(k_cache, v_cache, k, v, torch.arange(len(k)))
    together = _attend(compiled, layout, q, k_cache, v_cache, window, softcap)
    for row in range(int(layout.query_starts[-1])):
        i = int(np.searchsorted(layout.query_starts, row, side="right")) - 1
        alone = type(layout)(
            query_starts=np.array([0, 1]),
            context_lens=layout.context_lens[i : i + 1] - (layout.query_starts[i + 1] - 1 - row),
            block_tables=layout.block_tables[i : i + 1],
            block_size_tokens=16,
            num_rows=1,
        )
        out = _attend(compiled, alone, q[row : row + 1], k_cache, v_cache, window, softcap)
        assert torch.equal(out[0], together[row])


def test_blocks_that_are_not_whole_granules_are_refused(compiled, make_layout):
    layout, _ = make_layout([1], [9], block_size=4)
    with pytest.raises(ValueError, match="blocks of 4 tokens"):
        compiled.plan_attention(layout, num_heads=2, num_kv_heads=1, dtype=torch.float32)


def test_several_threads_give_the_same_bits_as_one(make_layout):
    build = library.load()
    assert build is not None
    compiled = Compiled(build)
    layout, q, k, v = _case(make_layout, ([64] * 8, [700] * 8), (8, 2, 64), torch.float32)
    weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(3))
    alone = _run(compiled, layout, q, k, v), compiled.prepare_linear(weight)(q.flatten(1))
    build["set_num_threads"](4)
    again = _run(compiled, layout, q, k, v), compiled.prepare_linear(weight)(q.flatten(1))
    assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))

import pytest
import torch

from anzoth.kernels.cpu import library, linear
from anzoth.kernels.dispatch import DTYPES, DeviceError, dtype_name, select


def test_a_gpu_is_refused_in_words_and_not_with_a_stack_trace():
    with pytest.raises(DeviceError, match=r"'cuda:0' is not one of: cpu.*GPU kernels arrive"):
        select("cuda:0")


def test_an_unknown_number_type_is_named_with_the_known_ones():
    with pytest.raises(DeviceError, match=r"'int3' is not one of: bfloat16, float16, float32"):
        select("cpu", "int3")


@pytest.mark.parametrize("name", DTYPES)
def test_a_named_type_is_used_and_keeps_its_name(name):
    kernels = select("cpu", name)
    assert kernels.device == torch.device("cpu")
    assert dtype_name(kernels.dtype) == name


@pytest.mark.parametrize(
    ("has_compiled", "has_bf16", "expected"),
    [(True, False, "bfloat16"), (False, True, "bfloat16"), (False, False, "float32")],
)
def test_without_a_wish_the_type_is_one_that_need_not_be_emulated(
    monkeypatch, has_compiled, has_bf16, expected
):
    if not has_compiled:
        monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(linear, "multiplies_bf16", lambda: has_bf16)
    assert dtype_name(select().dtype) == expected


@pytest.mark.parametrize(("block_size_tokens", "is_compiled"), [(16, True), (48, True), (4, False)])
def test_compiled_attention_is_used_where_blocks_are_whole_granules(block_size_tokens, is_compiled):
    kernels = select("cpu", "float32", block_size_tokens)
    functions = (kernels.write_kv, kernels.plan_attention, kernels.paged_attention)
    modules = {function.__module__ for function in functions}
    assert (modules == {"anzoth.kernels.cpu.compiled"}) == is_compiled

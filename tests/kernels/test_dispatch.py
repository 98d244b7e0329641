import pytest
import torch

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


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_without_a_wish_the_type_is_one_the_processor_multiplies_itself(
    monkeypatch, has_bf16, expected
):
    monkeypatch.setattr("anzoth.kernels.cpu.linear.can_pack", lambda dtype: has_bf16)
    assert dtype_name(select().dtype) == expected

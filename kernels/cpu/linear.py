"""How is y = x Wᵀ + b computed on CPU tensors?

Through oneDNN with the weight stored once in the order its kernel reads. Measured on a 2-core
AVX-512-BF16 machine without AMX, torch 2.13, one thread, bf16, 4096×4096: 0.88 ms against 1.94 ms
for `F.linear` at one row, 1.36 against 2.10 at 8, 10.4 against 11.1 at 128; small shapes gain
10–30 %. The packed copy replaces the plain weight, so it costs no memory. It also makes the sum of
a row independent of the other rows (see kernels/paging.padded_rows).

Does not know: which linear layers a model has.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Linear = Callable[[torch.Tensor], torch.Tensor]


@dataclass(slots=True, frozen=True, eq=False)
class _Packed:
    weight: torch.Tensor
    """Opaque oneDNN layout; only `_linear_pointwise` may read it."""
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


@dataclass(slots=True, frozen=True, eq=False)
class _Plain:
    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN on this machine has native kernels for linears of this type."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return dtype == torch.float32


def multiplies_bf16() -> bool:
    """Whether the processor itself has instructions for products of bf16.

    oneDNN also offers kernels where it has not, three times slower than in float32 (AVX-512 without
    bf16, 2 cores, torch 2.13, 128 and 512 rows, 2026-11-26).
    """
    if not can_pack(torch.bfloat16):
        return False
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return True


def prepare_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """A function of x [rows, in] giving [rows, out]. `weight` [out, in] may be freed afterwards."""
    if can_pack(weight.dtype):
        return _Packed(torch.ops.mkldnn._reorder_linear_weight(weight, 1), bias)
    return _Plain(weight, bias)


# Below this size a float32 copy of the output head is used even when the model runs in bf16.
_MAX_FLOAT32_HEAD_BYTES = 64 << 20


def prepare_head(weight: torch.Tensor) -> Linear:
    """The output head: like `prepare_linear`, but its logits are float32.

    No CPU kernel of torch multiplies bf16 matrices into a float32 result, and a logit rounded to
    bf16 has a step of 1/16 at 8…16: exact ties between the best tokens become common and logprobs
    coarse. So a small head is kept and multiplied in float32. For a large vocabulary that would
    double its memory and cost four times its time at batch size 32, so there the product is taken
    in the model's type, as HF transformers does, and widened afterwards.
    """
    if weight.numel() * 4 <= _MAX_FLOAT32_HEAD_BYTES:
        product = prepare_linear(weight.float())
        return lambda x: product(x.float())
    product = prepare_linear(weight)
    return lambda x: product(x).float()

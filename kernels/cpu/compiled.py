"""How are the kernels of `native/` called with tensors?

The counterparts of the functions in `linear`, `pointwise` and `attention`, for bf16 and float32:
same arguments, same meaning. What a tensor must look like beyond that is stated in the C++ files
and established here.

Shape suffixes: T token rows · E, I, J widths · N = H + K heads · D head dimension · S slots
· R rows of logits · M masks · V vocabulary · W words of 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anzoth.kernels.cpu.library import Library
from anzoth.kernels.paging import IntArray, PagedLayout

TYPES = (torch.bfloat16, torch.float32)
SLOTS_PER_GRANULE = 16
"""A KV block must be a multiple of this: keys lie interleaved by so many tokens."""


@dataclass(slots=True, frozen=True, eq=False)
class Linear:
    """x [T, K] -> x Wᵀ + b [T, N], the weight packed."""

    library: Library
    packed: torch.Tensor
    bias: torch.Tensor | None
    num_outputs: int
    num_inputs: int
    output: torch.dtype

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.stride(-1) != 1:
            x = x.contiguous()
        out = torch.empty((x.shape[0], self.num_outputs), dtype=self.output)
        self.library["linear"](
            self.packed.dtype == torch.bfloat16,
            self.packed.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            self.num_outputs,
            self.num_inputs,
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            x.stride(0),
            x.shape[0],
            self.output == torch.bfloat16,
            out.data_ptr(),
            self.num_outputs,
        )
        return out


@dataclass(slots=True, frozen=True, eq=False)
class Plan:
    """A step's layout as the kernel reads it, and the window; 0: none."""

    query_starts: IntArray
    context_lens: IntArray
    block_tables: IntArray
    block_size_tokens: int
    window: int


class Compiled:
    """One library's kernels. Each method is an entry of the kernel table (kernels/dispatch.py)."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def prepare_linear(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        output: torch.dtype | None = None,
    ) -> Linear:
        """`weight` [N, K] may be freed afterwards. `output`: of the answers; None: the weight's."""
        is_bf16 = weight.dtype == torch.bfloat16
        num_outputs, num_inputs = weight.shape
        size = self._library["packed_size"](is_bf16, num_outputs, num_inputs)
        packed = torch.empty(size, dtype=weight.dtype)
        self._library["pack"](
            is_bf16, weight.contiguous().data_ptr(), num_outputs, num_inputs, packed.data_ptr()
        )
        bias = None if bias is None else bias.float().contiguous()
        output = output or weight.dtype
        return Linear(self._library, packed, bias, num_outputs, num_inputs, output)

    def prepare_head(self, weight: torch.Tensor) -> Linear:
        return self.prepare_linear(weight, output=torch.float32)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
        width = x.shape[-1]
        if x.dim() != 2 or x.stride(-1) != 1:
            x = x.contiguous()
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        self._library["rms_norm"](
            x.dtype == torch.bfloat16,
            weight is not None and weight.dtype == torch.bfloat16,
            x.data_ptr(),
            x.stride(-2),
            None if weight is None else weight.data_ptr(),
            out.data_ptr(),
            x.numel() // width,
            width,
            eps,
        )
        return out

    def rope(self, x_TND: torch.Tensor, cos_TC: torch.Tensor, sin_TC: torch.Tensor) -> torch.Tensor:
        num_tokens, num_heads, head_dim = x_TND.shape
        x_TND = _with_whole_tokens(x_TND)
        out = torch.empty((num_tokens, num_heads, head_dim), dtype=x_TND.dtype)
        self._library["rope"](
            x_TND.dtype == torch.bfloat16,
            x_TND.data_ptr(),
            x_TND.stride(0),
            cos_TC.data_ptr(),
            sin_TC.data_ptr(),
            out.data_ptr(),
            num_tokens,
            num_heads,
            head_dim,
            cos_TC.shape[1],
        )
        return out

    def swiglu(self, gate_up_TJ: torch.Tensor) -> torch.Tensor:
        return self._gated(gate_up_TJ, False)

    def geglu(self, gate_up_TJ: torch.Tensor) -> torch.Tensor:
        return self._gated(gate_up_TJ, True)

    def _gated(self, gate_up_TJ: torch.Tensor, is_gelu: bool) -> torch.Tensor:
        if gate_up_TJ.stride(-1) != 1:
            gate_up_TJ = gate_up_TJ.contiguous()
        num_rows, width = gate_up_TJ.shape[0], gate_up_TJ.shape[1] // 2
        out = torch.empty((num_rows, width), dtype=gate_up_TJ.dtype)
        self._library["gated"](
            gate_up_TJ.dtype == torch.bfloat16,
            is_gelu,
            gate_up_TJ.data_ptr(),
            gate_up_TJ.stride(0),
            out.data_ptr(),
            num_rows,
            width,
        )
        return out

    def forbid(self, logits_RV: torch.Tensor, rows: Sequence[int], allowed_MW: IntArray) -> None:
        numbers = np.array(rows, dtype=np.int64)
        allowed_MW = np.ascontiguousarray(allowed_MW)
        self._library["forbid"](
            logits_RV.data_ptr(),
            logits_RV.stride(0),
            logits_RV.shape[1],
            numbers.ctypes.data,
            allowed_MW.ctypes.data,
            allowed_MW.shape[1],
            len(numbers),
        )

    def write_kv(
        self,
        k_cache_SKD: torch.Tensor,
        v_cache_SKD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        slots_T: torch.Tensor,
    ) -> None:
        """Only these functions read `k_cache_SKD`: within 16 slots it lies as [K, D, 16]."""
        k_TKD, v_TKD = _with_whole_tokens(k_TKD), _with_whole_tokens(v_TKD)
        self._library["write_kv"](
            k_TKD.dtype == torch.bfloat16,
            k_TKD.data_ptr(),
            k_TKD.stride(0),
            v_TKD.data_ptr(),
            v_TKD.stride(0),
            slots_T.data_ptr(),
            slots_T.shape[0],
            k_cache_SKD.data_ptr(),
            v_cache_SKD.data_ptr(),
            *k_cache_SKD.shape[1:],
        )

    @staticmethod
    def plan_attention(
        layout: PagedLayout,
        *,
        num_heads: int,
        num_kv_heads: int,
        dtype: torch.dtype,
        window: int | None = None,
    ) -> Plan:
        if layout.block_size_tokens % SLOTS_PER_GRANULE:
            raise ValueError(f"blocks of {layout.block_size_tokens} tokens are not whole granules")
        return Plan(
            np.ascontiguousarray(layout.query_starts),
            np.ascontiguousarray(layout.context_lens),
            np.ascontiguousarray(layout.block_tables),
            layout.block_size_tokens,
            window or 0,
        )

    def paged_attention(
        self,
        q_THD: torch.Tensor,
        k_cache_SKD: torch.Tensor,
        v_cache_SKD: torch.Tensor,
        plan: Plan,
        *,
        scale: float,
        softcap: float | None = None,
    ) -> torch.Tensor:
        num_rows, num_heads, head_dim = q_THD.shape
        q_THD = _with_whole_tokens(q_THD)
        out = torch.empty((num_rows, num_heads * head_dim), dtype=q_THD.dtype)
        if (num_real := int(plan.query_starts[-1])) < num_rows:
            out[num_real:] = 0
        self._library["paged_attention"](
            q_THD.dtype == torch.bfloat16,
            q_THD.data_ptr(),
            q_THD.stride(0),
            k_cache_SKD.data_ptr(),
            v_cache_SKD.data_ptr(),
            out.data_ptr(),
            num_heads,
            k_cache_SKD.shape[1],
            head_dim,
            plan.query_starts.ctypes.data,
            plan.context_lens.ctypes.data,
            plan.block_tables.ctypes.data,
            plan.block_tables.shape[1],
            len(plan.context_lens),
            plan.block_size_tokens,
            scale,
            softcap or 0.0,
            plan.window,
        )
        return out


def _with_whole_tokens(x_TND: torch.Tensor) -> torch.Tensor:
    """The same, with the heads of a token side by side; tokens may lie apart."""
    head_dim = x_TND.shape[2]
    whole = x_TND.stride(2) == 1 and (x_TND.stride(1) == head_dim or x_TND.shape[1] == 1)
    return x_TND if whole else x_TND.contiguous()

"""Which device, number type and functions does a model run with?

Decided once, when an engine starts: the model calls through the table and never asks again. A new
backend is a new folder beside `cpu/` and one entry in `_BACKENDS`.

Does not know: models, settings files, or how a request for a device came about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from anzoth.kernels.cpu import attention as cpu_attention
from anzoth.kernels.cpu import compiled as cpu_compiled
from anzoth.kernels.cpu import library as cpu_library
from anzoth.kernels.cpu import linear as cpu_linear
from anzoth.kernels.cpu import pointwise as cpu_pointwise
from anzoth.kernels.cpu.linear import Linear

DTYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


class DeviceError(Exception):
    """The wanted device or number type is not available here."""


@dataclass(slots=True, frozen=True)
class Kernels:
    """The arithmetic of one backend. Formulas: kernels/reference.py."""

    device: torch.device
    dtype: torch.dtype
    prepare_linear: Callable[[torch.Tensor, torch.Tensor | None], Linear]
    """(weight [out, in], bias [out] | None) -> x [T, in] -> [T, out]"""
    prepare_head: Callable[[torch.Tensor], Linear]
    """Like `prepare_linear`, giving float32."""
    rms_norm: Callable[[torch.Tensor, torch.Tensor | None, float], torch.Tensor]
    """(x, weight | None, eps); a float32 weight is applied before rounding to the type of x."""
    rope: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """(x, cosines, sines); fewer angles than pairs leave the last dimensions as they are."""
    swiglu: Callable[[torch.Tensor], torch.Tensor]
    geglu: Callable[[torch.Tensor], torch.Tensor]
    forbid: Callable[..., None]
    """(logits, rows, allowed): float32 logits to -inf where a row's bit mask has a 0"""
    write_kv: Callable[..., None]
    """(k_cache, v_cache, k, v, slots)"""
    plan_attention: Callable[..., Any]
    """Once per step and window. What it returns is private to the backend."""
    paged_attention: Callable[..., torch.Tensor]
    """(q, k_cache, v_cache, plan, *, scale, softcap=None); the plan has the window."""


def select(
    device: str | None = None, dtype: str | None = None, block_size_tokens: int = 16
) -> Kernels:
    """The table for this machine. None: the best there is. Raises DeviceError."""
    kind = "cpu" if device is None else device.partition(":")[0]
    backend = _BACKENDS.get(kind)
    if backend is None:
        raise DeviceError(
            f"device {device!r} is not one of: {', '.join(sorted(_BACKENDS))}. "
            f"This version computes on the CPU; GPU kernels arrive with a later one."
        )
    if dtype is not None and dtype not in DTYPES:
        raise DeviceError(f"dtype {dtype!r} is not one of: {', '.join(sorted(DTYPES))}")
    return backend(None if dtype is None else DTYPES[dtype], block_size_tokens)


def dtype_name(dtype: torch.dtype) -> str:
    """The name that settings and `Hello` use."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def _cpu(dtype: torch.dtype | None, block_size_tokens: int) -> Kernels:
    library = cpu_library.load()
    if dtype is None:
        # Where torch would only emulate bf16 and nothing of ours is compiled, float32 is faster.
        has_bf16 = library is not None or cpu_linear.multiplies_bf16()
        dtype = torch.bfloat16 if has_bf16 else torch.float32
    kernels = Kernels(
        device=torch.device("cpu"),
        dtype=dtype,
        prepare_linear=cpu_linear.prepare_linear,
        prepare_head=cpu_linear.prepare_head,
        rms_norm=cpu_pointwise.rms_norm,
        rope=cpu_pointwise.rope,
        swiglu=cpu_pointwise.swiglu,
        geglu=cpu_pointwise.geglu,
        forbid=cpu_pointwise.forbid,
        write_kv=cpu_pointwise.write_kv,
        plan_attention=cpu_attention.plan_attention,
        paged_attention=cpu_attention.paged_attention,
    )
    if library is None or dtype not in cpu_compiled.TYPES:
        return kernels
    compiled = cpu_compiled.Compiled(library)
    kernels = replace(
        kernels,
        rms_norm=compiled.rms_norm,
        rope=compiled.rope,
        swiglu=compiled.swiglu,
        geglu=compiled.geglu,
        forbid=compiled.forbid,
    )
    if block_size_tokens % cpu_compiled.SLOTS_PER_GRANULE == 0:
        kernels = replace(
            kernels,
            write_kv=compiled.write_kv,
            plan_attention=compiled.plan_attention,
            paged_attention=compiled.paged_attention,
        )
    if dtype == torch.bfloat16 and cpu_linear.multiplies_bf16():
        return kernels  # oneDNN has instructions for it that ours do not use yet
    return replace(
        kernels, prepare_linear=compiled.prepare_linear, prepare_head=compiled.prepare_head
    )


_BACKENDS: dict[str, Callable[[torch.dtype | None, int], Kernels]] = {"cpu": _cpu}

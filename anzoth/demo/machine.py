"""In which number type does this machine train fastest?

Does not know: the model.
"""

from __future__ import annotations

import torch


def number_type(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware, else float32.

    Without such instructions torch emulates bf16: 48 against 147 GFLOP/s in fp32 (one x86-64
    server core with AVX-512 and no AVX-512-BF16, torch 2.13, 2026-11-26).
    """
    if device.type == "cpu":
        # Not `torch.ops.mkldnn._is_mkldnn_bf16_supported`: true wherever it can be emulated.
        is_native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if is_native else torch.float32

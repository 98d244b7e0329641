"""Where must an answer not depend, to the bit, on what else is in the batch?"""

import pytest
import torch

from anzoth.kernels.cpu import library, linear


def _is_promised() -> bool:
    """Our own linears promise it; torch's were found to keep it on one kind of processor."""
    if library.load() is not None and not linear.multiplies_bf16():
        return True
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


promised = pytest.mark.skipif(
    not _is_promised(),
    reason="linears go through oneDNN here, which was found to be equal to the bit on AVX-512-BF16 "
    "without AMX only",
)

"""How are norm, rotary embedding, activation, the cache write and masks done on CPU tensors?

At decode sizes these are bound by the cost of calling torch at all (1–10 µs each), so each function
is as few calls as it can be. Sums are taken in float32 whatever the tensors' type.

Shape suffixes: T token rows · N heads · D head dimension · C ≤ D/2 pairs that turn · K key/value
heads · S slots · I feed-forward width, J = 2·I · R rows of logits · M masks · V vocabulary
· W words of 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension, rounded once.

    The weight may be float32 while x is not; the answer has the type of x.
    """
    if weight is not None and weight.dtype != x.dtype:
        return F.rms_norm(x.to(weight.dtype), (x.shape[-1],), weight, eps).to(x.dtype)
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rope(x_TND: torch.Tensor, cos_TC: torch.Tensor, sin_TC: torch.Tensor) -> torch.Tensor:
    """Rotates the pairs (x[c], x[c + C]); float32 inside, rounded once. The rest stays.

    Written as x · (cos, cos) + roll(x, C) · (-sin, sin): three calls instead of seven.
    """
    num_turning = 2 * cos_TC.shape[-1]
    if num_turning < x_TND.shape[-1]:
        turned = rope(x_TND[..., :num_turning], cos_TC, sin_TC)
        return torch.cat((turned, x_TND[..., num_turning:]), dim=-1)
    cos_T1D = torch.cat((cos_TC, cos_TC), dim=-1)[:, None]
    sin_T1D = torch.cat((-sin_TC, sin_TC), dim=-1)[:, None]
    x = x_TND.float()
    rolled = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos_T1D, rolled, sin_T1D).to(x_TND.dtype)


def swiglu(gate_up_TJ: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, where the last dimension holds gate, then up."""
    half = gate_up_TJ.shape[-1] // 2
    return F.silu(gate_up_TJ[:, :half]).mul_(gate_up_TJ[:, half:])


def geglu(gate_up_TJ: torch.Tensor) -> torch.Tensor:
    """gelu(gate) · up in the tanh form, where the last dimension holds gate, then up."""
    half = gate_up_TJ.shape[-1] // 2
    return F.gelu(gate_up_TJ[:, :half], approximate="tanh").mul_(gate_up_TJ[:, half:])


def write_kv(
    k_cache_SKD: torch.Tensor,
    v_cache_SKD: torch.Tensor,
    k_TKD: torch.Tensor,
    v_TKD: torch.Tensor,
    slots_T: torch.Tensor,
) -> None:
    """Stores each token's key and value in its slot. Slots are distinct."""
    k_cache_SKD.index_copy_(0, slots_T, k_TKD)
    v_cache_SKD.index_copy_(0, slots_T, v_TKD)


def forbid(logits_RV: torch.Tensor, rows: Sequence[int], allowed_MW: npt.NDArray[np.int32]) -> None:
    """Sets the logits of row `rows[m]` to -inf, in place, where bit v of `allowed_MW[m]` is 0.

    Bit v is bit v % 32 of word v // 32.
    """
    forbidden_MV = np.unpackbits(
        np.invert(allowed_MW).view(np.uint8), axis=1, count=logits_RV.shape[1], bitorder="little"
    ).view(np.bool_)
    for row, forbidden_V in zip(rows, torch.from_numpy(forbidden_MV), strict=True):
        # One by one in place: to copy the rows there and back costs more than the mask.
        logits_RV[row].masked_fill_(forbidden_V.to(logits_RV.device), -torch.inf)

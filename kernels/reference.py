"""What must every kernel compute? The formulas, one token at a time where that is the clearest.

Slow on purpose, in whatever precision the inputs have: float64 inputs give float64 answers, and the
tests compare every fast kernel with these. Nothing here is used while serving.

Shape suffixes: T token rows · H query heads · K key/value heads · D head dimension · N cache slots
· E model width · I feed-forward width · C ≤ D/2 pairs that turn.
"""

from __future__ import annotations

import math

import torch

from anzoth.kernels.paging import PagedLayout


def paged_attention(
    q_THD: torch.Tensor,
    k_cache_NKD: torch.Tensor,
    v_cache_NKD: torch.Tensor,
    layout: PagedLayout,
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """softmax(cap(scale · q kᵀ)) v over the positions each token may see; [T, H·D], padding zero.

    Token at position p sees positions (p - window, p]. Query head h reads key/value head
    h // (H / K). cap(s) = softcap · tanh(s / softcap), or s itself without a soft-cap.
    """
    num_rows, num_heads, head_dim = q_THD.shape
    group = num_heads // k_cache_NKD.shape[1]
    out_THD = torch.zeros_like(q_THD)
    block = layout.block_size_tokens
    for i, context_len in enumerate(layout.context_lens.tolist()):
        begin, end = layout.query_starts[i : i + 2].tolist()
        for row in range(begin, end):
            position = context_len - (end - row)
            first = 0 if window is None else max(0, position - window + 1)
            slots = [
                int(layout.block_tables[i, p // block]) * block + p % block
                for p in range(first, position + 1)
            ]
            for head in range(num_heads):
                keys_LD = k_cache_NKD[slots, head // group]
                scores_L = scale * (keys_LD @ q_THD[row, head])
                if softcap is not None:
                    scores_L = softcap * torch.tanh(scores_L / softcap)
                values_LD = v_cache_NKD[slots, head // group]
                out_THD[row, head] = torch.softmax(scores_L, 0) @ values_LD
    return out_THD.reshape(num_rows, num_heads * head_dim)


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension."""
    normed = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return normed if weight is None else normed * weight


def rope(x_TND: torch.Tensor, cos_TC: torch.Tensor, sin_TC: torch.Tensor) -> torch.Tensor:
    """Rotates the pairs (x[c], x[c + C]) by the angles with these cosines and sines.

    Dimensions from 2·C on, if there are any, stay as they are.
    """
    a, b, rest = x_TND.tensor_split((cos_TC.shape[-1], 2 * cos_TC.shape[-1]), dim=-1)
    cos, sin = cos_TC[:, None], sin_TC[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


def geglu(gate_up_TJ: torch.Tensor) -> torch.Tensor:
    """gelu(gate) · up, with gelu(g) = g/2 · (1 + tanh(√(2/π) · (g + 0.044715 g³))); J = 2·I."""
    gate, up = gate_up_TJ.chunk(2, dim=-1)
    bent = torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))
    return gate / 2 * (1 + bent) * up


def swiglu(gate_up_TJ: torch.Tensor) -> torch.Tensor:
    """gate · sigmoid(gate) · up, where the last dimension holds gate, then up: J = 2·I."""
    gate, up = gate_up_TJ.chunk(2, dim=-1)
    return gate * torch.sigmoid(gate) * up

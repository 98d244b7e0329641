"""By which angle does each pair of dimensions turn at each position?

    angle(p, c) = p · frequency(c),   frequency(c) = theta^(-2c / D),   c in [0, D/2)

with the frequencies changed by the checkpoint's scaling rule. The table is made once, in float32.

Shape suffixes: P positions · C = D/2 pairs of dimensions.
"""

from __future__ import annotations

import math

import torch

from anzoth.scheduler.models.specs import Llama3Scaling, RopeSpec


def cos_sin_tables(
    rope: RopeSpec, head_dim: int, num_positions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of all angles: two float32 tensors [P, C]."""
    exponents_C = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies_C = 1.0 / (rope.theta**exponents_C)
    if rope.llama3 is not None:
        frequencies_C = _llama3(frequencies_C, rope.llama3)
    frequencies_C = frequencies_C / rope.linear_factor
    positions_P = torch.arange(num_positions, dtype=torch.float32)
    angles_PC = torch.outer(positions_P, frequencies_C)
    return angles_PC.cos(), angles_PC.sin()


def _llama3(frequencies_C: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    """Llama 3.1's rule, by how many turns a dimension makes over the original context.

    More than `high_freq_factor` turns: unchanged. Fewer than `low_freq_factor`: divided by
    `factor`. Between them: a blend of both that is linear in the number of turns.
    """
    turns_C = scaling.original_max_positions * frequencies_C / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    share_C = ((turns_C - low) / (high - low)).clamp(0.0, 1.0)
    slowed_C = frequencies_C / scaling.factor
    return (1.0 - share_C) * slowed_C + share_C * frequencies_C

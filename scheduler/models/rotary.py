"""By which angle does each pair of dimensions turn at each position?

    angle(p, c) = p · frequency(c),   frequency(c) = theta^(-2c / D),   c in [0, D/2)

with D the dimensions that turn and the frequencies changed by the checkpoint's scaling rule. The
table is made once, in float32.

Shape suffixes: P positions · C = D/2 pairs of dimensions.
"""

from __future__ import annotations

import math

import torch

from anzoth.scheduler.models.specs import (
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeSpec,
    YarnScaling,
)


def cos_sin_tables(
    rope: RopeSpec, head_dim: int, num_positions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of all angles: two float32 tensors [P, C].

    `num_positions`: as long as any sequence may become.
    """
    num_turning = int(head_dim * rope.turning_share)
    exponents_C = torch.arange(0, num_turning, 2, dtype=torch.int64).float() / num_turning
    frequencies_C = 1.0 / (rope.theta**exponents_C)
    magnitude = 1.0
    match rope.scaling:
        case LinearScaling(factor):
            frequencies_C = frequencies_C / factor
        case Llama3Scaling() as scaling:
            frequencies_C = _llama3(frequencies_C, scaling)
        case YarnScaling() as scaling:
            frequencies_C = _yarn(frequencies_C, scaling, rope.theta)
            magnitude = scaling.magnitude
        case LongScaling() as scaling:
            frequencies_C = _long(frequencies_C, scaling, num_positions)
            magnitude = scaling.magnitude
        case None:
            pass
    positions_P = torch.arange(num_positions, dtype=torch.float32)
    angles_PC = torch.outer(positions_P, frequencies_C)
    return angles_PC.cos() * magnitude, angles_PC.sin() * magnitude


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


def _yarn(frequencies_C: torch.Tensor, scaling: YarnScaling, theta: float) -> torch.Tensor:
    """YaRN's rule, by where a pair lies among the pairs.

    Up to the one that makes `beta_fast` turns over the original context: unchanged. From the one
    that makes `beta_slow` turns on: divided by `factor`. Between: a blend linear in the pair.
    """
    num_pairs = frequencies_C.shape[0]

    def pair_with(turns: float) -> float:
        periods = scaling.original_max_positions / (turns * 2 * math.pi)
        return num_pairs * math.log(periods) / math.log(theta)

    first, last = pair_with(scaling.beta_fast), pair_with(scaling.beta_slow)
    if scaling.has_whole_bounds:
        first, last = math.floor(first), math.ceil(last)
    # The upper bound counts dimensions, not pairs; published checkpoints were trained with that.
    first, last = max(first, 0), min(last, 2 * num_pairs - 1)
    width = last - first or 0.001
    share_C = ((torch.arange(num_pairs) - first) / width).clamp(0.0, 1.0)
    return share_C * frequencies_C / scaling.factor + (1.0 - share_C) * frequencies_C


def _long(frequencies_C: torch.Tensor, scaling: LongScaling, num_positions: int) -> torch.Tensor:
    """LongRoPE: each frequency has its own divisor, from one of two lists.

    One list for all sequences, by how long any of them may become: keys turned by different rules
    could not share a cache. A limit (`max_model_tokens`) within the original context gives the
    short list.
    """
    is_long = num_positions > scaling.original_max_positions
    divisors = scaling.long_divisors if is_long else scaling.short_divisors
    return frequencies_C / torch.tensor(divisors)

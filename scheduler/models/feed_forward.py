"""What does a feed-forward block compute: alone, or as one of many experts?

    block(x)   = down(act(gate) · up),                        gate up from x
    mixture(x) = Σ share_i · block_i(x),  i in the A experts with the largest softmax(router(x))

Does not know: norms, the residual stream, or where the weights come from.

Shape suffixes: T token rows · E model width · X experts · A active experts per token · J = 2 ×
feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from anzoth.kernels.paging import padded_rows

FeedForward = Callable[[torch.Tensor], torch.Tensor]
"""x [T, E] -> [T, E], each row by itself."""
Linear = Callable[[torch.Tensor], torch.Tensor]


@dataclass(slots=True, frozen=True, eq=False)
class GatedBlock:
    """One block."""

    gate_up: Linear
    activate: Callable[[torch.Tensor], torch.Tensor]
    """[T, J] -> [T, J / 2]"""
    down: Linear

    def __call__(self, x_TE: torch.Tensor) -> torch.Tensor:
        return self.down(self.activate(self.gate_up(x_TE)))


@dataclass(slots=True, frozen=True, eq=False)
class Mixture:
    """Many blocks, of which each token goes through a few."""

    router: Linear
    """To float32 [T, X]: a rounded score could choose another expert."""
    experts: Sequence[GatedBlock]
    num_active: int
    has_normed_weights: bool

    def __call__(self, x_TE: torch.Tensor) -> torch.Tensor:
        shares_TA, chosen_TA = self.router(x_TE).softmax(dim=-1).topk(self.num_active)
        if self.has_normed_weights:
            shares_TA = shares_TA / shares_TA.sum(dim=-1, keepdim=True)
        sum_TE = torch.zeros_like(x_TE, dtype=torch.float32)
        # In the order of the experts, so that a token's sum does not depend on its company.
        for expert in chosen_TA.unique().tolist():
            rows, places = (chosen_TA == expert).nonzero(as_tuple=True)
            answers = self._answers(expert, x_TE, rows)
            sum_TE.index_add_(0, rows, answers.float() * shares_TA[rows, places, None])
        return sum_TE.to(x_TE.dtype)

    def _answers(self, expert: int, x_TE: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The expert's answers for these rows, computed with a row count that kernels like."""
        num_rows = rows.shape[0]
        padded = F.pad(rows, (0, padded_rows(num_rows) - num_rows))
        return self.experts[expert](x_TE.index_select(0, padded))[:num_rows]

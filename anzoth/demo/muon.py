"""How are the matrices of the model updated? By Muon: momentum, made orthogonal.

With gradient G, momentum M and weights W [rows, cols], at rate r with decay d:

    M ← m·M + (1 − m)·G
    U = orthogonal((1 − m)·G + m·M)
    W ← (1 − r·d)·W − r·0.2·√max(rows, cols)·U

where orthogonal(X) ≈ (X·Xᵀ)^(−1/2)·X, by five steps of a quintic Newton-Schulz iteration on X/‖X‖,
and the factor gives the update the size that AdamW's has. (K. Jordan and others, "Muon", 2024; the
factor: J. Liu and others, arXiv 2502.16982.)

Not torch's own, because that one always iterates in bf16, which not every CPU can multiply, and
one matrix at a time. Here all matrices of a shape are iterated at once. Does not know: the model.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For matrices. `dtype`: what the iteration computes in."""

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for matrix in group["params"]:
                shapes.setdefault((min(matrix.shape), max(matrix.shape)), []).append(matrix)
            for (_, longer), matrices in shapes.items():
                directions = [wide(self._direction(matrix)) for matrix in matrices]
                updates = orthogonal(torch.stack(directions).to(self._dtype))
                scale = -group["lr"] * 0.2 * longer**0.5
                for matrix, update in zip(matrices, updates.to(matrices[0].dtype), strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    wide(matrix).add_(update, alpha=scale)

    def _direction(self, matrix: Tensor) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum = state["momentum"].lerp_(matrix.grad, 1 - _MOMENTUM)
        return matrix.grad.lerp(momentum, _MOMENTUM)


def wide(matrix: Tensor) -> Tensor:
    """A view with at least as many columns as rows."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def orthogonal(x_NRC: Tensor) -> Tensor:
    """Of N matrices that are at least as wide as high: rows nearly orthogonal, of length near 1."""
    a, b, c = _QUINTIC
    x_NRC = x_NRC / x_NRC.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram_NRR = x_NRC @ x_NRC.mT
        factor_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        x_NRC = torch.baddbmm(x_NRC, factor_NRR, x_NRC, beta=a)
    return x_NRC

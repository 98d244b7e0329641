"""Muon's update is orthogonal, and the same as torch's."""

from __future__ import annotations

import pytest
import torch

from anzoth.demo.muon import Muon, orthogonal

SHAPES = ((24, 24), (12, 24), (40, 16), (16, 40), (16, 40))


def test_an_orthogonal_matrix_has_rows_of_length_about_one_and_no_overlap() -> None:
    x_NRC = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    found = orthogonal(x_NRC)
    # The quintic stops near 1 rather than at it: singular values end in about 0.7 to 1.2.
    for values in torch.linalg.svdvals(found):
        assert 0.6 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_are_those_of_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    ours = [torch.randn(shape, generator=generator) for shape in SHAPES]
    theirs = [matrix.clone() for matrix in ours]
    muon = Muon(ours, lr=0.01, weight_decay=0.1, dtype=dtype)
    expected = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    before = [matrix.clone() for matrix in ours]
    for _ in range(3):
        for matrix, other in zip(ours, theirs, strict=True):
            matrix.grad = torch.randn(matrix.shape, generator=generator)
            other.grad = matrix.grad.clone()
        muon.step()
        expected.step()
    for start, matrix, other in zip(before, ours, theirs, strict=True):
        moved = (other - start).norm()
        assert (matrix - other).norm() < 0.05 * moved  # torch iterates in bf16

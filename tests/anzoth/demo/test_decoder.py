"""A row with branches computes what as many separate conversations would."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anzoth.demo.decoder import Decoder, Shape, attend_fused, attend_written_out, sight

SHAPE = Shape(vocab_size=50, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48)
CONTEXT = [3, 1, 4, 1, 5, 9]
BRANCHES = ([2, 6, 5], [3, 5, 8, 9, 7], [9])


def decoder() -> Decoder:
    return Decoder(SHAPE, torch.Generator().manual_seed(0)).double()


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        found[name], parameter.grad = parameter.grad, None
    return found


def test_branches_have_the_logits_and_gradients_of_separate_rows() -> None:
    model = decoder()
    separate_NV: list[torch.Tensor] = []
    for branch in BRANCHES:
        ids_BT = torch.tensor([CONTEXT + branch])
        places = torch.arange(len(CONTEXT), len(CONTEXT) + len(branch))
        separate_NV.append(model(ids_BT, torch.zeros_like(ids_BT), places))
    expected_NV = torch.cat(separate_NV)
    targets_N = torch.arange(len(expected_NV)) % SHAPE.vocab_size
    F.cross_entropy(expected_NV, targets_N).backward()
    expected = gradients(model)

    ids = [*CONTEXT, *(id_ for branch in BRANCHES for id_ in branch), 0, 0]  # two of padding
    of = [0] * len(CONTEXT) + [n for n, branch in enumerate(BRANCHES, 1) for _ in branch] + [0, 0]
    places = torch.arange(len(CONTEXT), len(ids) - 2)
    together_NV = model(torch.tensor([ids]), torch.tensor([of]), places)
    F.cross_entropy(together_NV, targets_N).backward()
    torch.testing.assert_close(together_NV, expected_NV, rtol=1e-5, atol=1e-6)  # fp32 rotation
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_a_branch_does_not_see_another() -> None:
    ids_BT = torch.tensor([[*CONTEXT, 2, 6, 5, 3]])
    changed_BT = ids_BT.clone()
    changed_BT[0, 6:8] = 11
    branches_BT = torch.tensor([[0] * 6 + [1, 1, 2, 2]])
    places = torch.tensor([8, 9])
    model = decoder()
    assert torch.equal(model(ids_BT, branches_BT, places), model(changed_BT, branches_BT, places))


@pytest.mark.parametrize(("B", "T", "H", "K"), [(1, 1, 1, 1), (3, 17, 4, 2), (2, 40, 6, 1)])
def test_attention_for_gpus_is_attention_as_written_out(B: int, T: int, H: int, K: int) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(B, heads, T, 8, generator=generator) for heads in (H, K, K))
    sees_BTT = sight(torch.randint(0, 3, (B, T), generator=generator).sort().values)
    mask_BTT = torch.zeros(sees_BTT.shape).masked_fill(~sees_BTT, -torch.inf)
    expected = attend_written_out(q, k, v, mask_BTT)
    torch.testing.assert_close(
        attend_fused(q, k, v, mask_BTT), expected, rtol=1e-4, atol=1e-5
    )  # fp32

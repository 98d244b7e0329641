"""A mixture of experts against its formula, token by token."""

import pytest
import torch

import same_bits
from anzoth.kernels import reference
from anzoth.kernels.dispatch import select
from anzoth.scheduler.models.feed_forward import GatedBlock, Mixture

WIDTH, INNER, NUM_EXPERTS, NUM_ACTIVE = 24, 40, 7, 3


def _mixture(has_normed_weights, dtype="float32"):
    """The mixture, and its formula in float64: (mixture, x -> answers)."""
    kernels = select("cpu", dtype)
    generator = torch.Generator().manual_seed(1)

    def weight(outputs: int, inputs: int) -> torch.Tensor:
        return torch.randn(outputs, inputs, generator=generator).div(inputs**0.5).to(kernels.dtype)

    router = weight(NUM_EXPERTS, WIDTH)
    pairs = [(weight(2 * INNER, WIDTH), weight(WIDTH, INNER)) for _ in range(NUM_EXPERTS)]

    def formula(x: torch.Tensor) -> torch.Tensor:
        scores = torch.softmax(router.double().mv(x), 0)
        chosen = scores.argsort(descending=True)[:NUM_ACTIVE].tolist()
        total = scores[chosen].sum() if has_normed_weights else 1.0
        answer = torch.zeros(WIDTH, dtype=torch.float64)
        for i in chosen:
            gate_up, down = (matrix.double() for matrix in pairs[i])
            answer += scores[i] / total * down.mv(reference.swiglu(gate_up.mv(x)))
        return answer

    blocks = [
        GatedBlock(
            kernels.prepare_linear(one, None), kernels.swiglu, kernels.prepare_linear(two, None)
        )
        for one, two in pairs
    ]
    mixture = Mixture(kernels.prepare_head(router), blocks, NUM_ACTIVE, has_normed_weights)
    return mixture, lambda x: torch.stack([formula(row) for row in x.double()])


@pytest.mark.parametrize("has_normed_weights", [True, False])
@pytest.mark.parametrize("num_rows", [1, 4, 23])
def test_each_token_is_the_weighted_sum_of_its_best_experts(has_normed_weights, num_rows):
    mixture, formula = _mixture(has_normed_weights)
    x = torch.randn(num_rows, WIDTH, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(mixture(x).double(), formula(x), rtol=0, atol=2e-6)


def test_every_expert_is_somebodys():
    """The test above means little if the router always chose the same few."""
    mixture, _ = _mixture(True)
    x = torch.randn(23, WIDTH, generator=torch.Generator().manual_seed(2))
    assert len(mixture.router(x).topk(NUM_ACTIVE).indices.unique()) == NUM_EXPERTS


@same_bits.promised
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_token_gets_the_same_bits_in_any_company(dtype):
    mixture, _ = _mixture(True, dtype)
    x = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(3))
    x = x.to(getattr(torch, dtype))
    together = mixture(x)
    for first, last in ((0, 4), (3, 11), (17, 40)):
        assert torch.equal(mixture(x[first:last].contiguous()), together[first:last])


def test_a_token_that_is_not_finite_spoils_no_other():
    mixture, _ = _mixture(True)
    x = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(4))
    before = mixture(x)
    x[5] = float("nan")
    after = mixture(x)
    kept = [row for row in range(9) if row != 5]
    assert torch.equal(after[kept], before[kept])
    assert after[5].isnan().all()

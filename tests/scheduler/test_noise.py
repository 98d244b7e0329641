import math

import pytest
import torch

from anzoth.scheduler.noise import gumbel, noise_key

EULER_GAMMA = 0.5772156649


def _tokens(count):
    return torch.arange(count)[None]


def test_noise_has_the_mean_variance_and_quantiles_of_a_gumbel_distribution():
    noise = gumbel([noise_key(seed, 0, 5) for seed in range(50)], _tokens(8000)).double()
    assert noise.mean().item() == pytest.approx(EULER_GAMMA, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.01)
    for probability in (0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999):
        below = (noise <= -math.log(-math.log(probability))).double().mean().item()
        spread = math.sqrt(probability * (1 - probability) / noise.numel())
        assert below == pytest.approx(probability, abs=5 * spread)


def test_noise_is_finite_for_every_word():
    noise = gumbel([noise_key(0, 0, 0)], _tokens(1 << 20))
    assert torch.isfinite(noise).all()


@pytest.mark.parametrize("changed", [(8, 0, 5), (7, 1, 5), (7, 0, 6), (7 + 2**40, 0, 5)])
def test_seed_choice_and_position_each_give_unrelated_noise(changed):
    one, other = gumbel([noise_key(7, 0, 5), noise_key(*changed)], _tokens(20_000)).double()
    correlation = torch.corrcoef(torch.stack((one, other)))[0, 1].item()
    assert abs(correlation) < 5 / math.sqrt(20_000)


def test_neighbouring_tokens_have_unrelated_noise():
    noise = gumbel([noise_key(1, 2, 3)], _tokens(20_001))[0].double()
    for lag in (1, 2, 64, 256):
        pair = torch.stack((noise[:-lag], noise[lag:]))
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 5 / math.sqrt(20_000)


def test_a_token_has_the_same_noise_in_any_row_and_any_list_of_candidates():
    keys = [noise_key(seed, 1, 9) for seed in range(5)]
    whole = gumbel(keys, _tokens(1003))
    assert torch.equal(gumbel(keys[3:4], _tokens(1003))[0], whole[3])
    some = torch.randperm(1003, generator=torch.Generator().manual_seed(0))[:77]
    picked = gumbel(keys[1:3], some.expand(2, -1))
    assert torch.equal(picked, whole[1:3, some])


def test_the_noise_of_a_key_never_changes():
    """A changed generator would silently break every stored (seed, text) pair."""
    noise = gumbel([noise_key(42, 0, 17)], _tokens(4))[0].tolist()
    assert noise == pytest.approx([0.594171, -0.223313, 1.036183, -0.754551], abs=1e-5)


def test_noise_is_the_documented_formula():
    """The same in whole numbers of Python, which have no sign bit to trip over."""

    def mix(word):
        word ^= word >> 16
        word = word * 0x7FEB352D % 2**32
        word ^= word >> 15
        word = word * 0x846CA68B % 2**32
        return word ^ word >> 16

    keys = [noise_key(seed, 0, 1) for seed in range(20)]
    noise = gumbel(keys, _tokens(50))
    for row, key in enumerate(keys):
        for token in range(50):
            bits = mix(mix((token * 0x9E3779B9 + key[0]) % 2**32) ^ key[1] % 2**32) & 0x7FFFFFFF
            expected = -math.log(-math.log1p(-(bits + 0.5) / 2**31))
            assert noise[row, token].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_seeds_beyond_64_bits_and_below_zero_are_taken_modulo_2_to_the_64():
    assert noise_key(-1, 0, 0) == noise_key(2**64 - 1, 0, 0)

"""The table of angles, against its formulas and against transformers."""

import json

import pytest
import torch

from anzoth.scheduler.models.families import read_spec
from anzoth.scheduler.models.rotary import cos_sin_tables
from anzoth.scheduler.models.specs import (
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeSpec,
    YarnScaling,
)

# As published with models of these families, but for the last three.
RULES = {
    "llama-3.1": (
        128,
        131_072,
        {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
        | {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        | {"original_max_position_embeddings": 8192},
    ),
    "qwen2.5-yarn": (
        128,
        32_768,
        {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
        | {"original_max_position_embeddings": 32_768},
    ),
    "smollm3-yarn": (
        128,
        65_536,
        {"rope_type": "yarn", "rope_theta": 5e6, "factor": 2.0}
        | {"original_max_position_embeddings": 32_768, "attention_factor": 1.0},
    ),
    "gemma-3": (256, 131_072, {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}),
    "llama-2-dynamic": (128, 4096, {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}),
    "yarn-mscale": (
        64,
        4096,
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 40.0}
        | {"mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 24, "beta_slow": 2},
    ),
    "yarn-between-dimensions": (
        96,
        4096,
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 3.0}
        | {"truncate": False, "original_max_position_embeddings": 1024},
    ),
    "partial-yarn": (
        96,
        4096,
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 3.0}
        | {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 1024},
    ),
}


def _read(path, head_dim, max_positions, settings):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 8,
        "hidden_size": 2 * head_dim,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": max_positions,
        "rope_parameters": settings,
    }
    (path / "config.json").write_text(json.dumps(config))
    return read_spec(path).ropes[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_the_angles_are_those_of_transformers(tmp_path, name):
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    head_dim, max_positions, settings = RULES[name]
    config = transformers.LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        max_position_embeddings=max_positions,
        rope_parameters=dict(settings),
    )
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[settings["rope_type"]](config)
    rope = _read(tmp_path, head_dim, max_positions, settings)
    assert rope is not None
    cos, sin = cos_sin_tables(rope, head_dim, 3000)
    angles = torch.outer(torch.arange(3000.0), frequencies)
    # A float32 angle of 3000 has an error of 1e-4.
    torch.testing.assert_close(cos, angles.cos() * magnitude, rtol=0, atol=3e-4)
    torch.testing.assert_close(sin, angles.sin() * magnitude, rtol=0, atol=3e-4)
    torch.testing.assert_close(
        torch.atan2(sin[1], cos[1]), torch.atan2(angles[1].sin(), angles[1].cos())
    )


def test_yarn_leaves_fast_dimensions_and_divides_slow_ones():
    scaling = YarnScaling(8.0, 32.0, 1.0, 2048, magnitude=1.25, has_whole_bounds=True)
    plain, scaled = (
        cos_sin_tables(rope, 64, 2) for rope in (RopeSpec(1e4), RopeSpec(1e4, scaling))
    )
    ratio = torch.atan2(*reversed(plain))[1] / torch.atan2(*reversed(scaled))[1]
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[-1] == pytest.approx(8.0)
    assert (ratio.diff() >= -1e-4).all()
    assert torch.equal(scaled[0][0], torch.full((32,), 1.25))


def test_longrope_has_a_divisor_for_each_pair_by_how_long_sequences_may_become():
    scaling = LongScaling((1.0, 2.0), (4.0, 8.0), original_max_positions=8, magnitude=1.0)
    plain = torch.atan2(*reversed(cos_sin_tables(RopeSpec(100.0), 4, 2)))[1]
    for num_positions, divisors in ((8, [1.0, 2.0]), (9, [4.0, 8.0])):
        tables = cos_sin_tables(RopeSpec(100.0, scaling), 4, num_positions)
        turned = torch.atan2(*reversed(tables))[1]
        torch.testing.assert_close(plain / turned, torch.tensor(divisors))


def test_a_share_of_the_dimensions_turns_as_if_there_were_no_others():
    share = cos_sin_tables(RopeSpec(100.0, turning_share=0.5), 16, 5)
    alone = cos_sin_tables(RopeSpec(100.0), 8, 5)
    for one, other in zip(share, alone, strict=True):
        assert torch.equal(one, other)


def test_linear_scaling_stretches_positions():
    plain = cos_sin_tables(RopeSpec(100.0), 8, 9)
    stretched = cos_sin_tables(RopeSpec(100.0, scaling=LinearScaling(2.0)), 8, 17)
    for one, two in zip(plain, stretched, strict=True):
        torch.testing.assert_close(two[::2], one)


def test_llama3_scaling_leaves_fast_dimensions_and_divides_slow_ones():
    scaling = Llama3Scaling(8.0, 1.0, 4.0, 64)
    plain, scaled = (
        torch.atan2(*reversed(cos_sin_tables(rope, 16, 2)))[1]
        for rope in (RopeSpec(10_000.0), RopeSpec(10_000.0, scaling=scaling))
    )
    ratio = plain / scaled
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[-1] == pytest.approx(8.0)
    assert (ratio.diff() >= -1e-4).all()

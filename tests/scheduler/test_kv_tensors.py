"""How many blocks, how long a sequence, and which impossible wish is refused."""

import pytest
import torch

from anzoth.config import ConfigError
from anzoth.model_config import EngineConfig
from anzoth.scheduler.kv_tensors import allocate, choose_size, num_block_bytes
from anzoth.scheduler.models.specs import LayerNorms, ModelSpec, RopeSpec, ScaleSpec

MIB = 1 << 20
SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=100,
    hidden_size=64,
    intermediate_size=64,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    max_position_tokens=1024,
    eos_token_ids=(),
    windows=(None,) * 4,
    ropes=(RopeSpec(10_000.0),) * 4,
    experts=(None,) * 4,
    activation="silu",
    norms=LayerNorms("before", None, "between", None),
    norm_eps=1e-6,
    has_zero_centred_norms=False,
    qk_norm=None,
    scales=ScaleSpec(attention=0.2),
    has_tied_embeddings=False,
    has_qkv_bias=False,
    has_output_bias=False,
    has_mlp_bias=False,
    has_fused_projections=False,
)
BLOCK_BYTES = 2 * 4 * 2 * 32 * 16 * 2


def _size(available_bytes=1 << 30, **settings):
    return choose_size(SPEC, torch.bfloat16, EngineConfig(**settings), available_bytes)


def test_a_block_holds_keys_and_values_of_all_layers():
    assert num_block_bytes(SPEC, torch.bfloat16, 16) == BLOCK_BYTES
    assert num_block_bytes(SPEC, torch.float32, 16) == 2 * BLOCK_BYTES


def test_a_number_of_blocks_wins_over_a_size():
    assert _size(num_blocks=7, kv_cache_mib=500).num_blocks == 7


def test_a_size_is_filled_with_whole_blocks():
    assert _size(kv_cache_mib=3).num_blocks == 3 * MIB // BLOCK_BYTES


def test_unasked_the_cache_takes_a_share_of_free_memory():
    blocks = _size(available_bytes=10 * MIB).num_blocks
    assert 0.2 * 10 * MIB < blocks * BLOCK_BYTES < 0.6 * 10 * MIB


def test_unasked_the_cache_is_no_larger_than_all_sequences_can_use():
    size = _size(available_bytes=1 << 50, max_running_sequences=3)
    assert size.num_blocks == 3 * 1024 // 16


def test_a_sequence_is_as_long_as_the_checkpoint_and_the_cache_allow():
    assert _size().max_model_tokens == 1024
    assert _size(max_model_tokens=100).max_model_tokens == 100
    assert _size(max_model_tokens=9999).max_model_tokens == 1024
    assert _size(num_blocks=5).max_model_tokens == 80


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_blocks": 0}, "num_blocks = 0"),
        ({"kv_cache_mib": 0}, "kv_cache_mib = 0"),
        ({"available_bytes": 1000}, "MiB of free memory"),
        ({"block_size_tokens": 0}, "block_size_tokens is 0"),
        ({"max_model_tokens": 0}, "max_model_tokens is 0"),
        ({"num_blocks": 5, "max_model_tokens": 81}, "holds only 80 tokens"),
    ],
)
def test_a_cache_that_cannot_work_stops_the_start(settings, named):
    with pytest.raises(ConfigError, match=named):
        _size(**settings)


def test_layers_share_nothing_and_start_at_zero():
    layers = allocate(SPEC, torch.bfloat16, 3, 16, torch.device("cpu")).layers
    assert len(layers) == 4
    for number, layer in enumerate(layers):
        assert layer.k_SKD.shape == layer.v_SKD.shape == (48, 2, 32)
        assert not layer.k_SKD.any()
        assert not layer.v_SKD.any()
        layer.k_SKD.fill_(number + 1)
        layer.v_SKD.fill_(-number - 1)
    for number, layer in enumerate(layers):
        assert (layer.k_SKD == number + 1).all()
        assert (layer.v_SKD == -number - 1).all()


def test_copied_blocks_are_equal_in_every_layer_and_all_are_read_before_any_is_written():
    tensors = allocate(SPEC, torch.bfloat16, 5, 16, torch.device("cpu"))
    torch.manual_seed(0)
    for layer in tensors.layers:
        layer.k_SKD.normal_()
        layer.v_SKD.normal_()
    before = [
        values.view(5, -1).clone()
        for layer in tensors.layers
        for values in (layer.k_SKD, layer.v_SKD)
    ]
    tensors.copy([(1, 4), (4, 0), (1, 2)])
    after = [v.view(5, -1) for layer in tensors.layers for v in (layer.k_SKD, layer.v_SKD)]
    for values, old in zip(after, before, strict=True):
        assert torch.equal(values, old[[4, 1, 1, 3, 1]])


def test_scrubbed_blocks_are_zero_in_every_layer_and_the_others_are_untouched():
    tensors = allocate(SPEC, torch.bfloat16, 5, 16, torch.device("cpu"))
    for layer in tensors.layers:
        layer.k_SKD.fill_(1)
        layer.v_SKD.fill_(1)
    tensors.scrub([1, 4])
    for layer in tensors.layers:
        for values in (layer.k_SKD, layer.v_SKD):
            by_block = values.view(5, -1)
            assert not by_block[[1, 4]].any()
            assert (by_block[[0, 2, 3]] == 1).all()

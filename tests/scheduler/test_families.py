"""What config.json may say, in every spelling that is on the hub, and what is refused."""

import json

import pytest

from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.models.families import FAMILIES, read_spec
from anzoth.scheduler.models.specs import (
    ExpertNames,
    ExpertsSpec,
    LinearScaling,
    RopeSpec,
    ScaleSpec,
    YarnScaling,
)

MINIMAL = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
}


QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
}


@pytest.fixture
def spec_of(tmp_path):
    """(changes to a minimal config, generation config) -> ModelSpec."""

    def read(changes=None, generation=None):
        config = {k: v for k, v in (MINIMAL | (changes or {})).items() if v is not ...}
        (tmp_path / "config.json").write_text(json.dumps(config))
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(json.dumps(generation))
        return read_spec(tmp_path)

    return read


def test_what_a_minimal_config_leaves_out_has_the_usual_defaults(spec_of):
    spec = spec_of()
    assert (spec.num_kv_heads, spec.head_dim, spec.norm_eps) == (4, 8, 1e-6)
    assert spec.ropes == (RopeSpec(10_000.0),) * 4
    assert spec.windows == (None,) * 4
    assert spec.experts == (None,) * 4
    assert spec.scales == ScaleSpec(attention=8**-0.5)
    assert spec.activation == "silu"
    assert not spec.has_tied_embeddings
    assert not spec.has_qkv_bias


def test_end_tokens_of_the_generation_config_win(spec_of):
    assert spec_of().eos_token_ids == (2,)
    assert spec_of(generation={"eos_token_id": [7, 9]}).eos_token_ids == (7, 9)
    assert spec_of({"eos_token_id": None}, generation={}).eos_token_ids == ()


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 8}, (None,) * 4),
        # transformers' default is 28 layers without, more than there are here.
        ({"sliding_window": 8, "use_sliding_window": True}, (None,) * 4),
        ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}, (8,) * 4),
        (
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3},
            (None, None, None, 8),
        ),
        (
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}
            | {"layer_types": ["sliding_attention", "full_attention"] * 2},
            (8, None, 8, None),
        ),
    ],
)
@pytest.mark.parametrize("architecture", ["Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_windows_of_qwen_are_off_unless_switched_on(spec_of, architecture, changes, windows):
    assert spec_of({"architectures": [architecture]} | changes).windows == windows


@pytest.mark.parametrize("family", ["Mistral", "Phi3"])
def test_families_without_a_switch_have_a_window_on_every_layer_or_on_none(spec_of, family):
    mistral = {"architectures": [f"{family}ForCausalLM"]}
    assert spec_of(mistral | {"sliding_window": 8}).windows == (8,) * 4
    assert spec_of(mistral | {"sliding_window": None}).windows == (None,) * 4


# Only what config.json on the hub says, in the spelling of the day it was published.
GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"],
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 16,
    "query_pre_attn_scalar": 64,
    "sliding_window": 8,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "rope_theta": 10000.0,
}
GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"],
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 16,
    "query_pre_attn_scalar": 64,
    "num_hidden_layers": 7,
    "sliding_window": 8,
    "sliding_window_pattern": 6,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "rope_theta": 1000000,
    "rope_local_base_freq": 10000,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}


def test_gemma_2_as_published(spec_of):
    spec = spec_of(GEMMA2)
    assert spec.windows == (8, None, 8, None)
    assert spec.has_tied_embeddings
    assert spec.has_zero_centred_norms
    assert spec.scales == ScaleSpec(
        attention=1 / 8, embedding=32**0.5, attention_cap=50.0, logits_cap=30.0
    )


def test_caps_of_gemma_2_are_on_unless_null(spec_of):
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    absent, null = spec_of(GEMMA2 | dict.fromkeys(caps, ...)), spec_of(GEMMA2 | dict.fromkeys(caps))
    assert (absent.scales.attention_cap, absent.scales.logits_cap) == (50.0, 30.0)
    assert (null.scales.attention_cap, null.scales.logits_cap) == (None, None)


def test_gemma_3_as_published(spec_of):
    spec = spec_of(GEMMA3)
    assert spec.windows == (8, 8, 8, 8, 8, None, 8)
    local, usual = RopeSpec(10_000.0), RopeSpec(1e6, LinearScaling(8.0))
    assert spec.ropes == (local,) * 5 + (usual, local)
    assert spec.qk_norm == "head"


def test_both_spellings_of_the_rotary_settings_of_gemma_3_are_the_same(spec_of):
    newer = {
        "rope_theta": ...,
        "rope_local_base_freq": ...,
        "rope_scaling": ...,
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 10_000.0, "rope_type": "default"},
        },
    }
    assert spec_of(GEMMA3 | newer) == spec_of(GEMMA3)


def test_layers_of_smollm3_that_do_not_rotate_are_listed_or_every_fourth(spec_of):
    smollm3 = {"architectures": ["SmolLM3ForCausalLM"]}
    rope = RopeSpec(2e6)
    assert spec_of(smollm3).ropes == (rope, rope, rope, None)
    assert spec_of(smollm3 | {"no_rope_layers": [0, 1, 1, 0]}).ropes == (None, rope, rope, None)
    assert spec_of(smollm3).has_tied_embeddings


def test_mixtral_as_published(spec_of):
    spec = spec_of(
        {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8}
        | {"num_experts_per_tok": 2, "sliding_window": None, "rope_theta": 1e6}
    )
    names = ExpertNames("block_sparse_moe", gate="w1", up="w3", down="w2")
    assert spec.experts == (ExpertsSpec(8, 2, 64, has_normed_weights=True, names=names),) * 4


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        ({}, (True,) * 4),
        ({"decoder_sparse_step": 2}, (False, True, False, True)),
        ({"mlp_only_layers": [0, 3]}, (False, True, True, False)),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [1]}, (False, False, False, True)),
    ],
)
def test_which_layers_of_qwen3_moe_have_experts(spec_of, changes, sparse):
    spec = spec_of(QWEN3_MOE | changes)
    assert tuple(experts is not None for experts in spec.experts) == sparse
    experts = next(filter(None, spec.experts))
    assert (experts.num_experts, experts.num_active, experts.intermediate_size) == (8, 3, 24)
    assert experts.has_normed_weights


def test_the_number_of_experts_may_have_either_name(spec_of):
    renamed = QWEN3_MOE | {"num_experts": ..., "num_local_experts": 8}
    assert spec_of(renamed) == spec_of(QWEN3_MOE)


def test_multipliers_of_granite_that_are_not_there_are_one(spec_of):
    granite = {"architectures": ["GraniteForCausalLM"]}
    assert spec_of(granite).scales == ScaleSpec(attention=1.0)
    multipliers = {"attention_multiplier": 0.25, "embedding_multiplier": 12.0}
    multipliers |= {"residual_multiplier": 0.22, "logits_scaling": 8.0}
    assert spec_of(granite | multipliers).scales == ScaleSpec(0.25, 12.0, 0.22, 1 / 8)
    # Another family does not know them.
    assert spec_of(multipliers).scales == spec_of().scales


def test_a_yarn_rule_that_was_added_by_hand_stretches_the_context(spec_of):
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    spec = spec_of({"rope_scaling": yarn})
    assert spec.max_position_tokens == 512
    assert isinstance(spec.ropes[0], RopeSpec)
    assert isinstance(spec.ropes[0].scaling, YarnScaling)
    assert spec_of({"rope_scaling": {"type": "linear", "factor": 4.0}}).max_position_tokens == 128


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_biases_of_attention_are_where_the_family_has_them(spec_of, architecture):
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
    spec = spec_of(experts | {"architectures": [architecture], "attention_bias": True})
    without = spec_of(experts | {"architectures": [architecture], "attention_bias": False})
    where = {
        "MistralForCausalLM": (False, False),
        "MixtralForCausalLM": (False, False),
        "Phi3ForCausalLM": (False, False),
        "Qwen2ForCausalLM": (True, False),
    }.get(architecture, (True, True))
    assert (spec.has_qkv_bias, spec.has_output_bias) == where
    assert without.has_qkv_bias == (architecture == "Qwen2ForCausalLM")
    assert not without.has_output_bias


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not supported"),
        ({"architectures": ["GPT2LMHeadModel"]}, f"supported are {', '.join(sorted(FAMILIES))}"),
        ({"architectures": ["Gemma3ForConditionalGeneration"]}, "Gemma3ForConditionalGeneration"),
        ({"architectures": ...}, "architectures is missing"),
        ({"vocab_size": ...}, "vocab_size is missing"),
        ({"hidden_size": "32"}, "hidden_size is '32'; expected int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        ({"head_dim": 7}, "head_dim 7 with"),
        ({"hidden_act": "gelu"}, "activation 'gelu' is not supported; supported are silu, gelu_"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights"),
        (
            {"rope_scaling": {"type": "mrope", "factor": 2.0}},
            "'mrope' is not supported; supported are default, dynamic, linear, llama3, yarn",
        ),
        ({"rope_scaling": {"type": ["yarn"]}}, "['yarn'] is not supported"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1, 1]}}, "short_factor has 2"),
        ({"rope_scaling": {"type": "su", "short_factor": [1, 1, 1, 0]}}, "short_factor[3] is 0"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_parameters": {"partial_rotary_factor": 0.4}}, "partial_rotary_factor 0.4"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor 1.5"),
        ({"use_bidirectional_attention": True}, "tokens that see later ones"),
        ({"architectures": ["MixtralForCausalLM"]}, "num_local_experts is missing"),
        (
            {"architectures": ["MixtralForCausalLM"], "num_local_experts": 2}
            | {"num_experts_per_tok": 3},
            "num_experts_per_tok is 3, of 2 experts",
        ),
        ({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1]}, "for 4 layers"),
        ({"architectures": ["GraniteForCausalLM"], "logits_scaling": 0}, "logits_scaling is 0"),
        ({"rms_norm_eps": True}, "rms_norm_eps is True"),
        ({"eos_token_id": "end"}, "eos_token_id is 'end'"),
        (
            {"architectures": ["Qwen3ForCausalLM"], "sliding_window": 4}
            | {"use_sliding_window": True, "layer_types": ["sliding_attention"]},
            "for 4 layers",
        ),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(spec_of, changes, named):
    with pytest.raises(CheckpointError, match=r"config\.json") as raised:
        spec_of(changes)
    assert named in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'"x"', b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_spec(tmp_path)


def test_a_missing_config_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json"):
        read_spec(tmp_path)

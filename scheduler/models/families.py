"""What is this checkpoint: which family, and what does its config.json say?

One row of `FAMILIES` per architecture, with what config.json leaves unsaid. Whatever would change
the numbers and is not computed here is refused by name, never ignored.

Does not know: tensors, or where the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from anzoth.scheduler.models.config_json import Config
from anzoth.scheduler.models.rope_settings import reach_tokens, read_rope, rope_of
from anzoth.scheduler.models.specs import (
    Activation,
    ExpertNames,
    ExpertsSpec,
    LayerNorms,
    ModelSpec,
    QKNorm,
    RopeSpec,
    ScaleSpec,
)

LayerType = Literal["full_attention", "sliding_attention"]

# --- layers: which see a window only, and how they rotate --------------------------------------


def _all_full(_config: Config, num_layers: int) -> Sequence[LayerType]:
    return ("full_attention",) * num_layers


def _all_sliding(_config: Config, num_layers: int) -> Sequence[LayerType]:
    """If the config names a window at all."""
    return ("sliding_attention",) * num_layers


def _all_if_switched_on(config: Config, num_layers: int) -> Sequence[LayerType]:
    rule = _all_sliding if config.flag("use_sliding_window") else _all_full
    return rule(config, num_layers)


def _late_if_switched_on(config: Config, num_layers: int) -> Sequence[LayerType]:
    """Layers from `max_window_layers` on, unless the config lists them."""
    if not config.flag("use_sliding_window"):
        return _all_full(config, num_layers)
    first = config.optional("max_window_layers", int) or 0
    return _listed(config, [layer >= first for layer in range(num_layers)])


def _unrotated_if_switched_on(config: Config, num_layers: int) -> Sequence[LayerType]:
    """Layers that do not rotate, unless the config lists others."""
    if not config.flag("use_sliding_window"):
        return _all_full(config, num_layers)
    return _listed(config, [not rotates for rotates in _rotating(config, num_layers)])


def _all_but_every_nth(config: Config, num_layers: int) -> Sequence[LayerType]:
    """n is `sliding_window_pattern`, unless the config lists them."""
    n = config.positive("sliding_window_pattern")
    return _listed(config, [layer % n != n - 1 for layer in range(num_layers)])


def _listed(config: Config, is_sliding: Sequence[bool]) -> Sequence[LayerType]:
    """What `layer_types` says, else what is given."""
    types = config.optional("layer_types", list)
    if types is None:
        return ["sliding_attention" if sliding else "full_attention" for sliding in is_sliding]
    if len(types) != len(is_sliding) or any(kind not in get_args(LayerType) for kind in types):
        config.fail(f"layer_types is {types}, for {len(is_sliding)} layers")
    return types


Ropes = Sequence[RopeSpec | None]


def _same(config: Config, types: Sequence[LayerType], head_dim: int) -> Ropes:
    return (read_rope(config, head_dim),) * len(types)


def _by_type(config: Config, types: Sequence[LayerType], head_dim: int) -> Ropes:
    """Layers with a window turn by `rope_local_base_freq`, or by a section of their own."""
    empty = Config(config.file, {})
    sections = config.section("rope_parameters") or empty
    usual = sections.section("full_attention") or config.section("rope_scaling") or empty
    local = (sections.section("sliding_attention") or empty).with_defaults(
        {"rope_theta": config.number("rope_local_base_freq")}
    )
    ropes = {
        "full_attention": rope_of(usual, config, head_dim),
        "sliding_attention": rope_of(local, config, head_dim),
    }
    return [ropes[kind] for kind in types]


def _some(config: Config, types: Sequence[LayerType], head_dim: int) -> Ropes:
    rope = read_rope(config, head_dim)
    return [rope if rotates else None for rotates in _rotating(config, len(types))]


def _rotating(config: Config, num_layers: int) -> Sequence[bool]:
    """`no_rope_layers` has 0 for a layer that does not rotate; without it, every nth does not."""
    listed = config.optional("no_rope_layers", list)
    if listed is None:
        n = config.positive("no_rope_layer_interval")
        return [layer % n != n - 1 for layer in range(num_layers)]
    if len(listed) != num_layers or any(entry not in (0, 1) for entry in listed):
        config.fail(f"no_rope_layers is {listed}, for {num_layers} layers")
    return [bool(entry) for entry in listed]


# --- constants and experts ---------------------------------------------------------------------


def _plain_scales(_config: Config, head_dim: int) -> ScaleSpec:
    return ScaleSpec(attention=head_dim**-0.5)


def _gemma_scales(config: Config, _head_dim: int) -> ScaleSpec:
    return ScaleSpec(
        attention=config.number("query_pre_attn_scalar") ** -0.5,
        embedding=config.positive("hidden_size") ** 0.5,
        attention_cap=config.number_or_none("attn_logit_softcapping"),
        logits_cap=config.number_or_none("final_logit_softcapping"),
    )


def _granite_scales(config: Config, _head_dim: int) -> ScaleSpec:
    return ScaleSpec(
        attention=config.number("attention_multiplier", 1.0),
        embedding=config.number("embedding_multiplier", 1.0),
        residual=config.number("residual_multiplier", 1.0),
        logits=1 / config.number("logits_scaling", 1.0),
    )


Experts = Sequence[ExpertsSpec | None]


def _no_experts(_config: Config, num_layers: int) -> Experts:
    return (None,) * num_layers


def _mixtral_experts(config: Config, num_layers: int) -> Experts:
    experts = ExpertsSpec(
        num_experts=config.positive("num_local_experts"),
        num_active=config.positive("num_experts_per_tok"),
        intermediate_size=config.positive("intermediate_size"),
        has_normed_weights=True,
        names=ExpertNames(block="block_sparse_moe", gate="w1", up="w3", down="w2"),
    )
    return (experts,) * num_layers


def _qwen_experts(config: Config, num_layers: int) -> Experts:
    """Every `decoder_sparse_step`-th layer but those in `mlp_only_layers`."""
    experts = ExpertsSpec(
        num_experts=config.positive("num_experts", config.positive_or_none("num_local_experts")),
        num_active=config.positive("num_experts_per_tok"),
        intermediate_size=config.positive("moe_intermediate_size"),
        has_normed_weights=config.flag("norm_topk_prob"),
        names=ExpertNames(block="mlp", gate="gate_proj", up="up_proj", down="down_proj"),
    )
    n = config.positive("decoder_sparse_step", 1)
    dense = config.optional("mlp_only_layers", list) or []
    return [
        experts if layer % n == n - 1 and layer not in dense else None
        for layer in range(num_layers)
    ]


# --- the table ---------------------------------------------------------------------------------

_BEFORE = LayerNorms("input_layernorm", None, "post_attention_layernorm", None)
_AFTER = LayerNorms(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
_AROUND = LayerNorms(
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


@dataclass(slots=True, frozen=True)
class Family:
    """What an architecture's name says beyond its config.json."""

    layer_types: Callable[[Config, int], Sequence[LayerType]] = _all_full
    ropes: Callable[[Config, Sequence[LayerType], int], Ropes] = _same
    scales: Callable[[Config, int], ScaleSpec] = _plain_scales
    experts: Callable[[Config, int], Experts] = _no_experts
    biases: Literal["as configured", "qkv", "none"] = "as configured"
    """Of the attention's linear layers; "as configured": `attention_bias`, on all of them."""
    norms: LayerNorms = _BEFORE
    has_zero_centred_norms: bool = False
    qk_norm: QKNorm | None = None
    has_fused_projections: bool = False


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(_all_sliding, biases="none"),
    "MixtralForCausalLM": Family(_all_sliding, biases="none", experts=_mixtral_experts),
    "Qwen2ForCausalLM": Family(_late_if_switched_on, biases="qkv"),
    "Qwen3ForCausalLM": Family(_late_if_switched_on, qk_norm="head"),
    "Qwen3MoeForCausalLM": Family(_all_if_switched_on, qk_norm="head", experts=_qwen_experts),
    "Phi3ForCausalLM": Family(_all_sliding, biases="none", has_fused_projections=True),
    "Gemma2ForCausalLM": Family(
        _all_but_every_nth, norms=_AROUND, has_zero_centred_norms=True, scales=_gemma_scales
    ),
    "Gemma3ForCausalLM": Family(
        _all_but_every_nth,
        norms=_AROUND,
        has_zero_centred_norms=True,
        scales=_gemma_scales,
        ropes=_by_type,
        qk_norm="head",
    ),
    "GraniteForCausalLM": Family(scales=_granite_scales),
    "Olmo2ForCausalLM": Family(norms=_AFTER, qk_norm="projection"),
    "SmolLM3ForCausalLM": Family(_unrotated_if_switched_on, ropes=_some),
}

_GEMMA: Mapping[str, object] = {
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
}
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "Gemma2ForCausalLM": {
        **_GEMMA,
        "sliding_window_pattern": 2,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "Gemma3ForCausalLM": {
        **_GEMMA,
        "sliding_window_pattern": 6,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
    "MixtralForCausalLM": {"rms_norm_eps": 1e-5, "rope_theta": 1e6},
    "Olmo2ForCausalLM": {"rms_norm_eps": 1e-5},
    "Phi3ForCausalLM": {"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
    "Qwen2ForCausalLM": {"max_window_layers": 28},
    "Qwen3ForCausalLM": {"max_window_layers": 28},
    "SmolLM3ForCausalLM": {
        "tie_word_embeddings": True,
        "rope_theta": 2e6,
        "no_rope_layer_interval": 4,
    },
}
"""What a config.json may leave out, where the family's default is not everyone's."""


# --- reading -----------------------------------------------------------------------------------


def read_spec(directory: Path) -> ModelSpec:
    """The spec of the checkpoint in `directory`. Raises CheckpointError naming what is wrong."""
    config = Config.read(directory / "config.json")
    family = FAMILIES.get(architecture := _architecture(config))
    if family is None:
        config.fail(
            f"architecture {architecture!r} is not supported; "
            f"supported are {', '.join(sorted(FAMILIES))}"
        )
    config = config.with_defaults(_DEFAULTS.get(architecture, {}))
    config.refuse("quantization_config", "quantised weights")
    config.refuse("use_bidirectional_attention", "tokens that see later ones")
    num_layers = config.positive("num_hidden_layers")
    num_heads = config.positive("num_attention_heads")
    hidden_size = config.positive("hidden_size")
    head_dim = config.positive("head_dim", max(hidden_size // num_heads, 1))
    types = family.layer_types(config, num_layers)
    window = config.positive_or_none("sliding_window")
    ropes = tuple(family.ropes(config, types, head_dim))
    has_attention_bias = config.flag("attention_bias") and family.biases == "as configured"
    spec = ModelSpec(
        architecture=architecture,
        vocab_size=config.positive("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=config.positive("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=config.positive("num_key_value_heads", num_heads),
        head_dim=head_dim,
        max_position_tokens=max(
            config.positive("max_position_embeddings"), *(reach_tokens(rope) for rope in ropes)
        ),
        eos_token_ids=_eos_token_ids(directory, config),
        windows=tuple(window if kind == "sliding_attention" else None for kind in types),
        ropes=ropes,
        experts=tuple(family.experts(config, num_layers)),
        activation=_activation(config),
        norms=family.norms,
        norm_eps=config.number("rms_norm_eps", 1e-6),
        has_zero_centred_norms=family.has_zero_centred_norms,
        qk_norm=family.qk_norm,
        scales=family.scales(config, head_dim),
        has_tied_embeddings=config.flag("tie_word_embeddings"),
        has_qkv_bias=has_attention_bias or family.biases == "qkv",
        has_output_bias=has_attention_bias,
        has_mlp_bias=config.flag("mlp_bias"),
        has_fused_projections=family.has_fused_projections,
    )
    _check(config, spec)
    return spec


def _check(config: Config, spec: ModelSpec) -> None:
    if spec.num_heads % spec.num_kv_heads:
        config.fail(
            f"{spec.num_heads} attention heads cannot share {spec.num_kv_heads} key/value heads "
            f"evenly"
        )
    for experts in spec.experts:
        if experts is not None and experts.num_active > experts.num_experts:
            config.fail(
                f"num_experts_per_tok is {experts.num_active}, of {experts.num_experts} experts"
            )


def _architecture(config: Config) -> str:
    names = config.optional("architectures", list)
    if not names or not isinstance(names[0], str):
        config.fail("architectures is missing")
    # The bare model, as checkpoints of embedding models are often stored.
    causal = names[0].removesuffix("Model") + "ForCausalLM"
    return causal if causal in FAMILIES else names[0]


def _activation(config: Config) -> Activation:
    name = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if name not in get_args(Activation):
        config.fail(
            f"activation {name!r} is not supported; supported are {', '.join(get_args(Activation))}"
        )
    return cast(Activation, name)  # just compared with the type's own values


def _eos_token_ids(directory: Path, config: Config) -> tuple[int, ...]:
    """generation_config.json wins: chat models list their end-of-turn token only there."""
    file = directory / "generation_config.json"
    sources = ([Config.read(file)] if file.is_file() else []) + [config]
    for source in sources:
        value = source.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        known = tuple(token for token in ids if type(token) is int and token >= 0)
        if len(known) < len(ids):
            source.fail(f"eos_token_id is {value!r}")
        if known:
            return known
    return ()

"""What is this checkpoint, in the few numbers that the decoder needs?

One row of `FAMILIES` per architecture: what its `config.json` leaves unsaid. Both spellings of the
rotary settings are read, `rope_theta` + `rope_scaling` and the newer `rope_parameters`. Whatever
would change the numbers and is not computed here is refused by name, never ignored.

Does not know: tensors, or where the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anzoth.scheduler.checkpoint import CheckpointError, read_json

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class RopeSpec:
    """How fast each pair of dimensions turns. Frequencies: scheduler/models/rotary.py."""

    theta: float
    linear_factor: float = 1.0
    """Positions are divided by it."""
    llama3: Llama3Scaling | None = None


@dataclass(slots=True, frozen=True)
class Llama3Scaling:
    """Llama 3.1's rule: slow dimensions are slowed further by `factor`, fast ones left alone."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(slots=True, frozen=True)
class ModelSpec:
    """A decoder-only transformer: RMSNorm, rotary positions, grouped queries, SwiGLU."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: RopeSpec
    windows: tuple[int | None, ...]
    """Per layer: each token sees that many positions, itself included; None: all."""
    max_position_tokens: int
    eos_token_ids: tuple[int, ...]
    has_tied_embeddings: bool
    has_qkv_bias: bool
    has_output_bias: bool
    """On the attention's output projection."""
    has_mlp_bias: bool
    has_qk_norm: bool
    """RMSNorm over each head's query and key before rotation."""


@dataclass(slots=True, frozen=True)
class Family:
    """What an architecture's name says beyond its config.json."""

    has_qkv_bias: bool | None
    """None: `attention_bias` says it, for the output projection too."""
    has_qk_norm: bool
    windows: Callable[[_Config, int], tuple[int | None, ...]]


def read_spec(directory: Path) -> ModelSpec:
    """The spec of the checkpoint in `directory`. Raises CheckpointError naming what is wrong."""
    config = _Config(directory / "config.json")
    family = FAMILIES.get(architecture := _architecture(config))
    if family is None:
        raise CheckpointError(
            f"{config.file}: architecture {architecture!r} is not supported; "
            f"supported are {', '.join(sorted(FAMILIES))}"
        )
    config.refuse("quantization_config", "quantised weights")
    if (activation := config.optional("hidden_act", str)) not in (None, "silu"):
        raise CheckpointError(f"{config.file}: activation {activation!r} is not supported")
    num_layers = config.positive("num_hidden_layers")
    num_heads = config.positive("num_attention_heads")
    hidden_size = config.positive("hidden_size")
    attention_bias = config.optional("attention_bias", bool) or False
    spec = ModelSpec(
        architecture=architecture,
        vocab_size=config.positive("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=config.positive("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=config.positive("num_key_value_heads", num_heads),
        head_dim=config.positive("head_dim", hidden_size // num_heads),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        rope=_read_rope(config),
        windows=family.windows(config, num_layers),
        max_position_tokens=config.positive("max_position_embeddings"),
        eos_token_ids=_eos_token_ids(directory, config),
        has_tied_embeddings=config.optional("tie_word_embeddings", bool) or False,
        has_qkv_bias=attention_bias if family.has_qkv_bias is None else family.has_qkv_bias,
        has_output_bias=attention_bias if family.has_qkv_bias is None else False,
        has_mlp_bias=config.optional("mlp_bias", bool) or False,
        has_qk_norm=family.has_qk_norm,
    )
    if spec.num_heads % spec.num_kv_heads:
        raise CheckpointError(
            f"{config.file}: {spec.num_heads} attention heads cannot share {spec.num_kv_heads} "
            f"key/value heads evenly"
        )
    if spec.head_dim % 2:
        raise CheckpointError(f"{config.file}: head_dim {spec.head_dim} is odd; rotary needs pairs")
    return spec


# --- what the families do differently ---------------------------------------------------------


def _no_windows(_config: _Config, num_layers: int) -> tuple[int | None, ...]:
    return (None,) * num_layers


def _one_window(config: _Config, num_layers: int) -> tuple[int | None, ...]:
    """Mistral: all layers, if the config names a window at all."""
    return (config.positive_or_none("sliding_window"),) * num_layers


def _switched_windows(config: _Config, num_layers: int) -> tuple[int | None, ...]:
    """Qwen: off unless `use_sliding_window`; then the layers from `max_window_layers` on.

    Newer configs also list `layer_types`, which wins.
    """
    window = config.positive_or_none("sliding_window")
    if not config.optional("use_sliding_window", bool) or window is None:
        return (None,) * num_layers
    types = config.optional("layer_types", list)
    if types is None:
        first = config.optional("max_window_layers", int) or 0
        return tuple(window if layer >= first else None for layer in range(num_layers))
    known: dict[object, int | None] = {"full_attention": None, "sliding_attention": window}
    if len(types) != num_layers or any(kind not in known for kind in types):
        raise CheckpointError(f"{config.file}: layer_types is {types}, for {num_layers} layers")
    return tuple(known[kind] for kind in types)


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(has_qkv_bias=None, has_qk_norm=False, windows=_no_windows),
    "MistralForCausalLM": Family(has_qkv_bias=False, has_qk_norm=False, windows=_one_window),
    "Qwen2ForCausalLM": Family(has_qkv_bias=True, has_qk_norm=False, windows=_switched_windows),
    "Qwen3ForCausalLM": Family(has_qkv_bias=None, has_qk_norm=True, windows=_switched_windows),
}


# --- reading ----------------------------------------------------------------------------------


class _Config:
    """config.json, whose every field is checked where it is read."""

    def __init__(self, file: Path, values: dict[str, Any] | None = None) -> None:
        self.file = file
        self._values = read_json(file) if values is None else values

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The field, or None where it is absent or null."""
        value = self._values.get(name)
        if value is None or (type(value) is kind):
            return value
        raise CheckpointError(f"{self.file}: {name} is {value!r}; expected {kind.__name__}")

    def positive(self, name: str, default: int | None = None) -> int:
        value = self.optional(name, int)
        value = default if value is None else value
        if value is None:
            raise CheckpointError(f"{self.file}: {name} is missing")
        if value < 1:
            raise CheckpointError(f"{self.file}: {name} is {value}; expected at least 1")
        return value

    def positive_or_none(self, name: str) -> int | None:
        return None if self._values.get(name) is None else self.positive(name)

    def number(self, name: str, default: float | None = None) -> float:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise CheckpointError(f"{self.file}: {name} is {value!r}; expected a positive number")
        return float(value)

    def section(self, name: str) -> _Config | None:
        values = self.optional(name, dict)
        return None if values is None else _Config(self.file, values)

    def refuse(self, name: str, meaning: str) -> None:
        """Raises if the field is set: what it stands for is not computed here."""
        if self._values.get(name):
            raise CheckpointError(f"{self.file}: {meaning} ({name}) are not supported")

    def get(self, name: str) -> object:
        return self._values.get(name)


def _architecture(config: _Config) -> str:
    names = config.optional("architectures", list)
    if not names or not isinstance(names[0], str):
        raise CheckpointError(f"{config.file}: architectures is missing")
    return names[0]


def _read_rope(config: _Config) -> RopeSpec:
    parameters = config.section("rope_parameters")
    if parameters is not None:
        theta, scaling = parameters.number("rope_theta", 10_000.0), parameters
    else:
        theta, scaling = config.number("rope_theta", 10_000.0), config.section("rope_scaling")
    for section in (config, *([scaling] if scaling else [])):
        if section.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise CheckpointError(f"{config.file}: partial_rotary_factor is not supported")
    if scaling is None:
        return RopeSpec(theta)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    match kind:
        case "default" | "dynamic":
            # "dynamic" changes nothing up to max_position_embeddings, and no sequence goes past it.
            return RopeSpec(theta)
        case "linear":
            return RopeSpec(theta, linear_factor=scaling.number("factor"))
        case "llama3":
            llama3 = Llama3Scaling(
                factor=scaling.number("factor"),
                low_freq_factor=scaling.number("low_freq_factor"),
                high_freq_factor=scaling.number("high_freq_factor"),
                original_max_positions=scaling.positive("original_max_position_embeddings"),
            )
            return RopeSpec(theta, llama3=llama3)
        case _:
            raise CheckpointError(
                f"{config.file}: rotary scaling {kind!r} is not supported; "
                f"supported are default, dynamic, linear, llama3"
            )


def _eos_token_ids(directory: Path, config: _Config) -> tuple[int, ...]:
    """generation_config.json wins: chat models list their end-of-turn token only there."""
    file = directory / "generation_config.json"
    sources = ([_Config(file)] if file.is_file() else []) + [config]
    for source in sources:
        value = source.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        known = tuple(token for token in ids if type(token) is int and token >= 0)
        if len(known) < len(ids):
            raise CheckpointError(f"{source.file}: eos_token_id is {value!r}")
        if known:
            return known
    return ()

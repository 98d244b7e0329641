"""Which rotary rule does config.json ask for?

Both spellings are read: `rope_theta` + `rope_scaling`, and the newer `rope_parameters` that holds
everything. A rule that is not computed here is refused by name.

Does not know: tensors, or which layers rotate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from anzoth.scheduler.models.config_json import Config
from anzoth.scheduler.models.specs import (
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeSpec,
    YarnScaling,
)

Scaling = LinearScaling | Llama3Scaling | YarnScaling | LongScaling | None


def read_rope(config: Config, head_dim: int) -> RopeSpec:
    """The rule for all layers. Raises CheckpointError."""
    settings = config.section("rope_scaling") or config.section("rope_parameters")
    return rope_of(settings or Config(config.file, {}), config, head_dim)


def rope_of(settings: Config, config: Config, head_dim: int) -> RopeSpec:
    """The rule in one section; what it leaves unsaid, the whole config may say."""
    share = settings.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    num_turning = int(head_dim * share)
    if share > 1 or num_turning < 2 or num_turning % 2:
        config.fail(
            f"head_dim {head_dim} with partial_rotary_factor {share}: rotary needs pairs of "
            f"dimensions"
        )
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if not isinstance(kind, str) or kind not in _SCALINGS:
        config.fail(
            f"rotary scaling {kind!r} is not supported; supported are {', '.join(_SCALINGS)}"
        )
    return RopeSpec(
        theta=settings.number("rope_theta", config.number("rope_theta", 10_000.0)),
        scaling=_SCALINGS[kind](settings, config, num_turning),
        turning_share=share,
    )


def reach_tokens(rope: RopeSpec | None) -> int:
    """How far the scaling rule stretches the context, where that is its purpose; else 0.

    A YaRN rule is often added to config.json by hand, beside an unchanged
    `max_position_embeddings`.
    """
    scaling = None if rope is None else rope.scaling
    if not isinstance(scaling, YarnScaling):
        return 0
    return int(scaling.factor * scaling.original_max_positions)


def _unscaled(_settings: Config, _config: Config, _num_turning: int) -> None:
    """Also "dynamic": up to max_position_embeddings it changes nothing, and no sequence goes past.

    Beyond, it turns keys by an angle that depends on how long the sequence was when each was
    computed, so a cache of them could not be shared.
    """


def _linear(settings: Config, _config: Config, _num_turning: int) -> LinearScaling:
    return LinearScaling(settings.number("factor"))


def _llama3(settings: Config, config: Config, _num_turning: int) -> Llama3Scaling:
    return Llama3Scaling(
        factor=settings.number("factor"),
        low_freq_factor=settings.number("low_freq_factor"),
        high_freq_factor=settings.number("high_freq_factor"),
        original_max_positions=_original_max_positions(settings, config),
    )


def _yarn(settings: Config, config: Config, _num_turning: int) -> YarnScaling:
    original = _original_max_positions(settings, config)
    factor = settings.number("factor", config.positive("max_position_embeddings") / original)

    def growth(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    magnitude = settings.number_or_none("attention_factor")
    if magnitude is None and settings.get("mscale") and settings.get("mscale_all_dim"):
        magnitude = growth(settings.number("mscale")) / growth(settings.number("mscale_all_dim"))
    return YarnScaling(
        factor=factor,
        beta_fast=settings.number("beta_fast", 32.0),
        beta_slow=settings.number("beta_slow", 1.0),
        original_max_positions=original,
        magnitude=growth(1.0) if magnitude is None else magnitude,
        has_whole_bounds=settings.optional("truncate", bool) is not False,
    )


def _long(settings: Config, config: Config, num_turning: int) -> LongScaling:
    original = _original_max_positions(settings, config)
    factor = settings.number("factor", config.positive("max_position_embeddings") / original)
    magnitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return LongScaling(
        short_divisors=settings.numbers("short_factor", num_turning // 2),
        long_divisors=settings.numbers("long_factor", num_turning // 2),
        original_max_positions=original,
        magnitude=settings.number("attention_factor", magnitude),
    )


def _original_max_positions(settings: Config, config: Config) -> int:
    """How long the context was before it was stretched. Phi writes it outside the section."""
    name = "original_max_position_embeddings"
    inside = settings.positive(name, config.positive("max_position_embeddings"))
    return config.positive(name, inside)


_SCALINGS: Mapping[str, Callable[[Config, Config, int], Scaling]] = {
    "default": _unscaled,
    "dynamic": _unscaled,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _long,
    "su": _long,
}

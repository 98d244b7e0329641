"""What is this model, in the few numbers that the decoder needs?

    config.json  ──  scheduler/models/families.py  ──>  ModelSpec  ──>  scheduler/models/decoder.py

One decoder computes every family, so each way in which they differ is a field here, and no field
says which family it is for. Whatever differs from layer to layer is a tuple with one entry each.

Does not know: config.json, tensors, or where the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu_pytorch_tanh"]
QKNorm = Literal["head", "projection"]


@dataclass(slots=True, frozen=True)
class RopeSpec:
    """How fast each pair of dimensions turns. Frequencies: scheduler/models/rotary.py."""

    theta: float
    scaling: LinearScaling | Llama3Scaling | YarnScaling | LongScaling | None = None
    turning_share: float = 1.0
    """The leading part of a head's dimensions that turns; the rest carries no position."""


@dataclass(slots=True, frozen=True)
class LinearScaling:
    """Positions are divided by `factor`."""

    factor: float


@dataclass(slots=True, frozen=True)
class Llama3Scaling:
    """Llama 3.1's rule: slow dimensions are slowed further by `factor`, fast ones left alone."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(slots=True, frozen=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): as above, blended along the dimensions; queries and keys grow."""

    factor: float
    beta_fast: float
    beta_slow: float
    original_max_positions: int
    magnitude: float
    """Cosines and sines are multiplied by it."""
    has_whole_bounds: bool
    """The blend begins and ends at whole dimensions."""


@dataclass(slots=True, frozen=True)
class LongScaling:
    """LongRoPE (arXiv 2402.13753): a searched divisor for each pair of dimensions."""

    short_divisors: tuple[float, ...]
    long_divisors: tuple[float, ...]
    """Used when sequences may become longer than `original_max_positions`."""
    original_max_positions: int
    magnitude: float
    """Cosines and sines are multiplied by it."""


@dataclass(slots=True, frozen=True)
class ScaleSpec:
    """Constants that something is multiplied by, or bent into [-cap, cap] with."""

    attention: float
    """Queries times keys; 1 / sqrt(head dimension) in most models."""
    embedding: float = 1.0
    residual: float = 1.0
    """What a block adds to the residual stream."""
    logits: float = 1.0
    attention_cap: float | None = None
    logits_cap: float | None = None


@dataclass(slots=True, frozen=True)
class LayerNorms:
    """The checkpoint's names of the norms around a layer's two blocks; None: there is no norm."""

    before_attention: str | None
    after_attention: str | None
    before_feed_forward: str | None
    after_feed_forward: str | None


@dataclass(slots=True, frozen=True)
class ExpertNames:
    """The checkpoint's names inside a layer that has experts."""

    block: str
    gate: str
    up: str
    down: str


@dataclass(slots=True, frozen=True)
class ExpertsSpec:
    """A feed-forward block that is many, of which each token goes through a few."""

    num_experts: int
    num_active: int
    """Per token."""
    intermediate_size: int
    has_normed_weights: bool
    """The weights of a token's active experts sum to 1."""
    names: ExpertNames


@dataclass(slots=True, frozen=True)
class ModelSpec:
    """A decoder-only transformer: RMSNorm, rotary positions, grouped queries, gated activation."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_tokens: int
    eos_token_ids: tuple[int, ...]

    windows: tuple[int | None, ...]
    """Per layer: each token sees that many positions, itself included; None: all."""
    ropes: tuple[RopeSpec | None, ...]
    """Per layer; None: queries and keys are not rotated."""
    experts: tuple[ExpertsSpec | None, ...]
    """Per layer; None: one feed-forward block for all tokens."""

    activation: Activation
    norms: LayerNorms
    norm_eps: float
    has_zero_centred_norms: bool
    """What is stored of a norm's weight is its distance from 1."""
    qk_norm: QKNorm | None
    """RMSNorm of queries and keys before rotation: over each head, or over all heads at once."""
    scales: ScaleSpec

    has_tied_embeddings: bool
    has_qkv_bias: bool
    has_output_bias: bool
    """On the attention's output projection."""
    has_mlp_bias: bool
    has_fused_projections: bool
    """The checkpoint stores q, k, v as one matrix, and gate, up as another."""

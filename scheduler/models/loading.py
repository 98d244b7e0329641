"""Which tensors of a checkpoint make up the decoder, and what is done to them on the way?

Parts that are multiplied together lie under each other in one matrix, and norms that are stored as
their distance from 1 become plain float32 weights. After that the decoder needs to know neither.

Does not know: what the decoder does with its weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from anzoth.kernels.dispatch import Kernels
from anzoth.scheduler.models.decoder import Decoder, Layer
from anzoth.scheduler.models.feed_forward import FeedForward, GatedBlock, Linear, Mixture
from anzoth.scheduler.models.specs import ExpertsSpec, ModelSpec
from anzoth.scheduler.weights import Part, Progress, WeightReader

Parts = dict[str, list[Part]]
"""Parameters of ours by name, and the tensors of the checkpoint that make up each."""

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
_NORM = "model.norm.weight"
_PREFIX = "model."
"""Of everything but the head. Checkpoints of the bare model leave it out."""


def load_decoder(
    directory: Path,
    spec: ModelSpec,
    kernels: Kernels,
    *,
    max_model_tokens: int,
    has_head: bool = True,
    progress: Progress | None = None,
) -> Decoder:
    """The model in `directory`, perhaps without the head. Raises CheckpointError."""
    if not has_head:  # then it is not looked for either
        spec = replace(spec, has_tied_embeddings=True)
    ignored = [_HEAD] if spec.has_tied_embeddings else []
    reader = WeightReader(
        directory, wanted_parts(spec), ignored=ignored, prefix=_PREFIX, progress=progress
    )
    outer = _Loader(reader, spec, kernels, _outer_parts(spec))
    embedding_VE = outer.read("embedding")
    return Decoder(
        spec,
        kernels,
        embedding_VE=embedding_VE,
        layers=[
            _load_layer(_Loader(reader, spec, kernels, _layer_parts(spec, index)), index)
            for index in range(spec.num_layers)
        ],
        norm_E=outer.norm("norm"),
        head_VE=_load_head(outer, embedding_VE) if has_head else None,
        max_model_tokens=max_model_tokens,
    )


def wanted_parts(spec: ModelSpec) -> list[Part]:
    """All tensors that a checkpoint of this model must hold, and their shapes."""
    groups = [_outer_parts(spec)] + [_layer_parts(spec, i) for i in range(spec.num_layers)]
    return [part for group in groups for parts in group.values() for part in parts]


# --- names and shapes --------------------------------------------------------------------------


def _outer_parts(spec: ModelSpec) -> Parts:
    shape = (spec.vocab_size, spec.hidden_size)
    parts = {"embedding": [Part(_EMBEDDING, shape)], "norm": [Part(_NORM, shape[1:])]}
    return parts if spec.has_tied_embeddings else parts | {"head": [Part(_HEAD, shape)]}


def _layer_parts(spec: ModelSpec, index: int) -> Parts:
    prefix = f"model.layers.{index}."
    experts = spec.experts[index]
    feed_forward = (
        _mlp_parts(spec, f"{prefix}mlp.")
        if experts is None
        else _expert_parts(spec, experts, prefix)
    )
    norms = {
        "norm_before_attention": spec.norms.before_attention,
        "norm_after_attention": spec.norms.after_attention,
        "norm_before_feed_forward": spec.norms.before_feed_forward,
        "norm_after_feed_forward": spec.norms.after_feed_forward,
    }
    return (
        _attention_parts(spec, f"{prefix}self_attn.")
        | feed_forward
        | {
            name: [Part(f"{prefix}{module}.weight", (spec.hidden_size,))]
            for name, module in norms.items()
            if module is not None
        }
    )


def _attention_parts(spec: ModelSpec, prefix: str) -> Parts:
    width = spec.hidden_size
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    sizes = {"qkv_proj": q + 2 * kv}
    if not spec.has_fused_projections:
        sizes = {"q_proj": q, "k_proj": kv, "v_proj": kv}
    parts = _linear("qkv", prefix, sizes, width, spec.has_qkv_bias)
    parts |= _linear("output", prefix, {"o_proj": width}, q, spec.has_output_bias)
    if spec.qk_norm is not None:
        q, kv = (spec.head_dim, spec.head_dim) if spec.qk_norm == "head" else (q, kv)
        parts["q_norm"] = [Part(f"{prefix}q_norm.weight", (q,))]
        parts["k_norm"] = [Part(f"{prefix}k_norm.weight", (kv,))]
    return parts


def _mlp_parts(spec: ModelSpec, prefix: str) -> Parts:
    width, inner = spec.hidden_size, spec.intermediate_size
    sizes = {"gate_up_proj": 2 * inner}
    if not spec.has_fused_projections:
        sizes = {"gate_proj": inner, "up_proj": inner}
    parts = _linear("gate_up", prefix, sizes, width, spec.has_mlp_bias)
    return parts | _linear("down", prefix, {"down_proj": width}, inner, spec.has_mlp_bias)


def _expert_parts(spec: ModelSpec, experts: ExpertsSpec, prefix: str) -> Parts:
    width, inner, names = spec.hidden_size, experts.intermediate_size, experts.names
    prefix = f"{prefix}{names.block}."
    parts = _linear("router", prefix, {"gate": experts.num_experts}, width, False)
    for index in range(experts.num_experts):
        inside = f"{prefix}experts.{index}."
        parts |= _linear(f"gate_up_{index}", inside, {names.gate: inner, names.up: inner}, width)
        parts |= _linear(f"down_{index}", inside, {names.down: width}, inner)
    return parts


def _linear(
    name: str, prefix: str, outputs: dict[str, int], inputs: int, has_bias: bool = False
) -> Parts:
    """One linear layer of ours, made of theirs laid one under the other."""
    parts = {name: [Part(f"{prefix}{m}.weight", (size, inputs)) for m, size in outputs.items()]}
    if has_bias:
        parts[f"{name}_bias"] = [Part(f"{prefix}{m}.bias", (s,)) for m, s in outputs.items()]
    return parts


# --- reading -----------------------------------------------------------------------------------


class _Loader:
    """Reads the parameters of one layer, or of what is outside all layers, by name."""

    def __init__(
        self, reader: WeightReader, spec: ModelSpec, kernels: Kernels, parts: Parts
    ) -> None:
        self.spec = spec
        self.kernels = kernels
        self._reader = reader
        self._parts = parts

    def read(self, name: str) -> torch.Tensor:
        return self._reader.read(self._parts[name], self.kernels.dtype)

    def linear(self, name: str) -> Linear:
        bias = self.read(f"{name}_bias") if f"{name}_bias" in self._parts else None
        return self.kernels.prepare_linear(self.read(name), bias)

    def norm(self, name: str) -> torch.Tensor:
        if not self.spec.has_zero_centred_norms:
            return self.read(name)
        # 1 + w in bfloat16 would keep two digits of a w that is stored with many more.
        return self._reader.read(self._parts[name], torch.float32).add_(1.0)

    def norm_or_none(self, name: str) -> torch.Tensor | None:
        return self.norm(name) if name in self._parts else None


def _load_head(outer: _Loader, embedding_VE: torch.Tensor) -> torch.Tensor:
    return embedding_VE if outer.spec.has_tied_embeddings else outer.read("head")


def _load_layer(loader: _Loader, index: int) -> Layer:
    spec = loader.spec
    return Layer(
        window=spec.windows[index],
        rope=spec.ropes[index],
        norm_before_attention_E=loader.norm_or_none("norm_before_attention"),
        qkv=loader.linear("qkv"),
        qk_norm_ND=None if spec.qk_norm is None else _load_qk_norm(loader),
        output=loader.linear("output"),
        norm_after_attention_E=loader.norm_or_none("norm_after_attention"),
        norm_before_feed_forward_E=loader.norm_or_none("norm_before_feed_forward"),
        feed_forward=_load_feed_forward(loader, spec.experts[index]),
        norm_after_feed_forward_E=loader.norm_or_none("norm_after_feed_forward"),
    )


def _load_qk_norm(loader: _Loader) -> torch.Tensor:
    """One weight for each head and dimension, also where all heads share theirs."""
    spec = loader.spec
    return torch.cat(
        [
            loader.norm(name).view(-1, spec.head_dim).expand(num_heads, -1)
            for name, num_heads in (("q_norm", spec.num_heads), ("k_norm", spec.num_kv_heads))
        ]
    )


def _load_feed_forward(loader: _Loader, experts: ExpertsSpec | None) -> FeedForward:
    kernels = loader.kernels
    activate = {"silu": kernels.swiglu, "gelu_pytorch_tanh": kernels.geglu}[loader.spec.activation]
    if experts is None:
        return GatedBlock(loader.linear("gate_up"), activate, loader.linear("down"))
    return Mixture(
        router=kernels.prepare_head(loader.read("router")),
        experts=[
            GatedBlock(loader.linear(f"gate_up_{i}"), activate, loader.linear(f"down_{i}"))
            for i in range(experts.num_experts)
        ],
        num_active=experts.num_active,
        has_normed_weights=experts.has_normed_weights,
    )

"""What does a Llama, Mistral or Qwen decoder compute?

    x = embedding[tokens]
    per layer:  x += o(attention(rope(qk_norm(q)), rope(qk_norm(k)), v)),  q k v from norm(x)
                x += down(silu(gate) · up),                               gate up from norm(x)
    logits = head(norm(x)) for the rows that sample

One file, one path: what the families do differently is in the spec (scheduler/models/specs.py), and
what the backends do differently is in the kernel table (kernels/dispatch.py). q, k and v are one
matrix, and so are gate and up: fewer, larger products.

Does not know: sequences, scheduling, sampling, or how the cache is shared.

Shape suffixes: T token rows · R rows to sample · E model width · H query heads · K key/value heads
· N = H + K · D head dimension · C = D/2 · J = 2 × feed-forward width · V vocabulary · S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from anzoth.kernels.dispatch import Kernels
from anzoth.scheduler.models.rotary import cos_sin_tables
from anzoth.scheduler.models.specs import ModelSpec
from anzoth.scheduler.weights import Part, Progress, WeightReader


@dataclass(slots=True, frozen=True, eq=False)
class LayerCache:
    """The keys and values of one layer, slot by slot."""

    k_SKD: torch.Tensor
    v_SKD: torch.Tensor


@dataclass(slots=True, frozen=True, eq=False)
class StepInputs:
    """One step, as the decoder sees it."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    slots: torch.Tensor
    """Where the leading, real rows store their keys and values; padding rows store nothing."""
    sample_rows_R: torch.Tensor
    plans: dict[int | None, Any]
    """The attention plan for each window that layers have. Any: private to the kernels' backend."""


@dataclass(slots=True, frozen=True, eq=False)
class _Layer:
    """The weights of one layer. Linear weights are functions (kernels/dispatch.py)."""

    window: int | None
    input_norm_E: torch.Tensor
    qkv: Any  # Linear; Any keeps the annotations of this table short
    qk_norm_ND: torch.Tensor | None
    output: Any
    mlp_norm_E: torch.Tensor
    gate_up: Any
    down: Any


class Decoder:
    """The weights of one model and its forward pass."""

    def __init__(
        self,
        spec: ModelSpec,
        kernels: Kernels,
        *,
        embedding_VE: torch.Tensor,
        layers: Sequence[_Layer],
        norm_E: torch.Tensor,
        head_VE: torch.Tensor,
        max_model_tokens: int,
    ) -> None:
        self._spec = spec
        self._kernels = kernels
        self._embedding_VE = embedding_VE
        self._layers = tuple(layers)
        self._norm_E = norm_E
        self._head = kernels.prepare_head(head_VE)
        self._cos_PC, self._sin_PC = cos_sin_tables(spec.rope, spec.head_dim, max_model_tokens)
        self._scale = spec.head_dim**-0.5

    def forward(self, step: StepInputs, cache: Sequence[LayerCache]) -> torch.Tensor:
        """Stores the step's keys and values; logits of the rows to sample, float32 [R, V]."""
        x_TE = F.embedding(step.token_ids_T, self._embedding_VE)
        cos_TC = self._cos_PC.index_select(0, step.positions_T)
        sin_TC = self._sin_PC.index_select(0, step.positions_T)
        for layer, layer_cache in zip(self._layers, cache, strict=True):
            x_TE = x_TE + self._attend(layer, layer_cache, x_TE, cos_TC, sin_TC, step)
            x_TE = x_TE + self._feed_forward(layer, x_TE)
        x_RE = x_TE.index_select(0, step.sample_rows_R)
        return self._head(self._kernels.rms_norm(x_RE, self._norm_E, self._spec.norm_eps))

    def _attend(
        self,
        layer: _Layer,
        cache: LayerCache,
        x_TE: torch.Tensor,
        cos_TC: torch.Tensor,
        sin_TC: torch.Tensor,
        step: StepInputs,
    ) -> torch.Tensor:
        spec, kernels = self._spec, self._kernels
        heads, kv_heads = spec.num_heads, spec.num_kv_heads
        qkv = layer.qkv(kernels.rms_norm(x_TE, layer.input_norm_E, spec.norm_eps))
        qkv_TXD = qkv.view(-1, heads + 2 * kv_heads, spec.head_dim)
        qk_TND, v_TKD = qkv_TXD[:, : heads + kv_heads], qkv_TXD[:, heads + kv_heads :]
        if layer.qk_norm_ND is not None:
            qk_TND = kernels.rms_norm(qk_TND, None, spec.norm_eps) * layer.qk_norm_ND
        qk_TND = kernels.rope(qk_TND, cos_TC, sin_TC)
        q_THD, k_TKD = qk_TND[:, :heads], qk_TND[:, heads:]
        num_real = step.slots.shape[0]
        kernels.write_kv(cache.k_SKD, cache.v_SKD, k_TKD[:num_real], v_TKD[:num_real], step.slots)
        attended = kernels.paged_attention(
            q_THD, cache.k_SKD, cache.v_SKD, step.plans[layer.window], scale=self._scale
        )
        return layer.output(attended)

    def _feed_forward(self, layer: _Layer, x_TE: torch.Tensor) -> torch.Tensor:
        normed_TE = self._kernels.rms_norm(x_TE, layer.mlp_norm_E, self._spec.norm_eps)
        return layer.down(self._kernels.swiglu(layer.gate_up(normed_TE)))


# --- from a checkpoint ------------------------------------------------------------------------

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
_NORM = "model.norm.weight"


def load_decoder(
    directory: Path,
    spec: ModelSpec,
    kernels: Kernels,
    *,
    max_model_tokens: int,
    progress: Progress | None = None,
) -> Decoder:
    """The model in `directory`. Raises CheckpointError."""
    outer = _outer_parts(spec)
    ignored = [_HEAD] if spec.has_tied_embeddings else []
    reader = WeightReader(directory, wanted_parts(spec), ignored=ignored, progress=progress)
    embedding_VE = reader.read(outer["embedding"], kernels.dtype)
    return Decoder(
        spec,
        kernels,
        embedding_VE=embedding_VE,
        layers=[_load_layer(reader, spec, index, kernels) for index in range(spec.num_layers)],
        norm_E=reader.read(outer["norm"], kernels.dtype),
        head_VE=reader.read(outer["head"], kernels.dtype) if "head" in outer else embedding_VE,
        max_model_tokens=max_model_tokens,
    )


def wanted_parts(spec: ModelSpec) -> list[Part]:
    """All tensors that a checkpoint of this model must hold, and their shapes."""
    groups = [_outer_parts(spec)] + [_layer_parts(spec, i) for i in range(spec.num_layers)]
    return [part for group in groups for parts in group.values() for part in parts]


def _outer_parts(spec: ModelSpec) -> dict[str, list[Part]]:
    shape = (spec.vocab_size, spec.hidden_size)
    parts = {"embedding": [Part(_EMBEDDING, shape)], "norm": [Part(_NORM, shape[1:])]}
    return parts if spec.has_tied_embeddings else parts | {"head": [Part(_HEAD, shape)]}


def _layer_parts(spec: ModelSpec, index: int) -> dict[str, list[Part]]:
    """Which tensors of the checkpoint make up each parameter of a layer."""
    prefix = f"model.layers.{index}."
    width, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim

    def linear(has_bias: bool, name: str, *sizes: tuple[str, int], inputs: int) -> None:
        names = [(f"{prefix}{module}", outputs) for module, outputs in sizes]
        parts[name] = [Part(f"{module}.weight", (outputs, inputs)) for module, outputs in names]
        if has_bias:
            parts[f"{name}_bias"] = [Part(f"{module}.bias", (out,)) for module, out in names]

    def norm(name: str, module: str, size: int) -> None:
        parts[name] = [Part(f"{prefix}{module}.weight", (size,))]

    parts: dict[str, list[Part]] = {}
    attention, mlp = "self_attn.", "mlp."
    projections = [(f"{attention}{n}_proj", size) for n, size in (("q", q), ("k", kv), ("v", kv))]
    linear(spec.has_qkv_bias, "qkv", *projections, inputs=width)
    linear(spec.has_output_bias, "output", (f"{attention}o_proj", width), inputs=q)
    gate_up = [(f"{mlp}gate_proj", inner), (f"{mlp}up_proj", inner)]
    linear(spec.has_mlp_bias, "gate_up", *gate_up, inputs=width)
    linear(spec.has_mlp_bias, "down", (f"{mlp}down_proj", width), inputs=inner)
    norm("input_norm", "input_layernorm", width)
    norm("mlp_norm", "post_attention_layernorm", width)
    if spec.has_qk_norm:
        norm("q_norm", f"{attention}q_norm", spec.head_dim)
        norm("k_norm", f"{attention}k_norm", spec.head_dim)
    return parts


def _load_layer(reader: WeightReader, spec: ModelSpec, index: int, kernels: Kernels) -> _Layer:
    parts = _layer_parts(spec, index)

    def read(name: str) -> torch.Tensor:
        return reader.read(parts[name], kernels.dtype)

    def linear(name: str) -> Any:
        bias = read(f"{name}_bias") if f"{name}_bias" in parts else None
        return kernels.prepare_linear(read(name), bias)

    qk_norm_ND = None
    if spec.has_qk_norm:
        qk_norm_ND = torch.cat(
            (
                read("q_norm").expand(spec.num_heads, -1),
                read("k_norm").expand(spec.num_kv_heads, -1),
            )
        )
    return _Layer(
        window=spec.windows[index],
        input_norm_E=read("input_norm"),
        qkv=linear("qkv"),
        qk_norm_ND=qk_norm_ND,
        output=linear("output"),
        mlp_norm_E=read("mlp_norm"),
        gate_up=linear("gate_up"),
        down=linear("down"),
    )

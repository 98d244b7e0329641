"""What does a decoder compute?

    x = scale · embedding[tokens]
    per layer:  x += scale · norm(o(attention(rope(norm(q)), rope(norm(k)), v))),  qkv from norm(x)
                x += scale · norm(feed_forward(norm(x)))
    logits = cap(scale · head(norm(x))) for the rows that sample

One file, one path. Which norms, caps and rotations there are is in the spec
(scheduler/models/specs.py); a norm that a model lacks is the identity here. What the backends do
differently is in the kernel table (kernels/dispatch.py). q, k and v are one matrix.

Does not know: families, checkpoints, sequences, scheduling, sampling, or how the cache is shared.

Shape suffixes: T token rows · R rows to sample · E model width · H query heads · K key/value heads
· N = H + K · D head dimension · C pairs of dimensions that turn · P positions · V vocabulary
· S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from anzoth.kernels.dispatch import Kernels
from anzoth.scheduler.models.feed_forward import FeedForward, Linear
from anzoth.scheduler.models.rotary import cos_sin_tables
from anzoth.scheduler.models.specs import ModelSpec, RopeSpec


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
    plans: dict[int | None, Any]
    """The attention plan for each window that layers have. Any: private to the kernels' backend."""


@dataclass(slots=True, frozen=True, eq=False)
class Layer:
    """The weights of one layer. Linear weights are functions (kernels/dispatch.py)."""

    window: int | None
    rope: RopeSpec | None
    norm_before_attention_E: torch.Tensor | None
    qkv: Linear
    qk_norm_ND: torch.Tensor | None
    output: Linear
    norm_after_attention_E: torch.Tensor | None
    norm_before_feed_forward_E: torch.Tensor | None
    feed_forward: FeedForward
    norm_after_feed_forward_E: torch.Tensor | None


Angles = tuple[torch.Tensor, torch.Tensor] | None
"""Cosines and sines [T, C] of a step's tokens; None: no rotation."""


class Decoder:
    """The weights of one model and its forward pass."""

    def __init__(
        self,
        spec: ModelSpec,
        kernels: Kernels,
        *,
        embedding_VE: torch.Tensor,
        layers: Sequence[Layer],
        norm_E: torch.Tensor,
        head_VE: torch.Tensor | None,
        max_model_tokens: int,
    ) -> None:
        """Without a head there are states and no logits."""
        self._spec = spec
        self._kernels = kernels
        self._embedding_VE = embedding_VE
        self._layers = tuple(layers)
        self._norm_E = norm_E
        self._head = None if head_VE is None else kernels.prepare_head(head_VE)
        self._tables_PC = {
            rope: cos_sin_tables(rope, spec.head_dim, max_model_tokens)
            for rope in set(spec.ropes)
            if rope is not None
        }

    def forward(self, step: StepInputs, cache: Sequence[LayerCache]) -> torch.Tensor:
        """Stores the step's keys and values; what `states` and `logits` need of it, [T, E]."""
        scales = self._spec.scales
        x_TE = F.embedding(step.token_ids_T, self._embedding_VE)
        if scales.embedding != 1:
            x_TE = x_TE * scales.embedding
        angles = self._angles(step.positions_T)
        for layer, layer_cache in zip(self._layers, cache, strict=True):
            y_TE = self._norm(x_TE, layer.norm_before_attention_E)
            y_TE = self._attend(layer, layer_cache, y_TE, angles[layer.rope], step)
            y_TE = self._norm(y_TE, layer.norm_after_attention_E)
            x_TE = torch.add(x_TE, y_TE, alpha=scales.residual)
            y_TE = layer.feed_forward(self._norm(x_TE, layer.norm_before_feed_forward_E))
            y_TE = self._norm(y_TE, layer.norm_after_feed_forward_E)
            x_TE = torch.add(x_TE, y_TE, alpha=scales.residual)
        return x_TE

    def states(self, x_TE: torch.Tensor, rows_R: torch.Tensor) -> torch.Tensor:
        """The normed states of these token rows of a step, [R, E]."""
        return self._norm(x_TE.index_select(0, rows_R), self._norm_E)

    def logits(self, x_TE: torch.Tensor, rows_R: torch.Tensor) -> torch.Tensor:
        """What follows these token rows of a step, float32 [R, V]."""
        assert self._head is not None, "a decoder that was loaded for its states"
        scales = self._spec.scales
        logits_RV = self._head(self.states(x_TE, rows_R))
        if scales.logits != 1:
            logits_RV = logits_RV * scales.logits
        if scales.logits_cap is not None:
            logits_RV = scales.logits_cap * torch.tanh(logits_RV / scales.logits_cap)
        return logits_RV

    def _angles(self, positions_T: torch.Tensor) -> dict[RopeSpec | None, Angles]:
        angles: dict[RopeSpec | None, Angles] = {None: None}
        for rope, (cos_PC, sin_PC) in self._tables_PC.items():
            angles[rope] = cos_PC.index_select(0, positions_T), sin_PC.index_select(0, positions_T)
        return angles

    def _norm(self, x: torch.Tensor, weight_E: torch.Tensor | None) -> torch.Tensor:
        if weight_E is None:
            return x
        return self._kernels.rms_norm(x, weight_E, self._spec.norm_eps)

    def _attend(
        self, layer: Layer, cache: LayerCache, x_TE: torch.Tensor, angles: Angles, step: StepInputs
    ) -> torch.Tensor:
        spec, kernels = self._spec, self._kernels
        heads, kv_heads = spec.num_heads, spec.num_kv_heads
        qkv_TXD = layer.qkv(x_TE).view(-1, heads + 2 * kv_heads, spec.head_dim)
        qk_TND, v_TKD = qkv_TXD[:, : heads + kv_heads], qkv_TXD[:, heads + kv_heads :]
        if layer.qk_norm_ND is not None:
            qk_TND = (self._unit(qk_TND) * layer.qk_norm_ND).to(v_TKD.dtype)
        if angles is not None:
            qk_TND = kernels.rope(qk_TND, *angles)
        q_THD, k_TKD = qk_TND[:, :heads], qk_TND[:, heads:]
        num_real = step.slots.shape[0]
        kernels.write_kv(cache.k_SKD, cache.v_SKD, k_TKD[:num_real], v_TKD[:num_real], step.slots)
        attended = kernels.paged_attention(
            q_THD,
            cache.k_SKD,
            cache.v_SKD,
            step.plans[layer.window],
            scale=spec.scales.attention,
            softcap=spec.scales.attention_cap,
        )
        return layer.output(attended)

    def _unit(self, qk_TND: torch.Tensor) -> torch.Tensor:
        """Queries and keys over their root mean square: of each head, or of all heads at once."""
        eps = self._spec.norm_eps
        if self._spec.qk_norm == "head":
            return self._kernels.rms_norm(qk_TND, None, eps)
        parts = qk_TND.split((self._spec.num_heads, self._spec.num_kv_heads), dim=1)
        return torch.cat(
            [self._kernels.rms_norm(part.flatten(1), None, eps).view_as(part) for part in parts],
            dim=1,
        )

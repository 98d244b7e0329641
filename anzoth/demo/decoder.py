"""What does the bundled model compute while it is being trained?

A Llama decoder with tied embeddings, as small as one can write it. The parameter names are those of
Hugging Face's LlamaForCausalLM, so an export is a dictionary of the same tensors.

A row may be one conversation, or a shared context with several ways to go on: branches, which see
the context and themselves but not each other, and are counted on from the end of the context. That
computes what as many separate conversations would, without computing the context again.

Shapes: B rows, T positions, D hidden width, H query heads, K key/value heads, E head width.
Does not know: caches, sampling, or anything else that serving needs (see anzoth.scheduler).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(slots=True, frozen=True)
class Shape:
    """The dimensions of a decoder. The defaults are the bundled model's."""

    vocab_size: int = 2048
    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    intermediate_size: int = 704
    max_positions: int = 2048
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    @classmethod
    def of(cls, width: int, num_layers: int) -> Shape:
        """Heads of 64 and an MLP of 11/4 of the width, as the defaults have. ValueError: cannot."""
        if width % 128:
            raise ValueError(f"the width is {width}: expected a multiple of 128")
        return cls(
            hidden_size=width,
            num_layers=num_layers,
            num_heads=width // 64,
            intermediate_size=width * 11 // 4,
        )

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    def hf_config(self, end_id: int) -> dict[str, Any]:  # Any: JSON
        """`config.json`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_size,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": end_id,
            "pad_token_id": end_id,
            "torch_dtype": "bfloat16",
        }


class Norm(nn.Module):
    """RMSNorm: x / rms(x) · weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """Self-attention with rotary positions; several query heads share a key/value head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        query, kv = shape.num_heads * shape.head_size, shape.num_kv_heads * shape.head_size
        self.q_proj = nn.Linear(shape.hidden_size, query, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(query, shape.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, rotation_2BTE: Tensor, mask_BTT: Tensor) -> Tensor:
        B, T, _ = x_BTD.shape
        heads = lambda x: x.view(B, T, -1, self.shape.head_size).transpose(1, 2)  # noqa: E731
        q_BHTE = rotate(heads(self.q_proj(x_BTD)), rotation_2BTE)
        k_BKTE = rotate(heads(self.k_proj(x_BTD)), rotation_2BTE)
        v_BKTE = heads(self.v_proj(x_BTD))
        attend = attend_fused if x_BTD.is_cuda else attend_written_out
        out_BHTE = attend(q_BHTE, k_BKTE, v_BKTE, mask_BTT)
        return self.o_proj(out_BHTE.transpose(1, 2).reshape(B, T, -1))


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x_BTD: Tensor, rotation_2BTE: Tensor, mask_BTT: Tensor) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation_2BTE, mask_BTT)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        self.norm = Norm(shape.hidden_size, shape.norm_eps)
        self.shape = shape

    def forward(self, ids_BT: Tensor, branches_BT: Tensor) -> Tensor:
        """What the last layer gives for each position, not yet normalised."""
        x_BTD = self.embed_tokens(ids_BT)
        sees_BTT = sight(branches_BT)
        mask_BTT = torch.zeros_like(sees_BTT, dtype=x_BTD.dtype).masked_fill_(~sees_BTT, -torch.inf)
        rotation_2BTE = rotation(sees_BTT.sum(-1) - 1, self.shape, x_BTD.dtype)
        for layer in self.layers:
            x_BTD = layer(x_BTD, rotation_2BTE, mask_BTT)
        return x_BTD


class Decoder(nn.Module):
    """Token ids to logits; `model.` begins every parameter's name, as in the checkpoint format."""

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Residual branches start small, so that depth does not amplify the first steps.
                scale = (2 * shape.num_layers) ** -0.5 if name.endswith(_RESIDUAL) else 1.0
                nn.init.normal_(parameter, std=0.02 * scale, generator=generator)

    def forward(self, ids_BT: Tensor, branches_BT: Tensor, places_N: Tensor) -> Tensor:
        """Logits [N, vocab] after the positions `places_N`, counted row by row (b · T + t).

        `branches_BT`: 0 in the context (and in a row that has no branches), else the branch.
        """
        # The head is the largest matrix product of all: only where there is a loss.
        x_ND = self.model(ids_BT, branches_BT).flatten(0, 1)[places_N]
        return F.linear(self.model.norm(x_ND), self.model.embed_tokens.weight)


_RESIDUAL = ("o_proj.weight", "down_proj.weight")


def sight(branches_BT: Tensor) -> Tensor:
    """[B, T, T], true where position t sees s: not behind it, in the context or its own branch."""
    T = branches_BT.shape[1]
    seen, seer = branches_BT[:, None, :], branches_BT[:, :, None]
    is_past_TT = torch.ones(T, T, dtype=torch.bool, device=branches_BT.device).tril()
    return ((seen == 0) | (seen == seer)) & is_past_TT


def attend_written_out(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask_BTT: Tensor) -> Tensor:
    """softmax(q·kᵀ/√E + mask)·v, query head h reading key/value head h // (H/K).

    The query heads of one key/value head are stacked into one longer matrix. For the CPU: on rows
    this short its fused kernel is slower in bf16 (forward and backward at B 50, T 80, H 4, K 2,
    E 64 take 47 ms against 10 ms on one Zen 5 core, torch 2.13, 2026-11-23) and as fast in fp32.
    """
    B, H, T, E = q_BHTE.shape
    K = k_BKTE.shape[1]
    q_BKGE = q_BHTE.reshape(B, K, -1, E) * E**-0.5
    scores = (q_BKGE @ k_BKTE.transpose(2, 3)).view(B, H, T, T) + mask_BTT[:, None]
    return (scores.softmax(-1).view(B, K, -1, T) @ v_BKTE).view(B, H, T, E)


def attend_fused(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask_BTT: Tensor) -> Tensor:
    """The same, without a matrix of all scores in memory: for GPUs."""
    shared = q_BHTE.shape[1] // k_BKTE.shape[1]
    # The kernels that take a mask do not take fewer key/value heads than query heads.
    k_BHTE, v_BHTE = (x.repeat_interleave(shared, 1) for x in (k_BKTE, v_BKTE))
    mask_BHTT = mask_BTT[:, None].expand(-1, q_BHTE.shape[1], -1, -1)
    return F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=mask_BHTT)


def rotation(positions_BT: Tensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """cos and sin [2, B, T, E/2] of position · theta^(-2i/E)."""
    exponents = torch.arange(0, shape.head_size, 2, device=positions_BT.device) / shape.head_size
    angles = positions_BT[..., None] * shape.rope_theta**-exponents
    return torch.stack((angles.cos(), angles.sin())).to(dtype)


def rotate(x_BHTE: Tensor, rotation_2BTE: Tensor) -> Tensor:
    """Rotary embedding: the pair (i, i + E/2) turned by its angle (the halves layout)."""
    cos, sin = rotation_2BTE[:, :, None]
    a, b = x_BHTE.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

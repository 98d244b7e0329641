"""How does a decoder make a vector of a text?

    vector = the final state of the text's last token;  perhaps scaled to length 1

The texts of a step are prefilled together, each whole, and nothing is kept of them. So one layer's
keys and values are enough for all layers: each overwrites what the one before it no longer needs.

Does not know: checkpoints, tokenizers, or who asks.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from anzoth.frames import SamplingParams
from anzoth.kernels.dispatch import Kernels
from anzoth.scheduler.batch import build_batch
from anzoth.scheduler.models.decoder import Decoder, LayerCache, StepInputs
from anzoth.scheduler.models.head_spec import Pooling
from anzoth.scheduler.models.specs import ModelSpec
from anzoth.scheduler.sequence import ScheduledSequence
from anzoth.scheduler.sequence import Sequence as TokenSequence
from anzoth.scheduler.texts import Text

BLOCK_TOKENS = 16
"""What the kernels must be selected for."""


class DecoderEmbedder:
    """One decoder, used for its states."""

    def __init__(
        self, spec: ModelSpec, kernels: Kernels, decoder: Decoder, pooling: Pooling
    ) -> None:
        self._spec = spec
        self._kernels = kernels
        self._decoder = decoder
        self._pooling = pooling

    def embed(self, texts: Sequence[Text]) -> torch.Tensor:
        """One vector per text: [N, E] in float32."""
        spec, kernels = self._spec, self._kernels
        scheduled, num_blocks = _scheduled(texts)
        batch = build_batch(scheduled, BLOCK_TOKENS)
        plans = {
            window: kernels.plan_attention(
                batch.layout,
                num_heads=spec.num_heads,
                num_kv_heads=spec.num_kv_heads,
                dtype=kernels.dtype,
                window=window,
            )
            for window in set(spec.windows)
        }
        step = StepInputs(
            token_ids_T=batch.token_ids_T,
            positions_T=batch.positions_T,
            slots=batch.slots,
            plans=plans,
        )
        shape = (2, num_blocks * BLOCK_TOKENS, spec.num_kv_heads, spec.head_dim)
        # Zeros, because a kernel may multiply what lies behind a text in its block by nothing.
        k_SKD, v_SKD = torch.zeros(shape, dtype=kernels.dtype, device=kernels.device)
        cache = (LayerCache(k_SKD, v_SKD),) * spec.num_layers
        # Rows past the texts are padding.
        states_RE = self._decoder.states(self._decoder.forward(step, cache), batch.sample_rows_R)
        vectors_NE = states_RE[: len(texts)].float()
        return F.normalize(vectors_NE, dim=1) if self._pooling.is_normalised else vectors_NE


def _scheduled(texts: Sequence[Text]) -> tuple[list[ScheduledSequence], int]:
    """Every text as a sequence that samples once, and the blocks that they take together."""
    scheduled: list[ScheduledSequence] = []
    num_blocks = 0
    for index, text in enumerate(texts):
        first, num_blocks = num_blocks, num_blocks + -(-len(text) // BLOCK_TOKENS)
        sequence = TokenSequence(
            request=index,
            choice=0,
            tenant="",
            cache_salt="",
            token_ids=text.token_ids,
            num_prompt_tokens=len(text),
            max_tokens=1,
            sampling=SamplingParams(),
            arrival_s=0.0,
            block_table=array("q", range(first, num_blocks)),
        )
        scheduled.append(ScheduledSequence(sequence, len(text)))
    return scheduled, num_blocks

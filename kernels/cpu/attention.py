"""How do the tokens of a step attend over a paged KV cache on CPU?

Sequences of similar shape form a group; a group's keys and values are gathered from their slots
into one padded tensor and handed to torch's fused attention, queries of the G heads that share a
key/value head folded into one axis. The index tensors and masks are made once per step
(`plan_attention`), not once per layer.

Only slots of a sequence's own context are ever read; padding reads its last position once more, and
masks it. So what lies in other slots cannot reach an answer, not even multiplied by a zero weight.

Torch's fused attention cannot bend the scores, so with a soft-cap they are made here, in float32.

The answer for one token does not depend on its neighbours, because torch's kernel then forms the
same partial sums alone, in a batch and in any chunking. It walks the context in runs of 512; MKL
multiplies a run in pieces of 192, but cuts a run between 192 and 384 into two halves; exponentials
are summed 16 at a time. So contexts start at multiples of 512, are padded to multiples of 16, and
never end between 192 and 384 of a run; query rows are padded to multiples of 4. The path with a
soft-cap cuts its sums at the same places. Checked bit for bit on AVX-512-BF16 without AMX (EPYC
Zen 5, torch 2.13); elsewhere the last bit may differ.

Shape suffixes: T token rows · H query heads · K key/value heads · G = H/K · D head dimension
· N cache slots · B sequences of a group · Q padded queries each · M = Q·G · L padded context.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from anzoth.kernels.paging import IntArray, PagedLayout, slots_of

_CONTEXT_MULTIPLE = 16
_CONTEXT_RUN = 512
_UNEVEN_TAILS = range(193, 384)
"""Lengths of a last run that would be multiplied in two halves."""
_QUERY_MULTIPLE = 4
_MAX_GROUP_CONTEXT = 8 * 1024
"""Padded positions gathered at once, so that they are still in the processor's cache when used.
64 sequences of 330 positions, 2 heads of 64, bf16, one thread of a busy EPYC (Zen 5), 2026-11:
2.5 ms; 3.2 ms with twice as many at once, 4.3 ms with all."""
_MAX_SCORES = 4 << 20
"""Soft-capped scores that exist at once: 16 MiB in float32."""


@dataclass(slots=True, frozen=True)
class AttentionGroup:
    """Sequences that go through one call."""

    query_rows: torch.Tensor
    """[B·Q] token rows; a sequence with fewer than Q tokens repeats its last."""
    slots: torch.Tensor
    """[B·L] cache slots; past the context the last position's, masked."""
    mask_B1ML: torch.Tensor
    """0 where a query sees a position, else -inf. M is 1 when all queries of a sequence agree."""
    num_sequences: int
    num_queries: int


@dataclass(slots=True, frozen=True)
class AttentionPlan:
    """Everything about a step that all layers with the same window share."""

    groups: tuple[AttentionGroup, ...]
    output_rows: torch.Tensor
    """[T]: where each token's answer lies in the groups' answers laid end to end."""


def plan_attention(
    layout: PagedLayout,
    *,
    num_heads: int,
    num_kv_heads: int,
    dtype: torch.dtype,
    window: int | None = None,
) -> AttentionPlan:
    """Groups the sequences of a step. `window`: positions a token sees, itself included."""
    group_size = num_heads // num_kv_heads
    num_queries = layout.num_queries
    first_visible = np.zeros_like(layout.context_lens)
    if window is not None:
        first_visible = np.maximum(layout.context_lens - num_queries - window + 1, 0)
    starts = first_visible // _CONTEXT_RUN * _CONTEXT_RUN
    spans = layout.context_lens - starts
    groups: list[AttentionGroup] = []
    output_rows = np.zeros(layout.num_rows, dtype=np.int64)
    offset = 0
    for members in _similar(num_queries, spans):
        group, rows = _plan_group(layout, members, starts, spans, group_size, dtype, window)
        groups.append(group)
        # Repeated queries overwrite with equal answers, so any of them may win.
        output_rows[rows.ravel()] = np.arange(offset, offset + rows.size)
        offset += rows.size
    return AttentionPlan(tuple(groups), torch.from_numpy(output_rows))


def paged_attention(
    q_THD: torch.Tensor,
    k_cache_NKD: torch.Tensor,
    v_cache_NKD: torch.Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    softcap: float | None = None,
) -> torch.Tensor:
    """softmax(cap(scale · q kᵀ)) v over what each token may see; [T, H·D] in the queries' type."""
    num_kv_heads, head_dim = k_cache_NKD.shape[1:]
    answers: list[torch.Tensor] = []
    for group in plan.groups:
        size, queries = group.num_sequences, group.num_queries
        q_BQKGD = q_THD.index_select(0, group.query_rows).view(
            size, queries, num_kv_heads, -1, head_dim
        )
        q_BKMD = q_BQKGD.transpose(1, 2).reshape(size, num_kv_heads, -1, head_dim)
        k_BLKD = k_cache_NKD.index_select(0, group.slots).view(size, -1, num_kv_heads, head_dim)
        v_BLKD = v_cache_NKD.index_select(0, group.slots).view(size, -1, num_kv_heads, head_dim)
        k_BKLD, v_BKLD, mask_B1ML = k_BLKD.transpose(1, 2), v_BLKD.transpose(1, 2), group.mask_B1ML
        if softcap is None:
            out_BKMD = F.scaled_dot_product_attention(
                q_BKMD, k_BKLD, v_BKLD, attn_mask=mask_B1ML, scale=scale
            )
        else:
            out_BKMD = _soft_capped(q_BKMD, k_BKLD, v_BKLD, mask_B1ML, scale, softcap)
        out_BQKGD = out_BKMD.unflatten(2, (queries, -1)).transpose(1, 2)
        answers.append(out_BQKGD.reshape(size * queries, -1))
    together = answers[0] if len(answers) == 1 else torch.cat(answers)
    return together.index_select(0, plan.output_rows)


def _soft_capped(
    q_BKMD: torch.Tensor,
    k_BKLD: torch.Tensor,
    v_BKLD: torch.Tensor,
    mask_B1ML: torch.Tensor,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    """softmax(softcap · tanh(scale · q kᵀ / softcap) + mask) v, some queries at a time."""
    # Contiguous: a batched product of transposed keys took seven times as long.
    k_BKLD, v_BKLD = (
        x.to(torch.float32, memory_format=torch.contiguous_format).contiguous()
        for x in (k_BKLD, v_BKLD)
    )
    k_BKDL = k_BKLD.transpose(2, 3)
    num_scores_per_row = q_BKMD.shape[0] * q_BKMD.shape[1] * k_BKDL.shape[3]
    num_rows = max(_MAX_SCORES // num_scores_per_row // _QUERY_MULTIPLE, 1) * _QUERY_MULTIPLE
    masks = mask_B1ML.expand(-1, -1, q_BKMD.shape[2], -1).split(num_rows, dim=2)
    answers: list[torch.Tensor] = []
    for rows_BKMD, mask in zip(q_BKMD.split(num_rows, dim=2), masks, strict=True):
        scores_BKML = (rows_BKMD.float() @ k_BKDL).mul_(scale / softcap).tanh_().mul_(softcap)
        weights_BKML = scores_BKML.add_(mask).softmax(dim=-1)
        # One product per run: a longer one would be cut at places that depend on its length.
        runs = zip(
            weights_BKML.split(_CONTEXT_RUN, dim=3), v_BKLD.split(_CONTEXT_RUN, dim=2), strict=True
        )
        out_BKMD = torch.zeros_like(rows_BKMD, dtype=torch.float32)
        for weights, values in runs:
            out_BKMD += weights @ values
        answers.append(out_BKMD.to(q_BKMD.dtype))
    return answers[0] if len(answers) == 1 else torch.cat(answers, dim=2)


def _similar(num_queries: IntArray, spans: IntArray) -> list[IntArray]:
    """Sequences by powers of two of their sizes: at most half of any padded axis is padding."""
    query_class = np.frexp(num_queries - 0.5)[1]
    span_class = np.frexp(np.maximum(spans, _CONTEXT_MULTIPLE) - 0.5)[1]
    order = np.lexsort((spans, span_class, query_class))
    classes = zip(query_class[order].tolist(), span_class[order].tolist(), strict=True)
    groups: list[IntArray] = []
    for (_, span_bits), run in itertools.groupby(enumerate(classes), key=lambda item: item[1]):
        members = order[[index for index, _ in run]]
        at_once = max(1, _MAX_GROUP_CONTEXT >> span_bits)
        groups.extend(members[i : i + at_once] for i in range(0, len(members), at_once))
    return groups


def _plan_group(
    layout: PagedLayout,
    members: IntArray,
    starts: IntArray,
    spans: IntArray,
    group_size: int,
    dtype: torch.dtype,
    window: int | None,
) -> tuple[AttentionGroup, IntArray]:
    """The group of `members`, and its query rows as [B, Q]."""
    num_queries = layout.num_queries[members][:, None]
    context_lens = layout.context_lens[members][:, None]
    multiple = _QUERY_MULTIPLE // math.gcd(_QUERY_MULTIPLE, group_size)
    queries = np.arange(_round_up(int(num_queries.max()), multiple))[None]
    queries = np.minimum(queries, num_queries - 1)
    rows_BQ = layout.query_starts[members][:, None] + queries

    num_positions = _padded_context(int(spans[members].max()))
    positions_BL = starts[members][:, None] + np.arange(num_positions)
    slots_BL = slots_of(layout, members[:, None], np.minimum(positions_BL, context_lens - 1))

    # When each sequence has one token, its repeated queries see the same and share one mask row.
    mask_rows = queries if num_queries.max() > 1 else queries[:, :1]
    query_positions_BQ1 = (context_lens - num_queries + mask_rows)[:, :, None]
    visible_BQL = positions_BL[:, None] <= query_positions_BQ1
    if window is not None:
        visible_BQL &= positions_BL[:, None] > query_positions_BQ1 - window
    mask_BQL = torch.zeros(visible_BQL.shape, dtype=dtype)
    mask_BQL.masked_fill_(torch.from_numpy(~visible_BQL), -math.inf)
    if mask_BQL.shape[1] > 1:
        mask_BQL = mask_BQL.repeat_interleave(group_size, dim=1)
    group = AttentionGroup(
        query_rows=torch.from_numpy(rows_BQ.ravel()),
        slots=torch.from_numpy(slots_BL.ravel()),
        mask_B1ML=mask_BQL[:, None],
        num_sequences=len(members),
        num_queries=rows_BQ.shape[1],
    )
    return group, rows_BQ


def _padded_context(num_positions: int) -> int:
    padded = _round_up(num_positions, _CONTEXT_MULTIPLE)
    tail = padded % _CONTEXT_RUN
    return padded - tail + _UNEVEN_TAILS.stop if tail in _UNEVEN_TAILS else padded


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple

"""How do a request's own wishes change the logits before anything is drawn?

    repetition   l > 0: l / r, else l · r          tokens of prompt and output
    presence     l - p                             tokens of the output
    frequency    l - f · count                     tokens of the output
    logit_bias   l + b                             as given
    min_tokens   -inf                              ending tokens, while the output is too short

in this order, so that the additive wishes are not scaled by the repetition penalty. Only entries
that change are touched: a row's cost is its number of distinct tokens, not the vocabulary.

Shape suffixes: R rows · V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch

from anzoth.frames import SamplingParams
from anzoth.scheduler.sequence import Place


def changes_logits(place: Place) -> bool:
    """Whether `adjust_` would touch this place's row."""
    params = place.sampling
    return bool(
        params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or params.logit_bias
        or _must_go_on(place)
    )


def adjust_(
    logits_RV: torch.Tensor, places: Sequence[Place], eos_token_ids: Collection[int]
) -> None:
    """Applies every place's wishes to its row, in place. Rows are finite float32."""
    _repetition_(logits_RV, places)
    _add_(logits_RV, ((row, *_output_penalties(s)) for row, s in enumerate(places)))
    _add_(logits_RV, ((row, *_biases(s.sampling)) for row, s in enumerate(places)))
    _add_(
        logits_RV,
        (
            (row, ending, np.full(len(ending), -math.inf, dtype=np.float32))
            for row, s in enumerate(places)
            if _must_go_on(s)
            for ending in [_ending_tokens(s.sampling, eos_token_ids, logits_RV.shape[1])]
        ),
    )


def _must_go_on(place: Place) -> bool:
    if place.constraint is not None and place.constraint.is_over:
        return False  # nothing else may follow: a minimum cannot be met
    return place.num_output_tokens < place.sampling.min_tokens


def _ending_tokens(
    params: SamplingParams, eos_token_ids: Collection[int], vocab_size: int
) -> np.ndarray:
    # A checkpoint may name end tokens past the end of a trimmed vocabulary.
    ids = {token for token in (*eos_token_ids, *params.stop_token_ids) if token < vocab_size}
    return np.array(sorted(ids), dtype=np.int64)


def _repetition_(logits_RV: torch.Tensor, places: Sequence[Place]) -> None:
    rows, tokens, factors = [], [], []
    for row, place in enumerate(places):
        if (factor := place.sampling.repetition_penalty) != 1.0:
            seen = np.unique(np.array(place.token_ids, dtype=np.int64))
            rows.append(np.full(len(seen), row))
            tokens.append(seen)
            factors.append(np.full(len(seen), factor, dtype=np.float32))
    if not rows:
        return
    index = (torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(tokens)))
    factor = torch.from_numpy(np.concatenate(factors))
    old = logits_RV[index]
    logits_RV[index] = torch.where(old > 0, old / factor, old * factor)


def _output_penalties(place: Place) -> tuple[np.ndarray, np.ndarray]:
    params = place.sampling
    if not (params.presence_penalty or params.frequency_penalty):
        return _NOTHING
    output = np.array(place.token_ids[place.num_prompt_tokens :], dtype=np.int64)
    tokens, counts = np.unique(output, return_counts=True)
    amounts = params.presence_penalty + params.frequency_penalty * counts
    return tokens, -amounts.astype(np.float32)


def _biases(params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    if not params.logit_bias:
        return _NOTHING
    tokens, amounts = zip(*params.logit_bias, strict=True)
    return np.array(tokens, dtype=np.int64), np.array(amounts, dtype=np.float32)


_NOTHING = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def _add_(logits_RV: torch.Tensor, changes: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> None:
    """Adds (row, tokens, amounts) to the logits; an entry named twice gets both amounts."""
    rows, tokens, amounts = [], [], []
    for row, ids, values in changes:
        rows.append(np.full(len(ids), row))
        tokens.append(ids)
        amounts.append(values)
    if not rows or not (all_tokens := np.concatenate(tokens)).size:
        return
    index = (torch.from_numpy(np.concatenate(rows)), torch.from_numpy(all_tokens))
    logits_RV.index_put_(index, torch.from_numpy(np.concatenate(amounts)), accumulate=True)

"""Which token comes next in each row?

    logits -> wishes (scheduler/penalties.py) -> masks (scheduler/masks.py) -> logprobs are of this
           -> temperature -> top-k -> top-p (of what top-k left) -> min-p
           -> typical-p (of what all of them left) -> one draw

All rows are worked on together, each with its own parameters. A row's answer depends on its logits
and its own parameters only, to the bit: sums run over the same elements in the same order however
many rows there are, and the noise (scheduler/noise.py) knows no rows.

Does not know: text, stop strings, lengths or endings; nor how the logits came about.

Shape suffixes: R rows · V vocabulary · C candidates, best first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch

from anzoth.frames import SamplingParams
from anzoth.scheduler.constraint import GRAMMAR_TOO_COMPLEX
from anzoth.scheduler.masks import TokenMasks
from anzoth.scheduler.noise import gumbel, noise_key
from anzoth.scheduler.penalties import adjust_, changes_logits
from anzoth.scheduler.sequence import Place, RowFailure, SampledToken

_SHORTLIST = 256
"""Candidates tried before a whole row is sorted; enough for nearly every top-p."""
_NOISE_ELEMENTS_AT_ONCE = 1 << 18
"""Keeps the dozen passes over the noise in the processor's cache."""
_NOTHING_ALLOWED = "What the request asks for leaves no token that could come next."
_MIN_TEMPERATURE = 1e-6
"""Below it a float32 quotient could overflow; the best token already wins by thousands of nats."""


def sample(
    logits_RV: torch.Tensor,
    places: Sequence[Place],
    eos_token_ids: Collection[int] = (),
    masks: TokenMasks | None = None,
) -> list[SampledToken | RowFailure]:
    """One answer per row. `logits_RV` is float32 and may be overwritten.

    A row with a logit that is not finite, with no allowed token left, or with a grammar that has
    hit a limit, becomes a RowFailure.
    """
    # One pass: a sum is finite exactly when no term is inf or NaN (logits are far from overflow).
    is_finite_R = torch.isfinite(logits_RV.sum(dim=-1))
    if any(changes_logits(place) for place in places):
        adjust_(logits_RV, places, eos_token_ids)
    if masks is not None:
        masks.apply_(logits_RV)
    token_ids_R = _choose(logits_RV, places)
    is_allowed_R = logits_RV.gather(1, token_ids_R[:, None])[:, 0] > -math.inf
    answers: list[SampledToken | RowFailure] = []
    for row, (token_id, is_finite, is_allowed) in enumerate(
        zip(token_ids_R.tolist(), is_finite_R.tolist(), is_allowed_R.tolist(), strict=True)
    ):
        if masks is not None and row in masks.failed:
            answers.append(RowFailure(GRAMMAR_TOO_COMPLEX, is_callers=True))
        elif not is_finite:
            answers.append(RowFailure("the model computed a value that is not a number"))
        elif not is_allowed:
            answers.append(RowFailure(_NOTHING_ALLOWED, is_callers=True))
        else:
            answers.append(SampledToken(token_id))
    _attach_logprobs(answers, logits_RV, places)
    return answers


def _choose(logits_RV: torch.Tensor, places: Sequence[Place]) -> torch.Tensor:
    """The chosen token ids [R]."""
    token_ids_R = logits_RV.argmax(dim=-1)
    drawn, cut, typical = [], [], []
    for row, place in enumerate(places):
        params = place.sampling
        if params.temperature > 0:
            if params.typical_p < 1:
                typical.append(row)
            else:
                (cut if params.top_k is not None or params.top_p < 1 else drawn).append(row)
    for rows, draw in (
        (drawn, _draw_from_all),
        (cut, _draw_from_candidates),
        (typical, _draw_typical),
    ):
        if rows:
            chosen = [places[row] for row in rows]
            temperatures = [max(s.sampling.temperature, _MIN_TEMPERATURE) for s in chosen]
            scores = logits_RV[rows]
            scores -= scores.amax(dim=-1, keepdim=True)
            scores /= torch.tensor(temperatures, dtype=torch.float32)[:, None]
            keys = [noise_key(s.sampling.seed, s.choice, s.num_tokens) for s in chosen]
            token_ids_R[rows] = draw(scores, [s.sampling for s in chosen], keys)
    return token_ids_R


def _draw_from_all(
    scores_RV: torch.Tensor, params: list[SamplingParams], keys: list[tuple[int, int]]
) -> torch.Tensor:
    """Draws from whole rows, less what min-p cuts off. The best score of a row is 0."""
    scores_RV.masked_fill_(scores_RV < _min_p_thresholds(params), -math.inf)
    vocab_size = scores_RV.shape[1]
    all_tokens_1V = torch.arange(vocab_size)[None]
    at_once = max(1, _NOISE_ELEMENTS_AT_ONCE // vocab_size)
    for first in range(0, len(params), at_once):
        some = slice(first, first + at_once)
        scores_RV[some] += gumbel(keys[some], all_tokens_1V)
    return scores_RV.argmax(dim=-1)


def _draw_from_candidates(
    scores_RV: torch.Tensor, params: list[SamplingParams], keys: list[tuple[int, int]]
) -> torch.Tensor:
    """Draws from the tokens that top-k, top-p and min-p leave. The best score of a row is 0."""
    vocab_size = scores_RV.shape[1]
    largest_k = max(p.top_k or 0 for p in params)
    num_candidates = min(vocab_size, max(_SHORTLIST, largest_k + 1))
    token_ids_R, is_certain_R = _draw_from_best(scores_RV, params, keys, num_candidates)
    if not is_certain_R.all():
        rows = (~is_certain_R).nonzero()[:, 0].tolist()
        token_ids_R[rows], _ = _draw_from_best(
            scores_RV[rows], [params[row] for row in rows], [keys[row] for row in rows], vocab_size
        )
    return token_ids_R


def _draw_typical(
    scores_RV: torch.Tensor, params: list[SamplingParams], keys: list[tuple[int, int]]
) -> torch.Tensor:
    """Draws from the typical ones of the tokens that top-k, top-p and min-p leave.

    A token is typical if its surprise, -log p, is near that of the whole, the entropy. The nearest
    ones are kept until they have the share `typical_p`; of equally near ones all or none. From
    "Locally Typical Sampling" (Meister et al., 2023).
    """
    # Not a run of the best tokens: all that are left must be looked at.
    scores_RC, token_ids_RC = _best(scores_RV, scores_RV.shape[1])
    kept_RC = _kept(scores_RC, scores_RV.logsumexp(dim=-1), params)
    scores_RC.masked_fill_(~kept_RC, -math.inf)
    weights_RC = scores_RC.double().exp()
    # The ends of running sums: those are added up in one order, however many rows there are.
    total_R1 = weights_RC.cumsum(dim=-1)[:, -1:]
    surprise_RC = total_R1.log() - scores_RC.double()
    share_RC = weights_RC / total_R1
    entropy_R1 = (share_RC * surprise_RC).nan_to_num(0.0).cumsum(dim=-1)[:, -1:]
    distance_RC = (surprise_RC - entropy_R1).abs()
    nearest_RC, order_RC = distance_RC.sort(dim=-1, stable=True)
    share_so_far_RC = share_RC.gather(1, order_RC).cumsum(dim=-1)
    typical_p_R1 = torch.tensor([[p.typical_p] for p in params], dtype=torch.float64)
    last_R1 = (share_so_far_RC < typical_p_R1).sum(dim=-1, keepdim=True)
    last_R1.clamp_(max=scores_RC.shape[1] - 1)
    kept_RC &= distance_RC <= nearest_RC.gather(1, last_R1)
    return _draw(scores_RC, token_ids_RC, kept_RC, keys)


def _draw(
    scores_RC: torch.Tensor,
    token_ids_RC: torch.Tensor,
    kept_RC: torch.Tensor,
    keys: list[tuple[int, int]],
) -> torch.Tensor:
    noisy_RC = (scores_RC + gumbel(keys, token_ids_RC)).masked_fill_(~kept_RC, -math.inf)
    return token_ids_RC.gather(1, noisy_RC.argmax(dim=-1, keepdim=True))[:, 0]


def _draw_from_best(
    scores_RV: torch.Tensor,
    params: list[SamplingParams],
    keys: list[tuple[int, int]],
    num_candidates: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens drawn, looking at the best `num_candidates` only, and whether that was enough."""
    scores_RC, token_ids_RC = _best(scores_RV, num_candidates)
    kept_RC = _kept(scores_RC, scores_RV.logsumexp(dim=-1), params)
    token_ids_R = _draw(scores_RC, token_ids_RC, kept_RC, keys)
    if num_candidates == scores_RV.shape[1]:
        return token_ids_R, torch.ones(len(params), dtype=torch.bool)
    # Enough if the cut falls inside the list and does not split a run of equal scores at its end.
    last_kept_R1 = kept_RC.sum(dim=-1, keepdim=True) - 1
    is_certain_R = scores_RC.gather(1, last_kept_R1)[:, 0] > scores_RC[:, -1]
    return token_ids_R, is_certain_R


def _best(scores_RV: torch.Tensor, num_candidates: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best scores and their token ids [R, C], equal scores in order of their ids."""
    if num_candidates == scores_RV.shape[1]:
        scores_RC, token_ids_RC = scores_RV.sort(dim=-1, descending=True, stable=True)
        return scores_RC, token_ids_RC
    token_ids_RC = scores_RV.topk(num_candidates, dim=-1).indices.sort(dim=-1).values
    scores_RC, order_RC = scores_RV.gather(1, token_ids_RC).sort(
        dim=-1, descending=True, stable=True
    )
    return scores_RC, token_ids_RC.gather(1, order_RC)


def _kept(
    scores_RC: torch.Tensor, log_total_R: torch.Tensor, params: list[SamplingParams]
) -> torch.Tensor:
    """Which candidates remain: a leading run of each row, never empty.

    `log_total_R`: logsumexp over the row's whole vocabulary, against which top-p is measured unless
    top-k has cut the distribution first.
    """
    num_candidates = scores_RC.shape[1]
    top_k_R = torch.tensor([min(p.top_k or num_candidates, num_candidates) for p in params])
    has_top_k_R = torch.tensor([p.top_k is not None for p in params])
    top_p_R = torch.tensor([p.top_p for p in params], dtype=torch.float64)
    weights_RC = scores_RC.double().exp()
    sums_RC = weights_RC.cumsum(dim=-1)
    total_R = torch.where(
        has_top_k_R,
        sums_RC.gather(1, top_k_R[:, None] - 1)[:, 0],
        log_total_R.double().exp(),
    )
    kept_RC = torch.arange(num_candidates) < top_k_R[:, None]
    # top_p = 1 keeps everything, whatever the last sum was rounded to.
    kept_RC &= (sums_RC - weights_RC < (top_p_R * total_R)[:, None]) | (top_p_R[:, None] >= 1)
    kept_RC &= scores_RC >= _min_p_thresholds(params)
    kept_RC[:, 0] = True
    return kept_RC


def _min_p_thresholds(params: list[SamplingParams]) -> torch.Tensor:
    """[R, 1]: the lowest score whose probability is at least min_p times the best one's."""
    return torch.tensor(
        [[math.log(p.min_p) if p.min_p > 0 else -math.inf] for p in params], dtype=torch.float32
    )


def score(
    logits_RV: torch.Tensor, token_ids: Sequence[int], num_logprobs: int
) -> list[SampledToken | RowFailure]:
    """How likely each of these tokens was, by its row and nothing else, and the likeliest ones."""
    logprobs = _logprobs(logits_RV, token_ids, [num_logprobs] * len(token_ids))
    return [
        SampledToken(token_id, logprob, top)
        if math.isfinite(logprob)
        else RowFailure("the model computed a value that is not a number")
        for token_id, (logprob, top) in zip(token_ids, logprobs, strict=True)
    ]


def _attach_logprobs(
    answers: list[SampledToken | RowFailure], logits_RV: torch.Tensor, places: Sequence[Place]
) -> None:
    """Fills in the log-probabilities of the rows that asked for them."""
    wanted = [
        (row, answer.token_id, num)
        for row, (answer, place) in enumerate(zip(answers, places, strict=True))
        if isinstance(answer, SampledToken) and (num := place.sampling.num_logprobs) is not None
    ]
    if wanted:
        rows, token_ids, nums = map(list, zip(*wanted, strict=True))
        found = _logprobs(logits_RV[rows], token_ids, nums)
        for row, token_id, (logprob, top) in zip(rows, token_ids, found, strict=True):
            answers[row] = SampledToken(token_id, logprob, top)


def _logprobs(
    logits_RV: torch.Tensor, token_ids: Sequence[int], nums: Sequence[int]
) -> list[tuple[float, list[tuple[int, float]]]]:
    """For each row, of its token and of the `nums` most likely ones."""
    logprobs_RV = logits_RV.log_softmax(dim=-1)
    chosen_R = logprobs_RV.gather(1, torch.tensor(token_ids)[:, None])[:, 0].tolist()
    most = min(max(nums), logprobs_RV.shape[1])
    if not most:
        return [(logprob, []) for logprob in chosen_R]
    best_RC, token_ids_RC = _best(logprobs_RV, most)
    answers: list[tuple[float, list[tuple[int, float]]]] = []
    for i, (logprob, num) in enumerate(zip(chosen_R, nums, strict=True)):
        pairs = zip(token_ids_RC[i, :num].tolist(), best_RC[i, :num].tolist(), strict=True)
        # A forbidden token has no logarithm that JSON could carry.
        answers.append((logprob, [(token, value) for token, value in pairs if value > -math.inf]))
    return answers

"""Draws against the distribution they claim, and rows against themselves in other company."""

import math

import pytest
import torch

from anzoth.frames import SamplingParams
from anzoth.scheduler import sampler
from anzoth.scheduler.sampler import sample, score
from anzoth.scheduler.sequence import RowFailure, SampledToken, Sequence

GREEDY = SamplingParams(temperature=0.0)


def _sequence(params, choice=0, length=5):
    return Sequence(
        request=0,
        choice=choice,
        tenant="t",
        cache_salt="s",
        token_ids=[1] * length,
        num_prompt_tokens=length,
        max_tokens=100,
        sampling=params,
        arrival_s=0.0,
    )


def _sampled(logits, sequences) -> list[SampledToken]:
    answers = [a for a in sample(logits.clone(), sequences) if isinstance(a, SampledToken)]
    assert len(answers) == len(sequences)
    return answers


def _tokens(logits, sequences):
    return [answer.token_id for answer in _sampled(logits, sequences)]


def _draws(row, params, count):
    """`count` draws from one row of logits: one sequence per seed, all in one batch."""
    sequences = [_sequence(SamplingParams(**(params | {"seed": seed}))) for seed in range(count)]
    return torch.tensor(_tokens(row.expand(count, -1), sequences))


def _logits(num_rows, vocab, seed=0, scale=2.0):
    return scale * torch.randn(num_rows, vocab, generator=torch.Generator().manual_seed(seed))


def _assert_distributed(draws, probabilities):
    """Chi-squared at most five standard deviations above its mean; the seeds are fixed."""
    expected = probabilities * len(draws)
    counts = torch.bincount(draws, minlength=len(probabilities)).double()
    assert counts[probabilities == 0].sum() == 0
    common = expected >= 5
    rare = (~common) & (probabilities > 0)
    observed = torch.cat((counts[common], counts[rare].sum()[None]))
    wanted = torch.cat((expected[common], expected[rare].sum()[None]))
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    degrees = len(wanted) - 1
    chi_squared = ((observed - wanted) ** 2 / wanted).sum().item()
    assert chi_squared <= degrees + 5 * math.sqrt(2 * degrees)


# --- which token ------------------------------------------------------------------------------


def test_temperature_0_takes_the_best_token_of_each_row():
    logits = _logits(7, 50)
    assert _tokens(logits, [_sequence(GREEDY)] * 7) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_follow_the_softmax_at_their_temperature(temperature):
    row = _logits(1, 40)[0]
    draws = _draws(row, {"temperature": temperature}, 6000)
    _assert_distributed(draws, (row.double() / temperature).softmax(-1))


def _restricted(row, params):
    """The definition of temperature, top-k, top-p and min-p for one row, by loops."""
    probabilities = (row.double() / params.get("temperature", 1.0)).softmax(-1)
    ranked = sorted(range(len(row)), key=lambda t: (-probabilities[t].item(), t))
    kept = ranked[: params.get("top_k") or len(ranked)]
    total = sum(probabilities[t].item() for t in kept)
    chosen, mass = [], 0.0
    for token in kept:
        if mass / total >= params.get("top_p", 1.0):
            break
        chosen.append(token)
        mass += probabilities[token].item()
    least = params.get("min_p", 0.0) * probabilities[ranked[0]].item()
    final = torch.zeros_like(probabilities)
    for token in chosen:
        if probabilities[token].item() >= least:
            final[token] = probabilities[token]
    return final / final.sum()


RESTRICTIONS = [
    {"top_k": 1},
    {"top_k": 7},
    {"top_p": 0.8},
    {"top_p": 1e-9},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"top_k": 10, "top_p": 0.7, "temperature": 1.4},
    {"top_k": 12, "min_p": 0.05},
    {"top_k": 10, "top_p": 0.9, "min_p": 0.08, "temperature": 0.8},
]


@pytest.mark.parametrize("params", RESTRICTIONS, ids=str)
def test_draws_follow_the_restricted_distribution_and_reach_all_of_it(params):
    row = _logits(1, 40, seed=3)[0]
    expected = _restricted(row, params)
    draws = _draws(row, params, 4000)
    _assert_distributed(draws, expected)
    likely = (expected > 20 / 4000).nonzero()[:, 0].tolist()
    assert set(likely) <= set(draws.tolist())


TYPICAL = [
    {"typical_p": 0.5},
    {"typical_p": 1e-12},
    {"typical_p": 0.95, "temperature": 1.6},
    {"typical_p": 0.4, "top_k": 12},
    {"typical_p": 0.7, "top_p": 0.9, "temperature": 0.7},
    {"typical_p": 0.8, "min_p": 0.05},
    {"typical_p": 0.6, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "temperature": 1.2},
]


@pytest.mark.parametrize("params", TYPICAL, ids=str)
def test_typical_draws_follow_the_distribution_that_transformers_leaves(params):
    """After the warpers before it, in the order in which transformers applies them."""
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
        TypicalLogitsWarper,
    )

    warpers = {
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
        "typical_p": TypicalLogitsWarper,
    }
    given = LogitsProcessorList(
        make(params[name]) for name, make in warpers.items() if name in params
    )
    row = _logits(1, 40, seed=3)[0]
    left = given(torch.LongTensor([[0]]), row[None].double())[0]  # type: ignore[arg-type]  # any floats
    expected = left.softmax(-1)
    draws = _draws(row, params, 1500)
    _assert_distributed(draws, expected)
    likely = (expected > 20 / 1500).nonzero()[:, 0].tolist()
    assert set(likely) <= set(draws.tolist())


def test_the_likeliest_token_need_not_be_typical():
    """One token of 0.4 and sixty of 0.01: the entropy is nearer to the surprise of the many."""
    row = torch.tensor([0.4] + [0.01] * 60).log()
    draws = _draws(row, {"typical_p": 0.3}, 600)
    assert set(draws.tolist()) == set(range(1, 61)), "of equally surprising tokens all are kept"


def test_forbidden_tokens_are_never_typical():
    params = {"typical_p": 0.9, "min_tokens": 99, "stop_token_ids": tuple(range(20))}
    draws = _draws(_logits(1, 40, seed=6)[0], params, 400)
    assert draws.min() >= 20


@pytest.mark.parametrize("params", [{"top_k": 3}, {"top_p": 0.4}], ids=str)
def test_equal_logits_are_cut_in_order_of_their_ids(params):
    row = torch.zeros(1000)
    row[[10, 20, 30, 40]] = 50.0
    kept = {10, 20, 30} if "top_k" in params else {10, 20}
    assert set(_draws(row, params, 200).tolist()) == kept


@pytest.mark.parametrize(
    "params", [{"top_p": 0.97}, {"top_k": 300, "top_p": 0.5}, {"top_k": 5}], ids=str
)
def test_a_shortlist_that_is_too_short_is_noticed(monkeypatch, params):
    """Flat rows need more candidates than the shortlist holds; equal ones straddle its end."""
    flat = _logits(1, 2000, scale=0.1)[0]
    equal = torch.zeros(2000)
    few = [_draws(row, params, 150) for row in (flat, equal)]
    monkeypatch.setattr(sampler, "_SHORTLIST", 2000)
    all_candidates = [_draws(row, params, 150) for row in (flat, equal)]
    for short, full in zip(few, all_candidates, strict=True):
        assert torch.equal(short, full)


def test_an_extreme_temperature_is_greedy_or_uniform_and_never_fails():
    logits = _logits(2, 50)
    sequences = [_sequence(SamplingParams(temperature=t)) for t in (1e-40, 1e30)]
    assert _tokens(logits, sequences)[0] == logits[0].argmax()
    flat = _draws(logits[0], {"temperature": 1e30}, 3000)
    _assert_distributed(flat, torch.full((50,), 0.02, dtype=torch.float64))


# --- independence of rows ---------------------------------------------------------------------

MIXED = [
    GREEDY,
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=0.7, top_k=5),
    SamplingParams(seed=3, top_p=0.9),
    SamplingParams(seed=4, top_k=290, top_p=0.99, num_logprobs=3),
    SamplingParams(seed=5, min_p=0.02),
    SamplingParams(seed=8, typical_p=0.6),
    SamplingParams(seed=9, typical_p=0.3, top_k=40, min_p=0.01, temperature=0.9),
    SamplingParams(seed=6, repetition_penalty=1.4, presence_penalty=0.3, num_logprobs=20),
    SamplingParams(seed=7, top_p=0.9999, logit_bias=((7, 3.0),), num_logprobs=0),
]


@pytest.mark.parametrize("vocab", [97, 5003])
def test_a_row_gets_the_same_answer_to_the_bit_alone_and_in_a_batch(vocab):
    logits = _logits(len(MIXED) * 3, vocab, seed=9)
    sequences = [
        _sequence(params, choice=choice, length=3 + choice)
        for choice in range(3)
        for params in MIXED
    ]
    together = sample(logits.clone(), sequences)
    for row, sequence in enumerate(sequences):
        assert sample(logits[row : row + 1].clone(), [sequence]) == [together[row]]
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = sample(logits[order], [sequences[i] for i in order])
    assert shuffled == [together[i] for i in order]


def test_seed_choice_and_position_each_change_the_draw():
    row = torch.zeros(100_000)
    base = {"seed": 5, "choice": 0, "length": 9}
    variants = [base, base | {"seed": 6}, base | {"choice": 1}, base | {"length": 10}]
    sequences = [
        _sequence(SamplingParams(seed=v["seed"]), v["choice"], v["length"]) for v in variants
    ]
    assert len(set(_tokens(row.expand(4, -1), sequences))) == 4


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_fails_and_its_neighbours_do_not(poison):
    logits = _logits(len(MIXED), 60, seed=2)
    sequences = [_sequence(params) for params in MIXED]
    expected = sample(logits.clone(), sequences)
    for row in range(len(MIXED)):
        damaged = logits.clone()
        damaged[row, 13] = poison
        answers = sample(damaged, sequences)
        failed = answers[row]
        assert isinstance(failed, RowFailure)
        assert not failed.is_callers
        assert [a for i, a in enumerate(answers) if i != row] == [
            a for i, a in enumerate(expected) if i != row
        ]


def test_a_row_in_which_every_token_is_forbidden_fails():
    params = SamplingParams(min_tokens=3, stop_token_ids=tuple(range(10)))
    answers = sample(torch.zeros(2, 10), [_sequence(params), _sequence(GREEDY)])
    assert isinstance(answers[0], RowFailure)
    assert answers[0].is_callers
    assert answers[1] == SampledToken(0)


# --- logprobs ---------------------------------------------------------------------------------


def test_logprobs_are_of_the_distribution_before_temperature_and_truncation():
    logits = _logits(3, 64, seed=4)
    expected = logits.double().log_softmax(-1)
    params = SamplingParams(temperature=0.4, top_k=2, top_p=0.5, num_logprobs=20, seed=1)
    answers = _sampled(logits, [_sequence(params)] * 3)
    for row, answer in enumerate(answers):
        assert answer.logprob == pytest.approx(expected[row, answer.token_id].item(), abs=1e-5)
        best = expected[row].topk(20)
        assert answer.top_logprobs is not None
        assert [token for token, _ in answer.top_logprobs] == best.indices.tolist()
        assert [value for _, value in answer.top_logprobs] == pytest.approx(
            best.values.tolist(), abs=1e-5
        )


def test_logprobs_are_of_the_distribution_after_bias_and_penalties():
    logits = _logits(1, 64, seed=5)
    params = SamplingParams(temperature=0, logit_bias=((33, 100.0),), num_logprobs=1)
    (answer,) = _sampled(logits, [_sequence(params)])
    assert answer.token_id == 33
    assert answer.logprob == pytest.approx(0.0, abs=1e-6)
    assert answer.top_logprobs == [(33, answer.logprob)]


@pytest.mark.parametrize(("asked", "num_top"), [(0, 0), (1, 1), (5, 5), (20, 12)])
def test_as_many_top_logprobs_as_asked_for_and_allowed(asked, num_top):
    """14 tokens, two of them forbidden: a forbidden token has no logprob that JSON could carry."""
    params = SamplingParams(num_logprobs=asked, min_tokens=1, stop_token_ids=(3, 4))
    (answer,) = _sampled(_logits(1, 14), [_sequence(params)])
    assert answer.top_logprobs is not None
    assert len(answer.top_logprobs) == num_top
    assert answer.logprob is not None
    assert math.isfinite(answer.logprob)


def test_no_logprobs_where_none_were_asked_for():
    asks = SamplingParams(num_logprobs=2)
    silent, told = _sampled(_logits(2, 14), [_sequence(GREEDY), _sequence(asks)])
    assert silent.logprob is None
    assert silent.top_logprobs is None
    assert told.top_logprobs is not None
    assert len(told.top_logprobs) == 2


# --- scores of known tokens ---------------------------------------------------------------------


def test_a_score_is_the_log_softmax_and_what_is_not_finite_fails_its_row_alone():
    logits = _logits(3, 40)
    logits[1, 7] = math.nan
    answers = score(logits.clone(), [5, 6, 7], 2)
    expected = logits.log_softmax(dim=-1)
    assert isinstance(answers[1], RowFailure)
    for row, token in ((0, 5), (2, 7)):
        best = expected[row].topk(2)
        top = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        assert answers[row] == SampledToken(token, float(expected[row, token]), top)
    (without,) = score(logits[:1].clone(), [5], 0)
    assert without == SampledToken(5, float(expected[0, 5]), [])

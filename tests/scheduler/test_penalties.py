"""Wishes applied sparsely to a batch, against the formulas applied to one dense row."""

import math
from collections import Counter

import pytest
import torch

from anzoth.frames import SamplingParams
from anzoth.scheduler.penalties import adjust_, changes_logits
from anzoth.scheduler.sequence import Sequence

VOCAB = 30
EOS = (2, 3)


def _sequence(prompt, output, **params):
    return Sequence(
        request=0,
        choice=0,
        tenant="t",
        cache_salt="s",
        token_ids=prompt + output,
        num_prompt_tokens=len(prompt),
        max_tokens=100,
        sampling=SamplingParams(**params),
        arrival_s=0.0,
    )


def _dense(logits, sequence):
    """The definition, one token at a time."""
    params, changed = sequence.sampling, logits.clone()
    counts = Counter(sequence.token_ids[sequence.num_prompt_tokens :])
    for token in range(VOCAB):
        value = changed[token].item()
        if token in sequence.token_ids:
            factor = params.repetition_penalty
            value = value / factor if value > 0 else value * factor
        if counts[token]:
            value -= params.presence_penalty + params.frequency_penalty * counts[token]
        value += sum(bias for biased, bias in params.logit_bias if biased == token)
        if sequence.num_output_tokens < params.min_tokens and token in (
            *EOS,
            *params.stop_token_ids,
        ):
            value = -math.inf
        changed[token] = value
    return changed


SEQUENCES = [
    _sequence([5, 6, 5], [7, 7, 8]),
    _sequence([5, 6, 5], [7, 7, 8], repetition_penalty=1.3),
    _sequence([5, 6, 5], [7, 7, 8, 5], presence_penalty=0.5, frequency_penalty=-0.25),
    _sequence([1], [], presence_penalty=1.0, frequency_penalty=1.0),
    _sequence([1], [9], logit_bias=((4, 2.5), (9, -100.0))),
    _sequence([1], [9], min_tokens=2, stop_token_ids=(11,)),
    _sequence([1], [9, 9], min_tokens=2, stop_token_ids=(11,)),
    _sequence(
        [1, 2],
        [9, 9, 2],
        min_tokens=9,
        repetition_penalty=0.8,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias=((2, 50.0), (9, 1.0)),
    ),
]


@pytest.fixture
def logits():
    return torch.randn(len(SEQUENCES), VOCAB, generator=torch.Generator().manual_seed(0))


def test_every_row_gets_exactly_its_own_wishes(logits):
    expected = torch.stack([_dense(row, s) for row, s in zip(logits, SEQUENCES, strict=True)])
    adjust_(logits, SEQUENCES, EOS)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_rows_alone_are_adjusted_to_the_same_bits_as_in_a_batch(logits):
    together = logits.clone()
    adjust_(together, SEQUENCES, EOS)
    for row, sequence in enumerate(SEQUENCES):
        alone = logits[row : row + 1].clone()
        adjust_(alone, [sequence], EOS)
        assert torch.equal(alone[0], together[row])


def test_a_row_without_wishes_is_known_as_such():
    assert [changes_logits(s) for s in SEQUENCES] == [
        False,
        True,
        True,
        True,
        True,
        True,
        False,
        True,
    ]


def test_end_tokens_outside_the_vocabulary_are_no_problem():
    logits = torch.zeros(1, VOCAB)
    adjust_(logits, [_sequence([1], [], min_tokens=1)], (2, VOCAB, VOCAB + 100))
    assert (logits == -math.inf).nonzero().tolist() == [[0, 2]]


def test_without_end_tokens_min_tokens_changes_nothing():
    logits = torch.zeros(1, VOCAB)
    adjust_(logits, [_sequence([1], [], min_tokens=1)], ())
    assert not logits.any()

"""What is guessed, how much of it is worth computing, and what is learnt from the outcome."""

from __future__ import annotations

import itertools
import random

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.drafts import Drafter, break_even_rows
from anzoth.scheduler.sequence import Sequence


def make_sequence(token_ids: list[int], max_tokens: int = 1000, request: int = 0) -> Sequence:
    return Sequence(
        request=request,
        choice=0,
        tenant="t",
        cache_salt="salt",
        token_ids=token_ids,
        num_prompt_tokens=len(token_ids),
        max_tokens=max_tokens,
        sampling=SamplingParams(),
        arrival_s=0.0,
    )


def drafts_of(drafter: Drafter, sequence: Sequence, num_rows: int = 1, budget: int = 99) -> list:
    return [list(drafts) for _, drafts in drafter.draft([sequence], num_rows, budget)]


def eager(max_drafts: int = 5) -> Drafter:
    """Rows cost it next to nothing."""
    return Drafter(max_drafts, break_even_rows=10**9)


def test_a_guess_is_what_followed_the_last_three_tokens_the_last_time() -> None:
    known = [1, 2, 3, 7, 7, 1, 2, 3, 50, 51, 52, 53, 54, 1, 2, 3]
    assert drafts_of(eager(4), make_sequence(known)) == [[50, 51, 52, 53]]


@pytest.mark.parametrize("known", [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 9, 2, 3]])
def test_without_an_earlier_occurrence_nothing_is_guessed(known: list[int]) -> None:
    assert drafts_of(eager(), make_sequence(known)) == []


def test_a_repetition_is_guessed_to_go_on() -> None:
    assert drafts_of(eager(7), make_sequence([8, 9, 8, 9, 8])) == [[9, 8, 9, 8, 9, 8, 9]]
    assert drafts_of(eager(3), make_sequence([4, 4, 4, 4])) == [[4, 4, 4]]


def plain_guess(known: list[int], max_drafts: int) -> list[int]:
    """The same by looking at everything."""
    for end in range(len(known) - 1, 2, -1):
        if known[end - 3 : end] == known[-3:]:
            return [known[end + i % (len(known) - end)] for i in range(max_drafts)]
    return []


def test_an_index_that_grew_in_any_pieces_guesses_like_a_search() -> None:
    rng = random.Random(3)
    num_guesses = 0
    for _ in range(60):
        drafter = eager()
        sequence = make_sequence([])
        while len(sequence.token_ids) < 400:
            size = rng.choice([1, 1, 1, 2, 5, 63, 64, 65, 130])
            sequence.token_ids += [rng.randrange(2**18, 2**18 + 4) for _ in range(size)]
            expected = plain_guess(sequence.token_ids, 5)
            assert drafts_of(drafter, sequence) == ([expected] if expected else [])
            num_guesses += bool(expected)
    assert num_guesses > 500


def test_no_draft_is_computed_for_a_token_that_cannot_be_given() -> None:
    for max_tokens, expected in ((1, []), (2, [[7]]), (4, [[7, 7, 7]])):
        assert drafts_of(eager(), make_sequence([7] * 9, max_tokens)) == expected


def test_a_budget_goes_to_the_likeliest_guesses() -> None:
    drafter = eager(3)
    surprised, steady = make_sequence([7] * 9), make_sequence([5] * 9)
    for _ in range(5):
        drafter.draft([surprised, steady], 2, 99)
        surprised.token_ids += [random.Random(len(surprised.token_ids)).randrange(99), 7, 7, 7]
        steady.token_ids.append(5)
    drafts = drafter.draft([surprised, steady], 2, 4)
    assert [sequence for sequence, _ in drafts] == [steady, surprised]
    assert [len(tokens) for _, tokens in drafts] == [3, 1]
    assert drafter.draft([surprised, steady], 2, 0) == []


def grow(drafter: Drafter, sequence: Sequence, tokens: list[int], num_rows: int) -> list[int]:
    """How many drafts there were before each token, if none is ever computed."""
    counts = []
    for token in tokens:
        counts.append(sum(len(d) for _, d in drafter.draft([sequence], num_rows, 99)))
        sequence.token_ids.append(token)
    return counts


def test_guesses_that_fail_are_given_up_and_taken_up_again_when_they_come_true() -> None:
    drafter = Drafter(16, break_even_rows=16)
    period = list(range(10, 30))
    sequence = make_sequence(period * 3)
    # Runs of three from the text, then something new: the guess behind each run is wrong.
    wrong = [token for new in range(100, 140) for token in [*period[4:7], new]]
    counts = grow(drafter, sequence, wrong, num_rows=4)
    assert sum(counts[:8]) > 0
    assert sum(counts[20:]) == 0
    right = period[7:] + period * 2
    counts = grow(drafter, sequence, right, num_rows=4)
    assert counts[0] == 0
    assert counts[-1] >= 8


def test_looks_at_hopeless_sequences_are_few_in_each_step_and_reach_everybody() -> None:
    drafter = Drafter(16, break_even_rows=1)
    fresh = itertools.count(1000)
    sequences = [make_sequence([next(fresh) for _ in range(9)], request=i) for i in range(256)]
    looked_at = []
    for _ in range(33):
        assert drafter.draft(sequences, len(sequences), 99) == []
        for sequence in sequences:
            sequence.token_ids.append(next(fresh))
        ends = [drafter._lookups[sequence]._num_indexed + 1 for sequence in sequences]
        looked_at.append({i for i in range(256) if ends[i] == len(sequences[i].token_ids)})
    assert len(looked_at[0]) == 256  # nothing is known of anybody
    assert all(len(some) == 8 for some in looked_at[1:])
    assert len(set().union(*looked_at[1:])) == 256


def test_the_more_rows_a_step_has_the_surer_a_draft_must_be() -> None:
    def num_drafts(num_rows: int) -> int:
        drafter = Drafter(16, break_even_rows=16)
        sequence = make_sequence([7] * 9)
        return grow(drafter, sequence, [7] * 10, num_rows)[-1]

    counts = [num_drafts(num_rows) for num_rows in (1, 16, 64, 512)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] >= 8
    assert counts[-1] == 0


def test_what_was_learnt_ends_with_the_sequence() -> None:
    drafter = eager()
    sequence = make_sequence([7] * 9)
    assert drafts_of(drafter, sequence)
    drafter.forget(sequence)
    drafter.forget(sequence)
    assert not drafter._lookups


def test_rows_are_cheaper_on_an_accelerator() -> None:
    assert break_even_rows("cuda:0") > break_even_rows("cpu")

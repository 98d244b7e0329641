"""Which tokens are likely to come next, so that one step can verify several?

Prompt lookup (Yang et al., "Inference with Reference", arXiv 2304.04487; Saxena, 2023): texts quote
what they were given and repeat themselves, so what followed the last few tokens the last time they
occurred is a good guess. A grammar is a better one: where it leaves no choice, nothing is guessed.

    known tokens   … a b c [x y z] … a b c          the index has: after "a b c" came x, at 17
                           draft ↑                  drafts: x y z …

A step computes a draft like any token and samples behind it as always; drafts are kept as far as
they are what was drawn. So they change when a token is computed, and never which token it is.

A draft is worth a row if it is likely enough. A step of R rows takes about (break_even + R) units
of time, hence one row more slows everybody down by 1 / (break_even + R), and one token more is
worth 1 / R of what the step gives. With `chance` of a guess, the i-th draft of a sequence pays if

    chance ** i > R / (break_even + R)

Chances are learnt without computing anything: the guess of each step is compared with what the
sequence then was given, whether or not the guess was a draft. A sequence whose guesses fail is left
alone, and is noticed when they begin to come true.

Does not know: budgets of others, blocks, tensors, or whether a draft was right.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from anzoth.scheduler.sequence import Sequence

DEFAULT_DRAFT_TOKENS = 16
"""Of one sequence in one step, at most. `chance` keeps them fewer unless a text is being copied."""
_NGRAM = 3
"""Tokens that must agree before a guess is made."""
_TOKEN_BITS = 21
"""_NGRAM ids make one 63-bit key; the largest vocabularies have 2**18 tokens."""
_MASK = (1 << _NGRAM * _TOKEN_BITS) - 1
_BULK = 64
"""Tokens from which on indexing pays by numpy."""
_FIRST_CHANCE = 0.3
_WEIGHT = 0.2
"""Of one comparison in the moving average that `chance` is."""
_LOOK_EVERY = 8
"""Tokens between two guesses of a sequence whose guesses would not pay: fewer than a guess has, so
that they leave no gaps."""
_LOOKS = 8
"""In one step, about: in large batches, where only a text that is being copied could pay, fewer
tokens are compared. A look takes 5 µs of the host's time (2.5 GHz, 2026-11-26)."""
_BREAK_EVEN_ROWS_CPU = 16
"""Rows with which a step takes twice as long as with one: 16 sequences of 200 tokens, bf16,
2 threads of a shared CPU with AVX-512, 2026-11, for the bundled model and for one of 494 M
parameters, by torch; with our own kernels 2.2 times, a decoder of 0.1 B (bench/test_kernels.py)."""
_BREAK_EVEN_ROWS_GPU = 128
"""Not measured. The arithmetic of one row hides behind reading the weights up to about twice as
many on an H100, by its data sheet."""


def break_even_rows(device: str) -> int:
    """Rows with which a step takes about twice as long as with one."""
    return _BREAK_EVEN_ROWS_CPU if device.startswith("cpu") else _BREAK_EVEN_ROWS_GPU


class Drafter:
    """What the sequences that are decoding are likely to be given next."""

    def __init__(self, max_drafts: int, break_even_rows: int) -> None:
        """`max_drafts`: of one sequence in one step."""
        self._max_drafts = max_drafts
        self._break_even_rows = break_even_rows
        self._lookups: dict[Sequence, _Lookup] = {}

    def draft(
        self, sequences: Collection[Sequence], num_rows: int, budget: int
    ) -> list[tuple[Sequence, tuple[int, ...]]]:
        """Drafts that are worth their rows in a step of `num_rows`, `budget` of them at most.

        Each sequence owes one token. The likeliest guesses come first.
        """
        guesses: list[tuple[float, list[int], Sequence]] = []
        least_chance = num_rows / (self._break_even_rows + num_rows)
        for sequence in self._hopeful(sequences, least_chance):
            chance, guess = self._guess(sequence)
            # The last token that it may have is drawn behind the draft before it.
            if guess and (most := sequence.max_tokens - sequence.num_output_tokens - 1) > 0:
                guesses.append((chance, guess[:most], sequence))
        guesses.sort(key=lambda item: item[0], reverse=True)
        drafts: list[tuple[Sequence, tuple[int, ...]]] = []
        for chance, guess, sequence in guesses:
            num = self._num_worthwhile(chance, min(len(guess), budget), num_rows)
            if not num:
                break
            drafts.append((sequence, tuple(guess[:num])))
            num_rows += num
            budget -= num
        return drafts

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended."""
        self._lookups.pop(sequence, None)

    def _num_worthwhile(self, chance: float, most: int, num_rows: int) -> int:
        likely = chance
        for num in range(most):
            if likely * (self._break_even_rows + num_rows) <= num_rows:
                return num
            likely *= chance
            num_rows += 1
        return most

    def _hopeful(self, sequences: Collection[Sequence], least_chance: float) -> list[Sequence]:
        """Below `least_chance` no guess would pay, and it is enough to look now and then whether
        that has changed; not at all in the same step."""
        lookup_of = self._lookups.get
        look_every = max(_LOOK_EVERY, len(sequences) // _LOOKS)
        return [
            sequence
            for sequence in sequences
            if (len(sequence.token_ids) + sequence.request) % look_every == 0
            or sequence.constraint is not None
            or (lookup := lookup_of(sequence)) is None
            or lookup.chance > least_chance
        ]

    def _guess(self, sequence: Sequence) -> tuple[float, list[int]]:
        """How likely each token is, given those before it, and the tokens."""
        constraint = sequence.constraint
        if constraint is not None and (forced := constraint.forced_tokens()):
            return 1.0, forced[: self._max_drafts]
        lookup = self._lookups.get(sequence)
        if lookup is None:
            lookup = self._lookups[sequence] = _Lookup()
        guess = lookup.guess(sequence.token_ids, self._max_drafts)
        if constraint is not None and guess:
            del guess[constraint.num_allowed(guess) :]
        return lookup.chance, guess


class _Lookup:
    """Where each run of tokens of one sequence last occurred, and how often that told the next."""

    __slots__ = ("_guess", "_guess_start", "_num_indexed", "_places", "_tail", "chance")

    def __init__(self) -> None:
        self.chance = _FIRST_CHANCE
        self._places: dict[int, int] = {}
        """From the key of _NGRAM tokens to the index of the token behind them."""
        self._num_indexed = 0
        self._tail = 0
        """The key of the last tokens that are indexed."""
        self._guess: list[int] = []
        self._guess_start = 0

    def guess(self, token_ids: list[int], max_tokens: int) -> list[int]:
        """The next tokens, or none. `token_ids` only grows from call to call."""
        if self._guess:
            self._compare(token_ids)
        self._index(token_ids)
        num_tokens = len(token_ids)
        start = self._places.get(self._tail) if num_tokens >= _NGRAM else None
        if start is None:
            self._guess = []
            return []
        guess = token_ids[start : start + max_tokens]
        while len(guess) < max_tokens:  # it ends where the known tokens end: go round again
            guess += guess[: max_tokens - len(guess)]
        self._guess, self._guess_start = guess, num_tokens
        return guess.copy()

    def _compare(self, token_ids: list[int]) -> None:
        """Learns from the tokens that came since the last guess, up to the first surprise."""
        chance = self.chance
        for guessed, given in zip(self._guess, token_ids[self._guess_start :], strict=False):
            if guessed != given:
                chance -= chance * _WEIGHT
                break
            chance += (1 - chance) * _WEIGHT
        self.chance = chance

    def _index(self, token_ids: list[int]) -> None:
        places, start = self._places, self._num_indexed
        self._num_indexed = stop = len(token_ids)
        if stop - start >= _BULK:
            start = self._index_in_bulk(token_ids, start)
        tail = self._tail
        for index in range(start, stop):
            if index >= _NGRAM:
                places[tail] = index
            tail = (tail << _TOKEN_BITS | token_ids[index]) & _MASK
        self._tail = tail

    def _index_in_bulk(self, token_ids: list[int], start: int) -> int:
        """All but the last token; returns where that is."""
        first = max(start - _NGRAM, 0)
        tokens = np.array(token_ids[first:], dtype=np.int64)
        keys = np.zeros(len(tokens) - _NGRAM + 1, dtype=np.int64)
        for offset in range(_NGRAM):
            keys = keys << _TOKEN_BITS | tokens[offset : offset + len(keys)]
        behind = range(first + _NGRAM, len(token_ids))
        self._places.update(zip(keys.tolist(), behind, strict=False))
        self._tail = int(keys[-2])
        return len(token_ids) - 1

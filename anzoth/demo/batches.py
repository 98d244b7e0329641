"""Which rows does training step N see?

A pure function of (seed, step): a run that resumes needs no position in a stream. Steps are made
in groups; the conversations of a group are sorted by length and cut into batches whose width is one
of a few, so rows of one batch are nearly equal. That costs a few padding tokens and keeps
attention, whose price grows with the square of the row, cheap. The few widths matter too: the CPU
library prepares each shape of a matrix product once and keeps it (with free widths the trainer
spent half of its time on that, and gigabytes).

Does not know: the model or the device.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from anzoth.demo.conversation import Conversation
from anzoth.demo.vocabulary import END, Encoder, token_id

_GROUP = 16
_WIDTHS = (32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
_TARGETS_MULTIPLE = 256
IGNORED = -100

# The rest of a known answer follows from its beginning and is soon learnt; which answer to begin is
# the hard part. Cutting most conversations there shows more questions for the same work.
_CUT_SHARE = 0.8
_CUT_TOKENS = 10

_Row = tuple[list[int], list[bool]]
Draws = Callable[[random.Random, float], tuple[Conversation, bool]]
"""(generator, progress from 0 to 1) to a conversation and whether its answer may be cut short."""


@dataclass(slots=True, frozen=True)
class Batch:
    """B rows of T tokens, and the N places (b · T + t) whose next token is to be learnt.

    `targets_N` is padded with `IGNORED` to a multiple of 256.
    """

    ids_BT: Tensor
    places_N: Tensor
    targets_N: Tensor
    num_tokens: int
    """Without the padding."""
    num_targets: int


class Batches:
    """`batches[step]`: the batches of one step, together about `tokens_per_step` tokens.

    Cheap when steps are asked for in order.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        draw: Draws,
        seed: int,
        num_steps: int,
        tokens_per_step: int,
        tokens_per_batch: int,
        max_tokens: int,
    ) -> None:
        self._encoder = Encoder(tokenizer)
        self._draw = draw
        self._padding = token_id(tokenizer, END)
        self._seed = seed
        self._num_steps = num_steps
        self._tokens_per_step = tokens_per_step
        self._tokens_per_batch = tokens_per_batch
        self._max_tokens = max_tokens
        self._group: tuple[int, list[list[Batch]]] = (-1, [])

    def __getitem__(self, step: int) -> list[Batch]:
        number, place = divmod(step, _GROUP)
        if self._group[0] != number:
            self._group = (number, self._make(number))
        return self._group[1][place]

    def _make(self, number: int) -> list[list[Batch]]:
        rng = random.Random(f"{self._seed}/{number}")
        progress = number * _GROUP / self._num_steps
        rows: list[_Row] = []
        missing = _GROUP * self._tokens_per_step
        while missing > 0 or len(rows) < _GROUP:
            rows.append(self._row(rng, progress))
            missing -= width_for(len(rows[-1][0]) - 1)
        rows.sort(key=lambda row: -len(row[0]))
        tokens_per_batch = self._tokens_per_batch
        while len(batches := self._cut(rows, tokens_per_batch)) < _GROUP:
            tokens_per_batch //= 2  # every step needs a batch
        rng.shuffle(batches)
        return [batches[place::_GROUP] for place in range(_GROUP)]

    def _cut(self, rows: list[_Row], tokens_per_batch: int) -> list[Batch]:
        """`rows`: longest first."""
        batches: list[Batch] = []
        first = 0
        while first < len(rows):
            width = width_for(len(rows[first][0]) - 1)
            number = max(1, tokens_per_batch // width)
            batches.append(self._pad(rows[first : first + number], width, number))
            first += number
        return batches

    def _row(self, rng: random.Random, progress: float) -> _Row:
        while True:
            conversation, may_be_cut = self._draw(rng, progress)
            ids, spoken = self._encoder.example(conversation)
            num_tokens = min(len(ids), self._max_tokens + 1)
            if may_be_cut and rng.random() < _CUT_SHARE:
                num_tokens = min(num_tokens, _beginning(spoken))
            if any(spoken[:num_tokens]):
                return ids[:num_tokens], spoken[:num_tokens]

    def _pad(self, rows: list[_Row], width: int, number: int) -> Batch:
        ids_BT = torch.full((number, width), self._padding)
        places: list[int] = []
        targets: list[int] = []
        for row, (ids, spoken) in enumerate(rows):
            ids_BT[row, : len(ids) - 1] = torch.tensor(ids[:-1])
            mine = [place for place in range(len(ids) - 1) if spoken[place + 1]]
            places += [row * width + place for place in mine]
            targets += [ids[place + 1] for place in mine]
        num_targets = len(targets)
        num_padded = -num_targets % _TARGETS_MULTIPLE
        return Batch(
            ids_BT,
            torch.tensor(places + [0] * num_padded),
            torch.tensor(targets + [IGNORED] * num_padded),
            sum(len(ids) - 1 for ids, _ in rows),
            num_targets,
        )


def width_for(num_tokens: int) -> int:
    """The narrowest batch that such a row fits into."""
    return next((width for width in _WIDTHS if width >= num_tokens), num_tokens)


def _beginning(spoken: list[bool]) -> int:
    """How many tokens there are up to the first few of the last answer."""
    last_answer = len(spoken)
    while spoken[last_answer - 1]:
        last_answer -= 1
    return last_answer + _CUT_TOKENS

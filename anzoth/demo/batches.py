"""Which rows does training step N see?

A pure function of (seed, step): a run that resumes needs no position in a stream. Steps are made
in groups; the conversations of a group are sorted by length before they are cut into batches, so
rows of one batch are nearly equal. That costs a few padding tokens and keeps attention, whose price
grows with the square of the row, far cheaper than filling long rows with many conversations.

Does not know: the model or the device.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from anzoth.demo.generate import COPYING, STANDARD, conversation
from anzoth.demo.vocabulary import END, encode, token_id

_GROUP = 16
_IGNORED = -100
# The rest of a known answer follows from its beginning and is soon learnt; which answer to begin is
# the hard part. Cutting most conversations there shows more questions for the same work.
_CUT_SHARE = 0.8
_CUT_TOKENS = 10

_Row = tuple[list[int], list[bool]]


@dataclass(slots=True, frozen=True)
class Batch:
    """`ids_BT`, `targets_BT` (the next token where the assistant speaks, else -100)."""

    ids_BT: Tensor
    targets_BT: Tensor
    num_tokens: int
    """Without the padding."""


class Batches:
    """`batches[step]`: about `tokens_per_step` tokens. Cheap when steps are asked in order."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        seed: int,
        tokens_per_step: int,
        max_tokens: int,
        copying_steps: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        self._tokens_per_step = tokens_per_step
        self._max_tokens = max_tokens
        self._copying_steps = copying_steps
        self._group: tuple[int, list[Batch]] = (-1, [])

    def __getitem__(self, step: int) -> Batch:
        number, place = divmod(step, _GROUP)
        if self._group[0] != number:
            self._group = (number, self._make(number))
        return self._group[1][place]

    def _make(self, number: int) -> list[Batch]:
        rng = random.Random(f"{self._seed}/{number}")
        mix = COPYING if number * _GROUP < self._copying_steps else STANDARD
        rows: list[_Row] = []
        missing = _GROUP * self._tokens_per_step
        while missing > 0 or len(rows) < _GROUP:
            ids, spoken = encode(self._tokenizer, conversation(rng, mix))
            num_tokens = min(len(ids), self._max_tokens)
            if rng.random() < _CUT_SHARE:
                num_tokens = min(num_tokens, _beginning(spoken))
            rows.append((ids[:num_tokens], spoken[:num_tokens]))
            missing -= num_tokens
        rows.sort(key=lambda row: len(row[0]))
        batches = [_pad(some, self._tokenizer) for some in _split(rows, _GROUP)]
        rng.shuffle(batches)
        return batches


def _beginning(spoken: list[bool]) -> int:
    """How many tokens there are up to the first few of the last answer."""
    last_answer = len(spoken)
    while spoken[last_answer - 1]:
        last_answer -= 1
    return last_answer + _CUT_TOKENS


def _split(rows: list[_Row], num_parts: int) -> list[list[_Row]]:
    """Consecutive parts of about equally many tokens, none of them empty."""
    parts: list[list[_Row]] = []
    num_tokens = sum(len(ids) for ids, _ in rows)
    first = 0
    for to_come in range(num_parts - 1, -1, -1):
        share = num_tokens / (to_come + 1)
        last, taken = first, 0
        while last < len(rows) - to_come and (last == first or taken < share):
            taken += len(rows[last][0])
            last += 1
        parts.append(rows[first:last])
        first, num_tokens = last, num_tokens - taken
    return parts


def _pad(rows: list[_Row], tokenizer: Tokenizer) -> Batch:
    length = max(len(ids) for ids, _ in rows) - 1
    ids_BT = torch.full((len(rows), length), token_id(tokenizer, END))
    targets_BT = torch.full((len(rows), length), _IGNORED)
    for row, (ids, spoken) in enumerate(rows):
        number = len(ids) - 1
        ids_BT[row, :number] = torch.tensor(ids[:-1])
        targets = [id_ if mine else _IGNORED for id_, mine in zip(ids[1:], spoken[1:], strict=True)]
        targets_BT[row, :number] = torch.tensor(targets)
    return Batch(ids_BT, targets_BT, sum(len(ids) - 1 for ids, _ in rows))

"""Which rows does training step N see?

A pure function of (seed, step): a run that resumes needs no position in a stream. Steps are made
in groups; the conversations of a group are sorted by length and cut into batches whose width is one
of a few, so rows of one batch are nearly equal. That costs a few padding tokens and keeps
attention, whose price grows with the square of the row, cheap. The few widths matter too: the CPU
library prepares each shape of a matrix product once and keeps it (with free widths the trainer
spent half of its time on that, and gigabytes).

Conversations that begin alike (questions about the same passages, about the same tools) share a
row: what they have in common once, then each one's own part as a branch (anzoth.demo.decoder).

Does not know: the model or the device. Does not load torch: many processes do this at once
(anzoth.demo.feed).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from anzoth.demo.conversation import Conversation
from anzoth.demo.vocabulary import END, Encoder, token_id

_WIDTHS = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
_TARGETS_MULTIPLE = 256
IGNORED = -100

# The rest of a known answer follows from its beginning and is soon learnt; which answer to begin is
# the hard part. Cutting most conversations there shows more questions for the same work.
_CUT_SHARE = 0.8
_CUT_TOKENS = 10

Draws = Callable[[random.Random, float], tuple[Sequence[Conversation], bool]]
"""(generator, progress from 0 to 1) to conversations that begin alike and whether their answers
may be cut short."""


@dataclass(slots=True)
class _Row:
    """Token ids, the branch of each (0: the context) and the places whose next token is learnt."""

    ids: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(self, ids: list[int], spoken: list[bool], start: int, end: int, branch: int) -> None:
        """Tokens [start, end) of a conversation; the last is only a target, nothing follows it."""
        num_before = len(self.ids)
        last = end - 1 if branch else end
        self.ids += ids[start:last]
        self.branches += [branch] * (last - start)
        learnt = [at for at in range(start, end - 1) if spoken[at + 1]]
        self.places += [num_before + at - start for at in learnt]
        self.targets += [ids[at + 1] for at in learnt]


@dataclass(slots=True, frozen=True)
class Batch:
    """B rows of T tokens, and the N places (b · T + t) whose next token is to be learnt.

    `words` are the ids [B, T], the branch of each [B, T], the places [N] and the targets [N], one
    after the other. N is padded to a multiple of 256, with targets that are `IGNORED`.
    """

    words: array[int]
    num_rows: int
    width: int
    num_places: int
    num_tokens: int
    """Without the padding."""
    num_targets: int

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Of the four parts of `words`."""
        num_ids = self.num_rows * self.width
        return num_ids, num_ids, self.num_places, self.num_places


@dataclass(slots=True, frozen=True)
class Plan:
    """What the rows of a run depend on, beside the lessons and the tokenizer."""

    seed: int
    num_steps: int
    tokens_per_step: int
    tokens_per_batch: int
    max_tokens: int
    """Of one conversation; what is longer is cut off."""
    tokens_per_group: int = 1 << 17
    """The rows of several small steps are sorted together."""

    @property
    def steps_per_group(self) -> int:
        return min(16, max(1, self.tokens_per_group // self.tokens_per_step))


class Batches:
    """`batches[step]`: the batches of one step, together about `tokens_per_step` tokens.

    Cheap when steps are asked for in order.
    """

    def __init__(self, tokenizer: Tokenizer, draw: Draws, plan: Plan) -> None:
        self._encoder = Encoder(tokenizer)
        self._draw = draw
        self._padding = token_id(tokenizer, END)
        self._plan = plan
        self._group: tuple[int, list[list[Batch]]] = (-1, [])

    def __getitem__(self, step: int) -> list[Batch]:
        number, place = divmod(step, self._plan.steps_per_group)
        if self._group[0] != number:
            self._group = (number, self.group(number))
        return self._group[1][place]

    def group(self, number: int) -> list[list[Batch]]:
        """The batches of each step of a group."""
        plan, size = self._plan, self._plan.steps_per_group
        rng = random.Random(f"{plan.seed}/{number}")
        progress = min(1.0, number * size / plan.num_steps)
        rows: list[_Row] = []
        missing = size * plan.tokens_per_step
        while missing > 0 or len(rows) < size:
            rows.append(self._row(rng, progress))
            missing -= width_for(len(rows[-1].ids))
        rows.sort(key=lambda row: -len(row.ids))
        tokens_per_batch = plan.tokens_per_batch
        while len(batches := self._cut(rows, tokens_per_batch)) < size:
            tokens_per_batch //= 2  # every step needs a batch
        rng.shuffle(batches)
        return [batches[place::size] for place in range(size)]

    def _cut(self, rows: list[_Row], tokens_per_batch: int) -> list[Batch]:
        """`rows`: longest first."""
        batches: list[Batch] = []
        first = 0
        while first < len(rows):
            width = width_for(len(rows[first].ids))
            number = max(1, tokens_per_batch // width)
            batches.append(self._pad(rows[first : first + number], width, number))
            first += number
        return batches

    def _row(self, rng: random.Random, progress: float) -> _Row:
        while True:
            conversations, may_be_cut = self._draw(rng, progress)
            examples = [self._encoder.example(conversation) for conversation in conversations]
            shared = _num_shared(examples)
            row = _Row()
            row.add(*examples[0], 0, shared, branch=0)
            for branch, (ids, spoken) in enumerate(examples, 1):
                end = min(len(ids), self._plan.max_tokens + 1)
                if may_be_cut and rng.random() < _CUT_SHARE:
                    end = min(end, _beginning(spoken))
                row.add(ids, spoken, shared, end, branch)
            if row.targets:
                return row

    def _pad(self, rows: list[_Row], width: int, number: int) -> Batch:
        ids: list[int] = []
        branches: list[int] = []
        places: list[int] = []
        targets: list[int] = []
        for at, row in enumerate(rows):
            num_padded = width - len(row.ids)
            ids += row.ids + [self._padding] * num_padded
            branches += row.branches + [0] * num_padded
            places += [at * width + place for place in row.places]
            targets += row.targets
        num_padded = (number - len(rows)) * width
        ids += [self._padding] * num_padded
        branches += [0] * num_padded
        num_targets = len(targets)
        num_ignored = -num_targets % _TARGETS_MULTIPLE
        places += [0] * num_ignored
        targets += [IGNORED] * num_ignored
        return Batch(
            array("i", ids + branches + places + targets),
            number,
            width,
            len(places),
            sum(len(row.ids) for row in rows),
            num_targets,
        )


def width_for(num_tokens: int) -> int:
    """The narrowest batch that such a row fits into."""
    return next((width for width in _WIDTHS if width >= num_tokens), num_tokens)


def _num_shared(examples: Sequence[tuple[list[int], list[bool]]]) -> int:
    """How many tokens all conversations begin with. A conversation alone has no branches."""
    if len(examples) == 1:
        return 0
    # What the model says belongs to each branch: it is learnt once for every conversation.
    longest = min(spoken.index(True) for _, spoken in examples) - 1
    columns = zip(*(ids[:longest] for ids, _ in examples), strict=True)
    return next((at for at, column in enumerate(columns) if len(set(column)) > 1), longest)


def _beginning(spoken: list[bool]) -> int:
    """How many tokens there are up to the first few of the last answer."""
    last_answer = len(spoken)
    while spoken[last_answer - 1]:
        last_answer -= 1
    return last_answer + _CUT_TOKENS

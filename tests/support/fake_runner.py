"""A runner without tensors that notices every mistake in the control of blocks.

It keeps one number per KV slot. The number of a position mixes its token with the numbers of all
earlier positions, read through the block table, as attention does; so a block that is wrong, stale,
shared too early or overwritten changes the tokens that follow. `continuation` computes the same
without blocks, which is what a sequence must give alone and in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from anzoth.frames import SamplingParams
from anzoth.scheduler.sequence import (
    Place,
    RowFailure,
    SampledToken,
    ScheduledSequence,
    Sequence,
)

_MODULUS = (1 << 61) - 1
EOS = 1


@dataclass(frozen=True)
class FakeSpec:
    vocab_size: int = 97
    eos_token_ids: tuple[int, ...] = (EOS,)


def _number(token_id: int, position: int, sum_before: int) -> int:
    return (token_id * 1_000_003 + position * 8_191 + sum_before * 31 + 17) ** 3 % _MODULUS


def _next_token(total: int, sampling: SamplingParams, choice: int, vocab_size: int) -> int:
    mixed = (total + sampling.seed * 7_919 + choice * 104_729) ** 5 % _MODULUS
    return mixed % vocab_size


def continuation(
    prompt: Iterable[int],
    max_tokens: int,
    sampling: SamplingParams | None = None,
    choice: int = 0,
    spec: FakeSpec | None = None,
) -> list[int]:
    """The tokens that a sequence must give, with the one that ends it."""
    sampling, spec = sampling or SamplingParams(), spec or FakeSpec()
    total = 0
    position = 0
    for token_id in prompt:
        total = (total + _number(token_id, position, total)) % _MODULUS
        position += 1
    output: list[int] = []
    while len(output) < max_tokens:
        token_id = _next_token(total, sampling, choice, spec.vocab_size)
        output.append(token_id)
        if len(output) >= sampling.min_tokens and (
            (token_id in spec.eos_token_ids and not sampling.ignore_eos)
            or token_id in sampling.stop_token_ids
        ):
            break
        total = (total + _number(token_id, position, total)) % _MODULUS
        position += 1
    return output


@dataclass
class FakeRunner:
    """See the module. Also checks that the batch itself keeps its promises."""

    num_blocks: int = 64
    block_size_tokens: int = 4
    max_model_tokens: int = 128
    dtype: str = "float32"
    device: str = "cpu"
    fingerprint: str = "fake"
    spec: FakeSpec = field(default_factory=FakeSpec)
    fails: Callable[[Place], bool] = lambda _: False
    """Rows for which the answer is a RowFailure."""
    failure: RowFailure = field(default_factory=lambda: RowFailure("this row was made to fail"))
    before_step: Callable[[int], None] = lambda _: None
    """Called with the number of each step; may raise."""
    batches: list[list[tuple[int, int, int]]] = field(default_factory=list)
    """Per step: (request, choice, number of computed tokens) of each row."""

    def __post_init__(self) -> None:
        num_slots = self.num_blocks * self.block_size_tokens
        self._slots: list[int | None] = [None] * num_slots
        self._writers: list[Sequence | None] = [None] * num_slots

    def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
        self.before_step(len(self.batches))
        self.batches.append(
            [(item.sequence.request, item.sequence.choice, item.num_tokens) for item in batch]
        )
        written: set[int] = set()
        return [self._row(item, written) for item in batch]

    def copy(self, blocks: list[tuple[int, int]]) -> None:
        size = self.block_size_tokens
        for numbers in (self._slots, self._writers):
            read = [numbers[source * size : source * size + size] for source, _ in blocks]
            for (_, copy), found in zip(blocks, read, strict=True):
                numbers[copy * size : copy * size + size] = found  # type: ignore[assignment]

    def scrub(self, block_ids: list[int]) -> None:
        for block_id in block_ids:
            start, size = block_id * self.block_size_tokens, self.block_size_tokens
            self._slots[start : start + size] = [None] * size
            self._writers[start : start + size] = [None] * size

    def writers(self, block_id: int | None = None) -> list[Sequence]:
        """Whose numbers are in the slots (of one block), used or not, each sequence once."""
        size = self.block_size_tokens
        slots = slice(None) if block_id is None else slice(block_id * size, block_id * size + size)
        return list(dict.fromkeys(filter(None, self._writers[slots])))

    def _row(self, item: ScheduledSequence, written: set[int]) -> list[SampledToken | RowFailure]:
        sequence, tokens = item.sequence, [*item.sequence.token_ids, *item.drafts]
        size = self.block_size_tokens
        assert item.num_tokens >= 1
        start = sequence.num_computed_tokens
        stop = start + item.num_rows
        assert start + item.num_tokens <= len(sequence.token_ids)
        assert not item.drafts or item.samples, "drafts follow the last known token"
        assert stop <= len(sequence.block_table) * size, "the block table does not cover the step"
        slots = [sequence.block_table[i // size] * size + i % size for i in range(stop)]
        total = 0
        for slot in slots[:start]:
            number = self._slots[slot]
            assert number is not None, "a slot is read before anything was written to it"
            total = (total + number) % _MODULUS
        totals: list[int] = []
        for position in range(start, stop):
            slot = slots[position]
            assert slot not in written, "two rows of one step write the same slot"
            written.add(slot)
            number = _number(tokens[position], position, total)
            self._slots[slot] = number
            self._writers[slot] = sequence
            total = (total + number) % _MODULUS
            totals.append(total)
        for block_id in {slot // size for slot in slots[start:]}:
            salts = {writer.cache_salt for writer in self.writers(block_id)}
            assert len(salts) == 1, "a block holds numbers of two tenants"
        scored = range(sequence.num_scored_tokens, sequence.num_scored_tokens + item.num_scored)
        answers: list[SampledToken | RowFailure] = [
            SampledToken(tokens[i + 1], -totals[i - start] / _MODULUS, [(tokens[i + 1], -1.0)])
            for i in scored
        ]
        places = zip(item.places, totals[item.num_tokens - 1 :], strict=False)
        return answers + [self._answer(place, total) for place, total in places]

    def _answer(self, place: Place, total: int) -> SampledToken | RowFailure:
        if self.fails(place):
            return self.failure
        token_id = _next_token(total, place.sampling, place.choice, self.spec.vocab_size)
        top = [(token_id, -0.5)] if place.sampling.num_logprobs else None
        return SampledToken(token_id, -0.5, top)

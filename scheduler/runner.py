"""What does the engine need of whatever computes its batches?

Does not know: how anything is computed (`model_runner` does), or what the engine makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence


class Vocabulary(Protocol):
    """The part of a model's spec that the engine needs."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_token_ids(self) -> Iterable[int]: ...


class Runner(Protocol):
    """What computes a batch: `model_runner.ModelRunner`, or a fake in tests."""

    @property
    def num_blocks(self) -> int: ...
    @property
    def block_size_tokens(self) -> int: ...
    @property
    def max_model_tokens(self) -> int: ...
    @property
    def dtype(self) -> object: ...
    @property
    def device(self) -> object: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def spec(self) -> Vocabulary: ...

    def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
        """For each item, in order, an answer for each token of its prompt that it scores, and for
        each of its places. Changes no sequence."""
        ...

    def copy(self, blocks: list[tuple[int, int]]) -> None:
        """Copies the keys and values of each first block to the second one, in every layer. As if
        all were read before any is written: a block may be copied from and to."""
        ...

    def scrub(self, block_ids: list[int]) -> None:
        """Zeroes the keys and values in these blocks, in every layer."""
        ...

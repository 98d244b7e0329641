"""What must lie in every KV slot, and who may see it: the model of random-operation tests.

Cheaper than `fake_runner` and stricter about deletion. A slot holds a fingerprint of the tenant and
of all tokens up to its position, and who wrote it. Whoever is computed must find his own
fingerprints in his whole context; whoever finds what was deleted must have been deleted himself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from anzoth.scheduler.origin import SHARED, Deletion, Origin
from anzoth.scheduler.sequence import ScheduledSequence, Sequence


@dataclass(slots=True, eq=False)
class Text:
    """A sequence as the oracle sees it."""

    sequence: Sequence
    fingerprints: list[int]
    """Of the prefix that ends at each position."""
    origin: Origin
    """With the tags of everybody whose slots it has taken over."""
    is_deleted: bool = False
    num_shared_tokens: int = 0
    """Leading ones that were approved for everybody: they are of no tenant."""

    @classmethod
    def of(cls, sequence: Sequence, num_shared_tokens: int = 0) -> Text:
        origin = Origin(sequence.tenant, sequence.cache_salt, sequence.tags)
        text = cls(sequence, [], origin, num_shared_tokens=num_shared_tokens)
        text.extend()
        return text

    def extend(self) -> None:
        last = self.fingerprints[-1] if self.fingerprints else 0
        token_ids = self.sequence.token_ids
        for position in range(len(self.fingerprints), len(token_ids)):
            if position == self.num_shared_tokens:
                last = hash((last, crc32(self.sequence.cache_salt.encode())))
            last = hash((last, token_ids[position]))
            self.fingerprints.append(last)

    def origin_at(self, position: int) -> Origin:
        return SHARED if position < self.num_shared_tokens else self.origin


@dataclass(slots=True)
class Content:
    """What is in one block, whoever uses it."""

    slots: list[int | None]
    origins: set[Origin] = field(default_factory=set)
    """Of those who wrote to it, as they were then."""
    is_deleted: bool = False


class SlotOracle:
    """All blocks of a cache, and the sequences that have not ended."""

    def __init__(self, num_blocks: int, size: int) -> None:
        self.live: dict[Sequence, Text] = {}
        self._size = size
        self._blocks = [Content([None] * size) for _ in range(num_blocks)]

    def scrub(self, block_ids: list[int]) -> None:
        for block_id in block_ids:
            self._blocks[block_id] = Content([None] * self._size)

    def copy(self, blocks: list[tuple[int, int]]) -> None:
        read = [self._blocks[source] for source, _ in blocks]
        for (_, copy), found in zip(blocks, read, strict=True):
            self._blocks[copy] = Content(list(found.slots), set(found.origins), found.is_deleted)

    def compute(self, batch: list[ScheduledSequence]) -> None:
        """One step. Raises AssertionError if anything is not where it must be."""
        # Also of those that sit this step out: what they took over may be deleted before the next.
        for text in self.live.values():
            if text.sequence.block_table:
                self._read(text, text.sequence.num_computed_tokens)
        written: set[tuple[int, int]] = set()
        for item in batch:
            text, start = self.live[item.sequence], item.sequence.num_computed_tokens
            assert item.num_tokens >= 1
            for position in range(start, start + item.num_tokens):
                index, offset = divmod(position, self._size)
                block_id = item.sequence.block_table[index]
                assert (block_id, offset) not in written, "two rows write the same slot"
                written.add((block_id, offset))
                content = self._blocks[block_id]
                content.slots[offset] = text.fingerprints[position]
                content.origins.add(origin := text.origin_at(position))
                if origin is SHARED and offset == self._size - 1:
                    content.origins = {SHARED}  # every slot has been overwritten
                content.is_deleted = content.is_deleted or text.is_deleted
        for block_id, _ in written:
            # Approved text that was never registered lies where its tenant may write again.
            salts = {origin.cache_salt for origin in self._blocks[block_id].origins - {SHARED}}
            assert len(salts) <= 1, "a block holds bytes of two tenants"

    def _read(self, text: Text, num_tokens: int) -> None:
        for first in range(0, num_tokens, self._size):
            content = self._blocks[text.sequence.block_table[first // self._size]]
            last = min(first + self._size, num_tokens)
            found = content.slots[: last - first]
            assert found == text.fingerprints[first:last], "a slot does not hold what is read"
            assert text.is_deleted or not content.is_deleted, "what was deleted is found"
            if content.origins != {text.origin}:
                text.origin = text.origin.with_tags_of(content.origins)

    def delete(self, deletion: Deletion) -> None:
        for text in self.live.values():
            text.is_deleted = text.is_deleted or deletion.covers(text.origin)
        for content in self._blocks:
            content.is_deleted = content.is_deleted or any(map(deletion.covers, content.origins))

    def check_deleted(self) -> None:
        """What was deleted lies only in blocks of sequences that still run."""
        in_use = {block_id for sequence in self.live for block_id in sequence.block_table}
        for block_id, content in enumerate(self._blocks):
            assert block_id in in_use or not content.is_deleted, "deleted, but not zeroed"

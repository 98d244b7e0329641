"""What must lie in every KV slot, and who may see it: the model of random-operation tests.

Cheaper than `fake_runner` and stricter about deletion. A slot holds a fingerprint of the tenant and
of all tokens up to its position, and who wrote it. Whoever is computed must find his own
fingerprints in his whole context; whoever finds what was deleted must have been deleted himself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from anzoth.scheduler.origin import Deletion, Origin
from anzoth.scheduler.sequence import ScheduledSequence, Sequence


@dataclass(slots=True, eq=False)
class Text:
    """A sequence as the oracle sees it."""

    sequence: Sequence
    fingerprints: list[int]
    """Of the prefix that ends at each position."""
    origin: Origin
    """With the tags of everybody whose slots it has read."""
    is_deleted: bool = False

    @classmethod
    def of(cls, sequence: Sequence) -> Text:
        origin = Origin(sequence.tenant, sequence.cache_salt, sequence.tags)
        text = cls(sequence, [], origin)
        text.extend()
        return text

    def extend(self) -> None:
        salt = self.sequence.cache_salt.encode()
        last = self.fingerprints[-1] if self.fingerprints else crc32(salt)
        for token_id in self.sequence.token_ids[len(self.fingerprints) :]:
            last = hash((last, token_id))
            self.fingerprints.append(last)


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
        written: set[tuple[int, int]] = set()
        for item in batch:
            text, start = self.live[item.sequence], item.sequence.num_computed_tokens
            assert item.num_tokens >= 1
            self._read(text, start)
            for position in range(start, start + item.num_tokens):
                index, offset = divmod(position, self._size)
                block_id = item.sequence.block_table[index]
                assert (block_id, offset) not in written, "two rows write the same slot"
                written.add((block_id, offset))
                content = self._blocks[block_id]
                content.slots[offset] = text.fingerprints[position]
                content.origins.add(text.origin)
                content.is_deleted = content.is_deleted or text.is_deleted
        for block_id, _ in written:
            salts = {origin.cache_salt for origin in self._blocks[block_id].origins}
            assert len(salts) == 1, "a block holds bytes of two tenants"

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

"""Which KV blocks does each sequence hold, and what can it take over from others?

Joins the block pool (who uses a block) and the prefix cache (what a block holds) and keeps them in
agreement. A sequence passes through these calls:

    match       finds the longest cached part of its prefix
    try_admit   takes that over, if the rest of its tokens would fit too
    try_grow    makes the block table cover the tokens of the next step
    commit      after a step: blocks that are now full and computed become reusable
    release     gives the table back; `forget` also drops what is remembered about the sequence

`delete` takes away what was computed from certain prompts: nothing finds it any more, and
`pool.take_scrubs` names its blocks as soon as nobody uses them. Sequences that run on with such a
prompt keep their blocks, offer none to others, and leave none unscrubbed.

Does not know: which sequence should go first, or whom to preempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from anzoth.scheduler.block_pool import BlockPool, IntegrityError
from anzoth.scheduler.origin import Deletion, Origin
from anzoth.scheduler.prefix_cache import KeyChain, PrefixCache
from anzoth.scheduler.sequence import Sequence


@dataclass(slots=True)
class _Chain:
    """What is remembered of a sequence from its first look-up to its end, preempted or not."""

    keys: KeyChain
    origin: Origin
    """With the tags of all blocks that it has taken over."""
    is_deleted: bool = False
    """A deletion covered it: it leaves nothing behind."""
    num_committed_blocks: int = 0
    """Leading blocks of the present block table that were offered to the prefix cache."""


class KVCache:
    """The block tables of all sequences."""

    def __init__(self, num_blocks: int, block_size_tokens: int) -> None:
        self.block_size_tokens = block_size_tokens
        self.pool = BlockPool(num_blocks, on_evict=self._evicted)
        self.prefixes = PrefixCache(num_blocks, block_size_tokens)
        self._chains: dict[Sequence, _Chain] = {}

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size_tokens)

    def match(self, sequence: Sequence) -> list[int]:
        """The blocks that hold the longest cached part of a waiting sequence. No effect."""
        return self.prefixes.match(self._keys(sequence), sequence.token_ids)

    def next_key(self, sequence: Sequence, matched: list[int]) -> bytes | None:
        """The key of the block that `matched` stops short of, if a hit could cover it at all."""
        if len(matched) == self.prefixes.num_matchable_blocks(len(sequence.token_ids)):
            return None
        return self._keys(sequence)[len(matched)]

    def try_admit(self, sequence: Sequence, matched: list[int]) -> bool:
        """Gives a sequence without blocks what `match` has just found for it.

        False, and no effect, unless all its known tokens and the next one fit beside what is in
        use. Nothing is reserved for the rest: others can use those blocks meanwhile.
        """
        num_missing = self.num_blocks_for(len(sequence.token_ids) + 1) - len(matched)
        num_revived = sum(self.pool.refcount(block_id) == 0 for block_id in matched)
        if num_missing + num_revived > self.pool.num_available:
            return False
        self.pool.share(matched)
        sequence.block_table.extend(matched)
        sequence.num_computed_tokens = len(matched) * self.block_size_tokens
        chain = self._chain(sequence)
        chain.num_committed_blocks = len(matched)
        chain.origin = chain.origin.with_tags_of(filter(None, map(self.pool.origin, matched)))
        return True

    def keys_of_step(self, sequence: Sequence, num_tokens: int) -> Iterable[bytes]:
        """The keys of the full blocks in which the next `num_tokens` owed tokens lie."""
        start = sequence.num_computed_tokens
        stop = self.num_blocks_for(start + num_tokens)
        return islice(self._keys(sequence), start // self.block_size_tokens, stop)

    def try_grow(self, sequence: Sequence, num_tokens: int) -> bool:
        """Extends the block table over the next `num_tokens` owed tokens; False, and no effect,
        when the pool cannot."""
        num_covered = len(sequence.block_table) * self.block_size_tokens
        num_needed = sequence.num_computed_tokens + num_tokens
        if num_needed <= num_covered:
            return True
        chain = self._chains[sequence]
        blocks = self.pool.try_allocate(
            self.num_blocks_for(num_needed - num_covered),
            chain.origin,
            is_condemned=chain.is_deleted,
        )
        if blocks is None:
            return False
        sequence.block_table.extend(blocks)
        return True

    def commit(self, sequence: Sequence) -> None:
        """Offers the blocks that the last step completed to later sequences."""
        num_full = sequence.num_computed_tokens // self.block_size_tokens
        chain = self._chains[sequence]
        if num_full == chain.num_committed_blocks or chain.is_deleted:
            return
        keys = self._keys(sequence)
        for index in range(chain.num_committed_blocks, num_full):
            block_id = sequence.block_table[index]
            if self.prefixes.try_register(keys, index, sequence.token_ids, block_id):
                self.pool.set_cached(block_id, True)
        chain.num_committed_blocks = num_full

    def unregister(self, sequence: Sequence) -> None:
        """No later sequence may reuse what this one's blocks hold."""
        for block_id in sequence.block_table:
            self._unregister(block_id)

    def delete(self, deletion: Deletion, sequences: Iterable[Sequence]) -> tuple[int, int]:
        """Makes all that `deletion` covers unreachable. `sequences`: all that have not ended.

        Returns how many blocks are to be scrubbed now, and how many when their users end. O(blocks)
        """
        for sequence in sequences:
            chain = self._chain(sequence)
            chain.is_deleted = chain.is_deleted or deletion.covers(chain.origin)
        blocks = self.pool.blocks_of(deletion.covers)
        for block_id in blocks:
            self._unregister(block_id)
        num_unused = sum(map(self.pool.condemn, blocks))
        return num_unused, len(blocks) - num_unused

    def release(self, sequence: Sequence) -> None:
        """Takes all blocks back; nothing is computed any more, but registered prefixes stay."""
        self.pool.free(sequence.block_table)
        sequence.block_table.clear()
        sequence.num_computed_tokens = 0

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended: releases its blocks and its keys."""
        self.release(sequence)
        self._chains.pop(sequence, None)

    def check_counts(self) -> None:
        """With no sequence left: raises IntegrityError unless no block is in use. O(1)."""
        if self.pool.num_in_use or self._chains:
            raise IntegrityError(
                f"{self.pool.num_in_use} KV blocks and {len(self._chains)} key chains belong to no "
                "sequence"
            )

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raises IntegrityError unless pool, prefix cache and the tables of `sequences` (all that
        hold blocks) agree on every block. O(blocks)."""
        self.pool.check_integrity()
        self.prefixes.check_integrity()
        uses = [0] * self.pool.num_blocks
        for sequence in sequences:
            if len(set(sequence.block_table)) != len(sequence.block_table):
                raise IntegrityError("a block table names a KV block twice")
            if self.num_blocks_for(sequence.num_computed_tokens) > len(sequence.block_table):
                raise IntegrityError("a sequence has computed tokens outside its block table")
            for block_id in sequence.block_table:
                uses[block_id] += 1
        for block_id, num_uses in enumerate(uses):
            if num_uses != self.pool.refcount(block_id):
                raise IntegrityError(f"the refcount of KV block {block_id} is wrong")
            if self.prefixes.holds(block_id) != self.pool.is_cached(block_id):
                raise IntegrityError(f"KV block {block_id} is cached in one table only")

    def _chain(self, sequence: Sequence) -> _Chain:
        chain = self._chains.get(sequence)
        if chain is None:
            origin = Origin(sequence.tenant, sequence.cache_salt, sequence.tags)
            chain = self._chains[sequence] = _Chain(KeyChain(sequence.cache_salt), origin)
        return chain

    def _keys(self, sequence: Sequence) -> list[bytes]:
        chain = self._chain(sequence)
        chain.keys.extend(sequence.token_ids, self.block_size_tokens)
        return chain.keys.keys

    def _unregister(self, block_id: int) -> None:
        for dropped_id in self.prefixes.forget(block_id):
            self.pool.set_cached(dropped_id, False)

    def _evicted(self, evicted_id: int) -> None:
        for block_id in self.prefixes.forget(evicted_id):
            if block_id != evicted_id:  # the pool itself unmarks the block that it hands out
                self.pool.set_cached(block_id, False)

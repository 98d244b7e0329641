"""Which KV blocks does each sequence hold, and what can it take over from others?

Joins the block pool (who uses a block) and the prefix cache (what a block holds) and keeps them in
agreement. A sequence passes through these calls:

    match       finds the longest cached part of its prefix
    try_admit   takes that over, if the rest of its tokens would fit too; of the block behind it
                it gets a copy, if another choice of its request has computed the prompt there
    try_grow    makes the block table cover the tokens of the next step
    commit      after a step: blocks that are now full and computed become reusable
    release     gives the table back; `forget` also drops what is remembered about the sequence

The choices of one request share all full blocks of their prompt. The last one is partly filled, and
a choice writes to it in the very step in which it starts: copy-on-write would never share it for
longer than a copy at admission does, and needs no second look at every write. `take_copies` names
what is to be copied before the step, and before anything is scrubbed: by then the block copied from
may belong to somebody else, but its bytes are still there.

`delete` takes away what was computed from certain prompts: nothing finds it any more, and
`pool.take_scrubs` names its blocks as soon as nobody uses them. Sequences that run on with such a
prompt keep their blocks, offer none to others, and leave none unscrubbed.

Does not know: which sequence should go first, or whom to preempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from anzoth.scheduler.block_pool import BlockPool, IntegrityError
from anzoth.scheduler.origin import Deletion, Origin
from anzoth.scheduler.prefix_cache import KeyChain, PrefixCache, SharedPrompts, TokenIds
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.tenant_blocks import BlockShares

NOTHING: Mapping[str, int] = {}


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

    def __init__(
        self,
        num_blocks: int,
        block_size_tokens: int,
        shares: BlockShares | None = None,
        shared_prompts: Iterable[TokenIds] = (),
    ) -> None:
        """`shared_prompts`: token ids of beginnings that all tenants may share."""
        self.block_size_tokens = block_size_tokens
        self.pool = BlockPool(num_blocks, self._evicted, shares)
        self.prefixes = PrefixCache(num_blocks, block_size_tokens)
        self._shared_prompts = SharedPrompts(shared_prompts, block_size_tokens)
        self._chains: dict[Sequence, _Chain] = {}
        self._copies: dict[int, int] = {}
        """For each block that is to be a copy, the block whose bytes of now it gets."""

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size_tokens)

    def match(self, sequence: Sequence) -> list[int]:
        """The blocks that hold the longest cached part of a waiting sequence. No effect."""
        matched = self.prefixes.match(self._keys(sequence), sequence.token_ids)
        del matched[sequence.num_skippable_tokens // self.block_size_tokens :]
        return matched

    def next_key(self, sequence: Sequence, matched: list[int]) -> bytes | None:
        """The key of the block that `matched` stops short of, if a hit could cover it at all."""
        num_tokens = min(len(sequence.token_ids), sequence.num_skippable_tokens + 1)
        if len(matched) == self.prefixes.num_matchable_blocks(num_tokens):
            return None
        return self._keys(sequence)[len(matched)]

    def awaits_sibling(self, sequence: Sequence, matched: list[int]) -> bool:
        """Whether another choice is computing what this one would compute again behind `matched`.

        Not where a choice has ended already: those that end with their first token leave nothing to
        copy, and would be waited for one after the other.
        """
        if len(sequence.siblings) < max(sequence.num_choices, 2):
            return False
        num_tokens = min(sequence.num_prompt_tokens, sequence.num_tokens - 1)
        return len(matched) * self.block_size_tokens < num_tokens and any(
            other.block_table and other.num_computed_tokens < num_tokens
            for other in sequence.siblings
        )

    def num_blocks_to_admit(self, sequence: Sequence, matched: list[int]) -> int:
        """Blocks that admission would put to use: for all known tokens and the next one, and of
        those that `match` has found the ones that nobody uses now."""
        num_missing = self.num_blocks_for(len(sequence.token_ids) + 1) - len(matched)
        return num_missing + sum(self.pool.refcount(block_id) == 0 for block_id in matched)

    def try_admit(
        self,
        sequence: Sequence,
        matched: list[int],
        spoken_for: Mapping[str, int] = NOTHING,
        *,
        takes_any: bool = False,
    ) -> bool:
        """Gives a sequence without blocks what `match` has just found for it.

        False, and no effect, unless all its known tokens and the next one fit beside what is in
        use and what others, by tenant, still need. Nothing is reserved for the rest: others can use
        those blocks meanwhile. `takes_any`: blocks that are protected for other tenants, too.
        """
        num_blocks = self.num_blocks_to_admit(sequence, matched)
        num_own = num_blocks + spoken_for.get(sequence.tenant, 0)
        beside = sum(spoken_for.values())
        if self.exceeds_quota(sequence, num_own) or self.pool.num_lacking(
            sequence.tenant, num_blocks, beside=beside, takes_any=takes_any
        ):
            return False
        self.pool.share(matched)
        sequence.block_table.extend(matched)
        sequence.num_computed_tokens = len(matched) * self.block_size_tokens
        chain = self._chain(sequence)
        chain.num_committed_blocks = len(matched)
        chain.origin = chain.origin.with_tags_of(filter(None, map(self.pool.origin, matched)))
        self._copy_of_sibling(sequence, chain, takes_any=takes_any)
        return True

    def take_copies(self) -> list[tuple[int, int]]:
        """(from, to) of blocks to be copied now, all at once, before the next step's scrubs."""
        copies = [(source, copy) for copy, source in self._copies.items()]
        self._copies.clear()
        return copies

    def exceeds_quota(self, sequence: Sequence, num_blocks: int) -> bool:
        """Whether its own tenant's blocks in use leave no room for so many more."""
        return num_blocks > self.pool.tenants.quota_left(sequence.tenant)

    def keys_of_step(self, sequence: Sequence, num_tokens: int) -> Iterable[bytes]:
        """The keys of the full blocks in which the next `num_tokens` owed tokens lie."""
        start = sequence.num_computed_tokens
        stop = self.num_blocks_for(start + num_tokens)
        return islice(self._keys(sequence), start // self.block_size_tokens, stop)

    def num_blocks_to_grow(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks that the table lacks for the next `num_tokens` owed tokens."""
        num_needed = self.num_blocks_for(sequence.num_computed_tokens + num_tokens)
        return max(0, num_needed - len(sequence.block_table))

    def try_grow(self, sequence: Sequence, num_tokens: int, *, takes_any: bool = False) -> bool:
        """Extends the block table over the next `num_tokens` owed tokens; False, and no effect,
        when the pool cannot. `takes_any`: see `try_admit`."""
        num_covered = len(sequence.block_table) * self.block_size_tokens
        if sequence.num_computed_tokens + num_tokens <= num_covered:
            return True
        num_blocks = self.num_blocks_to_grow(sequence, num_tokens)
        chain = self._chains[sequence]
        blocks = self.pool.try_allocate(
            num_blocks, chain.origin, is_condemned=chain.is_deleted, takes_any=takes_any
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
                if index < chain.keys.num_shared_blocks:
                    self.pool.give_to_all(block_id)
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
        del sequence.block_table[:]
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
            chain = self._chains[sequence]
            for block_id in sequence.block_table:
                uses[block_id] += 1
                origin = self.pool.origin(block_id)
                if origin is None or not chain.origin.answers_for(origin):
                    raise IntegrityError("a deletion could reach a KV block and not who uses it")
                if self.pool.is_condemned(block_id) and not chain.is_deleted:
                    raise IntegrityError("a sequence that is not deleted uses a deleted KV block")
        refcounts, is_cached = self.pool.states()
        if uses != refcounts:
            raise IntegrityError("the refcount of a KV block is not the number of its uses")
        if self.prefixes.held() != is_cached:
            raise IntegrityError("a KV block is cached in one table only")

    def _copy_of_sibling(self, sequence: Sequence, chain: _Chain, *, takes_any: bool) -> None:
        """Gives a sequence behind its shared blocks a copy of the block that comes next, if another
        choice has computed more of the prompt."""
        num_shared, size = sequence.num_computed_tokens, self.block_size_tokens
        limit = min(
            sequence.num_prompt_tokens,
            sequence.num_tokens - 1,  # a step must compute one
            sequence.num_skippable_tokens,
            num_shared + size,
        )
        if limit <= num_shared:
            return
        for other in sequence.siblings:
            if other.num_computed_tokens < limit or self._chains[other].is_deleted:
                continue
            source = other.block_table[num_shared // size]
            if (origin := self.pool.origin(source)) is not None:
                chain.origin = chain.origin.with_tags_of((origin,))
            copy = self.pool.try_allocate(
                1, chain.origin, is_condemned=chain.is_deleted, takes_any=takes_any
            )
            if copy is None:
                raise IntegrityError("a KV block that admission counted as available is not")
            self.pool.will_overwrite(copy[0])
            self._copies[copy[0]] = self._copies.get(source, source)
            sequence.block_table.extend(copy)
            sequence.num_computed_tokens = limit
            return

    def _chain(self, sequence: Sequence) -> _Chain:
        chain = self._chains.get(sequence)
        if chain is None:
            origin = Origin(sequence.tenant, sequence.cache_salt, sequence.tags)
            num_shared = self._shared_prompts.num_blocks(sequence.token_ids)
            keys = KeyChain(sequence.cache_salt, num_shared)
            chain = self._chains[sequence] = _Chain(keys, origin)
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

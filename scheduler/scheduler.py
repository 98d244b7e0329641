"""Which tokens does the next step compute?

There are no phases. Every sequence owes some tokens (see `sequence`), a step has one budget of
tokens, and a decision is a list of (sequence, number of owed tokens). Decoding owes one, a prompt
owes many and is cut where the budget ends; a prefix hit and a preemption only change what is owed.

    1. Running sequences: those that owe one token first, so that a long prompt never holds up a
       stream; within that, oldest first.
    2. Waiting sequences in the queue's order, if nobody lacked blocks in 1.

When blocks run out, the youngest running sequence that is younger than the one being served gives
up all of its own and waits to be recomputed. If nobody is younger, the one being served sits the
step out and keeps what it has. So the oldest sequence always advances, and because admission bounds
a sequence by the size of the cache, it can always finish: no state is a dead end.

Does not know: tensors, clocks, sampling, or when a sequence is finished. Its owner calls
`schedule`, computes, then calls `computed` for each scheduled sequence and `end` for those that are
done.
"""

from __future__ import annotations

from bisect import insort

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.kv_cache import KVCache
from anzoth.scheduler.sequence import ScheduledSequence, Sequence
from anzoth.scheduler.waiting_queue import WaitingQueue, age_order


class Scheduler:
    """Owns the waiting queue, the running sequences and their blocks."""

    def __init__(
        self,
        num_blocks: int,
        block_size_tokens: int,
        max_batch_tokens: int,
        max_running_sequences: int,
    ) -> None:
        self.kv_cache = KVCache(num_blocks, block_size_tokens)
        self.waiting = WaitingQueue()
        self.running: list[Sequence] = []
        """Oldest first."""
        self.num_preemptions = 0
        self._max_batch_tokens = max_batch_tokens
        self._max_running_sequences = max_running_sequences

    def add(self, sequence: Sequence) -> None:
        """A new sequence waits. The caller has checked that alone it fits in the cache."""
        self.waiting.add(sequence)

    def schedule(self) -> list[ScheduledSequence]:
        """The next step's batch; the block tables cover it. Empty only if no sequence is left."""
        batch, none_lacked_blocks = self._schedule_running()
        if none_lacked_blocks and len(self.running) < self._max_running_sequences:
            self._admit_waiting(batch)
        return list(batch.values())

    def computed(self, scheduled: ScheduledSequence) -> None:
        """The step wrote these tokens' keys and values. Call before the new token is added."""
        scheduled.sequence.num_computed_tokens += scheduled.num_tokens
        self.kv_cache.commit(scheduled.sequence)

    def end(self, sequence: Sequence) -> None:
        """The sequence is finished or aborted, wherever it is: its blocks are free at once."""
        if sequence.block_table:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.kv_cache.forget(sequence)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless blocks and sequences agree. O(blocks)."""
        if any(sequence.block_table for sequence in self.waiting):
            raise IntegrityError("a waiting sequence holds KV blocks")
        if self.running != sorted(self.running, key=age_order):
            raise IntegrityError("the running sequences are not in the order of their age")
        self.kv_cache.check_integrity(self.running)

    # --- running sequences --------------------------------------------------------------------

    def _schedule_running(self) -> tuple[dict[Sequence, ScheduledSequence], bool]:
        """The running sequences' part of the batch, and whether none of them lacked blocks."""
        batch: dict[Sequence, ScheduledSequence] = {}
        budget = self._max_batch_tokens
        none_lacked_blocks = True
        decoding = [s for s in self.running if s.num_owed_tokens == 1]
        others = [s for s in self.running if s.num_owed_tokens != 1]
        for sequence in decoding + others:
            if not budget:
                break
            if not sequence.block_table:  # was running until a sequence before it took its blocks
                continue
            num_tokens = min(sequence.num_owed_tokens, budget)
            while not self.kv_cache.try_grow(sequence, num_tokens):
                none_lacked_blocks = False
                victim = self.running[-1]
                if victim is sequence:
                    break
                batch.pop(victim, None)  # its part of the budget is not worth a second round
                self._preempt(victim)
            else:
                batch[sequence] = ScheduledSequence(sequence, num_tokens)
                budget -= num_tokens
        return batch, none_lacked_blocks

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.kv_cache.release(sequence)
        self.waiting.put_back(sequence)
        self.num_preemptions += 1

    # --- waiting sequences --------------------------------------------------------------------

    def _admit_waiting(self, batch: dict[Sequence, ScheduledSequence]) -> None:
        """Adds waiting sequences to the batch while budget, rows and blocks last."""
        if not self.waiting:
            return
        budget = self._max_batch_tokens - sum(item.num_tokens for item in batch.values())
        in_flight: set[bytes] = set()
        for item in batch.values():
            in_flight.update(self.kv_cache.keys_of_step(item.sequence, item.num_tokens))
        for sequence in self.waiting:
            if not budget or len(self.running) >= self._max_running_sequences:
                break
            matched = self.kv_cache.match(sequence)
            # This step computes the very block that the sequence needs next: one step later it can
            # be shared. Choices of one request and bursts behind one system prompt meet here.
            if self.kv_cache.next_key(sequence, matched) in in_flight:
                continue
            if not self.kv_cache.try_admit(sequence, matched):
                break
            if self.waiting.take(sequence):
                sequence.num_cached_tokens = sequence.num_computed_tokens
            num_tokens = min(sequence.num_owed_tokens, budget)
            if not self.kv_cache.try_grow(sequence, num_tokens):
                raise IntegrityError("KV blocks that admission counted as available are not")
            insort(self.running, sequence, key=age_order)
            in_flight.update(self.kv_cache.keys_of_step(sequence, num_tokens))
            batch[sequence] = ScheduledSequence(sequence, num_tokens)
            budget -= num_tokens

"""Which sequences hold a row and blocks, and which wait?

The one owner of both lists. A sequence waits, runs, may be preempted and wait again, and ends. Here
is also decided who must not be kept waiting any longer, whatever the order in the queue is, and at
whose cost it starts (`make_room`).

Does not know: the step's budget, or how many tokens are computed of whom.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Mapping
from math import inf

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.fairness import FairnessPolicy, FairShares
from anzoth.scheduler.kv_cache import NOTHING, KVCache
from anzoth.scheduler.preemption import by_loss, victims_of_take_over, with_more
from anzoth.scheduler.prompt_pace import PromptPace
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.waiting_queue import WaitingQueue, age_order

_MAX_TAKE_OVERS = 4
"""Attempts in one step: each looks at all running sequences."""


class Rows:
    """All unfinished sequences: `running` ones hold blocks, `waiting` ones hold none."""

    def __init__(self, kv_cache: KVCache, max_rows: int, policy: FairnessPolicy) -> None:
        self.kv_cache = kv_cache
        self.waiting = WaitingQueue()
        self.running: list[Sequence] = []
        """Oldest first."""
        self.fairness = FairShares(policy)
        self.pace = PromptPace()
        self.num_preemptions = 0
        self.max_rows = max_rows
        self._policy = policy
        self._with_deadline: list[Sequence] = []
        """Earliest deadline first."""
        self._elder: tuple[Sequence, int] | None = None
        """The oldest waiting sequence, and the step in which it became that."""

    @property
    def num_free_rows(self) -> int:
        return self.max_rows - len(self.running)

    def add(self, sequence: Sequence) -> None:
        """A new sequence waits. The caller has checked that alone it fits in its tenant's quota."""
        self.waiting.add(sequence)
        self.pace.arrive(sequence.num_owed_tokens)
        self.fairness.arrive(sequence.tenant)
        if sequence.deadline_s is not None:
            insort(self._with_deadline, sequence, key=_deadline_order)

    def end(self, sequence: Sequence) -> None:
        """The sequence is finished or aborted, wherever it is: its blocks are free at once."""
        if sequence.block_table:
            self.running.remove(sequence)
            self.fairness.give_row(sequence.tenant)
        else:
            self.waiting.remove(sequence)
        self.fairness.leave(sequence.tenant)
        if sequence.deadline_s is not None:
            self._with_deadline.remove(sequence)
        self.kv_cache.forget(sequence)

    def expired(self, now_s: float) -> list[Sequence]:
        """Sequences whose deadline has passed, waiting or running: nobody wants their tokens."""
        late = []
        for sequence in self._with_deadline:
            if _deadline_order(sequence)[0] > now_s:
                break
            late.append(sequence)
        return late

    def check_integrity(self) -> None:
        """Raises IntegrityError unless blocks and sequences agree. O(blocks)."""
        if any(sequence.block_table for sequence in self.waiting):
            raise IntegrityError("a waiting sequence holds KV blocks")
        if self.running != sorted(self.running, key=age_order):
            raise IntegrityError("the running sequences are not in the order of their age")
        if not all(sequence.block_table for sequence in self.running):
            raise IntegrityError("a running sequence holds no KV blocks")
        num_rows = Counter(sequence.tenant for sequence in self.running)
        num_waiting = Counter(sequence.tenant for sequence in self.waiting)
        if problem := self.fairness.find_problem(num_rows + num_waiting, num_rows):
            raise IntegrityError(problem)
        self.kv_cache.check_integrity(self.running)

    def preempt(self, sequence: Sequence) -> None:
        """A running sequence gives up its row and all its blocks, and waits."""
        self.running.remove(sequence)
        self.pace.arrive(sequence.num_computed_tokens)
        self.kv_cache.release(sequence)
        self.waiting.put_back(sequence)
        self.fairness.give_row(sequence.tenant)
        self.fairness.want(sequence.tenant)
        self.num_preemptions += 1

    def try_admit(
        self, sequence: Sequence, matched: list[int], spoken_for: Mapping[str, int]
    ) -> bool:
        """Moves a waiting sequence to the running ones, if it fits beside what others still need.

        Its block table may still be empty: the caller makes it grow at once. Where nothing runs,
        protected blocks are taken, too: nothing else could make room.
        """
        takes_any = not self.running
        if not self.kv_cache.try_admit(sequence, matched, spoken_for, takes_any=takes_any):
            return False
        self.pace.arrive(-sequence.num_computed_tokens)
        if self._elder is not None and self._elder[0] is sequence:
            self._elder = None
        if self.waiting.take(sequence):
            sequence.num_cached_tokens = sequence.num_computed_tokens
        insort(self.running, sequence, key=age_order)
        self.fairness.take_row(sequence.tenant)
        return True

    def make_room(self) -> None:
        """Starts those who must not be kept waiting any longer, at the cost of others."""
        oldest = self.waiting.oldest
        if oldest is not None and (self._elder is None or self._elder[0] is not oldest):
            self._elder = oldest, self.fairness.step
        if self._elder is not None and self._elder[0] is oldest:
            num_steps = self.fairness.step - self._elder[1]
            if num_steps >= self._policy.elder_patience_steps:
                self._start_elder(self._elder[0])
        for tenant in self.fairness.overdue()[:_MAX_TAKE_OVERS]:
            head = self.waiting.first(tenant)
            if head is None or not self._try_take_over(head):
                self.fairness.postpone(tenant)

    def _start_elder(self, elder: Sequence) -> None:
        if not self.running or age_order(elder) > age_order(self.running[0]):
            return
        victims = by_loss(self.running, self.fairness)
        num_blocks = self.kv_cache.num_blocks_to_admit(elder, self.kv_cache.match(elder))
        if self.kv_cache.exceeds_quota(elder, num_blocks):
            victims.sort(key=lambda victim: victim.tenant != elder.tenant)
        for victim in victims:
            if self._try_start(elder, NOTHING):
                return
            self.preempt(victim)
        if not self._try_start(elder, NOTHING):
            raise IntegrityError("a sequence does not fit in an unused cache")

    def _try_take_over(self, sequence: Sequence) -> bool:
        needs_row = not self.num_free_rows
        candidates = with_more(sequence, self.running, self.fairness, needs_row=needs_row)
        is_absent = not self.fairness.num_rows(sequence.tenant)
        if not candidates and (needs_row or not is_absent):
            return False
        spoken_for = Counter[str]()
        for other in self.running:
            num_needed = self.kv_cache.num_blocks_for(len(other.token_ids))
            spoken_for[other.tenant] += max(0, num_needed - len(other.block_table))
        tenant, matched = sequence.tenant, self.kv_cache.match(sequence)
        num_blocks = self.kv_cache.num_blocks_to_admit(sequence, matched)
        if self.kv_cache.exceeds_quota(sequence, num_blocks + spoken_for[tenant]):
            return False  # what it waits for no other tenant can give
        beside = spoken_for.total()
        num_missing_blocks = self.kv_cache.pool.num_lacking(tenant, num_blocks, beside=beside)
        if needs_row or num_missing_blocks:
            victims = victims_of_take_over(
                sequence,
                candidates,
                int(needs_row),
                num_missing_blocks,
                self.running,
                self.fairness,
                self.kv_cache,
            )
            if victims is None:
                return False
            for victim in victims:
                self.preempt(victim)
        elif not is_absent:
            return False  # it only waits behind another tenant, or for a row that is kept free
        return self._try_start(sequence, spoken_for)

    def _try_start(self, sequence: Sequence, spoken_for: Mapping[str, int]) -> bool:
        """Admits a waiting sequence ahead of the step, with blocks for its first few tokens."""
        if not self.num_free_rows:
            return False
        takes_any = not self.running
        if not self.try_admit(sequence, self.kv_cache.match(sequence), spoken_for):
            return False
        num_tokens = min(sequence.num_owed_tokens, self.kv_cache.block_size_tokens)
        if not self.kv_cache.try_grow(sequence, num_tokens, takes_any=takes_any):
            raise IntegrityError("KV blocks that admission counted as available are not")
        return True


def _deadline_order(sequence: Sequence) -> tuple[float, int, int]:
    deadline_s = sequence.deadline_s
    return inf if deadline_s is None else deadline_s, sequence.request, sequence.choice

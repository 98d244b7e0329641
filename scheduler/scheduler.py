"""Which tokens does the next step compute?

There are no phases. Every sequence owes some tokens (see `sequence`), a step has one budget of
tokens, and a decision is a list of (sequence, number of owed tokens). Decoding owes one, a prompt
owes many and is cut where the budget ends; a prefix hit and a preemption only change what is owed.

    1. Running sequences that owe one token, so that a long prompt never holds up a stream.
    2. The rest of the budget is for prompts, running and waiting alike, and is handed out to the
       tenants in turns, lowest counter first (see `fairness`). Within a tenant running ones come
       first, then those that are due first (see `waiting_queue`). While a tenant with little to do
       is about, 2. gets a part of the budget only: its next request must not meet a long step.

    3. What nobody wants may verify drafts behind streams (see `drafts`), in blocks that nobody
       needs: they are the first to go and the last to be asked for.

Who waits for rows or blocks longer than the policy's patience, holds less than another tenant and
has had less, takes them from that tenant: the first four after `patience_steps`, the next four one
step later. And when a running sequence needs a block and there is none, somebody gives up all of
its own. Either way the tenant that has had most loses, and of its sequences the one with the fewest
computed tokens; it waits to be recomputed (see `preemption`).

Every sequence ends. Call the oldest unfinished sequence of all the elder. Nothing is assumed of
counters, priorities or deadlines in what follows:

    a waiting elder is admitted once its patience has run out: it may take the blocks of everyone,
    and alone it fits, since admission bounds a sequence by its tenant's quota of the cache;
    a running elder is never preempted, and every step computes at least one of its tokens, at the
    cost of everyone if need be.

Blocks that are protected for idle tenants (see `tenant_blocks`) yield to it when it is alone. So
it ends within `elder_patience_steps` and one step for each of its tokens, and then the next one
is the elder. New requests are always younger: they cannot put this off. Two tenants that preempt
each other in turn could therefore waste work, but not stop it; and they do not, because who takes
over leaves the other at least as much as it gets, and between running sequences it is a margin of
service that decides, or else their age.

Does not know: tensors, clocks, sampling, or when a sequence is finished. Its owner calls
`schedule`, computes, then calls `computed` and `end` for those that are done, and for those that
`expired` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.drafts import Drafter
from anzoth.scheduler.fairness import FairnessPolicy, Round
from anzoth.scheduler.kv_cache import KVCache
from anzoth.scheduler.preemption import freed_blocks, victims_of_growth
from anzoth.scheduler.prefix_cache import TokenIds
from anzoth.scheduler.rows import Rows
from anzoth.scheduler.sequence import ScheduledSequence, Sequence
from anzoth.scheduler.tenant_blocks import BlockShares
from anzoth.scheduler.waiting_queue import age_order, due_order

_MAX_LOCALITY_LOOKUPS = 8


@dataclass(slots=True)
class _Step:
    """One step while it is being decided."""

    budget: int
    decodes: dict[Sequence, tuple[int, ...]] = field(default_factory=dict)
    """Streams, and the drafts behind the one token that each owes."""
    prefills: dict[Sequence, int] = field(default_factory=dict)
    """How many of their owed tokens are in the batch so far."""
    unbacked: dict[Sequence, int] = field(default_factory=dict)
    """Blocks that running prompts still need: they are not admission's to give away."""
    in_flight: set[bytes] = field(default_factory=set)
    """The block of each running prompt that is computed now or next."""
    lacked_blocks: bool = False
    at_quota: set[str] = field(default_factory=set)
    """Tenants that wait for blocks of their own."""


@dataclass(slots=True)
class _Streams:
    """What was made for the streams of one step. It serves the next one if they are the same."""

    sequences: list[Sequence]
    items: list[ScheduledSequence]
    """Without drafts."""
    num_rows: Counter[str]
    """By tenant."""

    @classmethod
    def of(cls, sequences: list[Sequence]) -> _Streams:
        items = [ScheduledSequence(sequence, 1) for sequence in sequences]
        return cls(sequences, items, Counter([sequence.tenant for sequence in sequences]))

    def batch(self, decodes: dict[Sequence, tuple[int, ...]]) -> list[ScheduledSequence]:
        """The items of a step with these sequences and their drafts."""
        if not any(decodes.values()):
            return self.items.copy()
        return [
            ScheduledSequence(sequence, 1, drafts) if drafts else item
            for (sequence, drafts), item in zip(decodes.items(), self.items, strict=True)
        ]


@dataclass(slots=True)
class _Work:
    """What one tenant wants of the budget for prompts."""

    running: list[Sequence]
    """Due last first."""
    waiting: Iterator[Sequence]


class Scheduler:
    """Owns the waiting queue, the running sequences and their blocks."""

    def __init__(
        self,
        num_blocks: int,
        block_size_tokens: int,
        max_batch_tokens: int,
        max_running_sequences: int,
        policy: FairnessPolicy | None = None,
        shares: BlockShares | None = None,
        drafter: Drafter | None = None,
        shared_prompts: Iterable[TokenIds] = (),
    ) -> None:
        """Without a `drafter` nothing is drafted. `shared_prompts`: see `KVCache`."""
        policy = policy or FairnessPolicy()
        self.kv_cache = KVCache(num_blocks, block_size_tokens, shares, shared_prompts)
        self.rows = Rows(self.kv_cache, max_running_sequences, policy)
        self.waiting = self.rows.waiting
        self.running = self.rows.running
        """Oldest first."""
        self.fairness = self.rows.fairness
        self.num_contended_steps = 0
        """Steps whose prompts had a part of the budget only."""
        self._policy = policy
        self._drafter = drafter
        self._max_batch_tokens = max_batch_tokens
        self._streams = _Streams.of([])

    @property
    def num_preemptions(self) -> int:
        return self.rows.num_preemptions

    @property
    def quota_blocks(self) -> int:
        """What one tenant may hold: all blocks, where there is no quota."""
        return self.kv_cache.pool.tenants.quota_blocks

    def add(self, sequence: Sequence) -> None:
        """A new sequence waits. The caller has checked that alone it fits in its tenant's quota."""
        self.rows.add(sequence)

    def end(self, sequence: Sequence) -> None:
        """The sequence is finished or aborted, wherever it is: its blocks are free at once."""
        self.rows.end(sequence)
        self._streams = _Streams.of([])  # an ended sequence is not held on to
        if self._drafter is not None:
            self._drafter.forget(sequence)

    def expired(self, now_s: float) -> list[Sequence]:
        """Sequences whose deadline has passed, waiting or running: nobody wants their tokens."""
        return self.rows.expired(now_s)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless blocks and sequences agree. O(blocks)."""
        self.rows.check_integrity()
        for kept in self._streams.items:
            if kept.sequence.num_owed_tokens == 1 and kept != ScheduledSequence(kept.sequence, 1):
                raise IntegrityError("what is kept of a stream is not what would be made anew")

    def schedule(self) -> list[ScheduledSequence]:
        """The next step's batch; the block tables cover it. Empty only if no sequence is left."""
        self.fairness.begin_step()
        self.rows.pace.begin_step()
        if self.waiting:
            self.rows.make_room()
        # Mostly all are streams. What is done for each of them is kept to list comprehensions: a
        # call for each costs more than everything in it.
        running = self.running
        decoding = [s for s in running if len(s.token_ids) - s.num_computed_tokens == 1]
        prompts: list[Sequence] = []
        if len(decoding) < len(running):
            prompts = [s for s in running if len(s.token_ids) - s.num_computed_tokens != 1]
        step = _Step(self._max_batch_tokens)
        # The elder's part is set aside: not even a hundred streams may hold it up.
        num_elder_tokens = 0
        if prompts and prompts[0] is self.running[0]:
            num_elder_tokens = min(
                prompts[0].num_owed_tokens, self.kv_cache.block_size_tokens, step.budget
            )
        # So is an eighth for prompts: who has just come must not wait for streams to end.
        num_prompt_tokens = num_elder_tokens
        if prompts or (self.waiting and self.rows.num_free_rows):
            num_prompt_tokens = max(num_prompt_tokens, step.budget // 8)
        left_over = self._schedule_decodes(step, decoding, step.budget - num_prompt_tokens)
        if prompts or self.waiting:
            self._schedule_prompts(step, prompts, num_elder_tokens)
        if left_over and step.budget:
            # Without those that ran until others took their blocks.
            left_over = [sequence for sequence in left_over if sequence.block_table]
            self._schedule_decodes(step, left_over, step.budget)
        if self._drafter is not None and step.decodes and step.budget:
            self._schedule_drafts(step, self._drafter)
        if (sequences := list(step.decodes)) != self._streams.sequences:
            self._streams = _Streams.of(sequences)
        self._account(step, decoding, prompts)
        batch = self._streams.batch(step.decodes)
        batch += [ScheduledSequence(sequence, num) for sequence, num in step.prefills.items()]
        return batch

    def computed(self, batch: Iterable[ScheduledSequence]) -> None:
        """The step wrote these tokens' keys and values. Call before new tokens are added."""
        size = self.kv_cache.block_size_tokens
        for scheduled in batch:
            sequence = scheduled.sequence
            before = sequence.num_computed_tokens
            sequence.num_computed_tokens = after = before + scheduled.num_tokens
            if after // size > before // size:
                self.kv_cache.commit(sequence)

    def accepted(self, sequence: Sequence) -> None:
        """The last token is the draft that the step computed: so its keys and values are there.
        Call before the token behind it is added."""
        self.computed((ScheduledSequence(sequence, 1),))

    # --- streams ------------------------------------------------------------------------------

    def _schedule_decodes(
        self, step: _Step, decoding: list[Sequence], budget: int
    ) -> list[Sequence]:
        """Puts streams into the batch; those for which the budget is too small are returned."""
        left_over: list[Sequence] = []
        if len(decoding) > budget:
            chosen = self._fewer(decoding, budget)
            left_over = sorted(set(decoding).difference(chosen), key=age_order)
            decoding = chosen
        step.decodes = dict.fromkeys([*step.decodes, *decoding], ())
        step.budget -= len(decoding)
        size = self.kv_cache.block_size_tokens
        for sequence in [s for s in decoding if len(s.token_ids) > len(s.block_table) * size]:
            if sequence not in step.decodes:
                continue  # was running until one before it took its blocks
            if not (
                self.kv_cache.try_grow(sequence, 1)
                or self._try_grow_at_the_cost_of_others(step, sequence, 1)
            ):
                del step.decodes[sequence]
                step.budget += 1
        return left_over

    def _fewer(self, decoding: list[Sequence], num_rows: int) -> list[Sequence]:
        """`num_rows` streams: the oldest, then by turns of the tenants, oldest first."""
        chosen = decoding[: min(1, num_rows)]
        lanes: dict[str, list[Sequence]] = {}
        for sequence in reversed(decoding[len(chosen) :]):
            lanes.setdefault(sequence.tenant, []).append(sequence)
        turns = Round(self._policy.output_weight, turn_tokens=1)
        levels = {name: self.fairness.counter(name) for name in lanes}
        for name, lane in lanes.items():
            turns.join(name, levels[name], 0, lane[-1].request, self.fairness.share(name))
        while len(chosen) < num_rows and (turn := turns.next(num_rows - len(chosen))):
            name, num_tokens = turn
            lane, share = lanes[name], self.fairness.share(name)
            taken = [lane.pop() for _ in range(min(num_tokens, len(lane)))]
            chosen += taken
            levels[name] += len(taken) * self._policy.output_weight / share
            if lane:
                turns.join(name, levels[name], 0, lane[-1].request, share)
        return chosen

    def _schedule_drafts(self, step: _Step, drafter: Drafter) -> None:
        num_rows = len(step.decodes) + sum(step.prefills.values())
        for sequence, drafts in drafter.draft(step.decodes, num_rows, step.budget):
            if drafts := drafts[: self._num_drafts_held(sequence, len(drafts))]:
                step.decodes[sequence] = drafts
                step.budget -= len(drafts)

    def _num_drafts_held(self, sequence: Sequence, num_drafts: int) -> int:
        """For how many of these drafts the sequence has blocks, with those it may take: none while
        somebody waits, and one stays for each running sequence."""
        cache, tenant = self.kv_cache, sequence.tenant
        num_missing = cache.num_blocks_to_grow(sequence, 1 + num_drafts)
        if num_missing and (
            self.waiting
            or cache.exceeds_quota(sequence, num_missing + self.fairness.num_rows(tenant))
            or cache.pool.num_lacking(tenant, num_missing, beside=len(self.running))
            or not cache.try_grow(sequence, 1 + num_drafts)
        ):
            num_covered = len(sequence.block_table) * cache.block_size_tokens
            return min(num_drafts, num_covered - sequence.num_computed_tokens - 1)
        return num_drafts

    # --- prompts ------------------------------------------------------------------------------

    def _schedule_prompts(
        self, step: _Step, prompts: list[Sequence], num_elder_tokens: int
    ) -> None:
        """Hands the rest of the budget out to running and waiting prompts."""
        if self.fairness.is_contended:
            limit = self._policy.contended_prefill_tokens
            if limit is None:
                limit = self.rows.pace.limit_tokens(self._max_batch_tokens // 4)
            step.budget = min(step.budget, max(limit, num_elder_tokens, 1))
            self.num_contended_steps += 1
        prompts = [sequence for sequence in prompts if sequence.block_table]
        for sequence in prompts:
            self._note_need(step, sequence)
        if num_elder_tokens:
            self._try_schedule_prompt(step, prompts[0], num_elder_tokens)
        work: dict[str, _Work] = {}
        for sequence in sorted(prompts, key=due_order, reverse=True):
            work.setdefault(sequence.tenant, _Work([], iter(()))).running.append(sequence)
        if self._can_admit(step):
            for name in self.waiting.tenants:
                work.setdefault(name, _Work([], iter(()))).waiting = self.waiting.lane(name)
            if self.waiting:
                for sequence in prompts:
                    step.in_flight.update(self.kv_cache.keys_of_step(sequence, 1))
        self._serve_in_turns(step, work)

    def _serve_in_turns(self, step: _Step, work: dict[str, _Work]) -> None:
        weight, fairness = self._policy.prompt_weight, self.fairness
        with_locality = 1 < len(work) <= _MAX_LOCALITY_LOOKUPS
        turns = Round(weight, max(step.budget // 2, self.kv_cache.block_size_tokens))
        streams = Counter([sequence.tenant for sequence in step.decodes])
        spent = {name: streams[name] * self._policy.output_weight for name in work}
        for sequence, num_tokens in step.prefills.items():
            spent[sequence.tenant] += num_tokens * weight

        def join(name: str) -> None:
            share = fairness.share(name)
            head = work[name].running[-1] if work[name].running else self.waiting.first(name)
            if head is None:
                return
            level = fairness.turn_level(name, head.priority) + spent[name] / share
            if with_locality and not head.block_table:
                level -= self._num_hit_tokens(head) * weight / share
            turns.join(name, level, fairness.num_rows(name), head.request, share)

        for name in work:
            join(name)
        while step.budget > 0 and (turn := turns.next(step.budget)):
            name, num_tokens = turn
            if num_served := self._serve(step, name, work[name], num_tokens):
                spent[name] += num_served * weight
                join(name)

    def _serve(self, step: _Step, tenant: str, work: _Work, num_tokens: int) -> int:
        """Puts up to `num_tokens` of the tenant's prompts into the batch; how many it were."""
        num_served = 0
        while num_served < num_tokens:
            if not work.running:
                if (admitted := self._try_admit_next(step, tenant, work.waiting)) is None:
                    break
                work.running.append(admitted)
            sequence = work.running[-1]
            num_left = sequence.num_owed_tokens - step.prefills.get(sequence, 0)
            num_now = min(num_left, num_tokens - num_served)
            if not sequence.block_table and sequence not in step.unbacked:
                work.running.pop()  # was running until another took its blocks
            elif num_now and self._try_schedule_prompt(step, sequence, num_now):
                num_served += num_now
                if num_now == num_left:
                    work.running.pop()
            elif sequence.block_table:
                work.running.pop()  # complete, or it sits this step out
            else:
                raise IntegrityError("KV blocks that admission counted as available are not")
        return num_served

    def _try_schedule_prompt(self, step: _Step, sequence: Sequence, num_tokens: int) -> bool:
        """Puts `num_tokens` more of a running prompt into the batch, if it can have the blocks."""
        num_in_batch = step.prefills.get(sequence, 0) + num_tokens
        if not (
            self.kv_cache.try_grow(sequence, num_in_batch)
            or self._try_grow_at_the_cost_of_others(step, sequence, num_in_batch)
        ):
            return False
        step.prefills[sequence] = num_in_batch
        step.budget -= num_tokens
        self._note_need(step, sequence)
        return True

    def _note_need(self, step: _Step, sequence: Sequence) -> None:
        num_blocks = self.kv_cache.num_blocks_for(len(sequence.token_ids))
        if num_blocks > len(sequence.block_table):
            step.unbacked[sequence] = num_blocks - len(sequence.block_table)
        else:
            step.unbacked.pop(sequence, None)

    # --- waiting sequences --------------------------------------------------------------------

    def _can_admit(self, step: _Step) -> bool:
        return not step.lacked_blocks and self.rows.num_free_rows > 0

    def _try_admit_next(
        self, step: _Step, tenant: str, waiting: Iterator[Sequence]
    ) -> Sequence | None:
        """Admits the tenant's next waiting sequence that can start now."""
        if tenant in step.at_quota or not self._can_admit(step):
            return None
        if self.rows.num_free_rows <= self.fairness.num_kept_rows(tenant, self.rows.max_rows):
            self.fairness.refuse((tenant,))
            return None
        for sequence in waiting:
            matched = self.kv_cache.match(sequence)
            # This step computes the very block that the sequence needs next: one step later it can
            # be shared. Choices of one request and bursts behind one system prompt meet here.
            if self.kv_cache.next_key(sequence, matched) in step.in_flight:
                continue
            if self.kv_cache.awaits_sibling(sequence, matched):
                continue
            spoken_for = Counter[str]()
            for other, num_blocks in step.unbacked.items():
                spoken_for[other.tenant] += num_blocks
            if not self.rows.try_admit(sequence, matched, spoken_for):
                # Those behind it must not take the blocks that it waits for.
                num_own = self.kv_cache.num_blocks_to_admit(sequence, matched)
                if self.kv_cache.exceeds_quota(sequence, num_own + spoken_for[tenant]):
                    step.at_quota.add(tenant)
                else:
                    step.lacked_blocks = True
                return None
            step.in_flight.update(self.kv_cache.keys_of_step(sequence, 1))
            self._note_need(step, sequence)
            return sequence
        return None

    def _num_hit_tokens(self, sequence: Sequence) -> int:
        """Of the first `locality_tokens`, how many are cached."""
        limit = min(self._policy.locality_tokens, sequence.num_skippable_tokens)
        if not limit:
            return 0
        keys = list(self.kv_cache.keys_of_step(sequence, limit))
        known = sequence.token_ids[: min(limit, len(sequence.token_ids) - 1) + 1]
        hit = self.kv_cache.prefixes.match(keys, known)
        return len(hit) * self.kv_cache.block_size_tokens

    # --- preemption ---------------------------------------------------------------------------

    def _try_grow_at_the_cost_of_others(
        self, step: _Step, sequence: Sequence, num_tokens: int
    ) -> bool:
        """Preempts until a running sequence can grow; if too few yield to it, it sits out."""
        kv_cache, tenant = self.kv_cache, sequence.tenant
        is_elder = sequence is self.running[0]
        victims = victims_of_growth(sequence, self.running, self.fairness)
        num_blocks = kv_cache.num_blocks_to_grow(sequence, num_tokens)
        is_at_quota = kv_cache.exceeds_quota(sequence, num_blocks)
        if is_at_quota:
            step.at_quota.add(tenant)
            victims.sort(key=lambda victim: victim.tenant != tenant)
        else:
            step.lacked_blocks = True
        if not is_elder:
            if is_at_quota:
                victims = [victim for victim in victims if victim.tenant == tenant]
            freed = freed_blocks(victims, kv_cache)
            num_gained = kv_cache.pool.tenants.num_gained(tenant, freed)
            if num_gained < kv_cache.pool.num_lacking(tenant, num_blocks):
                return False
            if kv_cache.exceeds_quota(sequence, num_blocks - freed[tenant]):
                return False
        for victim in victims:
            # What it had of the budget is there again, but nobody who was passed over is asked.
            step.budget += step.prefills.pop(victim, 0)
            step.budget += step.decodes.pop(victim, None) is not None
            step.unbacked.pop(victim, None)
            self.rows.preempt(victim)
            if kv_cache.try_grow(sequence, num_tokens):
                return True
        return is_elder and kv_cache.try_grow(sequence, num_tokens, takes_any=True)

    # --- after the decision -------------------------------------------------------------------

    def _account(self, step: _Step, decoding: list[Sequence], prompts: list[Sequence]) -> None:
        """What is in the batch will be computed: it is charged. What is not remains wanted."""
        fairness, policy = self.fairness, self._policy
        for tenant, num_rows in self._streams.num_rows.items():
            fairness.charge(tenant, num_rows * policy.output_weight)
        for sequence, drafts in step.decodes.items():
            if drafts:
                fairness.charge(sequence.tenant, len(drafts) * policy.prompt_weight)
        cut_short = {s.tenant for s in prompts if s.block_table and s not in step.prefills}
        for sequence, num_tokens in step.prefills.items():
            service = num_tokens * policy.prompt_weight
            if num_tokens == sequence.num_owed_tokens:
                service += policy.output_weight
            else:
                cut_short.add(sequence.tenant)
            fairness.charge(sequence.tenant, service)
        if len(step.decodes) < len(decoding):
            cut_short.update(s.tenant for s in decoding if s not in step.decodes)
        if step.lacked_blocks or not self.rows.num_free_rows:
            fairness.refuse(self.waiting.tenants)
        # Who waits for its own quota has been given all that it may have.
        fairness.end_step(self.waiting.tenants - step.at_quota, cut_short)

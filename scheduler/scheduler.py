"""Which tokens does the next step compute?

There are no phases. Every sequence owes some tokens (see `sequence`), a step has one budget of
tokens, and a decision is a list of (sequence, number of owed tokens). Decoding owes one, a prompt
owes many and is cut where the budget ends; a prefix hit and a preemption only change what is owed.

    1. Running sequences that owe one token, so that a long prompt never holds up a stream (see
       `streams`).
    2. The rest of the budget is for prompts, running and waiting alike, and is handed out to the
       tenants in turns, lowest counter first (see `fairness`). Within a tenant running ones come
       first, then those that are due first (see `prompts`). While a tenant with little to do is
       about, 2. gets a part of the budget only: its next request must not meet a long step.
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
from collections.abc import Iterable

from anzoth.scheduler.drafts import Drafter
from anzoth.scheduler.fairness import FairnessPolicy
from anzoth.scheduler.kv_cache import KVCache
from anzoth.scheduler.prefix_cache import TokenIds
from anzoth.scheduler.prompts import Prompts
from anzoth.scheduler.rows import Rows
from anzoth.scheduler.sequence import ScheduledSequence, Sequence
from anzoth.scheduler.step import Step
from anzoth.scheduler.streams import Streams
from anzoth.scheduler.tenant_blocks import BlockShares


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
        self._policy = policy
        self._drafter = drafter
        self._max_batch_tokens = max_batch_tokens
        self._streams = Streams(self.rows)
        self._prompts = Prompts(self.rows, max_batch_tokens)

    @property
    def num_preemptions(self) -> int:
        return self.rows.num_preemptions

    @property
    def num_contended_steps(self) -> int:
        """Steps whose prompts had a part of the budget only."""
        return self._prompts.num_contended_steps

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
        self._streams.forget(sequence)
        if self._drafter is not None:
            self._drafter.forget(sequence)

    def expired(self, now_s: float) -> list[Sequence]:
        """Sequences whose deadline has passed, waiting or running: nobody wants their tokens."""
        return self.rows.expired(now_s)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless blocks and sequences agree. O(blocks)."""
        self.rows.check_integrity()
        self._streams.check_integrity()

    def schedule(self) -> list[ScheduledSequence]:
        """The next step's batch; the block tables cover it. Empty only if no sequence is left."""
        self.fairness.begin_step()
        self.rows.pace.begin_step()
        if self.waiting:
            self.rows.make_room()
        running = self.running
        decoding = [s for s in running if len(s.token_ids) - s.num_computed_tokens == 1]
        prompts: list[Sequence] = []
        if len(decoding) < len(running):
            prompts = [s for s in running if len(s.token_ids) - s.num_computed_tokens != 1]
        step = Step(self._max_batch_tokens)
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
        left_over = self._streams.schedule(step, decoding, step.budget - num_prompt_tokens)
        if prompts or self.waiting:
            self._prompts.schedule(step, prompts, num_elder_tokens)
        if left_over and step.budget:
            # Without those that ran until others took their blocks.
            left_over = [sequence for sequence in left_over if sequence.block_table]
            self._streams.schedule(step, left_over, step.budget)
        if self._drafter is not None and step.decodes and step.budget:
            self._streams.schedule_drafts(step, self._drafter)
        self._account(step, decoding, prompts)
        batch = self._streams.batch(step)
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

    # --- after the decision -------------------------------------------------------------------

    def _account(self, step: Step, decoding: list[Sequence], prompts: list[Sequence]) -> None:
        """What is in the batch will be computed: it is charged. What is not remains wanted."""
        fairness, policy = self.fairness, self._policy
        for tenant, num_rows in Counter([s.tenant for s in step.decodes]).items():
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

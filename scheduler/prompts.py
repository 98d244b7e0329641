"""Whose prompts get what streams have left of a step, and which waiting sequences start?

The tenants take turns, lowest counter first (see `fairness`). Within a tenant running prompts come
first, then those that are due first (see `waiting_queue`).

Does not know: streams, or who must not wait any longer (see `rows`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.fairness import Round
from anzoth.scheduler.rows import Rows
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.step import Step, try_grow
from anzoth.scheduler.waiting_queue import due_order

_MAX_LOCALITY_LOOKUPS = 8


@dataclass(slots=True)
class _Work:
    """What one tenant wants of the budget for prompts."""

    running: list[Sequence]
    """Due last first."""
    waiting: Iterator[Sequence]


class Prompts:
    """Puts prompts into steps."""

    def __init__(self, rows: Rows, max_batch_tokens: int) -> None:
        self.num_contended_steps = 0
        """Steps whose prompts had a part of the budget only."""
        self._rows = rows
        self._kv_cache = rows.kv_cache
        self._waiting = rows.waiting
        self._fairness = rows.fairness
        self._policy = rows.fairness.policy
        self._max_batch_tokens = max_batch_tokens

    def schedule(self, step: Step, prompts: list[Sequence], num_elder_tokens: int) -> None:
        """Hands the rest of the budget out to running and waiting prompts."""
        if self._fairness.is_contended:
            limit = self._policy.contended_prefill_tokens
            if limit is None:
                limit = self._rows.pace.limit_tokens(self._max_batch_tokens // 4)
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
            for name in self._waiting.tenants:
                work.setdefault(name, _Work([], iter(()))).waiting = self._waiting.lane(name)
            if self._waiting:
                for sequence in prompts:
                    step.in_flight.update(self._kv_cache.keys_of_step(sequence, 1))
        self._serve_in_turns(step, work)

    def _serve_in_turns(self, step: Step, work: dict[str, _Work]) -> None:
        weight, fairness = self._policy.prompt_weight, self._fairness
        with_locality = 1 < len(work) <= _MAX_LOCALITY_LOOKUPS
        turns = Round(weight, max(step.budget // 2, self._kv_cache.block_size_tokens))
        streams = Counter([sequence.tenant for sequence in step.decodes])
        spent = {name: streams[name] * self._policy.output_weight for name in work}
        for sequence, num_tokens in step.prefills.items():
            spent[sequence.tenant] += num_tokens * weight

        def join(name: str) -> None:
            share = fairness.share(name)
            head = work[name].running[-1] if work[name].running else self._waiting.first(name)
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

    def _serve(self, step: Step, tenant: str, work: _Work, num_tokens: int) -> int:
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

    def _try_schedule_prompt(self, step: Step, sequence: Sequence, num_tokens: int) -> bool:
        """Puts `num_tokens` more of a running prompt into the batch, if it can have the blocks."""
        num_in_batch = step.prefills.get(sequence, 0) + num_tokens
        if not try_grow(step, self._rows, sequence, num_in_batch):
            return False
        step.prefills[sequence] = num_in_batch
        step.budget -= num_tokens
        self._note_need(step, sequence)
        return True

    def _note_need(self, step: Step, sequence: Sequence) -> None:
        num_blocks = self._kv_cache.num_blocks_for(len(sequence.token_ids))
        if num_blocks > len(sequence.block_table):
            step.unbacked[sequence] = num_blocks - len(sequence.block_table)
        else:
            step.unbacked.pop(sequence, None)

    # --- waiting sequences --------------------------------------------------------------------

    def _can_admit(self, step: Step) -> bool:
        return not step.lacked_blocks and self._rows.num_free_rows > 0

    def _try_admit_next(
        self, step: Step, tenant: str, waiting: Iterator[Sequence]
    ) -> Sequence | None:
        """Admits the tenant's next waiting sequence that can start now."""
        if tenant in step.at_quota or not self._can_admit(step):
            return None
        if self._rows.num_free_rows <= self._fairness.num_kept_rows(tenant, self._rows.max_rows):
            self._fairness.refuse((tenant,))
            return None
        for sequence in waiting:
            matched = self._kv_cache.match(sequence)
            # This step computes the very block that the sequence needs next: one step later it can
            # be shared. Choices of one request and bursts behind one system prompt meet here.
            if self._kv_cache.next_key(sequence, matched) in step.in_flight:
                continue
            if self._kv_cache.awaits_sibling(sequence, matched):
                continue
            spoken_for = Counter[str]()
            for other, num_blocks in step.unbacked.items():
                spoken_for[other.tenant] += num_blocks
            if not self._rows.try_admit(sequence, matched, spoken_for):
                # Those behind it must not take the blocks that it waits for.
                num_own = self._kv_cache.num_blocks_to_admit(sequence, matched)
                if self._kv_cache.exceeds_quota(sequence, num_own + spoken_for[tenant]):
                    step.at_quota.add(tenant)
                else:
                    step.lacked_blocks = True
                return None
            step.in_flight.update(self._kv_cache.keys_of_step(sequence, 1))
            self._note_need(step, sequence)
            return sequence
        return None

    def _num_hit_tokens(self, sequence: Sequence) -> int:
        """Of the first `locality_tokens`, how many are cached."""
        limit = min(self._policy.locality_tokens, sequence.num_skippable_tokens)
        if not limit:
            return 0
        keys = list(self._kv_cache.keys_of_step(sequence, limit))
        known = sequence.token_ids[: min(limit, len(sequence.token_ids) - 1) + 1]
        hit = self._kv_cache.prefixes.match(keys, known)
        return len(hit) * self._kv_cache.block_size_tokens

"""Which streams does a step compute, and how many drafts behind each?

A stream is a running sequence that owes one token. Mostly a step computes all of them, and they are
those of the step before, each one token further. So nothing is done here for each of them but steps
of list comprehensions (one call for each costs more than everything in it), and what describes a
stream to the runner is made once.

Does not know: prompts, or how a draft is guessed.
"""

from __future__ import annotations

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.drafts import Drafter
from anzoth.scheduler.fairness import Round
from anzoth.scheduler.rows import Rows
from anzoth.scheduler.sequence import ScheduledSequence, Sequence
from anzoth.scheduler.step import Step, try_grow
from anzoth.scheduler.waiting_queue import age_order


class Streams:
    """Puts streams into steps."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: dict[Sequence, ScheduledSequence] = {}
        """Without drafts, of those that were streams and have not ended: the same in every step,
        since a stream's prompt is scored, if at all, before it becomes one."""

    def schedule(self, step: Step, decoding: list[Sequence], budget: int) -> list[Sequence]:
        """Puts streams into the batch; those for which the budget is too small are returned."""
        left_over: list[Sequence] = []
        if len(decoding) > budget:
            chosen = self._fewer(decoding, budget)
            left_over = sorted(set(decoding).difference(chosen), key=age_order)
            decoding = chosen
        step.decodes = dict.fromkeys([*step.decodes, *decoding], ())
        step.budget -= len(decoding)
        size = self._rows.kv_cache.block_size_tokens
        for sequence in [s for s in decoding if len(s.token_ids) > len(s.block_table) * size]:
            if sequence not in step.decodes:
                continue  # was running until one before it took its blocks
            if not try_grow(step, self._rows, sequence, 1):
                del step.decodes[sequence]
                step.budget += 1
        return left_over

    def schedule_drafts(self, step: Step, drafter: Drafter) -> None:
        """Lets what is left of the budget verify drafts, where nobody needs the blocks."""
        num_rows = len(step.decodes) + sum(step.prefills.values())
        for sequence, drafts in drafter.draft(step.decodes, num_rows, step.budget):
            if drafts := drafts[: self._num_drafts_held(sequence, len(drafts))]:
                step.decodes[sequence] = drafts
                step.budget -= len(drafts)

    def batch(self, step: Step) -> list[ScheduledSequence]:
        """The streams of the step as they are computed."""
        kept = self._kept
        for sequence in [s for s in step.decodes if s not in kept]:
            kept[sequence] = ScheduledSequence(sequence, 1)
        if not any(step.decodes.values()):
            return [kept[sequence] for sequence in step.decodes]
        return [
            ScheduledSequence(sequence, 1, drafts) if drafts else kept[sequence]
            for sequence, drafts in step.decodes.items()
        ]

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended."""
        self._kept.pop(sequence, None)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless what is kept is what would be made anew, of the living."""
        if not self._kept.keys() <= {*self._rows.running, *self._rows.waiting}:
            raise IntegrityError("something is kept of a sequence that has ended")
        for sequence, kept in self._kept.items():
            if sequence.num_owed_tokens == 1 and kept != ScheduledSequence(sequence, 1):
                raise IntegrityError("what is kept of a stream does not hold any more")

    def _fewer(self, decoding: list[Sequence], num_rows: int) -> list[Sequence]:
        """`num_rows` streams: the oldest, then by turns of the tenants, oldest first."""
        chosen = decoding[: min(1, num_rows)]
        lanes: dict[str, list[Sequence]] = {}
        for sequence in reversed(decoding[len(chosen) :]):
            lanes.setdefault(sequence.tenant, []).append(sequence)
        fairness, weight = self._rows.fairness, self._rows.fairness.policy.output_weight
        turns = Round(weight, turn_tokens=1)
        levels = {name: fairness.counter(name) for name in lanes}
        for name, lane in lanes.items():
            turns.join(name, levels[name], 0, lane[-1].request, fairness.share(name))
        while len(chosen) < num_rows and (turn := turns.next(num_rows - len(chosen))):
            name, num_tokens = turn
            lane, share = lanes[name], fairness.share(name)
            taken = [lane.pop() for _ in range(min(num_tokens, len(lane)))]
            chosen += taken
            levels[name] += len(taken) * weight / share
            if lane:
                turns.join(name, levels[name], 0, lane[-1].request, share)
        return chosen

    def _num_drafts_held(self, sequence: Sequence, num_drafts: int) -> int:
        """For how many of these drafts the sequence has blocks, with those it may take: none while
        somebody waits, and one stays for each running sequence."""
        rows, cache, tenant = self._rows, self._rows.kv_cache, sequence.tenant
        num_missing = cache.num_blocks_to_grow(sequence, 1 + num_drafts)
        if num_missing and (
            rows.waiting
            or cache.exceeds_quota(sequence, num_missing + rows.fairness.num_rows(tenant))
            or cache.pool.num_lacking(tenant, num_missing, beside=len(rows.running))
            or not cache.try_grow(sequence, 1 + num_drafts)
        ):
            num_covered = len(sequence.block_table) * cache.block_size_tokens
            return min(num_drafts, num_covered - sequence.num_computed_tokens - 1)
        return num_drafts

"""Whatever happens in whatever order, no block is lost, shared wrongly, or left unscrubbed.

Scheduler, fairness, rows, block pool, tenants' blocks and prefix cache together, driven by random
operations: requests come (with one or more choices, tags, priorities, deadlines), are aborted and
expire, tenants and documents are deleted, steps are computed. Caches are so small that sequences
are preempted all the time. After every operation every integrity check there is must pass, and in
every step the oracle must find in each slot what the sequence would have written itself.

ANZOTH_RANDOM_OPERATIONS is how many operations all cases do together.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pytest
from slot_oracle import SlotOracle, Text

from anzoth.frames import SamplingParams
from anzoth.scheduler.fairness import FairnessPolicy
from anzoth.scheduler.origin import Deletion
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import ScheduledSequence, Sequence
from anzoth.scheduler.tenant_blocks import BlockShares

NUM_OPERATIONS = int(os.environ.get("ANZOTH_RANDOM_OPERATIONS", "100000"))
PARAMS = SamplingParams()
HASTY = FairnessPolicy(patience_steps=2, elder_patience_steps=16)


@dataclass(frozen=True)
class Case:
    num_blocks: int
    size: int = 4
    budget: int = 16
    rows: int = 8
    num_tenants: int = 3
    quota: float | None = None
    floor: float = 0.0
    policy: FairnessPolicy = HASTY
    shares_prompts: bool = False
    """The operator has approved two beginnings of prompts, which the tenants use."""


CASES = {
    "plain": Case(32),
    "shared prompts": Case(40, floor=0.1, quota=0.5, shares_prompts=True),
    "little but shared": Case(20, size=2, budget=7, num_tenants=5, shares_prompts=True),
    "floors": Case(48, floor=0.1, num_tenants=5),
    "quota": Case(48, quota=0.4),
    "both": Case(64, size=2, quota=0.5, floor=0.08, num_tenants=6),
    "tight": Case(24, budget=5, rows=12, floor=0.25, num_tenants=2),
    "impatient": Case(
        32, rows=3, floor=0.12, policy=FairnessPolicy(patience_steps=1, elder_patience_steps=2)
    ),
    "one row": Case(24, rows=1, quota=0.9, num_tenants=2),
    "patient": Case(40, budget=64, floor=0.06, policy=FairnessPolicy(margin_tokens=50)),
}


class Machine:
    """A scheduler, its oracle, and the operations."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.random = random.Random(seed)
        shares = BlockShares(case.quota, case.floor)
        self.approved = [self.tokens(num) for num in (3 * case.size + 1, 2 * case.size)]
        if not case.shares_prompts:
            self.approved = []
        self.scheduler = Scheduler(
            case.num_blocks,
            case.size,
            case.budget,
            case.rows,
            case.policy,
            shares,
            shared_prompts=self.approved,
        )
        self.oracle = SlotOracle(case.num_blocks, case.size)
        self.now_s = 0.0
        self.num_requests = 0
        self.num_ended = self.num_cached_tokens = self.num_copies = 0
        self.num_shared_by_tenants = 0
        self.max_tokens = self.scheduler.quota_blocks * case.size
        shared = [self.random.randrange(5) for _ in range(self.max_tokens)]
        self.openings = [
            [*shared[: self.random.randrange(self.max_tokens)], *self.tokens(self.max_tokens)]
            for _ in range(4)
        ]

    def tokens(self, number: int) -> list[int]:
        return [self.random.randrange(5) for _ in range(number)]

    # --- operations ---------------------------------------------------------------------------

    def add(self) -> None:
        random_ = self.random
        if len(self.oracle.live) > 3 * self.case.rows:
            return
        usual = min(12 * self.case.size, self.max_tokens - 1)
        longest = usual if random_.random() < 0.97 else self.max_tokens - 1
        num_prompt_tokens = random_.randint(1, longest)
        num_shared = random_.randint(0, num_prompt_tokens)
        prompt = random_.choice(self.openings)[:num_shared]
        if self.approved and random_.random() < 0.7:
            prompt = [*random_.choice(self.approved), *prompt][:num_shared]
        prompt += self.tokens(num_prompt_tokens - num_shared)
        tenant = f"t{int(random_.triangular(0, self.case.num_tenants, 0))}"
        tags = frozenset(random_.sample("xyz", random_.choice([0, 0, 1, 2])))
        max_tokens = random_.randint(1, min(self.max_tokens - num_prompt_tokens, 20))
        deadline_s = self.now_s + random_.randint(1, 60) if random_.random() < 0.1 else None
        num_choices = random_.choice([1, 1, 1, 2, 4])
        priorities = [random_.choice([-2, -1, 0, 0, 1]) for _ in range(num_choices)]
        self.submit(prompt, tenant, tags, max_tokens, priorities, deadline_s)

    def submit(
        self,
        prompt: list[int],
        tenant: str,
        tags: Iterable[str] = (),
        max_tokens: int = 1,
        priorities: Collection[int] = (0,),
        deadline_s: float | None = None,
    ) -> list[Sequence]:
        """A request with one choice for each of `priorities`."""
        siblings: list[Sequence] = []
        siblings.extend(
            Sequence(
                request=self.num_requests,
                choice=choice,
                tenant=tenant,
                cache_salt=f"salt of {tenant}",
                token_ids=list(prompt),
                num_prompt_tokens=len(prompt),
                max_tokens=max_tokens,
                sampling=PARAMS,
                arrival_s=self.now_s,
                priority=priority,
                deadline_s=deadline_s,
                tags=frozenset(tags),
                num_choices=len(priorities),
                siblings=siblings,
            )
            for choice, priority in enumerate(priorities)
        )
        for sequence in siblings:
            self.oracle.live[sequence] = Text.of(sequence, self.num_approved_tokens(prompt))
            self.scheduler.add(sequence)
        self.num_requests += 1
        return siblings

    def num_approved_tokens(self, prompt: list[int]) -> int:
        num_tokens = 0
        for approved in self.approved:
            num_full = len(approved) // self.case.size * self.case.size
            if prompt[:num_full] == approved[:num_full]:
                num_tokens = max(num_tokens, num_full)
        return num_tokens

    def step(self) -> None:
        self.now_s += 1.0
        if not self.oracle.live:
            return
        batch = self.scheduler.schedule()
        assert batch, "sequences are left, but none can be scheduled"
        assert sum(item.num_tokens for item in batch) <= self.case.budget
        copies = self.scheduler.kv_cache.take_copies()
        self.num_copies += len(copies)
        self.oracle.copy(copies)
        self.scrub()
        self.oracle.compute(batch)
        self.note_sharing(batch)
        for item in batch:
            sequence, samples = item.sequence, item.samples
            self.scheduler.computed([item])
            if samples:
                text = self.oracle.live[sequence]
                sequence.token_ids.append(abs(text.fingerprints[-1]) % 5)
                text.extend()
                if sequence.num_output_tokens == sequence.max_tokens:
                    self.end(sequence)
        self.scrub()

    def steps(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.step()
            self.scheduler.check_integrity()

    def note_sharing(self, batch: list[ScheduledSequence]) -> None:
        """Counts the blocks that sequences of two tenants read in this step."""
        tenants: dict[int, set[str]] = {}
        for item in batch:
            for block_id in item.sequence.block_table:
                tenants.setdefault(block_id, set()).add(item.sequence.tenant)
        self.num_shared_by_tenants += sum(len(names) > 1 for names in tenants.values())

    def abort(self) -> None:
        if self.oracle.live:
            self.end(self.random.choice(list(self.oracle.live)))

    def expire(self) -> None:
        for sequence in self.scheduler.expired(self.now_s):
            self.end(sequence)

    def fail(self) -> None:
        """A row could not be computed: nobody may reuse what its blocks hold."""
        running = self.scheduler.running
        if running:
            sequence = self.random.choice(running)
            self.scheduler.kv_cache.unregister(sequence)
            self.end(sequence)

    def delete(self) -> None:
        tenant = self.random.randrange(self.case.num_tenants)
        tags = frozenset(self.random.sample("xyz", 1)) if self.random.random() < 0.7 else None
        self.purge(f"t{tenant}", tags)

    def purge(self, tenant: str, tags: frozenset[str] | None) -> None:
        deletion = Deletion(frozenset({f"salt of {tenant}"}), tags)
        self.oracle.delete(deletion)
        self.scheduler.kv_cache.delete(deletion, self.oracle.live)
        self.scrub()

    def end(self, sequence: Sequence) -> None:
        self.scheduler.end(sequence)
        sequence.siblings.remove(sequence)
        del self.oracle.live[sequence]
        self.num_ended += 1
        self.num_cached_tokens += sequence.num_cached_tokens

    def scrub(self) -> None:
        self.oracle.scrub(self.scheduler.kv_cache.pool.take_scrubs())

    # --- the whole ----------------------------------------------------------------------------

    def run(self, num_operations: int) -> None:
        operations = [self.step, self.add, self.abort, self.expire, self.fail, self.delete]
        weights = [60, 25, 3, 4, 1, 2]
        for number in range(num_operations):
            self.random.choices(operations, weights)[0]()
            self.scheduler.check_integrity()
            if number % 16 == 0:
                self.scrub()
                self.oracle.check_deleted()
        for _ in range(10_000):
            if not self.oracle.live:
                break
            self.step()
        assert not self.oracle.live, "sequences never end"
        self.scheduler.check_integrity()
        self.scheduler.kv_cache.check_counts()
        self.oracle.check_deleted()
        assert self.num_ended > num_operations // 20
        assert self.scheduler.num_preemptions > (0 if self.case.rows > 1 else -1)
        assert self.num_cached_tokens > num_operations // 20
        assert bool(self.num_shared_by_tenants) == self.case.shares_prompts
        assert self.num_copies > (num_operations // 500 if self.case.rows > 1 else -1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_everything_stays_consistent_under_random_operations(name: str) -> None:
    Machine(CASES[name], seed=len(name)).run(NUM_OPERATIONS // len(CASES))


def test_who_took_blocks_over_is_deleted_with_them_before_it_computes_anything() -> None:
    """It starts ahead of the step, in place of another tenant's sequence, and the oldest prompt of
    all then has the whole budget."""
    impatient = FairnessPolicy(patience_steps=1)
    machine = Machine(Case(num_blocks=32, size=2, budget=2, rows=2, policy=impatient), seed=0)
    machine.submit([1, 2, 3, 4, 5], "a", tags="x")
    machine.steps(3)
    assert not machine.oracle.live
    machine.submit([0] * 30, "b", priorities=[-1])
    machine.submit([0], "b", max_tokens=4)
    machine.steps(2)
    (taker,) = machine.submit([1, 2, 3, 4, 5, 6, 7, 8], "a")
    machine.steps(2)
    assert len(taker.block_table) == 3
    assert taker.num_computed_tokens == taker.num_cached_tokens == 4
    machine.purge("a", frozenset("x"))
    machine.steps(30)
    assert not machine.oracle.live
    machine.oracle.check_deleted()
    (again,) = machine.submit([1, 2, 3, 4, 5, 6, 7, 8], "a")
    machine.steps(4)
    assert not machine.oracle.live
    assert again.num_cached_tokens == 0

"""What a step computes: budgets, order, preemption, and that the state stays whole.

What it does between tenants is in `test_scheduler_tenants` and `test_scheduler_promises`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import ScheduledSequence, Sequence

SIZE = 4


def make_sequence(
    request: int,
    num_prompt_tokens: int,
    *,
    tenant: str = "t",
    salt: str = "salt",
    choice: int = 0,
    tokens: list[int] | None = None,
) -> Sequence:
    """Its prompt is like no other request's unless `tokens` says so."""
    token_ids = tokens or [1000 * (request + 1) + i for i in range(num_prompt_tokens)]
    return Sequence(
        request=request,
        choice=choice,
        tenant=tenant,
        cache_salt=salt,
        token_ids=list(token_ids),
        num_prompt_tokens=len(token_ids),
        max_tokens=1000,
        sampling=SamplingParams(),
        arrival_s=float(request),
    )


def make_scheduler(
    num_blocks: int = 64, max_batch_tokens: int = 32, max_running: int = 16
) -> Scheduler:
    return Scheduler(num_blocks, SIZE, max_batch_tokens, max_running)


def run_step(scheduler: Scheduler) -> list[ScheduledSequence]:
    """One step with a model that always samples token 7."""
    batch = scheduler.schedule()
    for item in batch:
        samples = item.samples
        scheduler.computed([item])
        if samples:
            item.sequence.token_ids.append(7)
    scheduler.check_integrity()
    return batch


def hide(scheduler: Scheduler, sequence: Sequence) -> None:
    """Takes a waiting sequence away for a while, so that others are admitted before it."""
    scheduler.waiting.remove(sequence)
    scheduler.fairness.leave(sequence.tenant)


def bring_back(scheduler: Scheduler, sequence: Sequence) -> None:
    scheduler.waiting.put_back(sequence)
    scheduler.fairness.arrive(sequence.tenant)


def plan(batch: list[ScheduledSequence]) -> list[tuple[int, int]]:
    return [(item.sequence.request, item.num_tokens) for item in batch]


def test_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    scheduler = make_scheduler(max_batch_tokens=10)
    scheduler.add(make_sequence(0, 25))
    assert [plan(run_step(scheduler)) for _ in range(4)] == [
        [(0, 10)],
        [(0, 10)],
        [(0, 5)],
        [(0, 1)],
    ]


def test_decoding_sequences_are_served_before_a_long_prefill() -> None:
    scheduler = make_scheduler(max_batch_tokens=8)
    for request in range(3):
        scheduler.add(make_sequence(request, 2))
    run_step(scheduler)
    scheduler.add(make_sequence(3, 40))
    for _ in range(7):
        assert plan(run_step(scheduler)) == [(0, 1), (1, 1), (2, 1), (3, 5)]


def test_decodes_come_first_even_if_the_prefill_is_older() -> None:
    """A preempted sequence comes back as the oldest one with a prompt to compute again."""
    scheduler = make_scheduler(max_batch_tokens=6)
    old, young = make_sequence(0, 20), make_sequence(1, 2)
    scheduler.add(old)
    run_step(scheduler)
    scheduler.kv_cache.unregister(old)
    scheduler.rows.preempt(old)
    hide(scheduler, old)
    scheduler.add(young)
    run_step(scheduler)
    bring_back(scheduler, old)
    assert plan(run_step(scheduler)) == [(1, 1), (0, 5)]
    assert plan(run_step(scheduler)) == [(1, 1), (0, 5)]


def test_budget_and_rows_are_never_exceeded_and_the_budget_is_used_up() -> None:
    scheduler = make_scheduler(max_batch_tokens=20, max_running=3)
    for request in range(5):
        scheduler.add(make_sequence(request, 12))
    assert plan(run_step(scheduler)) == [(0, 12), (1, 8)]
    assert plan(run_step(scheduler)) == [(0, 1), (1, 4), (2, 12)]
    assert plan(run_step(scheduler)) == [(0, 1), (1, 1), (2, 1)]
    assert len(scheduler.waiting) == 2


def test_ended_sequence_makes_room_for_a_waiting_one() -> None:
    scheduler = make_scheduler(max_running=1)
    first, second = make_sequence(0, 3), make_sequence(1, 3)
    scheduler.add(first)
    scheduler.add(second)
    assert plan(run_step(scheduler)) == [(0, 3)]
    scheduler.end(first)
    assert plan(run_step(scheduler)) == [(1, 3)]


def test_youngest_is_preempted_and_comes_back_before_new_sequences() -> None:
    scheduler = make_scheduler(num_blocks=6, max_batch_tokens=64)
    for request in range(2):
        scheduler.add(make_sequence(request, 11))
    run_step(scheduler)
    scheduler.add(make_sequence(2, 3))
    # Both grow to 12 tokens, then the older takes a block that the younger holds.
    batches = [plan(run_step(scheduler)) for _ in range(2)]
    assert batches == [[(0, 1), (1, 1)], [(0, 1)]]
    assert scheduler.num_preemptions == 1
    assert [sequence.request for sequence in scheduler.waiting] == [1, 2]
    scheduler.end(scheduler.running[0])
    # Its two full blocks that nobody took are reused, the rest is computed again.
    assert plan(run_step(scheduler))[0][0] == 1


def test_nobody_is_admitted_in_a_step_that_preempted() -> None:
    scheduler = make_scheduler(num_blocks=6, max_batch_tokens=64)
    for request in range(2):
        scheduler.add(make_sequence(request, 11))
    run_step(scheduler)
    run_step(scheduler)
    scheduler.add(make_sequence(2, 1))
    assert plan(run_step(scheduler)) == [(0, 1)]
    assert scheduler.num_preemptions == 1
    assert len(scheduler.waiting) == 2


def test_youngest_without_blocks_sits_out_and_keeps_what_it_has() -> None:
    scheduler = make_scheduler(num_blocks=5, max_batch_tokens=64)
    older, younger = make_sequence(0, 9), make_sequence(1, 7)
    scheduler.add(older)
    scheduler.add(younger)
    assert plan(run_step(scheduler)) == [(0, 9), (1, 7)]
    assert plan(run_step(scheduler)) == [(0, 1), (1, 1)]
    assert plan(run_step(scheduler)) == [(0, 1)]
    assert younger.num_computed_tokens == 8
    assert scheduler.num_preemptions == 0
    scheduler.end(older)
    assert plan(run_step(scheduler)) == [(1, 1)]


def test_nobody_is_admitted_while_a_running_sequence_sits_out() -> None:
    """The few blocks that are left must not go to a newcomer: the one sitting out needs them."""
    scheduler = make_scheduler(num_blocks=16, max_batch_tokens=40)
    for request in range(4):
        scheduler.add(make_sequence(request, 4))
    scheduler.add(make_sequence(4, 44))
    assert plan(run_step(scheduler))[-1] == (4, 24)
    scheduler.add(make_sequence(5, 3))
    assert plan(run_step(scheduler)) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert scheduler.kv_cache.pool.num_available == 2
    assert scheduler.num_preemptions == 0


def test_recomputed_blocks_are_registered_again_if_they_were_evicted_meanwhile() -> None:
    scheduler = make_scheduler(max_batch_tokens=64)
    sequence = make_sequence(0, 14)
    scheduler.add(sequence)
    run_step(scheduler)
    scheduler.kv_cache.unregister(sequence)
    scheduler.rows.preempt(sequence)
    assert plan(run_step(scheduler)) == [(0, 15)]
    scheduler.end(sequence)
    assert scheduler.kv_cache.pool.num_cached == 3


def test_victim_that_was_in_the_batch_already_is_withdrawn_from_it() -> None:
    """An old prefill that lacks blocks preempts a young decode that was served before it."""
    scheduler = make_scheduler(num_blocks=8, max_batch_tokens=8)
    old = make_sequence(0, 20)
    scheduler.add(old)
    run_step(scheduler)
    scheduler.kv_cache.unregister(old)
    scheduler.rows.preempt(old)
    hide(scheduler, old)
    for request in (1, 2):
        scheduler.add(make_sequence(request, 3))
    run_step(scheduler)
    bring_back(scheduler, old)
    while old.num_owed_tokens > 1 or not old.block_table:
        batch = run_step(scheduler)
        assert sum(item.num_tokens for item in batch) <= 8
        assert len({item.sequence.request for item in batch}) == len(batch)
    assert scheduler.num_preemptions > 1


def test_sequence_that_does_not_fit_beside_the_others_waits_for_them() -> None:
    scheduler = make_scheduler(num_blocks=6, max_batch_tokens=64)
    first, large = make_sequence(0, 4), make_sequence(1, 20)
    scheduler.add(first)
    scheduler.add(large)
    scheduler.add(make_sequence(2, 1))
    assert plan(run_step(scheduler)) == [(0, 4)]
    assert plan(run_step(scheduler)) == [(0, 1)]
    scheduler.end(first)
    assert plan(run_step(scheduler))[0] == (1, 20)


def test_preempted_sequence_hits_its_own_blocks() -> None:
    scheduler = make_scheduler(max_batch_tokens=64)
    sequence = make_sequence(0, 14)
    scheduler.add(sequence)
    run_step(scheduler)
    scheduler.rows.preempt(sequence)
    # 15 tokens are known: three full blocks are found, the other three tokens are computed.
    assert plan(run_step(scheduler)) == [(0, 3)]
    assert sequence.num_cached_tokens == 0, "its own blocks are not a saving for the client"


def test_choices_of_one_request_compute_their_prompt_once() -> None:
    scheduler = make_scheduler(max_batch_tokens=64)
    prompt = list(range(500, 510))
    siblings: list[Sequence] = []
    for choice in range(4):
        sequence = make_sequence(0, 0, choice=choice, tokens=prompt)
        sequence.num_choices, sequence.siblings = 4, siblings
        siblings.append(sequence)
        scheduler.add(sequence)
    assert plan(run_step(scheduler)) == [(0, 10)]
    assert scheduler.kv_cache.take_copies() == []
    assert plan(run_step(scheduler)) == [(0, 1)] * 4
    leader, *others = siblings
    source = leader.block_table[2]
    assert scheduler.kv_cache.take_copies() == [(source, other.block_table[2]) for other in others]
    tables = [sequence.block_table for sequence in scheduler.running]
    assert len({tuple(table[:2]) for table in tables}) == 1
    assert len({table[2] for table in tables}) == 4


def test_deferred_sequence_does_not_hold_up_those_behind_it() -> None:
    scheduler = make_scheduler(max_batch_tokens=64)
    shared = list(range(500, 512))
    for request in range(2):
        scheduler.add(make_sequence(request, 0, tokens=shared))
    scheduler.add(make_sequence(2, 5))
    assert plan(run_step(scheduler)) == [(0, 12), (2, 5)]
    assert plan(run_step(scheduler)) == [(0, 1), (2, 1), (1, 4)]


def test_equal_prompts_of_two_tenants_share_nothing() -> None:
    scheduler = make_scheduler(max_batch_tokens=64)
    prompt = list(range(500, 513))
    ours = make_sequence(0, 0, tenant="a", salt="salt-a", tokens=prompt)
    scheduler.add(ours)
    run_step(scheduler)
    scheduler.add(make_sequence(1, 0, tenant="b", salt="salt-b", tokens=prompt))
    again = make_sequence(2, 0, tenant="a", salt="salt-a", tokens=prompt)
    scheduler.add(again)
    assert plan(run_step(scheduler)) == [(0, 1), (2, 1), (1, 13)]
    assert [s.num_cached_tokens for s in scheduler.running] == [0, 0, 12]


def test_cached_prefix_survives_its_sequence_and_only_full_blocks_count() -> None:
    scheduler = make_scheduler(max_batch_tokens=64)
    first = make_sequence(0, 0, tokens=list(range(500, 510)))
    scheduler.add(first)
    run_step(scheduler)
    scheduler.end(first)
    assert scheduler.kv_cache.pool.num_cached == 2
    scheduler.add(make_sequence(1, 0, tokens=list(range(500, 510))))
    assert plan(run_step(scheduler)) == [(1, 2)]
    assert scheduler.running[0].num_cached_tokens == 8


def test_queue_counts_each_waiting_request_and_its_prompt_once() -> None:
    scheduler = make_scheduler(max_batch_tokens=4)
    for choice in range(3):
        scheduler.add(make_sequence(0, 0, choice=choice, tokens=[1, 2, 3]))
    scheduler.add(make_sequence(1, 5))
    waiting = scheduler.waiting
    assert (len(waiting), waiting.num_new_requests, waiting.num_new_tokens) == (4, 2, 8)
    assert waiting.num_owed_tokens == 14
    run_step(scheduler)
    assert (waiting.num_new_requests, waiting.num_new_tokens) == (2, 8)
    for sequence in [*scheduler.running, *scheduler.waiting]:
        scheduler.end(sequence)
    assert (len(waiting), waiting.num_new_requests, waiting.num_new_tokens) == (0, 0, 0)
    scheduler.kv_cache.check_counts()


def test_ending_what_does_not_wait_is_an_error() -> None:
    scheduler = make_scheduler()
    with pytest.raises(ValueError, match="not in"):
        scheduler.end(make_sequence(0, 3))


@pytest.mark.parametrize("damage", ["refcount", "waiting holds blocks", "leak"])
def test_integrity_check_notices_damage(damage: str) -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(0, 6))
    run_step(scheduler)
    sequence = scheduler.running[0]
    if damage == "refcount":
        scheduler.kv_cache.pool.free(sequence.block_table[:1])
    elif damage == "leak":
        scheduler.running.clear()
    else:
        scheduler.waiting.add(sequence)
    with pytest.raises(IntegrityError):
        scheduler.check_integrity()


def random_sequences(random_: random.Random) -> Iterator[Sequence]:
    """Two tenants, few different prompts, so that sharing, forks and evictions all happen."""
    request = 0
    while True:
        tenant = random_.choice("ab")
        stem = [random_.randrange(2)] * random_.randint(1, 12)
        tail = [random_.randrange(3) for _ in range(random_.randint(0, 10))]
        for choice in range(random_.choice([1, 1, 1, 3])):
            yield make_sequence(
                request, 0, tenant=tenant, salt=tenant, choice=choice, tokens=stem + tail
            )
        request += 1


@pytest.mark.parametrize(
    ("num_blocks", "budget", "max_running"),
    [(10, 5, 32), (10, 64, 8), (14, 16, 32), (40, 7, 32), (60, 64, 2)],
)
def test_state_stays_whole_and_everybody_finishes_under_random_load(
    num_blocks: int, budget: int, max_running: int
) -> None:
    random_ = random.Random(num_blocks * budget)
    scheduler = make_scheduler(num_blocks, budget, max_running)
    source = random_sequences(random_)
    alive: dict[Sequence, int] = {}
    num_added = 0
    while num_added < 250 or alive:
        if num_added < 250 and len(alive) < 24 and random_.random() < 0.5:
            sequence = next(source)
            alive[sequence] = random_.randint(1, 12)
            scheduler.add(sequence)
            num_added += 1
        if alive and random_.random() < 0.05:
            sequence = random_.choice(list(alive))
            del alive[sequence]
            scheduler.end(sequence)
        if not alive:
            continue
        batch = run_random_step(scheduler, random_)
        assert batch, "no progress"
        assert sum(item.num_tokens for item in batch) <= budget
        oldest = min(alive, key=lambda s: (s.request, s.choice))
        if oldest.block_table:
            assert oldest in {item.sequence for item in batch}, "the oldest must always advance"
        for item in batch:
            if item.sequence.num_output_tokens >= alive[item.sequence]:
                del alive[item.sequence]
                scheduler.end(item.sequence)
        scheduler.check_integrity()
    scheduler.kv_cache.check_counts()
    pool = scheduler.kv_cache.pool
    assert pool.num_free + pool.num_cached == num_blocks
    assert (scheduler.num_preemptions > 0) == (num_blocks < 20 or max_running < 8)


def run_random_step(scheduler: Scheduler, random_: random.Random) -> list[ScheduledSequence]:
    batch = scheduler.schedule()
    scheduler.check_integrity()
    for item in batch:
        samples = item.samples
        scheduler.computed([item])
        if samples:
            item.sequence.token_ids.append(random_.randrange(2))
    scheduler.check_integrity()
    return batch

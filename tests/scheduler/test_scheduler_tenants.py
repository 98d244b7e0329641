"""What a step computes for whom: turns, room for newcomers, and whose loss it is."""

from __future__ import annotations

import random

import pytest
from tenants import SIZE, make_scheduler, make_sequence, run_step

from anzoth.scheduler.origin import Origin
from anzoth.scheduler.scheduler import Scheduler

# --- the budget for prompts -------------------------------------------------------------------


def test_short_prompt_starts_in_the_next_step_beside_a_flood_of_long_ones() -> None:
    scheduler = make_scheduler()
    for request in range(12):
        scheduler.add(make_sequence(request, 100, "flood"))
    for _ in range(5):
        run_step(scheduler)
    scheduler.add(make_sequence(12, 20, "quiet"))
    assert run_step(scheduler)[12] == 20


def test_long_prompts_of_two_tenants_share_the_budget_and_one_tenants_own_go_by_age() -> None:
    scheduler = make_scheduler(sparse_tokens=0, contended_prefill_tokens=32)
    for request, tenant in enumerate("aaab"):
        scheduler.add(make_sequence(request, 200, tenant))
    total: dict[int, int] = {}
    for _ in range(10):
        for request, num_tokens in run_step(scheduler).items():
            total[request] = total.get(request, 0) + num_tokens
    assert set(total) == {0, 3}
    assert abs(total[0] - total[3]) <= 16, "at most one turn apart"
    assert sum(total.values()) == 10 * 32


def test_shares_divide_what_is_contended() -> None:
    scheduler = make_scheduler(shares={"b": 3.0}, sparse_tokens=0)
    for request, tenant in enumerate("ab"):
        scheduler.add(make_sequence(request, 600, tenant))
    total = [0, 0]
    for _ in range(16):
        for request, num_tokens in run_step(scheduler).items():
            total[request] += num_tokens
    assert total[1] / total[0] == pytest.approx(3.0, rel=0.15)


def test_what_is_computed_is_charged_and_what_is_cached_is_free() -> None:
    scheduler = make_scheduler(prompt_weight=1.0, output_weight=2.0)
    prompt = list(range(21))
    first = make_sequence(0, 0, "a", tokens=prompt)
    scheduler.add(first)
    run_step(scheduler)
    assert scheduler.fairness.counter("a") == 21 + 2
    run_step(scheduler)
    assert scheduler.fairness.counter("a") == 21 + 2 * 2
    scheduler.end(first)
    scheduler.add(make_sequence(1, 0, "a", tokens=[*prompt, 99]))
    assert run_step(scheduler) == {1: 2}
    assert scheduler.fairness.counter("a") == 21 + 2 * 2 + 2 + 2


def test_more_streams_than_budget_are_shared_out_and_the_oldest_is_always_among_them() -> None:
    scheduler = make_scheduler(budget=8, max_running=24)
    for request in range(16):
        scheduler.add(make_sequence(request, 1, "flood"))
    scheduler.add(make_sequence(16, 1, "quiet"))
    while scheduler.waiting:
        run_step(scheduler)
    for _ in range(30):
        batch = run_step(scheduler)
        assert 0 in batch
        assert len(batch) == 8
    outputs = {s.request: s.num_output_tokens for s in scheduler.running}
    assert outputs[16] > 25, "one of two tenants, but only one stream"


def test_streams_that_fill_the_budget_leave_an_eighth_to_new_prompts() -> None:
    scheduler = make_scheduler(budget=8, max_running=24)
    for request in range(16):
        scheduler.add(make_sequence(request, 1, "flood"))
    for _ in range(20):
        run_step(scheduler)
    assert not scheduler.waiting
    scheduler.add(make_sequence(16, 5, "flood"))
    assert [run_step(scheduler).get(16, 0) for _ in range(4)] == [1] * 4


def test_eighth_that_no_prompt_can_use_goes_to_streams() -> None:
    scheduler = make_scheduler(num_blocks=20, budget=16, max_running=24)
    for request in range(16):
        scheduler.add(make_sequence(request, 1, "flood"))
    run_step(scheduler)
    scheduler.add(make_sequence(16, 40, "flood"))
    assert len(run_step(scheduler)) == 16


def test_prompts_get_a_part_of_the_step_only_while_a_sparse_tenant_is_about() -> None:
    scheduler = make_scheduler(contended_prefill_tokens=10, recent_steps=6, sparse_tokens=0)
    for request in range(8):
        scheduler.add(make_sequence(request, 160, "flood"))
    for _ in range(6):
        assert sum(run_step(scheduler).values()) == 32
    visit = make_sequence(8, 3, "quiet")
    scheduler.add(visit)
    assert sum(run_step(scheduler).values()) == 11, "one stream and ten prompt tokens"
    scheduler.end(visit)
    sizes = [sum(run_step(scheduler).values()) for _ in range(8)]
    assert sizes == [11] * 6 + [32] * 2
    assert scheduler.num_contended_steps == 7


# --- the order between tenants ----------------------------------------------------------------


def start_order(scheduler: Scheduler) -> list[int]:
    """Which request gives its first token when; each ends with it."""
    order = []
    while scheduler.running or scheduler.waiting:
        for request in run_step(scheduler):
            sequence = next(s for s in scheduler.running if s.request == request)
            if sequence.num_output_tokens:
                order.append(request)
                scheduler.end(sequence)
    return order


def test_tenants_take_turns_whatever_they_have_queued() -> None:
    scheduler = make_scheduler(budget=4, max_running=64, sparse_tokens=0)
    for request in range(6):
        scheduler.add(make_sequence(request, 4, "flood"))
    for request in (6, 7):
        scheduler.add(make_sequence(request, 4, "quiet"))
    assert start_order(scheduler) == [0, 6, 1, 7, 2, 3, 4, 5]


def test_prefix_hit_goes_first_within_a_bounded_deficit() -> None:
    def order(locality_tokens: int) -> list[int]:
        scheduler = make_scheduler(
            budget=10, locality_tokens=locality_tokens, sparse_tokens=0, patience_steps=99
        )
        prompt = list(range(20))
        scheduler.add(make_sequence(0, 0, "hit", tokens=prompt))
        scheduler.add(make_sequence(1, 4, "other"))
        start_order(scheduler)
        # Both level; then "hit" gets 8 tokens ahead.
        scheduler.add(make_sequence(2, 10, "other"))
        scheduler.add(make_sequence(3, 0, "hit", tokens=[*prompt[:16], *range(50, 60)]))
        scheduler.fairness.charge("hit", 8)
        return start_order(scheduler)

    assert order(locality_tokens=16) == [3, 2]
    assert order(locality_tokens=4) == [2, 3], "a deficit of 8 is more than is granted"
    assert order(locality_tokens=0) == [2, 3]


def test_priority_passes_and_flex_yields_between_tenants_by_a_bounded_amount() -> None:
    scheduler = make_scheduler(budget=10, priority_tokens=15, sparse_tokens=0)
    scheduler.add(make_sequence(0, 10, "f", priority=-1))
    for request in (1, 2, 3):
        scheduler.add(make_sequence(request, 10, "d"))
    scheduler.add(make_sequence(4, 10, "p", priority=1))
    scheduler.add(make_sequence(5, 10, "p", priority=1))
    # Each costs 12: "p" may be ahead by 15, "f" lets others get ahead by 15.
    assert start_order(scheduler) == [4, 1, 5, 2, 0, 3]


def test_deadlines_order_a_tenants_own_requests_and_expired_ones_are_named() -> None:
    scheduler = make_scheduler(budget=4)
    scheduler.add(make_sequence(0, 4, "a"))
    scheduler.add(make_sequence(1, 4, "a", deadline_s=9.0))
    scheduler.add(make_sequence(2, 4, "a", deadline_s=5.0))
    assert list(run_step(scheduler)) == [2]
    assert scheduler.expired(4.9) == []
    assert [s.request for s in scheduler.expired(5.0)] == [2], "running ones too"
    assert [s.request for s in scheduler.expired(10.0)] == [2, 1]
    for sequence in scheduler.expired(10.0):
        scheduler.end(sequence)
    assert scheduler.expired(1e9) == []
    assert list(run_step(scheduler)) == [0]


# --- rows and blocks --------------------------------------------------------------------------


def fill_rows(scheduler: Scheduler, num_rows: int, tenant: str = "flood") -> None:
    for request in range(num_rows):
        scheduler.add(make_sequence(request, 3 + request, tenant))
    while len(scheduler.running) < num_rows or any(
        s.num_owed_tokens > 1 for s in scheduler.running
    ):
        run_step(scheduler)


def test_exhausted_rows_are_taken_from_the_flood_after_patience_least_computed_first() -> None:
    scheduler = make_scheduler(max_running=6, patience_steps=3)
    fill_rows(scheduler, 6)
    quiet = make_sequence(100, 3, "quiet")
    scheduler.add(quiet)
    steps = [run_step(scheduler) for _ in range(4)]
    assert [100 in step for step in steps] == [False, False, False, True]
    assert scheduler.num_preemptions == 1
    # Number 0 has fewer tokens, but it is the oldest and is spared.
    assert [s.request for s in scheduler.waiting] == [1]


def test_take_over_stops_at_equal_holdings_and_is_not_reversed() -> None:
    scheduler = make_scheduler(max_running=6, patience_steps=2)
    fill_rows(scheduler, 6)
    for request in range(100, 106):
        scheduler.add(make_sequence(request, 3, "late"))
    for _ in range(60):
        run_step(scheduler)
    assert scheduler.fairness.num_rows("late") == scheduler.fairness.num_rows("flood") == 3
    assert scheduler.num_preemptions == 3


def test_tenant_alone_preempts_nothing_for_its_own_queue() -> None:
    scheduler = make_scheduler(max_running=6, patience_steps=2)
    fill_rows(scheduler, 6)
    scheduler.add(make_sequence(100, 3, "flood"))
    for _ in range(20):
        run_step(scheduler)
    assert scheduler.num_preemptions == 0


def test_tenants_own_priority_request_takes_the_row_of_its_flex_request() -> None:
    scheduler = make_scheduler(max_running=3, patience_steps=2)
    for request in range(3):
        scheduler.add(make_sequence(request, 3, "a", priority=-1))
    run_step(scheduler)
    scheduler.add(make_sequence(3, 3, "a", priority=1))
    scheduler.add(make_sequence(4, 3, "a", priority=-1))
    for _ in range(12):
        run_step(scheduler)
    assert [s.request for s in scheduler.running] == [0, 1, 3]
    assert scheduler.num_preemptions == 1


def test_row_is_kept_for_a_tenant_that_was_here_lately() -> None:
    scheduler = make_scheduler(max_running=8, recent_steps=20)
    visit = make_sequence(0, 3, "quiet")
    scheduler.add(visit)
    run_step(scheduler)
    scheduler.end(visit)
    for request in range(1, 12):
        scheduler.add(make_sequence(request, 3, "flood"))
    run_step(scheduler)
    assert len(scheduler.running) == 7
    scheduler.add(make_sequence(12, 3, "quiet"))
    assert 12 in run_step(scheduler)
    scheduler.end(next(s for s in scheduler.running if s.request == 12))
    for _ in range(22):
        run_step(scheduler)
    assert len(scheduler.running) == 8, "it stayed away"
    assert scheduler.num_preemptions == 0


def test_exhausted_blocks_are_taken_from_the_flood() -> None:
    scheduler = make_scheduler(num_blocks=24, budget=64, patience_steps=3)
    for request in range(3):
        scheduler.add(make_sequence(request, 27, "flood"))
    for _ in range(3):
        run_step(scheduler)
    scheduler.add(make_sequence(3, 8, "quiet"))
    started = [3 in run_step(scheduler) for _ in range(6)]
    assert any(started[:5])
    assert {s.request for s in scheduler.running} == {0, 1, 3}


def test_lack_of_blocks_costs_the_over_served_tenant_even_if_the_other_is_younger() -> None:
    scheduler = make_scheduler(num_blocks=12, budget=64, margin_tokens=10, patience_steps=99)
    for request, tenant in enumerate(["a", "a", "a", "b"]):
        scheduler.add(make_sequence(request, 11, tenant))
    run_step(scheduler)
    scheduler.fairness.charge("a", 50)
    while not scheduler.num_preemptions:
        run_step(scheduler)
    assert [s.request for s in scheduler.running] == [0, 1, 3]


@pytest.mark.parametrize("has_had_more", [False, True])
def test_older_sequence_yields_only_to_a_tenant_that_has_had_less(has_had_more: bool) -> None:
    scheduler = make_scheduler(num_blocks=9, budget=64, margin_tokens=40, patience_steps=99)
    for request, (tenant, num_tokens) in enumerate([("a", 9), ("b", 9), ("a", 11)]):
        scheduler.add(make_sequence(request, num_tokens, tenant))
    run_step(scheduler)
    run_step(scheduler)
    scheduler.fairness.charge("b", 90 if has_had_more else 30)
    batch = run_step(scheduler)
    assert set(batch) == ({0, 2} if has_had_more else {0, 1})
    assert scheduler.num_preemptions == has_had_more


def test_oldest_sequence_is_started_after_its_patience_whatever_the_counters_say() -> None:
    scheduler = make_scheduler(max_running=2, elder_patience_steps=5, patience_steps=99)
    old = make_sequence(0, 4, "flex", priority=-1)
    scheduler.add(old)
    for request in (1, 2):
        scheduler.add(make_sequence(request, 4, "other", priority=1))
    batches = [run_step(scheduler) for _ in range(12)]
    assert [0 in batch for batch in batches] == [False] * 5 + [True] * 7


def test_admission_leaves_running_prompts_the_blocks_that_they_still_need() -> None:
    scheduler = make_scheduler(num_blocks=20, budget=16, locality_tokens=0)
    scheduler.add(make_sequence(0, 60, "a"))
    run_step(scheduler)
    scheduler.add(make_sequence(1, 30, "b"))
    for _ in range(8):
        run_step(scheduler)
    assert scheduler.num_preemptions == 0
    assert [s.request for s in scheduler.waiting] == [1], "15 blocks are spoken for"


@pytest.mark.parametrize("victim_is_prompt", [True, False])
def test_victim_leaves_the_step_and_its_budget_to_the_oldest_prompt(victim_is_prompt: bool) -> None:
    scheduler = make_scheduler(budget=16)
    scheduler.add(make_sequence(0, 80, "a"))
    scheduler.add(make_sequence(1, 80 if victim_is_prompt else 12, "b"))
    while (
        len(scheduler.running) < 2
        or (scheduler.running[1].num_owed_tokens == 1) == victim_is_prompt
    ):
        run_step(scheduler)
    victim = scheduler.running[1]
    pool = scheduler.kv_cache.pool
    while len(victim.block_table) * SIZE < victim.num_computed_tokens + 16:
        scheduler.kv_cache.try_grow(victim, 16)
    # Nothing else is left: as if others had grown.
    assert pool.try_allocate(pool.num_available, Origin("others", "x")) is not None
    batch = scheduler.schedule()
    assert [(item.sequence.request, item.num_tokens) for item in batch] == [(0, 16)]
    assert not victim.block_table


def test_preempted_sequence_gives_no_claim_to_the_time_before() -> None:
    """A tenant that got all it wanted, and then loses a sequence, starts level."""
    scheduler = make_scheduler()
    for request, tenant in enumerate("ab"):
        scheduler.add(make_sequence(request, 4, tenant))
    run_step(scheduler)
    scheduler.fairness.charge("a", 500)
    scheduler.rows.preempt(scheduler.running[1])
    assert scheduler.fairness.counter("b") == scheduler.fairness.counter("a")


def test_patience_of_the_oldest_begins_anew_when_it_is_preempted_again() -> None:
    scheduler = make_scheduler(max_running=2, elder_patience_steps=5, patience_steps=99)
    old = make_sequence(0, 4, "flex", priority=-1)
    scheduler.add(old)
    for _ in range(2):
        for request in (1, 2):
            scheduler.add(make_sequence(request, 4, "other", priority=1))
        batches = [0 in run_step(scheduler) for _ in range(6)]
        assert batches == [False] * 5 + [True]
        for sequence in [*scheduler.running, *scheduler.waiting]:
            if sequence is not old:
                scheduler.end(sequence)
        scheduler.rows.preempt(old)


@pytest.mark.parametrize("num_quiet", [1, 5])
def test_quiet_tenants_start_within_patience_when_a_flood_holds_all_rows(num_quiet: int) -> None:
    """The stated bound: patience, a step for the first token, one more for each other four."""
    random_ = random.Random(num_quiet)
    scheduler = make_scheduler(num_blocks=4000, budget=64, max_running=24, patience_steps=4)
    for request in range(40):
        scheduler.add(make_sequence(request, random_.randint(20, 60), "flood"))
    for _ in range(40):
        run_step(scheduler)
    assert not scheduler.rows.num_free_rows
    quiet = [make_sequence(1000 + i, 6, f"quiet-{i}") for i in range(num_quiet)]
    for sequence in quiet:
        scheduler.add(sequence)
    for _ in range(scheduler.fairness.policy.patience_steps + 1 + (num_quiet - 1) // 4):
        run_step(scheduler)
    assert all(sequence.num_output_tokens for sequence in quiet)

"""Lanes are in the order in which sequences are due, and nothing is counted twice."""

from __future__ import annotations

import random

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.waiting_queue import PATIENCE_S, WaitingQueue


def make_sequence(
    request: int,
    tenant: str = "a",
    choice: int = 0,
    num_tokens: int = 3,
    *,
    arrival_s: float = 0.0,
    priority: int = 0,
    deadline_s: float | None = None,
) -> Sequence:
    tokens = [1] * num_tokens
    return Sequence(
        request,
        choice,
        tenant,
        "salt",
        tokens,
        num_tokens,
        9,
        SamplingParams(),
        arrival_s,
        priority=priority,
        deadline_s=deadline_s,
    )


def lane(queue: WaitingQueue, tenant: str = "a") -> list[int]:
    return [sequence.request for sequence in queue.lane(tenant)]


def test_each_tenant_has_a_lane_in_the_order_of_arrival() -> None:
    queue = WaitingQueue()
    for request in range(6):
        queue.add(make_sequence(request, "ab"[request % 2]))
    assert (lane(queue, "a"), lane(queue, "b"), lane(queue, "c")) == ([0, 2, 4], [1, 3, 5], [])
    assert [sequence.request for sequence in queue] == [0, 1, 2, 3, 4, 5]
    assert set(queue.tenants) == {"a", "b"}


def test_priority_goes_before_default_flex_after_it_and_a_batch_behind_all() -> None:
    queue = WaitingQueue()
    for request, priority in enumerate([-1, 0, 1, 0, -2]):
        queue.add(make_sequence(request, priority=priority, arrival_s=float(request)))
    assert lane(queue) == [2, 1, 3, 0, 4]
    first, oldest = queue.first("a"), queue.oldest
    assert first is not None
    assert oldest is not None
    assert (first.request, oldest.request) == (2, 0)


@pytest.mark.parametrize("priority", [-1, 0])
def test_nothing_that_arrives_after_its_patience_passes_a_sequence(priority: int) -> None:
    queue = WaitingQueue()
    queue.add(make_sequence(0, priority=priority))
    queue.add(make_sequence(1, priority=1, arrival_s=PATIENCE_S[priority] - PATIENCE_S[1] - 1))
    queue.add(make_sequence(2, priority=1, arrival_s=PATIENCE_S[priority] + 1))
    assert lane(queue) == [1, 0, 2]


def test_earlier_deadline_goes_first_and_a_late_one_changes_nothing() -> None:
    queue = WaitingQueue()
    queue.add(make_sequence(0))
    queue.add(make_sequence(1, deadline_s=9.0))
    queue.add(make_sequence(2, deadline_s=5.0))
    queue.add(make_sequence(3, deadline_s=5000.0))
    assert lane(queue) == [2, 1, 0, 3]


def test_preempted_sequence_stands_where_its_age_puts_it() -> None:
    queue = WaitingQueue()
    sequences = [make_sequence(request, arrival_s=float(request)) for request in range(4)]
    for sequence in sequences:
        queue.add(sequence)
    assert queue.take(sequences[1]) is True
    queue.put_back(sequences[1])
    assert lane(queue) == [0, 1, 2, 3]
    assert queue.take(sequences[1]) is False


def test_preempted_sequences_do_not_count_against_the_queues_bounds() -> None:
    queue = WaitingQueue()
    queue.put_back(make_sequence(0, "a"))
    assert (len(queue), queue.num_new_requests, queue.num_new_tokens) == (1, 0, 0)


def test_taking_while_iterating_over_a_lane_visits_every_sequence_once() -> None:
    queue = WaitingQueue()
    for request in range(9):
        queue.add(make_sequence(request))
    seen = []
    for sequence in queue.lane("a"):
        seen.append(sequence.request)
        if sequence.request % 2:
            queue.take(sequence)
    assert seen == list(range(9))
    assert lane(queue) == [0, 2, 4, 6, 8]


def test_removing_what_does_not_wait_raises() -> None:
    queue = WaitingQueue()
    queue.add(make_sequence(0, "a"))
    with pytest.raises(ValueError, match="not in"):
        queue.remove(make_sequence(0, "a"))
    assert len(queue) == 1


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_the_contents_under_random_operations(seed: int) -> None:
    random_ = random.Random(seed)
    queue = WaitingQueue()
    new: list[Sequence] = []
    preempted: list[Sequence] = []
    for request in range(400):
        tenant, num_tokens = random_.choice("abc"), random_.randint(1, 9)
        for choice in range(random_.choice([0, 1, 1, 3])):
            new.append(make_sequence(request, tenant, choice, num_tokens))
            queue.add(new[-1])
        if new and random_.random() < 0.7:
            taken = new.pop(random_.randrange(len(new)))
            if random_.random() < 0.5:
                queue.remove(taken)
            else:
                assert queue.take(taken)
            if random_.random() < 0.3:
                queue.put_back(taken)
                preempted.append(taken)
        if preempted and random_.random() < 0.3:
            assert not queue.take(preempted.pop(random_.randrange(len(preempted))))
        assert set(queue) == {*new, *preempted}
        assert {s for name in queue.tenants for s in queue.lane(name)} == set(queue)
        assert [(s.request, s.choice) for s in queue] == sorted(
            (s.request, s.choice) for s in queue
        )
        assert len(queue) == len(new) + len(preempted)
        prompts = {sequence.request: sequence.num_prompt_tokens for sequence in new}
        assert (queue.num_new_requests, queue.num_new_tokens) == (
            len(prompts),
            sum(prompts.values()),
        )


def test_who_is_due_earlier_goes_ahead_and_is_counted_once_for_all_choices() -> None:
    queue = WaitingQueue()
    for request in range(3):
        for choice in range(2):
            queue.add(make_sequence(request, choice=choice, deadline_s=2.0 + request))
    queue.add(make_sequence(3, arrival_s=1.0))
    queue.add(make_sequence(4, "b", deadline_s=1.0))
    due = [queue.num_requests_due_by("a", until_s) for until_s in (1.0, 2.0, 3.5, 31.0)]
    assert due == [0, 1, 2, 4]
    assert queue.num_requests_due_by("nobody", 99.0) == 0

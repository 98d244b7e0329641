"""Tenants take turns, preempted sequences come first, and nothing is counted twice."""

from __future__ import annotations

import random

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.waiting_queue import WaitingQueue


def make_sequence(request: int, tenant: str, choice: int = 0, num_tokens: int = 3) -> Sequence:
    tokens = [1] * num_tokens
    return Sequence(request, choice, tenant, "salt", tokens, num_tokens, 9, SamplingParams(), 0.0)


def order(queue: WaitingQueue) -> list[int]:
    return [sequence.request for sequence in queue]


def test_tenants_alternate_whatever_they_have_queued() -> None:
    queue = WaitingQueue()
    for request in range(4):
        queue.add(make_sequence(request, "flood"))
    queue.add(make_sequence(4, "b"))
    queue.add(make_sequence(5, "c"))
    queue.add(make_sequence(6, "b"))
    assert order(queue) == [0, 4, 5, 1, 6, 2, 3]


def test_tenant_that_was_served_goes_to_the_end_of_the_turn() -> None:
    queue = WaitingQueue()
    first = make_sequence(0, "a")
    for sequence in (first, make_sequence(1, "a"), make_sequence(2, "b")):
        queue.add(sequence)
    assert queue.take(first) is True
    assert order(queue) == [2, 1]


def test_removal_by_abort_does_not_cost_the_tenants_turn() -> None:
    queue = WaitingQueue()
    first = make_sequence(0, "a")
    for sequence in (first, make_sequence(1, "a"), make_sequence(2, "b")):
        queue.add(sequence)
    queue.remove(first)
    assert order(queue) == [1, 2]


def test_preempted_sequences_come_first_oldest_first_and_cost_no_turn() -> None:
    queue = WaitingQueue()
    queue.add(make_sequence(7, "a"))
    queue.add(make_sequence(8, "b"))
    young, old = make_sequence(5, "a"), make_sequence(2, "a")
    queue.put_back(young)
    queue.put_back(old)
    assert order(queue) == [2, 5, 7, 8]
    assert queue.take(old) is False
    assert order(queue) == [5, 7, 8]


def test_preempted_sequences_do_not_count_against_the_queues_bounds() -> None:
    queue = WaitingQueue()
    queue.put_back(make_sequence(0, "a"))
    assert (len(queue), queue.num_new_requests, queue.num_new_tokens) == (1, 0, 0)


def test_taking_while_iterating_visits_every_sequence_once() -> None:
    queue = WaitingQueue()
    for request in range(9):
        queue.add(make_sequence(request, "abc"[request % 3]))
    seen = []
    for sequence in queue:
        seen.append(sequence.request)
        if sequence.request % 2:
            queue.take(sequence)
    assert sorted(seen) == list(range(9))
    assert sorted(order(queue)) == [0, 2, 4, 6, 8]


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
        assert len(queue) == len(new) + len(preempted)
        prompts = {sequence.request: sequence.num_prompt_tokens for sequence in new}
        assert (queue.num_new_requests, queue.num_new_tokens) == (
            len(prompts),
            sum(prompts.values()),
        )

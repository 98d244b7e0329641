"""Who loses, and who is spared."""

from __future__ import annotations

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.fairness import FairnessPolicy, FairShares
from anzoth.scheduler.kv_cache import KVCache
from anzoth.scheduler.preemption import (
    by_loss,
    freed_blocks,
    victims_of_growth,
    victims_of_take_over,
    with_more,
)
from anzoth.scheduler.sequence import Sequence

SIZE = 4
POLICY = FairnessPolicy(margin_tokens=10, priority_tokens=100)


def make_sequence(
    request: int, tenant: str, num_tokens: int = 8, num_computed: int = 0, priority: int = 0
) -> Sequence:
    tokens = [1000 * request + i for i in range(num_tokens)]
    return Sequence(
        request,
        0,
        tenant,
        tenant,
        tokens,
        num_tokens,
        9,
        SamplingParams(),
        0.0,
        num_computed,
        priority=priority,
    )


def make_shares(
    running: list[Sequence], counters: dict[str, float], waiting: Sequence | None = None
) -> FairShares:
    fairness = FairShares(POLICY)
    for sequence in [*running, *([waiting] if waiting else [])]:
        fairness.arrive(sequence.tenant)
    for sequence in running:
        fairness.take_row(sequence.tenant)
    for tenant, counter in counters.items():
        fairness.charge(tenant, counter)
    return fairness


def numbers(sequences: list[Sequence] | None) -> list[int]:
    assert sequences is not None
    return [sequence.request for sequence in sequences]


def test_most_served_tenant_loses_first_and_then_its_least_computed_then_its_youngest() -> None:
    running = [
        make_sequence(0, "a", num_computed=5),
        make_sequence(1, "b", num_computed=1),
        make_sequence(2, "a", num_computed=3),
        make_sequence(3, "a", num_computed=3),
    ]
    fairness = make_shares(running, {"a": 50, "b": 10})
    assert numbers(by_loss(running, fairness)) == [3, 2, 0, 1]


def test_flex_sequence_loses_before_those_of_tenants_that_had_a_little_more() -> None:
    running = [make_sequence(0, "a"), make_sequence(1, "b", priority=-1)]
    fairness = make_shares(running, {"a": 90})
    assert numbers(by_loss(running, fairness)) == [1, 0]


def test_oldest_running_sequence_is_spared_even_if_its_tenant_has_had_most() -> None:
    running = [make_sequence(0, "a"), make_sequence(1, "a"), make_sequence(2, "b")]
    fairness = make_shares(running, {"a": 50})
    assert numbers(victims_of_growth(running[2], running, fairness)) == [1]
    newcomer = make_sequence(3, "c")
    fairness.arrive("c")
    fairness.charge("a", 500)
    assert 0 not in numbers(with_more(newcomer, running, fairness, needs_row=False))


def test_everybody_yields_to_the_oldest() -> None:
    running = [make_sequence(0, "a"), make_sequence(1, "b", priority=1), make_sequence(2, "a")]
    fairness = make_shares(running, {"a": 500})
    assert sorted(numbers(victims_of_growth(running[0], running, fairness))) == [1, 2]


@pytest.mark.parametrize(("counter_b", "expected"), [(0, [2]), (9, [2]), (11, [1]), (-11, [])])
def test_age_decides_within_the_margin_and_service_beyond_it(
    counter_b: float, expected: list[int]
) -> None:
    """Number 1 is older than number 2, which is of another tenant; each would like to grow."""
    running = [make_sequence(0, "c"), make_sequence(1, "b"), make_sequence(2, "a")]
    fairness = make_shares(running, {"a": 20, "b": 20 + counter_b, "c": 20})
    grower = running[1] if expected == [2] else running[2]
    assert numbers(victims_of_growth(grower, running, fairness)) == expected


def test_lower_priority_of_the_same_tenant_yields_whatever_its_age() -> None:
    running = [
        make_sequence(0, "a"),
        make_sequence(1, "a", priority=-1),
        make_sequence(2, "a"),
    ]
    fairness = make_shares(running, {})
    assert numbers(victims_of_growth(running[2], running, fairness)) == [1]
    assert numbers(victims_of_growth(running[1], running, fairness)) == []


def take_over(
    waiting: Sequence,
    running: list[Sequence],
    counters: dict[str, float],
    rows: int,
    blocks: int,
) -> list[int] | None:
    cache = KVCache(64, SIZE)
    for sequence in running:
        assert cache.try_admit(sequence, cache.match(sequence))
        assert cache.try_grow(sequence, len(sequence.token_ids))
    fairness = make_shares(running, counters, waiting)
    candidates = with_more(waiting, running, fairness, needs_row=rows > 0)
    victims = victims_of_take_over(waiting, candidates, rows, blocks, running, fairness, cache)
    return None if victims is None else numbers(victims)


def test_row_is_taken_only_from_who_has_had_more_and_keeps_as_many() -> None:
    running = [make_sequence(i, "a") for i in range(3)]
    waiting = make_sequence(9, "b")
    assert take_over(waiting, running, {"a": 5}, 1, 0) == [2]
    assert take_over(waiting, [running[0]], {"a": 5}, 1, 0) is None, "its last one"
    both = [*[make_sequence(i, "a") for i in range(2)], make_sequence(2, "b")]
    assert take_over(make_sequence(9, "b"), both, {"a": 5}, 1, 0) is None, "two against two"
    running = [make_sequence(i, "a") for i in range(3)]
    assert take_over(make_sequence(9, "b"), running, {"b": 5}, 1, 0) is None, "it has had more"


def test_blocks_are_taken_only_as_far_as_the_other_keeps_as_many() -> None:
    def running() -> list[Sequence]:
        return [make_sequence(i, "a", 4 * SIZE) for i in range(4)]

    # "a" holds 16 blocks. A newcomer with 7 tokens comes to hold 2, one with 31 holds 8.
    assert take_over(make_sequence(9, "b", 7), running(), {"a": 5}, 0, 2) == [3]
    assert take_over(make_sequence(9, "b", 31), running(), {"a": 5}, 0, 8) == [3, 2]
    assert take_over(make_sequence(9, "b", 31), running(), {"a": 5}, 0, 9) is None
    assert take_over(make_sequence(9, "b", 35), running(), {"a": 5}, 0, 8) is None


def test_shared_blocks_are_not_counted_as_freed() -> None:
    cache = KVCache(64, SIZE)
    first, second = make_sequence(1, "a", 9), make_sequence(1, "a", 9)
    assert cache.try_admit(first, cache.match(first))
    assert cache.try_grow(first, 9)
    first.num_computed_tokens = 9
    cache.commit(first)
    assert cache.try_admit(second, cache.match(second))
    assert cache.try_grow(second, 1)
    assert freed_blocks([second], cache) == {"a": 1}

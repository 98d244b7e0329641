"""Counters: nobody hoards, nobody pays for the past, and turns even out what was had."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.scheduler.fairness import FairnessPolicy, FairShares, Round

POLICY = FairnessPolicy(patience_steps=2, recent_steps=10)


def make_shares(*tenants: str, policy: FairnessPolicy = POLICY) -> FairShares:
    fairness = FairShares(policy)
    for tenant in tenants:
        fairness.arrive(tenant)
    return fairness


def pass_steps(fairness: FairShares, num_steps: int, backlogged: set[str]) -> None:
    for _ in range(num_steps):
        fairness.begin_step()
        fairness.end_step(backlogged, ())


def test_service_counts_the_less_the_larger_the_share() -> None:
    fairness = make_shares("small", "large", policy=FairnessPolicy(shares={"large": 4.0}))
    fairness.charge("small", 100)
    fairness.charge("large", 100)
    assert (fairness.counter("small"), fairness.counter("large")) == (100, 25)


def test_returning_tenant_is_lifted_to_the_lowest_backlogged_one() -> None:
    fairness = make_shares("away", "busy", "busier")
    fairness.leave("away")
    fairness.charge("busy", 500)
    fairness.charge("busier", 900)
    fairness.arrive("away")
    assert fairness.counter("away") == 500


def test_tenant_that_got_all_it_wanted_earns_no_credit_for_wanting_little() -> None:
    fairness = make_shares("modest", "greedy")
    pass_steps(fairness, 1, {"greedy"})
    fairness.charge("greedy", 500)
    fairness.arrive("modest")
    assert fairness.counter("modest") == 500


def test_backlogged_tenant_keeps_its_claim_when_it_sends_more() -> None:
    fairness = make_shares("waiting", "greedy")
    fairness.charge("greedy", 500)
    fairness.arrive("waiting")
    assert fairness.counter("waiting") == 0


def test_service_without_contention_is_not_held_against_anyone() -> None:
    """Alone for long, then a newcomer: both start level."""
    fairness = make_shares("alone")
    pass_steps(fairness, 1, set())
    fairness.charge("alone", 1_000_000)
    fairness.arrive("newcomer")
    assert fairness.counter("newcomer") == fairness.counter("alone")


def test_being_away_is_no_way_out_of_what_was_had() -> None:
    fairness = make_shares("a", "b")
    fairness.charge("a", 500)
    fairness.leave("a")
    pass_steps(fairness, POLICY.recent_steps, {"b"})
    fairness.arrive("a")
    assert (fairness.counter("a"), fairness.counter("b")) == (500, 0)


def test_tenants_that_stay_away_are_forgotten() -> None:
    fairness = make_shares()
    for number in range(100):
        fairness.arrive(str(number))
        fairness.leave(str(number))
        pass_steps(fairness, 1, set())
        assert len(fairness) <= POLICY.recent_steps + 2
        assert fairness.find_problem({}, {}) is None
    pass_steps(fairness, POLICY.recent_steps + 1, set())
    assert len(fairness) == 0


def test_priority_moves_a_tenant_by_a_bounded_amount() -> None:
    fairness = make_shares("a", policy=FairnessPolicy(priority_tokens=50))
    fairness.charge("a", 1000)
    assert [fairness.level("a", priority) for priority in (-2, -1, 0, 1)] == [1100, 1050, 1000, 950]


def test_sparse_tenant_goes_first_only_as_long_as_it_is_sparse() -> None:
    fairness = make_shares("a", policy=FairnessPolicy(sparse_tokens=70, patience_steps=2))
    levels = []
    for _ in range(4):
        pass_steps(fairness, 1, {"a"})
        levels.append(fairness.turn_level("a", 0))
    assert levels == [-70, -70, -70, 0]


def test_contention_takes_two_tenants_of_which_one_is_sparse() -> None:
    fairness = make_shares("heavy")
    assert not fairness.is_contended, "nobody else is here"
    pass_steps(fairness, 4, {"heavy"})
    assert not fairness.is_contended
    fairness.arrive("light")
    assert fairness.is_contended
    pass_steps(fairness, 4, {"heavy", "light"})
    assert not fairness.is_contended, "two that are always backlogged need no short steps"
    pass_steps(fairness, 2, {"heavy"})
    fairness.leave("light")
    assert fairness.is_contended, "it may come back"
    pass_steps(fairness, POLICY.recent_steps + 1, {"heavy"})
    assert not fairness.is_contended


def test_refused_tenants_are_overdue_after_patience_lowest_first() -> None:
    fairness = make_shares("a", "b")
    fairness.charge("a", 10)
    fairness.begin_step()
    fairness.refuse(("a", "b"))
    pass_steps(fairness, 1, {"a", "b"})
    assert fairness.overdue() == []
    fairness.begin_step()
    assert fairness.overdue() == ["b", "a"]
    fairness.take_row("b")
    assert fairness.overdue() == ["a"]
    fairness.end_step({"b"}, ())
    assert fairness.overdue() == [], "a has nothing that waits any more"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"a": 20}, 0),
        ({"a": 20, "b": 0}, 1),
        ({"a": 20, "b": 19, "c": 21}, 1),
        ({"a": 20, "b": 20}, 0),
        ({"a": 20, **dict.fromkeys("bcdefghijkl", 0)}, 4),
        ({"a": 0, "b": 0}, 0),
    ],
)
def test_a_row_is_kept_for_each_tenant_that_has_fewer(rows: dict[str, int], expected: int) -> None:
    fairness = make_shares(*rows)
    for tenant, num_rows in rows.items():
        for _ in range(num_rows):
            fairness.take_row(tenant)
    assert fairness.num_kept_rows("a", 32) == expected
    assert fairness.num_kept_rows("a", 7) == 0


def test_miscounts_are_found() -> None:
    fairness = make_shares("a")
    assert fairness.find_problem({"a": 1}, {}) is None
    assert "miscounted" in (fairness.find_problem({"a": 2}, {}) or "")
    assert "miscounted" in (fairness.find_problem({"a": 1}, {"a": 1}) or "")
    assert "forgotten" in (fairness.find_problem({"a": 1, "b": 1}, {}) or "")


def hand_out(
    levels: dict[str, float], demands: dict[str, int], shares: dict[str, float], budget: int
) -> dict[str, int]:
    """One step's turns, as the scheduler takes them."""
    turns = Round(1.0, turn_tokens=8)
    given = dict.fromkeys(levels, 0)
    for name, level in levels.items():
        turns.join(name, level, 0, 0, shares[name])
    while budget and (turn := turns.next(budget)):
        name, num_tokens = turn
        assert 0 < num_tokens <= budget
        num_tokens = min(num_tokens, demands[name] - given[name])
        if num_tokens:
            given[name] += num_tokens
            budget -= num_tokens
            turns.join(name, levels[name] + given[name] / shares[name], 0, 0, shares[name])
    return given


@given(
    tenants=st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 300), st.sampled_from([0.5, 1.0, 3.0])),
        min_size=1,
        max_size=6,
    ),
    budget=st.integers(1, 500),
)
def test_turns_use_the_budget_up_and_lift_the_lowest_first(
    tenants: list[tuple[int, int, float]], budget: int
) -> None:
    levels = {str(i): float(level) for i, (level, _, _) in enumerate(tenants)}
    demands = {str(i): demand for i, (_, demand, _) in enumerate(tenants)}
    shares = {str(i): share for i, (_, _, share) in enumerate(tenants)}
    given = hand_out(levels, demands, shares, budget)
    assert sum(given.values()) == min(budget, sum(demands.values()))
    after = {name: levels[name] + given[name] / shares[name] for name in levels}
    for name, num_tokens in given.items():
        for other in levels:
            if num_tokens and given[other] < demands[other]:
                # Whoever wants more is at most one turn (and a rounded token) below who got some.
                assert after[name] - after[other] <= (8 + 1) / shares[name] + 1e-6


@given(demands=st.lists(st.integers(1, 400), min_size=2, max_size=5), budget=st.integers(8, 200))
def test_backlogged_tenants_stay_within_one_turn_of_each_other(
    demands: list[int], budget: int
) -> None:
    names = [str(i) for i in range(len(demands))]
    fairness = make_shares(*names)
    left = dict(zip(names, demands, strict=True))
    while len(left) > 1:
        fairness.begin_step()
        levels = {name: fairness.counter(name) for name in left}
        for name, num_tokens in hand_out(levels, left, dict.fromkeys(left, 1.0), budget).items():
            fairness.charge(name, num_tokens)
            left[name] -= num_tokens
        counters = [fairness.counter(name) for name in left if left[name]]
        assert not counters or max(counters) - min(counters) <= 8 + 1
        left = {name: num_tokens for name, num_tokens in left.items() if num_tokens}
        fairness.end_step(left, ())

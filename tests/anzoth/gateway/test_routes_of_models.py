"""Who is tried first: by weight, always the same for the same request, and little moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from principals import make_principal

from anzoth.gateway.aliases import Target
from anzoth.gateway.routes_of_models import beginning_of_chat, in_order, prefix_key

TARGETS = (Target("a", weight=6), Target("b", weight=3), Target("c", "far", weight=1))
KEYS = [f"req_{number}".encode() for number in range(4000)]
TENANT = make_principal().tenant


def test_each_target_comes_first_as_often_as_its_weight_says() -> None:
    first = Counter(in_order(TARGETS, key)[0].model for key in KEYS)
    assert [round(first[name] / 400) for name in "abc"] == [6, 3, 1]


def test_the_same_key_gives_the_same_order_of_all_targets_however_they_are_listed() -> None:
    for key in KEYS[:100]:
        order = in_order(TARGETS, key)
        assert order == in_order(reversed(TARGETS), key)
        assert set(order) == set(TARGETS)


def test_targets_without_a_weight_follow_in_the_order_in_which_they_are_listed() -> None:
    spare = (Target("x", weight=0), Target("y", weight=0))
    for key in KEYS[:100]:
        assert in_order((spare[0], *TARGETS, spare[1]), key)[3:] == list(spare)


def test_only_the_requests_of_a_target_that_goes_move() -> None:
    for key in KEYS[:500]:
        before = in_order(TARGETS, key)
        assert in_order(TARGETS[:2], key) == [t for t in before if t.backend is None]


def test_prefixes_of_two_tenants_have_different_keys() -> None:
    other = replace(TENANT, cache_salt="other")
    assert prefix_key(TENANT, "hello") == prefix_key(TENANT, "hello")
    assert prefix_key(TENANT, "hello") != prefix_key(other, "hello")
    assert prefix_key(TENANT, "x" * 2048 + "a") == prefix_key(TENANT, "x" * 2048 + "b")


def test_a_conversation_keeps_its_beginning_while_it_grows() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "and now?"},
    ]
    assert beginning_of_chat(turns[:2], None) == beginning_of_chat(turns, None)
    assert beginning_of_chat(turns[:2], None) != beginning_of_chat(turns[1:], None)
    assert beginning_of_chat(turns, "mine") == "mine"

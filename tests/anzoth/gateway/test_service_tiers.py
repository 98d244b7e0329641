"""A tier is what the key grants; whatever is served has a place in the engine's order."""

from __future__ import annotations

from dataclasses import replace

from api_stand_ins import PRINCIPAL

from anzoth.gateway.directory import DEFAULT_SCOPES
from anzoth.gateway.scopes import PRIORITY_SCOPE, SCOPES
from anzoth.gateway.service_tiers import ENGINE_PRIORITIES, engine_priority, served_tier


def test_an_ordinary_key_cannot_go_ahead_of_others() -> None:
    ordinary = replace(PRINCIPAL, scopes=frozenset(DEFAULT_SCOPES))
    assert served_tier("priority", ordinary) == "default"
    granted = replace(PRINCIPAL, scopes=frozenset({PRIORITY_SCOPE}))
    assert served_tier("priority", granted) == "priority"
    assert PRIORITY_SCOPE in SCOPES


def test_every_tier_that_is_served_has_a_priority() -> None:
    for asked in (None, "auto", "default", "flex", "scale", "priority", "fast"):
        assert served_tier(asked, PRINCIPAL) in ENGINE_PRIORITIES


def test_what_a_batch_asks_for_is_below_every_tier_whatever_it_says() -> None:
    for asked in (None, "flex", "priority"):
        tier = served_tier(asked, PRINCIPAL, is_of_batch=True)
        assert tier == "default"
        assert engine_priority(tier, is_of_batch=True) < min(ENGINE_PRIORITIES.values())
        assert engine_priority(tier, is_of_batch=False) == ENGINE_PRIORITIES[tier]

"""Is what other gateways tell of a count added once?"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from principals import make_principal

from anzoth.gateway.limits import Limiter
from anzoth.gateway.share_table import Counted
from anzoth.gateway.shared_counts import SharedCounts

WHO = make_principal(tokens_per_day=1000)
RULE = WHO.limits[0]
DAY_NS = 24 * 3600 * 10**9
TODAY = 20_000 * DAY_NS
ME, OTHER = UUID(int=1), UUID(int=2)
TOLD = Counted((RULE.subject, RULE.model), "tokens_per_day", OTHER, 7, TODAY, 100)


def used(limiter: Limiter) -> int:
    return limiter.meters([RULE])[0].counts["tokens_per_day"].used


@pytest.fixture
def limiter() -> Limiter:
    made = Limiter(lambda: 0, lambda: TODAY)
    made.reserve(WHO, "m", 1, 0)
    made.shares.num_gateways = 2
    return made


@pytest.fixture
def counts(limiter: Limiter) -> SharedCounts:
    made = SharedCounts(limiter.shares, ME)
    made.told([], 5)
    return made


def test_what_is_told_again_is_not_added_again(limiter: Limiter, counts: SharedCounts) -> None:
    for total in (100, 100, 130, 120):
        counts.heard([replace(TOLD, used=total)])
        assert used(limiter) == 1 + total


def test_what_an_older_gateway_had_counted_before_is_in_the_ledger(
    limiter: Limiter, counts: SharedCounts
) -> None:
    counts.heard([replace(TOLD, began=3)])
    assert used(limiter) == 1
    counts.heard([replace(TOLD, began=3, used=150)])
    assert used(limiter) == 51


def test_a_gateway_that_begins_again_counts_from_nothing(
    limiter: Limiter, counts: SharedCounts
) -> None:
    counts.heard([TOLD])
    counts.heard([replace(TOLD, began=9, used=30)])
    assert used(limiter) == 131


def test_another_day_is_another_count(limiter: Limiter, counts: SharedCounts) -> None:
    counts.heard([replace(TOLD, begin_ns=TODAY - DAY_NS)])
    assert used(limiter) == 1
    counts.heard([replace(TOLD, used=20)])
    assert used(limiter) == 21


def test_only_its_own_is_told_and_only_what_changed(limiter: Limiter, counts: SharedCounts) -> None:
    counts.heard([TOLD])
    (told,) = counts.to_tell()
    assert (told.gateway, told.used) == (ME, 1)
    counts.told([told], 5)
    assert counts.to_tell() == []
    limiter.shares.num_gateways = 1
    limiter.reserve(WHO, "m", 1, 0)
    assert counts.to_tell() == []

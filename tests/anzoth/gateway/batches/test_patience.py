"""A batch waits for what passes, as long as it was told to, and for nothing else."""

from __future__ import annotations

import pytest

from anzoth import errors
from anzoth.errors import AnzothError, CapacityUnavailable, ModelUnavailable, RateLimited
from anzoth.gateway.batches.patience import FIRST_PAUSE_S, MAX_PAUSE_S, can_wait, pause_s
from anzoth.gateway.limit_errors import ConcurrencyReached, QuotaReached

CONCURRENCY = ConcurrencyReached("m", "r", None, [])
TOMORROW = QuotaReached("m", "r", 3_600_000, [])
NEVER = QuotaReached("m", "r", None, [])


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (RateLimited(retry_after_ms=5), True),
        (RateLimited(), False),
        (CONCURRENCY, True),
        (TOMORROW, True),
        (NEVER, False),
        (ModelUnavailable(), True),
        (ModelUnavailable(rule="backend.misconfigured"), False),
        (CapacityUnavailable(), True),
        (errors.DatabaseUnavailable(), True),
        (errors.LedgerUnavailable(), True),
        (errors.RetrieverUnavailable(), True),
        (errors.InvalidValue("m"), False),
        (errors.ModelNotFound("m"), False),
        (errors.ModelNotAllowed("m"), False),
        (errors.KeyRevoked(), False),
        (errors.StorageFull(), False),
        (AnzothError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_passes_by_itself_is_waited_for(error: AnzothError, waits: bool) -> None:
    assert can_wait(error) is waits


def test_a_limit_says_when_and_what_nobody_knows_takes_longer_each_time() -> None:
    assert pause_s(RateLimited(retry_after_ms=40), 9) == 0.04
    assert pause_s(TOMORROW, 1) == MAX_PAUSE_S
    pauses = [pause_s(ModelUnavailable(), number) for number in range(1, 200)]
    assert pauses[0] == FIRST_PAUSE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_S
    assert pause_s(CapacityUnavailable(retry_after_ms=7_000), 1) == 7.0


def test_what_failed_after_a_tool_was_called_is_not_made_again() -> None:
    error = ModelUnavailable()
    error.is_final = True
    assert not can_wait(error)

"""Which refusals does a request of a batch wait out?

Those that pass by themselves: a limit of its key, an engine that is full, starting or lost, a
database that is away. What will be the same in an hour (a wrong field, a missing grant, a request
that no limit will ever admit) is its answer.

Does not know: requests, or how long is left for them.
"""

from __future__ import annotations

from anzoth.errors import AnzothError, CapacityUnavailable, ModelUnavailable, RateLimited
from anzoth.gateway.limit_errors import ConcurrencyReached

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
"""Nobody is waiting for the answer, but a limit may be raised, and an engine come back."""
MAX_LOST = 3
"""How often a request may be lost with the engine that computes it: it may be what ends the
engine, and would do so until its batch expires."""


def can_wait(error: AnzothError) -> bool:
    if error.is_final:
        return False  # a tool was called, and would be again
    match error:
        case ConcurrencyReached():
            return True
        case RateLimited():
            return error.retry_after_ms is not None
        case ModelUnavailable():
            return error.rule != "backend.misconfigured"
        case CapacityUnavailable():
            return True
    return False


def pause_s(error: AnzothError, num_refusals: int) -> float:
    """Before the request is made again, which was refused `num_refusals` times in a row."""
    told_ms = getattr(error, "retry_after_ms", None)
    if isinstance(error, RateLimited) and told_ms is not None:
        return min(told_ms / 1000, MAX_PAUSE_S)  # exact: it is admitted then
    grown_s = FIRST_PAUSE_S * 2.0 ** min(num_refusals - 1, 10)
    return min(max(grown_s, (told_ms or 0) / 1000), MAX_PAUSE_S)

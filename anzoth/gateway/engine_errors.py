"""Which error does a client get for what the engine refused, or gave up?

Does not know: how either reached this side, or how an error is written.
"""

from __future__ import annotations

from anzoth.errors import (
    AnzothError,
    CapacityUnavailable,
    ContextLengthExceeded,
    DeadlineExceeded,
    ModelUnavailable,
    UnusableGrammar,
)
from anzoth.frames import Refused, Row


def error_of_refusal(refused: Refused) -> AnzothError:
    match refused.code:
        case "capacity" | "late":
            # How full the queue is concerns nobody; that a deadline cannot be kept does.
            message = refused.message if refused.code == "late" else None
            if refused.retry_after_ms is None:
                return CapacityUnavailable(message)
            return CapacityUnavailable(message, retry_after_ms=refused.retry_after_ms)
        case "too_long":
            return ContextLengthExceeded(refused.message or None)
        case "invalid":
            return UnusableGrammar(refused.message or None)


def error_of_ending(row: Row, grammar_param: str | None) -> AnzothError | None:
    """None: the choice goes on, or ended well. `grammar_param`: the field that the output's form
    came from."""
    match row.finish:
        case "deadline":
            return DeadlineExceeded()
        case "error" if row.message is not None:
            return UnusableGrammar(row.message, param=grammar_param)
        case "error" | "abort":
            return ModelUnavailable("The model backend ended this request. Retry it.")
    return None

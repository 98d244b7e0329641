"""For how long does a client wait for its answer?

    x-request-timeout-ms: 2500      (an extension; a whole number of milliseconds, up to a day)

The time counts from the complete head of the request. Whoever sends it gets an answer within that
time or none at all: what cannot start in time is refused at once with a 503 and a Retry-After; what
is not complete in time is stopped, its memory is free at once, and the answer is a 504, or an error
frame where a stream had begun. The official SDKs retry the 503, which cost nothing; of the 504 they
are told that a retry will not help, because the caller has stopped waiting.

Does not know: queues, or who watches the clock.
"""

from __future__ import annotations

import math
import time

from anzoth.errors import DeadlineExceeded, InvalidValue
from anzoth.frames import MAX_TIMEOUT_MS
from anzoth.http.messages import Request

HEADER = "x-request-timeout-ms"


def deadline_s(request: Request) -> float | None:
    """On the clock of `request.received_at_s`. None: the client waits. Raises InvalidValue."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    digits = text.strip()
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_TIMEOUT_MS))
    if not is_number or not 1 <= int(digits) <= MAX_TIMEOUT_MS:
        raise InvalidValue(
            f"Invalid value for the header '{HEADER}': expected a whole number of milliseconds "
            f"from 1 to {MAX_TIMEOUT_MS}.",
            param=HEADER,
        )
    return request.received_at_s + int(digits) / 1000


def left_ms(request: Request) -> int | None:
    """What is left of it, at least a millisecond. None: the client waits.

    Raises InvalidValue, and DeadlineExceeded when nothing is left.
    """
    until_s = deadline_s(request)
    if until_s is None:
        return None
    left = math.ceil((until_s - time.monotonic()) * 1000)
    if left <= 0:
        raise DeadlineExceeded()
    return left

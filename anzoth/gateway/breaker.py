"""Should a target that has been failing be asked again, now?

    closed ──failures──▶ open ──pause over──▶ half open ──one probe succeeds──▶ closed
                          ▲                       │
                          └──── it fails: the pause doubles

Open after several failures in a row, or when at least half of the latest attempts failed. While
half open, one request at a time may try; all others are told no at once instead of waiting for a
peer that does not answer.

Does not know: what is asked, or what a failure is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "half_open", "open"]

MAX_FAILURES_IN_A_ROW = 5
WINDOW = 20
"""Attempts that the rate is taken of; it says nothing before the window is half full."""
MAX_FAILURE_RATE = 0.5
MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0


class Breaker:
    """One target's. Every attempt begins with `try_begin` and ends with exactly one of the others.

    All calls are synchronous; a decision is never interrupted.
    """

    __slots__ = ("_clock", "_in_a_row", "_num_pauses", "_open_until_s", "_probing", "_recent")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._num_pauses = 0
        """Since it was last closed."""
        self._open_until_s: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        if self._open_until_s is None:
            return "closed"
        return "open" if self._clock() < self._open_until_s else "half_open"

    @property
    def would_admit(self) -> bool:
        state = self.state
        return state == "closed" or (state == "half_open" and not self._probing)

    def wait_s(self) -> float:
        """Until it is worth asking again."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - self._clock())

    def try_begin(self) -> bool:
        """Whether an attempt may begin now; the first one while half open is the probe."""
        if not self.would_admit:
            return False
        self._probing = self._open_until_s is not None
        return True

    def succeeded(self) -> None:
        if self._open_until_s is not None and not self._probing:
            return  # it began before the others failed: old news
        self._open_until_s = None
        self._probing = False
        self._num_pauses = 0
        self._in_a_row = 0
        self._recent.append(True)

    def failed(self) -> None:
        if self._open_until_s is not None:
            if self._probing:
                self._open()
            return
        self._in_a_row += 1
        self._recent.append(False)
        num_failed = self._recent.count(False)
        is_rate_bad = 2 * len(self._recent) >= WINDOW and num_failed >= MAX_FAILURE_RATE * len(
            self._recent
        )
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW or is_rate_bad:
            self._open()

    def abandoned(self) -> None:
        """Nothing was learned: whoever asked went away."""
        self._probing = False

    def _open(self) -> None:
        pause_s = min(MAX_PAUSE_S, MIN_PAUSE_S * 2**self._num_pauses)
        self._num_pauses = min(self._num_pauses + 1, 16)
        self._open_until_s = self._clock() + pause_s
        self._probing = False
        self._in_a_row = 0
        self._recent.clear()

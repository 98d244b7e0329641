"""Should a target that has been failing be asked again, now?

    closed ──failures──▶ open ──pause over──▶ half open ──one probe succeeds──▶ closed
                          ▲                       │
                          └──── it fails: the pause doubles

Open after several failures in a row, or when at least half of the latest attempts failed. While
half open, exactly one request at a time may try; all others are told no at once instead of waiting
for a peer that does not answer. Attempts that began before it opened may end at any time and say
nothing about now.

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


class Permit:
    """To make one attempt; its outcome is told with it."""

    __slots__ = ("period",)

    def __init__(self, period: int) -> None:
        self.period = period
        """Since which change of the breaker's state it counts."""


class Breaker:
    """One target's. Every attempt begins with `try_begin` and ends with exactly one of the others;
    one that succeeded may still fail later.

    All calls are synchronous; a decision is never interrupted.
    """

    __slots__ = (
        *("_clock", "_in_a_row", "_num_pauses", "_open_until_s", "_period", "_probe", "_recent"),
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._num_pauses = 0
        """Since it was last closed."""
        self._open_until_s: float | None = None
        self._period = 0
        """Grows whenever it opens or closes."""
        self._probe: Permit | None = None

    @property
    def state(self) -> State:
        if self._open_until_s is None:
            return "closed"
        return "open" if self._clock() < self._open_until_s else "half_open"

    @property
    def would_admit(self) -> bool:
        state = self.state
        return state == "closed" or (state == "half_open" and self._probe is None)

    def wait_s(self) -> float:
        """Until it is worth asking again."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - self._clock())

    def try_begin(self) -> Permit | None:
        """None: no attempt may begin now. The first one while half open is the probe."""
        if not self.would_admit:
            return None
        permit = Permit(self._period)
        if self._open_until_s is not None:
            self._probe = permit
        return permit

    def succeeded(self, permit: Permit) -> None:
        if permit is self._probe:
            self._close()
            permit.period = self._period
        if permit.period == self._period and self._open_until_s is None:
            self._in_a_row = 0
            self._recent.append(True)

    def failed(self, permit: Permit) -> None:
        if permit is self._probe:
            self._open()
        if permit.period != self._period or self._open_until_s is not None:
            return
        self._in_a_row += 1
        self._recent.append(False)
        num_failed = self._recent.count(False)
        is_rate_bad = 2 * len(self._recent) >= WINDOW and num_failed >= MAX_FAILURE_RATE * len(
            self._recent
        )
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW or is_rate_bad:
            self._open()

    def abandoned(self, permit: Permit) -> None:
        """Nothing was learned: whoever asked went away."""
        if permit is self._probe:
            self._probe = None

    def _close(self) -> None:
        self._period += 1
        self._open_until_s = None
        self._probe = None
        self._num_pauses = 0

    def _open(self) -> None:
        pause_s = min(MAX_PAUSE_S, MIN_PAUSE_S * 2**self._num_pauses)
        self._num_pauses = min(self._num_pauses + 1, 16)
        self._period += 1
        self._open_until_s = self._clock() + pause_s
        self._probe = None
        self._in_a_row = 0
        self._recent.clear()

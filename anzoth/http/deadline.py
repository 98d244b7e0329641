"""How does a connection keep many deadlines with hardly any timers?

A busy keep-alive connection sets and clears a deadline several times per request; to arm and cancel
a real timer costs 0.8 µs each time. So the timer is only ever moved to an *earlier* time. When it
fires and finds its deadline moved or gone, it looks again: one timer event in 75 seconds instead of
thousands.

Does not know: what happens when time is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_RESOLUTION_S = 0.001
"""uvloop counts milliseconds: a timer may fire this much before its time."""


class Deadline:
    """At most one point in time at which `on_expired` is called. It is set on the loop's clock."""

    __slots__ = ("_at_s", "_loop", "_on_expired", "_timer", "_timer_at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def set(self, at_s: float) -> None:
        """Replaces the deadline."""
        self._at_s = at_s
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._on_timer)

    def clear(self) -> None:
        self._at_s = None

    def close(self) -> None:
        """Clears it and frees the timer."""
        self._at_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._at_s is None:
            return
        if self._at_s > self._loop.time() + _RESOLUTION_S:
            self.set(self._at_s)
            return
        self._at_s = None
        self._on_expired()

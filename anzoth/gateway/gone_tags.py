"""Does a prompt hold text of a document that an engine was told to forget a moment ago?

Passages are found first and sent to an engine a moment later. A document may go in between, and the
engine forget it before it gets them.

Does not know: documents, or what is done about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

REMEMBERED_S = 600.0
"""For longer nobody holds what he has found: an answer begins before that, or not at all."""


class GoneTags:
    """Of one engine. A tag may come back into use: what is computed from it is then kept again when
    its time here has passed."""

    __slots__ = ("_clock", "_until_s")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def add(self, tags: Iterable[str]) -> None:
        """From now on they are gone."""
        now_s = self._clock()
        still = {tag: until_s for tag, until_s in self._until_s.items() if until_s > now_s}
        self._until_s = still | dict.fromkeys(tags, now_s + REMEMBERED_S)

    def among(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Those of these that went a short time ago."""
        now_s = self._clock()
        return tuple(tag for tag in tags if self._until_s.get(tag, now_s) > now_s)

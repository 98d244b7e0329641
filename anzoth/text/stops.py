"""Where does a text end, when the caller named strings that end it?

A stop string may arrive over several tokens, so text that could be its beginning is held back until
it is decided. The stop string that is complete first ends the text (the longest, if several are
complete at the same character); neither it nor anything after it is given out. That rule reads the
text character by character, so it does not depend on how the text was cut into tokens.

Does not know: tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Watches one text for its stop strings."""

    __slots__ = ("_held", "_stops", "matched")

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` must not hold an empty string."""
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """The text that is certainly before any stop string. After a match: always empty.

        Time: O(length of text + held) per stop string; held is shorter than the longest one.
        """
        if not self._stops:
            return text
        if self.matched is not None:
            return ""
        text = self._held + text
        if (end := self._first_match(text)) is not None:
            self._held = ""
            return text[: end - len(self.matched or "")]
        keep = self._num_undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text is over: what was held back is ordinary text after all."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> int | None:
        """Where the first complete stop string ends, which is then `matched`."""
        ends = [
            (start + len(stop), -len(stop), stop)
            for stop in self._stops
            if (start := text.find(stop)) >= 0
        ]
        if not ends:
            return None
        end, _, self.matched = min(ends)
        return end

    def _num_undecided(self, text: str) -> int:
        """The length of the longest end of `text` that begins some stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

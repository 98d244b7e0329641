"""Which requests have an open entry in the journal, and what of them is to be written meanwhile?

An open entry has a slot of live counts, shows up in a PROGRESS frame whenever its counts have moved
enough, and pins the segment that holds its INTENT: without that a crash would leave nothing to
settle. The pin goes when the SETTLE is on the disk.

Does not know: files, rows, or what a request is.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass

import orjson

from anzoth.gateway.journal_counts import COMPLETION, NUM_COUNTS, LiveCounts, Slot

PROGRESS_TOKENS = 256
PROGRESS_S = 1.0
_SCAN_S = 0.1


@dataclass(slots=True)
class OpenEntry:
    """One running request's."""

    number: int
    slot: Slot
    ticket: int = 0
    """Of its INTENT."""
    segment: int = 0
    """Where its INTENT was written first."""
    written: tuple[int, ...] = (0,) * NUM_COUNTS
    """Its counts in the last PROGRESS, and when that was."""
    written_s: float = 0.0


class OpenEntries:
    """All of one process."""

    def __init__(self, counts: LiveCounts, first_number: int) -> None:
        self._counts = counts
        self._next_number = first_number
        self._open: dict[int, OpenEntry] = {}
        self._pins: Counter[int] = Counter()
        self._settling: deque[tuple[int, int]] = deque()
        """Ticket of the SETTLE, segment of the INTENT."""
        self._scanned_s = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def try_open(self) -> OpenEntry | None:
        """None when there are as many as there are slots."""
        slot = self._counts.try_claim(self._next_number)
        if slot is None:
            return None
        entry = self._open[self._next_number] = OpenEntry(self._next_number, slot)
        self._next_number += 1
        return entry

    def pin(self, entry: OpenEntry, ticket: int, segment: int) -> None:
        """Its INTENT was written."""
        entry.ticket, entry.segment, entry.written_s = ticket, segment, time.monotonic()
        self._pins[segment] += 1

    def close(self, entry: OpenEntry, ticket: int) -> None:
        """Its SETTLE was written."""
        del self._open[entry.number]
        self._counts.release(entry.slot)
        self._settling.append((ticket, entry.segment))

    def unpin(self, durable_ticket: int) -> None:
        """What was settled up to this record needs its INTENT no more."""
        while self._settling and self._settling[0][0] <= durable_ticket:
            _, segment = self._settling.popleft()
            self._pins[segment] -= 1
            if not self._pins[segment]:
                del self._pins[segment]

    def is_pinned(self, segment: int) -> bool:
        """Whether this segment or one before it is: they go in order. An INTENT may stand again in
        the segment after its first one, when that could not be written to its end."""
        return any(pinned <= segment for pinned in self._pins)

    def try_progress(self) -> bytes | None:
        """The payload of a PROGRESS frame, if there is anything to say. To be called often."""
        now_s = time.monotonic()
        if now_s - self._scanned_s < _SCAN_S:
            return None
        self._scanned_s = now_s
        moved: list[list[int]] = []
        for entry in self._open.values():
            counts = entry.slot.counts
            is_due = (
                now_s - entry.written_s >= PROGRESS_S
                or counts[COMPLETION] - entry.written[COMPLETION] >= PROGRESS_TOKENS
            )
            if is_due and (now := tuple(counts)) != entry.written:
                moved.append([entry.number, *now])
                entry.written, entry.written_s = now, now_s
        return orjson.dumps(moved) if moved else None

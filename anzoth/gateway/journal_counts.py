"""How many tokens has each running request got so far, if this process were killed right now?

A file that is mapped into memory, shared: a store into it is a store into the kernel's page cache,
which outlives the process however it ends. So the count that stands here before a token's bytes go
to a socket is never behind what the client received, and costs an addition instead of a write.

    header   magic u64 · slots u64 · id of the machine's boot 16 · zeros to 64 bytes
    slot     entry u64 · prompt · cached · completion · delivered u64 · zeros to 64 bytes

Nobody syncs this file, so it says nothing after the machine itself went down: the id of the boot
tells, and then the journal's PROGRESS frames are all there is.

Does not know: what a request is, or what is made of the counts (see `journal_recovery`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

PROMPT, CACHED, COMPLETION, DELIVERED = range(4)
NUM_COUNTS = 4

Counts = memoryview
"""Four unsigned 64-bit numbers, by the indices above."""

_MAGIC = int.from_bytes(b"anzoth-c", "little")
_SLOT_WORDS = 8
_SLOT_BYTES = 8 * _SLOT_WORDS
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def private_counts() -> Counts:
    """Counts that nothing but this process sees."""
    return memoryview(bytearray(8 * NUM_COUNTS)).cast("Q")


@dataclass(slots=True, frozen=True)
class Slot:
    """One running request's place."""

    index: int
    counts: Counts


class LiveCounts:
    """The file of one gateway. `read_counts` must have been asked before: slots are used anew."""

    def __init__(self, path: Path, num_slots: int) -> None:
        """Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = _SLOT_BYTES * (1 + num_slots)
            # All of it has a place on the disk: a store into a hole of a full one would be SIGBUS.
            os.posix_fallocate(fd, 0, size)
            mapped = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._words = memoryview(mapped).cast("Q")
        self._words[0] = 0
        self._words[1] = num_slots
        mapped[16:32] = _boot_id()
        self._words[0] = _MAGIC
        self._free = list(range(num_slots, 0, -1))

    def try_claim(self, entry: int) -> Slot | None:
        """None when all slots are taken. Its counts are zero."""
        if not self._free:
            return None
        index = self._free.pop()
        begin = index * _SLOT_WORDS
        words = self._words
        # In this order: killed in between, the slot is nobody's, and never this entry's with the
        # counts of another. Each store is one aligned word, so none can be half done.
        words[begin] = 0
        counts = words[begin + 1 : begin + 1 + NUM_COUNTS]
        for number in range(NUM_COUNTS):
            counts[number] = 0
        words[begin] = entry
        return Slot(index, counts)

    def release(self, slot: Slot) -> None:
        """Its numbers stay until somebody else claims it."""
        self._free.append(slot.index)


def read_counts(path: Path) -> dict[int, tuple[int, ...]]:
    """Entry -> counts, as the last process left them. Empty if the machine was started since."""
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()
        data = data[: len(data) - len(data) % _SLOT_BYTES]
        words = memoryview(data).cast("Q")
        if len(words) >= _SLOT_WORDS and words[0] == _MAGIC and data[16:32] == _boot_id():
            return {
                words[begin]: tuple(words[begin + 1 : begin + 1 + NUM_COUNTS])
                for begin in range(_SLOT_WORDS, len(words), _SLOT_WORDS)
                if words[begin]
            }
    return {}


def _boot_id() -> bytes:
    """The same until the machine is started again; zeros where the system does not say."""
    try:
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    except OSError:
        return bytes(16)

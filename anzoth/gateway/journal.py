"""How does a record outlive this process at once, and the machine within milliseconds?

`append` writes to the current segment and returns: what the kernel took outlives the process. One
thread does nothing but fdatasync; while it runs, records gather, and the next one takes them all
along (group commit). `durable` waits until a record is on the disk.

    append ──write──▶ segment 7 ─┐  while it is large enough: segment 8
       │                         └─fdatasync─▶ durable
       └─▶ kept in memory until then

A file on which fdatasync or write failed is never synced again: the kernel may have dropped what it
could not write and call the next attempt a success. What was not yet durable is written again to a
new file (twice in the journal is harmless). While that fails too, `is_failed` is true and whoever
waits is refused; a new file is tried every second.

Does not know: what a record means, who reads it (see `journal_shipper`, `journal_recovery`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from anzoth.errors import LedgerUnavailable
from anzoth.gateway.journal_format import (
    HEADER_BYTES,
    Kind,
    Position,
    encode_frame,
    encode_header,
)

SUFFIX = ".journal"
MAX_SEGMENT_BYTES = 8 << 20
TICK_S = 0.1
"""What nobody waits for is on the disk after this long, and one commit."""
_PAUSE_S = 1.0
"""Between two attempts with a new file, after the first failed too."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}{SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """In order."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())


class Journal:
    """The writing end: one per process and folder. `run` must be running for `durable` to return.

    All methods are for the event loop's thread.
    """

    def __init__(
        self,
        folder: Path,
        writer: uuid.UUID,
        number: int,
        *,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        before_commit: Callable[[], None] = lambda: None,
        after_commit: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`number`: of its first segment, which must not exist. Raises OSError.

        `before_commit` may append what can wait; it is called at each tick and commit.
        `after_commit` is told how many seconds a commit took.
        """
        self._folder = folder
        self._writer = writer
        self._max_segment_bytes = max_segment_bytes
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._number = number
        self._fd = _create(folder, writer, number)
        self._offset = HEADER_BYTES
        self._ticket = 0
        """Of the last record."""
        self._durable_ticket = 0
        self._unsynced: deque[bytes] = deque()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._wanted = asyncio.Event()
        self._stepping = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._num_failures = 0
        """In a row, of files."""
        self._is_file_bad = False
        self.synced = Position(number, HEADER_BYTES)
        """Everything before it is on the disk."""
        self.ends: dict[int, int] = {}
        """Of earlier segments of this process, where their durable part ends."""

    @property
    def number(self) -> int:
        """Of the segment that records go to now."""
        return self._number

    @property
    def num_bytes(self) -> int:
        """Of that segment."""
        return self._offset

    @property
    def durable_ticket(self) -> int:
        """Records up to this one are on the disk."""
        return self._durable_ticket

    @property
    def is_failed(self) -> bool:
        """Neither the file nor its successor could be written: records are in memory only."""
        return self._num_failures > 1

    def append(self, kind: Kind, entry: int, payload: bytes) -> int:
        """Writes one record; returns its ticket. Never raises: a failure is dealt with by `run`."""
        frame = encode_frame(kind, entry, payload)
        self._unsynced.append(frame)
        self._ticket += 1
        self._write(frame)
        return self._ticket

    async def durable(self, ticket: int) -> None:
        """Returns when the record is on the disk. Raises LedgerUnavailable when it cannot be."""
        if ticket <= self._durable_ticket:
            return
        if self.is_failed:
            raise LedgerUnavailable()
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((ticket, waiter))
        self._wanted.set()
        await waiter

    async def run(self) -> None:
        """Commits for ever."""
        while True:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            self._before_commit()
            await self._whole_step()
            if self.is_failed:
                await asyncio.sleep(_PAUSE_S)

    async def commit(self) -> None:
        """One commit, if the disk allows it, also with a new file. Not needed while `run` runs."""
        for _ in range(3):
            if self._unsynced:
                await self._step()

    def close(self) -> None:
        """After `run`, and the last `commit`."""
        self._thread.shutdown()
        os.close(self._fd)

    async def _whole_step(self) -> None:
        """Cancelled: to its end all the same, or what the disk said would be forgotten."""
        step = asyncio.ensure_future(self._step())
        try:
            await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait({step})
            raise

    async def _step(self) -> None:
        async with self._stepping:
            if self._is_file_bad:
                await self._begin_segment()
            elif self._unsynced:
                await self._commit()
                if self._offset >= self._max_segment_bytes:
                    await self._begin_segment()

    async def _commit(self) -> None:
        num_frames, ticket = len(self._unsynced), self._ticket
        position = Position(self._number, self._offset)
        began_s = time.monotonic()
        try:
            await self._in_thread(os.fdatasync, self._fd)
        except OSError as error:
            self._fail("fdatasync", error)
            return
        self._after_commit(time.monotonic() - began_s)
        self._num_failures = 0
        self._durable_ticket = ticket
        self.synced = position
        for _ in range(num_frames):
            self._unsynced.popleft()
        while self._waiters and self._waiters[0][0] <= ticket:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if self._waiters:
            self._wanted.set()

    async def _begin_segment(self) -> None:
        """What is not durable in the old segment is written again in the new one."""
        number = self._number + 1
        try:
            fd = await self._in_thread(_create, self._folder, self._writer, number)
        except OSError as error:
            self._fail("a new file", error)
            return
        os.close(self._fd)
        self.ends[self._number] = self.synced.offset
        self._fd, self._number, self._offset = fd, number, HEADER_BYTES
        self.synced = Position(number, HEADER_BYTES)
        self._is_file_bad = False
        for frame in self._unsynced:
            self._write(frame)
        if self._unsynced:
            self._wanted.set()

    def _write(self, frame: bytes) -> None:
        if self._is_file_bad:
            return
        try:
            num_written = os.write(self._fd, frame)
        except OSError as error:
            self._fail("write", error)
            return
        self._offset += num_written
        if num_written < len(frame):
            self._fail("write", OSError("only a part was written"))

    def _fail(self, what: str, error: OSError) -> None:
        self._is_file_bad = True
        self._num_failures += 1
        self._wanted.set()
        log = _log.error if self._num_failures < 3 else _log.debug
        log("the usage journal fails at %s (%s)", what, error.strerror or error)
        if self.is_failed:
            for _, waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(LedgerUnavailable())
            self._waiters.clear()

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)


def _create(folder: Path, writer: uuid.UUID, number: int) -> int:
    """An empty segment that is on the disk, under its name; the file descriptor to append to."""
    path = segment_path(folder, number)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        header = encode_header(writer, number)
        if os.write(fd, header) != len(header):
            raise OSError("only a part was written")
        os.fsync(fd)
        sync_folder(folder)
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return fd


def sync_folder(folder: Path) -> None:
    """New and removed names in it are on the disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

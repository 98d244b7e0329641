"""Is a record durable when it says so, through disks that fail and fill up?"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from api_harness import until
from usage_journal import WRITER

from anzoth.errors import LedgerUnavailable
from anzoth.gateway import journal as journals
from anzoth.gateway.journal import Journal, segment_numbers, segment_path
from anzoth.gateway.journal_format import HEADER_BYTES, Kind, read_frames


class Disk:
    """The real one, until the test says that it fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_syncs = 0
        self.syncs_fail = 0
        """How many of the next ones."""
        self.failed_fds: list[int] = []
        self.room_bytes: int | None = None
        self._fdatasync, self._write = os.fdatasync, os.write
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)
        monkeypatch.setattr(os, "write", self.write)

    def fdatasync(self, fd: int) -> None:
        self.num_syncs += 1
        assert fd not in self.failed_fds, "a file that failed is synced again"
        if self.syncs_fail:
            self.syncs_fail -= 1
            self.failed_fds.append(os.dup(fd))  # so that its number is not used again
            raise OSError(errno.EIO, "broken")
        self._fdatasync(fd)

    def write(self, fd: int, data: bytes) -> int:
        if self.room_bytes is None or not stat.S_ISREG(os.fstat(fd).st_mode):
            return self._write(fd, data)
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, "full")
        num_written = self._write(fd, data[: self.room_bytes])
        self.room_bytes -= num_written
        return num_written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(journals, "_PAUSE_S", 0.01)
    return Disk(monkeypatch)


def run(
    folder: Path,
    scenario: Callable[[Journal], Awaitable[None]],
    max_segment_bytes: int = journals.MAX_SEGMENT_BYTES,
) -> None:
    async def main() -> None:
        journal = Journal(folder, WRITER, 1, max_segment_bytes=max_segment_bytes)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(journal.run())
            await scenario(journal)
            task.cancel()
        await journal.commit()
        journal.close()

    asyncio.run(main())


def entries(folder: Path) -> list[int]:
    """Of all records, in order of files."""
    found: list[int] = []
    for number in segment_numbers(folder):
        frames, _ = read_frames(segment_path(folder, number).read_bytes(), HEADER_BYTES)
        found += [frame.entry for frame in frames]
    return found


def test_an_append_is_in_the_file_before_anything_is_awaited(tmp_path: Path) -> None:
    async def scenario(journal: Journal) -> None:
        journal.append(Kind.INTENT, 1, b"{}")
        assert entries(tmp_path) == [1]
        assert journal.durable_ticket == 0

    run(tmp_path, scenario)
    assert stat.S_IMODE(segment_path(tmp_path, 1).stat().st_mode) == 0o600


def test_those_that_wait_together_are_committed_together(tmp_path: Path, disk: Disk) -> None:
    async def scenario(journal: Journal) -> None:
        tickets = [journal.append(Kind.INTENT, entry, b"{}") for entry in range(200)]
        await asyncio.gather(*map(journal.durable, tickets))
        assert disk.num_syncs <= 2
        assert journal.durable_ticket == tickets[-1]
        assert journal.synced.offset == segment_path(tmp_path, 1).stat().st_size
        await journal.durable(tickets[0])
        assert disk.num_syncs <= 2

    run(tmp_path, scenario)


def test_what_nobody_waits_for_is_committed_soon(tmp_path: Path, disk: Disk) -> None:
    async def scenario(journal: Journal) -> None:
        ticket = journal.append(Kind.SETTLE, 1, b"{}")
        await until(lambda: journal.durable_ticket >= ticket)

    run(tmp_path, scenario)


def test_a_full_segment_is_followed_by_the_next_and_nothing_is_lost(tmp_path: Path) -> None:
    async def scenario(journal: Journal) -> None:
        for entry in range(1, 31):
            await journal.durable(journal.append(Kind.INTENT, entry, bytes(50)))

    run(tmp_path, scenario, max_segment_bytes=300)
    assert len(segment_numbers(tmp_path)) > 5
    assert sorted(set(entries(tmp_path))) == list(range(1, 31))


def test_a_failed_sync_is_never_repeated_on_its_file_and_loses_nothing(
    tmp_path: Path, disk: Disk
) -> None:
    async def scenario(journal: Journal) -> None:
        await journal.durable(journal.append(Kind.INTENT, 1, b"{}"))
        disk.syncs_fail = 1
        await journal.durable(journal.append(Kind.INTENT, 2, b"{}"))
        assert not journal.is_failed
        assert journal.number == 2
        assert journal.ends == {1: HEADER_BYTES + (journal.num_bytes - HEADER_BYTES)}

    run(tmp_path, scenario)
    assert entries(tmp_path) == [1, 2, 2]


def test_while_new_files_fail_too_whoever_waits_is_refused_until_the_disk_is_back(
    tmp_path: Path, disk: Disk
) -> None:
    async def scenario(journal: Journal) -> None:
        disk.syncs_fail = 5
        with pytest.raises(LedgerUnavailable):
            await journal.durable(journal.append(Kind.INTENT, 1, b"{}"))
        assert journal.is_failed
        with pytest.raises(LedgerUnavailable):
            await journal.durable(journal.append(Kind.SETTLE, 1, b"{}"))
        await until(lambda: not journal.is_failed)
        assert journal.durable_ticket == 2
        await journal.durable(journal.append(Kind.INTENT, 2, b"{}"))

    run(tmp_path, scenario)
    last = segment_numbers(tmp_path)[-1]
    frames, _ = read_frames(segment_path(tmp_path, last).read_bytes(), HEADER_BYTES)
    assert [frame.entry for frame in frames] == [1, 1, 2]


@pytest.mark.parametrize("room_bytes", [0, 1, 17, 40])
def test_a_full_disk_refuses_and_what_was_not_written_is_written_later(
    tmp_path: Path, disk: Disk, room_bytes: int
) -> None:
    async def scenario(journal: Journal) -> None:
        await journal.durable(journal.append(Kind.INTENT, 1, b"{}"))
        disk.room_bytes = room_bytes
        with pytest.raises(LedgerUnavailable):
            await journal.durable(journal.append(Kind.SETTLE, 1, b"{}" * 20))
        disk.room_bytes = None
        await until(lambda: not journal.is_failed)
        await journal.durable(journal.append(Kind.INTENT, 2, b"{}"))

    run(tmp_path, scenario)
    assert entries(tmp_path) == [1, 1, 2]


def test_cancelled_in_a_commit_it_still_learns_what_the_disk_said(
    tmp_path: Path, disk: Disk
) -> None:
    async def main() -> None:
        journal = Journal(tmp_path, WRITER, 1)
        task = asyncio.ensure_future(journal.run())
        journal.append(Kind.INTENT, 1, b"{}")
        disk.syncs_fail = 1
        await until(lambda: disk.num_syncs > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await journal.commit()
        assert (journal.durable_ticket, journal.number) == (1, 2)
        journal.close()

    asyncio.run(main())

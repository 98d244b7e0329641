"""How do the journal's settlements become rows of the database, each once?

The shipper reads what is on the disk, a batch at a time, and inserts it in one transaction with the
cursor that says how far it has come. Rows that are there already are skipped (by the primary key),
so reading again from anywhere, in any order, changes nothing: the cursor saves work, correctness
does not hang on it. A segment goes when it is wholly shipped and no running request needs it.

An outage of the database is ridden out on the disk. What the database will never take as it is
(impossible while the code is right) is kept in `rejected.jsonl`, for a person.

Does not know: how records got into the journal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import usage_rows
from anzoth.db.store.usage_rows import UsageRow
from anzoth.gateway.journal import Journal, segment_path
from anzoth.gateway.journal_format import HEADER_BYTES, Kind, Position, decode_row, read_frames
from anzoth.gateway.journal_recovery import Recovered

REJECTED = "rejected.jsonl"
_INTERVAL_S = 0.25
_MAX_BATCH_BYTES = 256 << 10
"""Of the journal: some two hundred rows, a few milliseconds of the loop's time."""
_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""After one, two, three, more failures in a row."""

NOT_NOW = (DatabaseDown, asyncpg.PostgresError, OSError)
"""OSError: of the disk."""
_BAD_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

_log = logging.getLogger(__name__)


class Shipper:
    """One per journal. `run` must be running; after it, `ship_all` may be called."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        folder: Path,
        writer: uuid.UUID,
        recovered: Recovered,
        is_pinned: Callable[[int], bool],
    ) -> None:
        """`is_pinned`: whether a running request still needs a segment."""
        self._database = database
        self._journal = journal
        self._folder = folder
        self._writer = writer
        self._old = dict(recovered.segments)
        """Ends of the segments of earlier processes."""
        self._num_settled = recovered.num_settled
        self._is_pinned = is_pinned
        self._first_own = journal.number
        self._position = Position(min([*self._old, journal.number]), HEADER_BYTES)
        self._has_cursor = False
        self.num_unshipped = sum(recovered.num_settled.values())
        """Rows."""
        self.num_rejected = 0
        """Rows that the database will never take."""

    @property
    def position(self) -> Position:
        """Everything before it is in the database."""
        return self._position

    @property
    def backlog_bytes(self) -> int:
        """Of the journal, not yet in the database."""
        at, journal = self._position, self._journal
        ends: Mapping[int, int] = {**self._old, **journal.ends, journal.number: journal.num_bytes}
        behind = sum(end for number, end in ends.items() if number >= at.segment)
        return behind - at.offset

    async def run(self) -> None:
        """Ships for ever."""
        failures = 0
        while True:
            pause_s = _INTERVAL_S
            try:
                await self.ship_all()
                failures = 0
            except NOT_NOW as error:
                log = _log.debug if failures else _log.warning
                log("%d usage rows wait: %s", self.num_unshipped, error)
                pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
            await asyncio.sleep(pause_s)

    async def ship_all(self) -> None:
        """Everything that is on the disk now. Raises one of NOT_NOW; the rest stays."""
        while await self._ship_batch():
            pass

    async def _ship_batch(self) -> bool:
        """Whether there was anything."""
        at = self._position
        end = self._end(at.segment)
        if at.offset >= end:
            return self._next_segment()
        if not self._has_cursor:
            await self._find_cursor()
            return True
        payloads, offset = await asyncio.to_thread(self._read, at, end)
        position = Position(at.segment, offset)
        if payloads:
            await self._insert(payloads, position)
        self._position = position
        self.num_unshipped -= len(payloads)
        return True

    def _end(self, segment: int) -> int:
        """Of what may be shipped: the database must never know more than the disk."""
        if segment == self._journal.number:
            return self._journal.synced.offset
        return self._old.get(segment) or self._journal.ends[segment]

    def _next_segment(self) -> bool:
        """Goes on to the next, if there is one, and deletes those that are done with."""
        numbers = sorted([*self._old, *self._journal.ends, self._journal.number])
        later = [number for number in numbers if number > self._position.segment]
        if later:
            self._position = Position(later[0], HEADER_BYTES)
        for number in numbers:
            if number >= self._position.segment or self._is_pinned(number):
                break
            self._delete(number)
        return bool(later)

    def _delete(self, number: int) -> None:
        segment_path(self._folder, number).unlink(missing_ok=True)
        self._old.pop(number, None)
        self._journal.ends.pop(number, None)

    async def _find_cursor(self) -> None:
        """Goes to where an earlier process came to."""
        async with self._database.journal(self._writer) as connection:
            found = await usage_rows.find_journal_cursor(connection, self._writer)
        self._has_cursor = True
        if found is None:
            return
        cursor = Position(*found)
        if cursor.segment >= self._first_own:
            # This folder is older than the database remembers it: from a backup.
            _log.warning("the usage journal is older than its cursor: all of it is shipped again")
            return
        for number in sorted(self._old):
            if number < cursor.segment:
                self._position = Position(number, self._old[number])
                self.num_unshipped -= self._num_settled[number]
            elif number == cursor.segment:
                skipped = await asyncio.to_thread(self._count_settled, number, cursor.offset)
                if skipped is not None:
                    self._position = cursor
                    self.num_unshipped -= skipped

    def _count_settled(self, number: int, end: int) -> int | None:
        """In a segment up to `end`. None: no frame ends there."""
        data = segment_path(self._folder, number).read_bytes()[:end]
        frames, found_end = read_frames(data, HEADER_BYTES)
        if found_end != end:
            return None
        return sum(frame.kind is Kind.SETTLE for frame in frames)

    def _read(self, at: Position, end: int) -> tuple[list[bytes], int]:
        """The settlements in the next frames, and where those end."""
        with segment_path(self._folder, at.segment).open("rb") as file:
            file.seek(at.offset)
            data = file.read(min(end - at.offset, _MAX_BATCH_BYTES))
            frames, offset = read_frames(data, at.offset, at.offset)
            if not frames:  # one frame larger than a batch, or damage
                frames, offset = read_frames(
                    data + file.read(end - at.offset - len(data)), at.offset, at.offset
                )
        if not frames:
            _log.error("the usage journal is damaged in segment %d at %d", at.segment, at.offset)
            return [], end
        return [frame.payload for frame in frames if frame.kind is Kind.SETTLE], offset

    # --- the database's side -------------------------------------------------------------------

    async def _insert(self, payloads: Sequence[bytes], position: Position) -> None:
        rows, rejected = await asyncio.to_thread(_rows_of, payloads)
        try:
            async with self._database.journal(self._writer) as connection:
                await self._move_cursor(connection, position)
                await usage_rows.ship(connection, [row for row, _ in rows])
                await self._keep(rejected)
        except _BAD_ROW:
            # One bad row must not take the others with it, nor stop the shipper.
            async with self._database.journal(self._writer) as connection:
                await self._move_cursor(connection, position)
                for row, payload in rows:
                    try:
                        async with connection.transaction():
                            await usage_rows.ship(connection, [row])
                    except _BAD_ROW as error:
                        _log_rejected(row.request_id, error)
                        rejected.append(payload)
                await self._keep(rejected)
        self.num_rejected += len(rejected)

    async def _move_cursor(self, connection: Connection, position: Position) -> None:
        await usage_rows.set_journal_cursor(
            connection, self._writer, position.segment, position.offset
        )

    async def _keep(self, rejected: Sequence[bytes]) -> None:
        """To be called before the cursor is moved past them."""
        if rejected:
            await asyncio.to_thread(_append_lines, self._folder / REJECTED, rejected)


def _rows_of(payloads: Sequence[bytes]) -> tuple[list[tuple[UsageRow, bytes]], list[bytes]]:
    """Rows with the payloads that they are of, and the payloads that are of none."""
    rows: list[tuple[UsageRow, bytes]] = []
    rejected: list[bytes] = []
    for payload in payloads:
        try:
            rows.append((decode_row(payload), payload))
        except (ValueError, TypeError, KeyError) as error:  # another version's, with a valid CRC
            _log_rejected("unknown", error)
            rejected.append(payload)
    return rows, rejected


def _log_rejected(request_id: str, error: Exception) -> None:
    _log.error("the usage of request %s is rejected (%s)", request_id, type(error).__name__)


def _append_lines(path: Path, lines: Sequence[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(fd)

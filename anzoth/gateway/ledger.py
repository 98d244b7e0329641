"""How is each request's usage written down so that nothing that ends takes it along?

    begin ──▶ INTENT ──▶ the engine is asked ──▶ tokens are counted ──▶ record ──▶ SETTLE
                 │                                 (PROGRESS)                         │
              on the disk before the first byte of the answer leaves        shipped to Postgres

DATA_DIR/journal holds it all: `NNN.journal` (see `journal_format`), `live` (`journal_counts`),
`writer` (the journal's id), `lock`. A request has exactly one row in the database, because its
INTENT has exactly one end: its SETTLE, or that which the next start writes for it, with the finish
reason `crashed`, the code `gateway_crashed`, and no duration.

What holds when this process is killed, at any moment: every request that the engine was asked for
has one row; its completion tokens are at least what its client received, and at most what the
engine sampled. Its prompt counts once the engine has computed something of it.

What holds when the machine itself goes down: every request of which a byte was sent has one row
(with `wait_for_disk`; without it, if the request had begun a commit earlier, some 0.1 s). Its
numbers may be those of its last PROGRESS: up to a second, or 256 tokens and 0.1 s, behind. A
settlement that was not yet on the disk counts as not written.

Refused requests never had an INTENT; their rows, which count nothing, may be lost by a crash within
a commit. While the disk fails nothing is begun, and the same while what is not yet in the database
has reached `max_backlog_mib`, unless `when_full` says to serve without writing down.

Does not know: when a request is over, or what a record means.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import time
import uuid
from pathlib import Path

import orjson

from anzoth.config import ConfigError, JournalConfig
from anzoth.db.pool import Database
from anzoth.db.store.usage_rows import TracedRow, UsageRow
from anzoth.errors import CapacityUnavailable, LedgerUnavailable
from anzoth.gateway import keys
from anzoth.gateway.journal import MAX_SEGMENT_BYTES, Journal
from anzoth.gateway.journal_counts import DELIVERED, LiveCounts, read_counts
from anzoth.gateway.journal_entries import OpenEntries
from anzoth.gateway.journal_format import Kind, Position, encode_intent, encode_settlement
from anzoth.gateway.journal_recovery import Recovered, recover
from anzoth.gateway.journal_shipper import NOT_NOW, Shipper
from anzoth.gateway.usage import UsageRecord
from anzoth.gateway.usage_cost import with_cost
from anzoth.telemetry import Metrics

NUM_SLOTS = 8192
"""Requests that may run at once: more than there may be connections."""
_LOCK_TIMEOUT_S = 5.0
_RETRY_S = 0.05
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Starting again later may help."""

_log = logging.getLogger(__name__)


class Ledger:
    """One per gateway, made by `open`. `run` must be running; after it, `close`."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        writer: uuid.UUID,
        recovered: Recovered,
        config: JournalConfig,
        metrics: Metrics,
        *,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
    ) -> None:
        """Raises OSError."""
        self._config = config
        self._metrics = metrics
        self._journal = Journal(
            folder,
            writer,
            recovered.next_number,
            max_segment_bytes=max_segment_bytes,
            before_commit=self._before_commit,
            after_commit=metrics.journal_committed,
        )
        for end in recovered.settlements:
            payload = encode_settlement(end.row, end.delivered_tokens)
            self._journal.append(Kind.SETTLE, end.entry, payload)
        self._entries = OpenEntries(
            LiveCounts(folder / "live", NUM_SLOTS), (recovered.next_number << 32) + 1
        )
        self._shipper = Shipper(
            database, self._journal, folder, writer, recovered, self._entries.is_pinned
        )
        self._shipper.num_unshipped += len(recovered.settlements)
        self._recovered_end = Position(self._journal.number, self._journal.num_bytes)
        self._lock_fd: int | None = None
        self.writer = writer
        """Who writes this ledger: no two gateways that run are the same, and one that starts again
        is who it was."""
        self.num_lost = 0
        """Records that were not written down, because there was no room or the disk failed."""

    @classmethod
    async def open(
        cls,
        database: Database,
        data_dir: Path,
        config: JournalConfig,
        metrics: Metrics,
        **options: int,
    ) -> Ledger:
        """Settles what an earlier process left open, durably. Raises ConfigError."""
        folder = data_dir / "journal"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            lock_fd = await _lock(folder)
            try:
                writer = _writer_id(folder)
                live = read_counts(folder / "live")
                recovered = await asyncio.to_thread(recover, folder, live)
                ledger = cls(database, folder, writer, recovered, config, metrics, **options)
            except BaseException:
                os.close(lock_fd)
                raise
        except OSError as error:
            if error.errno in _MAY_PASS:
                raise
            raise ConfigError(f"cannot use the usage journal {folder}: {error.strerror}") from error
        ledger._lock_fd = lock_fd
        await ledger._journal.commit()
        if recovered.settlements:
            _log.warning("%d requests ended with the last process", len(recovered.settlements))
        return ledger

    # --- what health and metrics say -----------------------------------------------------------

    @property
    def num_unshipped(self) -> int:
        """Rows that are not in the database."""
        return self._shipper.num_unshipped

    @property
    def is_caught_up(self) -> bool:
        """Whether all that earlier processes left is in the database."""
        return self._shipper.position >= self._recovered_end

    @property
    def num_rejected(self) -> int:
        """Rows that the database will never take; they are kept (see `journal_shipper`)."""
        return self._shipper.num_rejected

    @property
    def backlog_bytes(self) -> int:
        """Of the journal, not yet in the database."""
        return self._shipper.backlog_bytes

    @property
    def is_full(self) -> bool:
        return self.backlog_bytes >= self._config.max_backlog_mib << 20

    @property
    def is_accepting(self) -> bool:
        """Whether a request can be begun."""
        return not self._journal.is_failed and (
            self._config.when_full == "serve" or not self.is_full
        )

    # --- requests ------------------------------------------------------------------------------

    def begin(self, usage: UsageRecord, max_completion_tokens: int) -> None:
        """Writes down that an engine is about to be asked. Again for the same record: no effect.

        From here on `usage.counts` outlives this process. Raises LedgerUnavailable, or
        CapacityUnavailable when too many requests run.
        """
        if usage.entry is not None:
            return
        if self._journal.is_failed:
            raise LedgerUnavailable()
        if self.is_full:
            if self._config.when_full == "refuse":
                raise LedgerUnavailable()
            return
        entry = self._entries.try_open()
        if entry is None:
            raise CapacityUnavailable()
        payload = encode_intent(row_of(usage), entry.slot.index, max_completion_tokens)
        ticket = self._journal.append(Kind.INTENT, entry.number, payload)
        self._entries.pin(entry, ticket, self._journal.number)
        usage.entry, usage.counts = entry, entry.slot.counts

    async def begun(self, usage: UsageRecord) -> None:
        """Returns when the beginning is on the disk: only then may the answer's first byte leave.

        It costs no time where the engine takes longer than a commit. Raises LedgerUnavailable.
        """
        if usage.entry is not None and self._config.wait_for_disk:
            await self._journal.durable(usage.entry.ticket)

    def record(self, usage: UsageRecord) -> None:
        """Takes the record as it is now: its request is over. Never blocks and never raises."""
        row, entry = row_of(usage), usage.entry
        if entry is None and (self._journal.is_failed or self.is_full):
            self.num_lost += 1
            self._metrics.usage_lost()
            if row.completion_tokens or row.prompt_tokens:
                _log_lost(row)
            return
        delivered = usage.counts[DELIVERED]
        if not usage.streamed and usage.status == 200:
            delivered = usage.completion_tokens
        ticket = self._journal.append(
            Kind.SETTLE,
            0 if entry is None else entry.number,
            encode_settlement(traced(row, usage.retrieval), delivered),
        )
        self._shipper.num_unshipped += 1
        if entry is not None:
            self._entries.close(entry, ticket)

    # --- the background ------------------------------------------------------------------------

    async def run(self) -> None:
        """Commits and ships for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._journal.run())
            group.create_task(self._shipper.run())

    async def close(self, deadline_s: float = 10.0) -> int:
        """Commits, and ships for at most `deadline_s`; returns how many rows stay in the journal.

        They are shipped after the next start. To be called once nothing calls `record` any more.
        """
        give_up_at_s = time.monotonic() + deadline_s
        await self._journal.commit()
        try:
            async with asyncio.timeout(max(0.0, give_up_at_s - time.monotonic())):
                await self._shipper.ship_all()
        except (TimeoutError, *NOT_NOW):
            _log.warning("%d usage rows stay in the journal", self.num_unshipped)
        self.abandon()
        return self.num_unshipped

    def abandon(self) -> None:
        """Closes the files as they are, for somebody else to recover."""
        self._journal.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    async def commit(self) -> None:
        """Everything so far is on the disk, if that works. Not needed while `run` runs."""
        await self._journal.commit()

    def _before_commit(self) -> None:
        if (progress := self._entries.try_progress()) is not None:
            self._journal.append(Kind.PROGRESS, 0, progress)
        self._entries.unpin(self._journal.durable_ticket)
        self._metrics.journal_state(self.backlog_bytes, self.num_unshipped)


async def _lock(folder: Path) -> int:
    """One process writes here. A killed one may need a moment to be gone. Raises OSError."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_at_s = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > give_up_at_s:
                os.close(fd)
                raise OSError(error.errno, "another gateway is using it") from None
            await asyncio.sleep(_RETRY_S)
        else:
            return fd


def _writer_id(folder: Path) -> uuid.UUID:
    """Of this journal, made on its first day. Raises OSError."""
    path = folder / "writer"
    with contextlib.suppress(FileNotFoundError, ValueError):
        return uuid.UUID(path.read_text().strip())
    made = uuid.uuid4()
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:
        file.write(f"{made}\n")
        file.flush()
        os.fsync(fd)
    fresh.rename(path)
    return made


def row_of(usage: UsageRecord) -> UsageRow:
    """`usage` as the database keeps it."""
    assert usage.principal.key_id is not None, "only keys run models"
    metadata = None
    if usage.metadata is not None:
        metadata = orjson.dumps(
            {_storable(key): _storable(value) for key, value in usage.metadata.items()}
        ).decode()
    price = usage.price
    row = UsageRow(
        tenant_id=usage.principal.tenant.id,
        project_id=usage.principal.project_id,
        request_id=_storable(usage.request_id),
        started_at=usage.started_at,
        key_id=usage.principal.key_id,
        endpoint=usage.endpoint,
        model=None if usage.model is None else _storable(usage.model),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        finish_reason=usage.finish_reason,
        streamed=usage.streamed,
        status=usage.status,
        error_code=usage.error_code,
        ttft_ms=usage.ttft_ms,
        duration_ms=usage.duration_ms,
        end_user=None if usage.end_user is None else _storable(usage.end_user),
        metadata=metadata,
        reasoning_tokens=usage.reasoning_tokens,
        service_tier=usage.service_tier,
        user_id=usage.principal.owner_id,
        batch=usage.batch,
        input_price=price and price.input,
        cached_input_price=price and price.cached_input,
        output_price=price and price.output,
        rule=usage.rule,
        refusal=None if usage.refusal is None else _storable(usage.refusal),
        shadow_rules=usage.shadow_rules,
        target=usage.target,
        attempts=usage.attempts,
    )
    return with_cost(row)


def traced(row: UsageRow, retrieval: str | None) -> UsageRow:
    """With what was found in knowledge bases. Only a request that has ended has it: one that this
    process did not survive has none."""
    if retrieval is None:
        return row
    fields = {name: getattr(row, name) for name in UsageRow.__slots__}
    return TracedRow(**fields, retrieval=retrieval)


def _storable(text: str) -> str:
    """Postgres takes neither NUL nor half of a surrogate pair, and callers can send both; and a
    key that they put somewhere else is not kept."""
    return keys.redact(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _log_lost(row: UsageRow) -> None:
    """The numbers and ids only: `end_user` and `metadata` are the customer's words."""
    _log.error(
        "usage not written down; request=%s tenant=%s key=%s model=%s prompt=%d cached=%d "
        "completion=%d status=%d started=%s",
        row.request_id,
        row.tenant_id,
        row.key_id,
        row.model,
        row.prompt_tokens,
        row.cached_tokens,
        row.completion_tokens,
        row.status,
        row.started_at.isoformat(),
    )

"""Where do usage records go, and what happens to them when the database is away?

`record` puts a record into a bounded queue in memory and returns at once; a writer takes them to
Postgres at least every 250 ms, one transaction per tenant. Through an outage it keeps what it could
not write and tries again; the primary key makes a second attempt harmless. When the queue is full,
the new record is refused, counted, and its numbers are written to the log, from which they can be
restored by hand.

What it does not survive is the death of this process: up to 250 ms of records, or the backlog of
an outage. Against that, a journal on disk (an intent before the first byte, progress, settlement;
group-committed) belongs between `record` and the writer: `record` appends to it, the writer reads
from it, and the position reached is committed together with the rows. The interface stays.

Does not know: when a request is over, or what a record means.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

import asyncpg
import orjson

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import usage_rows
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.usage import UsageRecord
from anzoth.price import Cost

_FLUSH_INTERVAL_S = 0.25
_MAX_BATCH = 1_000
_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""After one, two, three, more failures in a row."""

_NOT_NOW = (DatabaseDown, asyncpg.PostgresError)
_BAD_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

_log = logging.getLogger(__name__)

_Pending = tuple[TenantHandle, usage_rows.UsageRow]


class Ledger:
    """One per gateway. `run` must be running; after it, `close`."""

    def __init__(self, database: Database, *, max_queued: int = 100_000) -> None:
        self._database = database
        self._max_queued = max_queued
        self._queue: deque[_Pending] = deque()
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()
        self.num_refused = 0
        """Records that found the queue full."""
        self.num_rejected = 0
        """Records that the database will never take as they are."""

    @property
    def num_queued(self) -> int:
        return len(self._queue)

    def record(self, usage: UsageRecord) -> None:
        """Takes the record as it is now. Never blocks and never raises."""
        row = _row(usage)
        if len(self._queue) >= self._max_queued:
            self.num_refused += 1
            _log_lost("the usage queue is full", row)
            return
        self._queue.append((usage.principal.tenant, row))
        self._arrived.set()

    async def run(self) -> None:
        """Writes for ever."""
        failures = 0
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_FLUSH_INTERVAL_S)  # lets a batch gather
            self._arrived.clear()
            try:
                await self._flush()
                failures = 0
            except _NOT_NOW as error:
                log = _log.debug if failures else _log.warning
                log("%d usage records wait for the database: %s", len(self._queue), error)
                pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
                self._arrived.set()
                await asyncio.sleep(pause_s)

    async def close(self, deadline_s: float = 10.0) -> int:
        """Writes what is left, for at most `deadline_s`; returns how many could not be written.

        To be called once nothing calls `record` any more. What is lost is written to the log.
        """
        give_up_at_s = time.monotonic() + deadline_s
        while self._queue and (left_s := give_up_at_s - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._flush()
            except TimeoutError:
                break
            except _NOT_NOW:
                await asyncio.sleep(min(_PAUSES_S[0], left_s))
        for _, row in self._queue:
            _log_lost("the gateway ends without a database", row)
        return len(self._queue)

    async def _flush(self) -> None:
        """Writes everything that is queued now. Raises DatabaseDown; the rest stays queued."""
        async with self._writing:
            while self._queue:
                batch = [self._queue[i] for i in range(min(_MAX_BATCH, len(self._queue)))]
                by_tenant: dict[TenantHandle, list[usage_rows.UsageRow]] = {}
                for tenant, row in batch:
                    by_tenant.setdefault(tenant, []).append(row)
                for tenant, rows in by_tenant.items():
                    await self._write(tenant, rows)
                # Only now: what an outage interrupts is written again, and skipped if it is there.
                for _ in batch:
                    self._queue.popleft()

    async def _write(self, tenant: TenantHandle, rows: Sequence[usage_rows.UsageRow]) -> None:
        try:
            async with self._database.tenant(tenant) as connection:
                await usage_rows.insert_usage(connection, rows)
        except _BAD_ROW as error:
            if len(rows) == 1:
                self._reject(rows[0], error)
                return
            for row in rows:  # one bad row must not take the others with it, nor stop the writer
                await self._write(tenant, [row])

    def _reject(self, row: usage_rows.UsageRow, error: Exception) -> None:
        self.num_rejected += 1
        _log_lost(f"the database rejects it ({type(error).__name__})", row)


def _row(usage: UsageRecord) -> usage_rows.UsageRow:
    assert usage.principal.key_id is not None, "only keys run models"
    metadata = None
    if usage.metadata is not None:
        metadata = orjson.dumps(
            {_storable(key): _storable(value) for key, value in usage.metadata.items()}
        ).decode()
    price, cost = usage.price, Cost()
    if price is not None:
        cost = price.cost(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return usage_rows.UsageRow(
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
        user_id=usage.principal.user_id,
        batch=usage.batch,
        input_price=price and price.input,
        cached_input_price=price and price.cached_input,
        output_price=price and price.output,
        input_cost=cost.input,
        cached_input_cost=cost.cached_input,
        output_cost=cost.output,
    )


def _storable(text: str) -> str:
    """Postgres takes neither NUL nor half of a surrogate pair, and callers can send both."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _log_lost(why: str, row: usage_rows.UsageRow) -> None:
    """The numbers and ids only: `end_user` and `metadata` are the customer's words."""
    _log.error(
        "usage record lost: %s; request=%s tenant=%s key=%s model=%s prompt=%d cached=%d "
        "completion=%d status=%d started=%s",
        why,
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

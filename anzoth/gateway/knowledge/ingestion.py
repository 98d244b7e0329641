"""Who reads the files that wait for a vector store, and what becomes of one that cannot be read?

Each gateway reads a few at a time, of all tenants in turn (see `claims`), woken by a notification
or else looking every few seconds. How the reading of a file can end:

    completed     its chunks are searched now
    failed        it cannot be read, or five attempts failed for a reason of our own
    retried       an attempt failed for a reason of our own: again in a while
    postponed     it goes on later: others wait, or its embedding model is away
    dropped       it was cancelled, taken out or claimed by another gateway meanwhile
    interrupted   the database was lost, or this gateway ends: it goes on with what it has

A gateway that is killed counts as no attempt of its files.

Does not know: how a file becomes chunks (see `file_ingestion`), or how they are searched.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.store.ingestion_rows import CHANNEL, ChunkSums, ClaimRow
from anzoth.errors import KeyRevoked, NotFound
from anzoth.gateway.claimed_work import ClaimLost, while_renewed
from anzoth.gateway.knowledge.chunk_vectors import ModelAway
from anzoth.gateway.knowledge.file_ingestion import FileIngestion, GaveWay, Parts
from anzoth.gateway.principal import TenantHandle
from anzoth.ingest.limits import UnreadableFile

Outcome = Literal["completed", "failed", "retried", "postponed", "dropped", "interrupted"]
OnChange = Callable[[TenantHandle, str, str], None]
"""Is told the tenant, the store and the file that was completed. Never blocks, never raises."""

MAX_ATTEMPTS = 5
_FIRST_RETRY_S = 2.0
_MODEL_PAUSE_S = 10.0
_POLL_S = 5.0
_DATABASE_PAUSE_S = 0.5
_COUNT_S = 15.0
_LAST_WORDS_S = 2.0
"""For a gateway that ends to leave its files to others."""

_log = logging.getLogger(__name__)


class Ingestion:
    """One per gateway. `run` must be running."""

    def __init__(
        self,
        parts: Parts,
        dsn: str,
        max_running: int,
        on_change: OnChange = lambda tenant, store_id, file_id: None,
    ) -> None:
        self._parts = parts
        self._dsn = dsn
        self._max_running = max_running
        self._on_change = on_change
        self._claiming = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._running: set[tuple[uuid.UUID, str, str]] = set()
        self._must_take_up_own = True

    async def run(self) -> None:
        """Reads files for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(self._dsn, CHANNEL, lambda _: self._wake(), self._wake))
            group.create_task(self._count())
            for _ in range(self._max_running):
                group.create_task(self._work())

    def _wake(self) -> None:
        """Files wait that did not before. Whoever looked already looks again."""
        wanted, self._wanted = self._wanted, asyncio.Event()
        wanted.set()

    async def _work(self) -> None:
        while True:
            wanted, pause_s = self._wanted, _POLL_S
            try:
                if await self.read_next() is not None:
                    continue
            except (DatabaseDown, asyncpg.PostgresError) as error:
                _log.warning("files wait to be read: %s", type(error).__name__)
                pause_s = _DATABASE_PAUSE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await wanted.wait()

    async def _count(self) -> None:
        while True:
            with suppress(DatabaseDown, asyncpg.PostgresError):
                self._parts.metrics.files_waiting(await self._parts.claims.num_waiting())
            await asyncio.sleep(_COUNT_S)

    async def read_next(self) -> Outcome | None:
        """Reads the file whose turn it is, and says how that ended. None: there is nothing to read.

        Raises DatabaseDown where it did not get so far as to claim one.
        """
        async with self._claiming:
            claims = self._parts.claims
            if self._must_take_up_own:
                await claims.take_up_own(self._running)
                self._must_take_up_own = False
            models = [model.name for model in self._parts.models if model.engine.healthy]
            claim = await claims.try_next(models) if models else None
            if claim is None:
                return None
            self._running.add(claim.key)
        try:
            outcome = await self._read(claim)
        except (DatabaseDown, asyncpg.PostgresError):
            outcome = "interrupted"
            self._must_take_up_own = True
        finally:
            self._running.discard(claim.key)
        self._parts.metrics.file_ingested(outcome)
        return outcome

    def _is_busy(self) -> bool:
        return len(self._running) >= self._max_running

    async def _read(self, claim: ClaimRow) -> Outcome:
        """Raises DatabaseDown: then it is this gateway's until the claim has passed."""
        claims = self._parts.claims
        try:
            sums = await self._while_renewed(claim)
            await claims.complete(claim, sums)
            self._on_change(claims.handle_of(claim), claim.store_id, claim.file_id)
            return "completed"
        except asyncio.CancelledError:
            with suppress(ClaimLost, DatabaseDown, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await claims.let_go(claim, 0)
            raise
        except DatabaseDown:
            raise
        except Exception as error:  # noqa: BLE001  # the edge of a file: one file, one outcome
            try:
                return await self._give_up(claim, error)
            except ClaimLost:
                return "dropped"

    async def _while_renewed(self, claim: ClaimRow) -> ChunkSums:
        """Writes the file's chunks while its claim is renewed, and not a moment longer."""
        reading = FileIngestion(self._parts, claim, self._is_busy).run()
        return await while_renewed(reading, lambda: self._parts.claims.renew(claim))

    async def _give_up(self, claim: ClaimRow, error: Exception) -> Outcome:
        """Says of a file why it was not read. Raises ClaimLost and DatabaseDown."""
        claims = self._parts.claims
        match error:
            case GaveWay():
                await claims.let_go(claim, 0)
                return "postponed"
            case ModelAway():
                await claims.let_go(claim, _MODEL_PAUSE_S)
                return "postponed"
            case ClaimLost() | KeyRevoked():
                return "dropped"  # what was written of it is deleted soon (see `store_cleanup`)
            case NotFound():
                await claims.fail(claim, "invalid_file", "The file was deleted, or has expired.")
                return "failed"
            case UnreadableFile() if error.code != "server_error":
                await claims.fail(claim, error.code, error.message)
                return "failed"
        _log.error("the reading of a file failed: %s", _where(error))
        if claim.attempts + 1 < MAX_ATTEMPTS:
            pause_s = _FIRST_RETRY_S * 2**claim.attempts
            await claims.let_go(claim, pause_s, is_attempt=True)
            return "retried"
        message = "The file could not be read because of a fault here."
        if isinstance(error, UnreadableFile):
            message = error.message
        await claims.fail(claim, "server_error", message)
        return "failed"


def _where(error: Exception) -> str:
    """What kind of error, and where in the program: its message may quote the file."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno}"

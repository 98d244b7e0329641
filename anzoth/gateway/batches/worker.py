"""Who works on the batches that are open?

Each gateway claims some at a time, of all tenants in turn (see `claims`), woken by a notification
or else looking every few seconds, and runs a few requests of all of them at once. A batch that is
left, because the database was lost or the gateway ends, is gone on with where it stood. A gateway
that is killed counts as no attempt of its batches.

Does not know: what is done for a batch (see `running`).
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import suppress
from typing import Literal

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.store.batch_claim_rows import BatchClaim
from anzoth.db.store.batch_rows import CHANNEL
from anzoth.errors import DatabaseUnavailable, KeyRevoked
from anzoth.gateway.batches.claims import Key
from anzoth.gateway.batches.input_lines import BadInput
from anzoth.gateway.batches.running import BatchRun, NoRoom, Parts
from anzoth.gateway.claimed_work import ClaimLost, while_renewed

Outcome = Literal["done", "failed", "retried", "postponed", "dropped", "interrupted"]

MAX_RUNNING = 64
"""Batches of all tenants; each may have a few mebibytes in memory."""
MAX_ATTEMPTS = 5
_FIRST_RETRY_S = 2.0
_NO_ROOM_PAUSE_S = 60.0
_POLL_S = 5.0
_DATABASE_PAUSE_S = 0.5
_LAST_WORDS_S = 2.0
"""For a gateway that ends to leave its batches to others."""
_FAULT = BadInput("server_error", "The batch could not be worked on because of a fault here.")

_log = logging.getLogger(__name__)


class BatchWorker:
    """One per gateway. `run` must be running."""

    def __init__(self, parts: Parts, dsn: str) -> None:
        self._parts = parts
        self._dsn = dsn
        self._places = asyncio.Semaphore(parts.config.concurrency)
        self._wanted = asyncio.Event()
        self._nudged = asyncio.Event()
        self._running: dict[Key, BatchRun | None] = {}
        self._must_take_up_own = True

    async def run(self) -> None:
        """Works for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(self._dsn, CHANNEL, lambda _: self._heard(), self._heard))
            group.create_task(self._look_when_nudged())
            while True:
                pause_s = _POLL_S
                self._wanted.clear()
                try:
                    while (claim := await self._try_claim()) is not None:
                        group.create_task(self._work_on(claim))
                except (DatabaseDown, asyncpg.PostgresError) as error:
                    _log.warning("batches wait: %s", type(error).__name__)
                    pause_s = _DATABASE_PAUSE_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wanted.wait()

    def _heard(self) -> None:
        """A batch was made, or cancelled, or either may have been missed."""
        self._wanted.set()
        self._nudged.set()

    async def _look_when_nudged(self) -> None:
        while True:
            await self._nudged.wait()
            self._nudged.clear()
            for run in list(self._running.values()):
                if run is not None:
                    # What is lost shows where it is renewed.
                    with suppress(ClaimLost, DatabaseDown, asyncpg.PostgresError):
                        await run.look()

    async def _try_claim(self) -> BatchClaim | None:
        """It counts as running from now on. Raises DatabaseDown."""
        if len(self._running) >= MAX_RUNNING:
            return None
        claims = self._parts.claims
        if self._must_take_up_own:
            await claims.take_up_own(self._running)
            self._must_take_up_own = False
        claim = await claims.try_next(self._running)
        if claim is not None:
            self._running[claim.tenant_id, claim.id] = None
        return claim

    async def _work_on(self, claim: BatchClaim) -> None:
        key = claim.tenant_id, claim.id
        try:
            outcome = await self._outcome(claim)
        except (DatabaseDown, DatabaseUnavailable, asyncpg.PostgresError):
            outcome = "interrupted"
            self._must_take_up_own = True
        finally:
            del self._running[key]
        self._parts.metrics.batch_worked_on(outcome)
        self._wanted.set()

    async def _outcome(self, claim: BatchClaim) -> Outcome:
        """Raises DatabaseDown: then it is this gateway's until the claim has passed."""
        claims = self._parts.claims
        run = self._running[claim.tenant_id, claim.id] = BatchRun(self._parts, claim, self._places)
        try:
            await while_renewed(run.run(), run.look)
            return "done"
        except asyncio.CancelledError:
            with suppress(DatabaseDown, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await claims.let_go(claim, 0)
            raise
        except (ClaimLost, KeyRevoked):
            return "dropped"
        except NoRoom:
            await claims.let_go(claim, _NO_ROOM_PAUSE_S)
            return "postponed"
        except (DatabaseDown, DatabaseUnavailable, asyncpg.PostgresError):
            raise
        except Exception as error:  # noqa: BLE001  # the edge of a batch: one batch, one outcome
            frame = traceback.extract_tb(error.__traceback__)[-1]
            # Not its message, which may quote a request.
            what = f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
            _log.error("the work on a batch failed: %s", what)
        if claim.attempts + 1 < MAX_ATTEMPTS:
            pause_s = _FIRST_RETRY_S * 2**claim.attempts
            await claims.let_go(claim, pause_s, is_attempt=True)
            return "retried"
        with suppress(ClaimLost):
            await run.fail(_FAULT)
        return "failed"

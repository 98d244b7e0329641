"""How does one claimed batch get from its input to its files?

    validating ─▶ in_progress ─▶ finalizing ─▶ completed        every line has its answer
        │              ├───────▶ finalizing ─▶ expired          the window has passed
        │              └─▶ cancelling ─▶ finalizing ─▶ cancelled
        └─▶ failed                                              the input is not as it should be

An answer is in the database before its line counts as answered, and whoever goes on with a batch
asks for the other lines only: so a line may be computed twice, where a gateway died in between, and
is never reported twice. Each line of the input is in one of both files, once: those that were not
answered before the batch expired or was cancelled in the error file.

Does not know: whose turn it is, or how a request is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from anzoth.batch_config import BatchesConfig
from anzoth.db.pool import Connection, Database
from anzoth.db.store import batch_claim_rows
from anzoth.db.store.batch_claim_rows import AnswerRow, BatchClaim
from anzoth.errors import KeyRevoked, NotFound, StorageFull
from anzoth.gateway.audit import Actor
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.batches import answers
from anzoth.gateway.batches.answers import Answer, Ask
from anzoth.gateway.batches.claims import BatchClaims, require
from anzoth.gateway.batches.input_lines import (
    BadInput,
    InputCheck,
    InputLine,
    parse_line,
    read_lines,
)
from anzoth.gateway.batches.patience import MAX_LOST, can_wait, pause_s
from anzoth.gateway.files import FileOwner, FileRequest, Files
from anzoth.gateway.tenant_crypt import TenantCipher
from anzoth.telemetry import Metrics

_INPUT_GONE = BadInput(
    "input_file_not_found", "The input file was deleted, or has expired, before it was read."
)
_NO_ROOM = BadInput(
    "storage_full", "There was no room for the files of the batch before it expired."
)
_GROUP_LINES = 500
"""Written together, where nothing is asked."""
_READ_BYTES = 4 << 20
"""Of answers in memory while a file is written; one may be longer."""
_MAX_DELETED = 500


class NoRoom(Exception):
    """The tenant's files leave none for those of the batch. That may change."""


@dataclass(slots=True, frozen=True)
class Parts:
    """What batches are worked on with."""

    database: Database
    files: Files
    claims: BatchClaims
    authenticator: Authenticator
    ask: Ask
    config: BatchesConfig
    metrics: Metrics


class BatchRun:
    """Of one claimed batch."""

    def __init__(self, parts: Parts, claim: BatchClaim, places: asyncio.Semaphore) -> None:
        """`places`: for requests that run, of all batches of this gateway. Who waits longest is
        next, and each batch has as many that wait: so they get equal parts."""
        self._parts = parts
        self._claim = claim
        self._places = places
        self._expires_at_s = asyncio.get_running_loop().time() + claim.left_s
        self._is_cancelled = asyncio.Event()
        tenant = parts.claims.handle_of(claim)
        self._owner = FileOwner(tenant, claim.project_id, Actor("api_key", claim.key_id))

    async def look(self) -> None:
        """Renews the claim, and sees whether the batch was cancelled. Raises ClaimLost and
        DatabaseDown."""
        if await self._parts.claims.renew(self._claim) == "cancelling":
            self._is_cancelled.set()

    async def run(self) -> None:
        """Returns when there is nothing left to do.

        Raises ClaimLost, NoRoom, KeyRevoked where the tenant was deleted, CannotOpen,
        DatabaseUnavailable and DatabaseDown.
        """
        status = self._claim.status
        if not self._claim.is_tenant_deleted:
            if status == "validating":
                status = await self._check_input()
            if status in ("in_progress", "cancelling"):
                await self._answer_input(status)
                status = "finalizing"
            if status == "finalizing":
                await self._write_files()
        await self._forget_answers()

    async def fail(self, error: BadInput) -> None:
        """It cannot be gone on with. Raises ClaimLost and DatabaseDown."""
        async with self._parts.claims.holding(self._claim) as connection:
            await batch_claim_rows.end(connection, self._claim, "failed", [error.shown])
        await self._forget_answers()

    # --- the input -----------------------------------------------------------------------------

    async def _check_input(self) -> str:
        """The status behind it."""
        check = InputCheck(self._claim.endpoint, self._parts.config.max_requests)
        reason: BadInput | None = None
        try:
            async for _ in read_lines(await self._input(), check.see):
                pass
        except BadInput as error:
            reason = error
        except NotFound:
            reason = _INPUT_GONE
        errors = check.finish(reason)
        async with self._parts.claims.holding(self._claim) as connection:
            if errors:
                await batch_claim_rows.end(connection, self._claim, "failed", errors)
                return "failed"
            return await batch_claim_rows.start(connection, self._claim, check.num_requests)

    async def _input(self) -> AsyncIterator[bytes]:
        """Raises NotFound."""
        _, pieces = await self._parts.files.content(self._owner, self._claim.input_file_id)
        return pieces

    async def _unanswered(self) -> AsyncIterator[list[InputLine]]:
        """Raises NotFound."""
        async with self._parts.claims.holding(self._claim) as connection:
            done = await batch_claim_rows.answered_lines(connection, self._claim)

        def read(number: int, text: bytes) -> InputLine | None:
            return None if number in done else parse_line(number, text, self._claim.endpoint)

        async for lines in read_lines(await self._input(), read):
            yield lines

    # --- the answers ---------------------------------------------------------------------------

    async def _answer_input(self, status: str) -> None:
        if status == "cancelling":
            self._is_cancelled.set()
        ends_as, errors = "completed", None
        try:
            if not await self._try_ask_all():
                ends_as = "cancelled" if self._is_cancelled.is_set() else "expired"
                await self._answer_rest(f"batch_{ends_as}")
        except NotFound:
            ends_as, errors = "failed", [_INPUT_GONE.shown]
        async with self._parts.claims.holding(self._claim) as connection:
            await batch_claim_rows.finalize(connection, self._claim, ends_as, errors)

    async def _try_ask_all(self) -> bool:
        """False: it was cancelled, or has expired, before every line had its answer."""
        loop = asyncio.get_running_loop()
        left_s = self._expires_at_s - loop.time()
        if self._is_cancelled.is_set() or left_s <= 0:
            return False
        asking = loop.create_task(self._ask_all())
        cancelled = loop.create_task(self._is_cancelled.wait())
        either = {asking, cancelled}
        try:
            await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                await asking
                return True
        finally:
            for task in either:
                task.cancel()
            await asyncio.wait(either)
        if not asking.cancelled():
            await asking  # it came to its end, or broke off, at the same moment
        return not asking.cancelled()

    async def _ask_all(self) -> None:
        window = asyncio.Semaphore(self._parts.config.concurrency)
        cipher = await self._parts.files.keys.cipher(self._owner.tenant)

        async def one(line: InputLine) -> None:
            try:
                answer = await self._ask(line)
                row = await asyncio.to_thread(
                    answers.answered, cipher, self._claim.id, line, answer
                )
                await self._keep([row])
            finally:
                window.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for lines in self._unanswered():
                    for line in lines:
                        await window.acquire()
                        group.create_task(one(line))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _ask(self, line: InputLine) -> Answer:
        """Makes the request, again and again while it is refused for a reason that passes."""
        claim, num_lost, num_refusals = self._claim, 0, 0
        while True:
            try:
                principal = await self._parts.authenticator.of_key(self._owner.tenant, claim.key_id)
            except KeyRevoked as revoked:
                return Answer(None, revoked.status, revoked.body_bytes(), revoked)
            async with self._places:
                answer = await self._parts.ask(
                    principal, claim.endpoint, line.body, claim.made_from
                )
            num_lost += answer.was_lost
            failure = answer.failure
            if failure is None or not can_wait(failure) or num_lost >= MAX_LOST:
                return answer
            num_refusals += 1
            await asyncio.sleep(pause_s(failure, num_refusals))

    async def _answer_rest(self, code: str) -> None:
        """Nothing more is asked: every line that has no answer is told so."""
        cipher = await self._parts.files.keys.cipher(self._owner.tenant)

        def rows_of(lines: Sequence[InputLine]) -> list[AnswerRow]:
            return [answers.never_made(cipher, self._claim.id, line, code) for line in lines]

        async for lines in self._unanswered():
            for start in range(0, len(lines), _GROUP_LINES):
                group = lines[start : start + _GROUP_LINES]
                await self._keep(await asyncio.to_thread(rows_of, group))

    async def _keep(self, rows: Collection[AnswerRow]) -> None:
        async with self._parts.claims.holding(self._claim) as connection:
            await batch_claim_rows.insert_answers(connection, self._claim, list(rows))
        for row in rows:
            self._parts.metrics.batch_request("failed" if row.is_error else "completed")

    # --- the files -----------------------------------------------------------------------------

    async def _write_files(self) -> None:
        claim, errors = self._claim, None
        try:
            for is_of_errors, file_id in (
                (False, claim.output_file_id),
                (True, claim.error_file_id),
            ):
                if file_id is None:
                    await self._write_file(is_of_errors=is_of_errors)
        except StorageFull:
            if asyncio.get_running_loop().time() < self._expires_at_s:
                raise NoRoom from None
            errors = [_NO_ROOM.shown]
        async with self._parts.claims.holding(claim) as connection:
            status = None if errors is None else "failed"
            await batch_claim_rows.end(connection, claim, status, errors)

    async def _write_file(self, *, is_of_errors: bool) -> None:
        claim, files = self._claim, self._parts.files
        cipher = await files.keys.cipher(self._owner.tenant)
        incoming = await files.begin(self._owner, max_mib=files.config.max_upload_mib)

        async def note(connection: Connection, file_id: str) -> None:
            await require(connection, claim)
            await batch_claim_rows.set_file(connection, claim, file_id, is_of_errors=is_of_errors)

        kind = "error" if is_of_errors else "output"
        request = FileRequest(
            f"{claim.id}_{kind}.jsonl", "batch_output", claim.file_expires_after_s
        )
        try:
            has_any = False
            async for content in self._answers(cipher, are_errors=is_of_errors):
                has_any = True
                await incoming.write(content)
            if has_any:
                await incoming.complete(request, note)
        finally:
            incoming.abandon()

    async def _answers(self, cipher: TenantCipher, *, are_errors: bool) -> AsyncIterator[bytes]:
        last = 0
        while True:
            async with self._parts.database.tenant(self._owner.tenant) as connection:
                found = await batch_claim_rows.answers_behind(
                    connection, self._claim, last, _READ_BYTES, are_errors=are_errors
                )
            if not found:
                return
            last = found[-1][0]
            yield await asyncio.to_thread(_joined, cipher, self._claim.id, found)

    async def _forget_answers(self) -> None:
        """They are in its files now, or nobody can read them any more."""
        num_deleted = _MAX_DELETED
        while num_deleted == _MAX_DELETED:
            async with self._parts.claims.holding(self._claim) as connection:
                num_deleted = await batch_claim_rows.delete_answers(
                    connection, self._claim, _MAX_DELETED
                )
        async with self._parts.claims.holding(self._claim) as connection:
            await batch_claim_rows.close(connection, self._claim)


def _joined(cipher: TenantCipher, batch_id: str, found: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(answers.file_line(cipher, batch_id, line, sealed) for line, sealed in found)

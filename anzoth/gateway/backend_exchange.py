"""What becomes of one request to another server, from the question to the last byte of its answer?

An attempt has a deadline for the next part, an outcome that its breaker learns, and may be ended
from elsewhere. What cannot be read as an answer is the peer's failure.

Does not know: where a backend is, how it is asked, or what its refusals mean (see `backends`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import orjson

from anzoth.errors import AnzothError, CapacityUnavailable, ModelUnavailable
from anzoth.gateway.backend_errors import BackendFailed, NoAnswer, NoConnectionFree
from anzoth.gateway.breaker import Breaker, Permit
from anzoth.gateway.sse_reader import EventReader, EventStreamError

if TYPE_CHECKING:
    from anzoth.gateway.backend_client import Reply

MAX_ANSWER_BYTES = 64 << 20
_DONE = b"[DONE]"
_INLINE_BYTES = 64 << 10
"""An answer up to this size is parsed on the loop."""


class Asked(Protocol):
    """What an attempt tells the backend that it is made at."""

    def failed(self, what: str) -> BackendFailed: ...

    def attempted(self, model: str, outcome: str) -> None: ...

    def forget(self, attempt: Attempt) -> None: ...


class Attempt:
    """One request to a backend, whose outcome its breaker learns: once, or twice where an answer
    that had begun well breaks.

    A context manager around each part of it: an error that leaves one is that outcome, unless the
    caller went away or the error came from here.
    """

    __slots__ = (
        *("_backend", "_breaker", "_error", "_is_broken", "_is_over", "_model", "_permit"),
        *("_waiting", "deadline_s", "owners"),
    )

    def __init__(
        self,
        backend: Asked,
        model: str,
        breaker: Breaker,
        permit: Permit,
        owners: frozenset[UUID],
        deadline_s: float,
    ) -> None:
        self.owners = owners
        self._error: AnzothError | None = None
        """What it is to end with, from elsewhere."""
        self._waiting: asyncio.Timeout | None = None
        self._backend = backend
        self._model = model
        self._breaker = breaker
        self._permit = permit
        self._is_over = False
        self._is_broken = False
        self.deadline_s = deadline_s
        """On the loop's clock: until then the next part has to be there."""

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and error is self._error:
            self.abandoned()
        elif isinstance(error, ModelUnavailable | CapacityUnavailable):
            self.failed(error.code or "error")
        elif isinstance(error, AnzothError):
            self.succeeded(error.code or "error")  # it answered: the fault is the caller's
        elif error is not None:
            self.abandoned()

    def succeeded(self, outcome: str = "ok") -> None:
        self._end(outcome, self._breaker.succeeded)

    def failed(self, outcome: str) -> None:
        if self._is_over and not self._is_broken:
            self._breaker.failed(self._permit)
            self._backend.attempted(self._model, "broken")
        self._is_broken = True
        self._end(outcome, self._breaker.failed)

    def abandoned(self) -> None:
        self._end("abandoned", self._breaker.abandoned)

    def _end(self, outcome: str, tell_breaker: Callable[[Permit], None]) -> None:
        if not self._is_over:
            self._is_over = True
            tell_breaker(self._permit)
            self._backend.attempted(self._model, outcome)

    def unreadable(self, what: str) -> BackendFailed:
        """An answer that is none. `what`: for the log."""
        return self._backend.failed(what)

    @contextlib.asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Until the deadline. Translates what the client library raises."""
        try:
            async with asyncio.timeout_at(self.deadline_s) as self._waiting:
                if self._error is not None:
                    raise self._error
                yield
        except NoConnectionFree:
            self._error = CapacityUnavailable()  # that says nothing about the peer
            raise self._error from None
        except TimeoutError:
            if self._error is not None:
                raise self._error from None
            raise self._backend.failed("no answer in time") from None
        except NoAnswer as error:
            raise self._backend.failed(str(error)) from None
        finally:
            self._waiting = None

    def end(self, error: AnzothError) -> None:
        """Whatever it waits for raises `error`, now or when it waits again."""
        self._error = error
        if self._waiting is not None:
            self._waiting.reschedule(0.0)

    def forget(self) -> None:
        self._backend.forget(self)


class Exchange:
    """A 200 of a backend, whose body is still to come."""

    __slots__ = ("_attempt", "_chunk_timeout_s", "_response")

    def __init__(self, response: Reply, attempt: Attempt, chunk_timeout_s: float) -> None:
        self._response = response
        self._attempt = attempt
        self._chunk_timeout_s = chunk_timeout_s

    async def close(self) -> None:
        """Ends the connection if the body was not read to its end: the peer stops its work."""
        self._attempt.abandoned()
        self._attempt.forget()
        await self._response.close()

    def garbage(self, what: str) -> BackendFailed:
        """The error for a body that is JSON and still no answer. `what`: for the log."""
        self._attempt.failed("model_unavailable")
        return self._attempt.unreadable(what)

    async def read(self) -> dict[str, Any]:
        """The whole body, a JSON object. Raises ModelUnavailable."""
        with self._attempt:
            body = bytearray()
            async with self._attempt.patience():
                async for piece in self._response.pieces():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        raise self._attempt.unreadable("an answer that is too large")
                answer = await _parsed(bytes(body))
            if not isinstance(answer, dict) or "error" in answer:
                raise self._attempt.unreadable("an answer that is an error, or no JSON object")
            self._attempt.succeeded()
            return answer

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """The JSON object of each event, up to `[DONE]` or the end. Raises ModelUnavailable, also
        for an error that the peer streams.
        """
        loop = asyncio.get_running_loop()
        reader, pieces = EventReader(), self._response.pieces()
        while True:
            with self._attempt:
                async with self._attempt.patience():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                try:
                    events = reader.push(piece)
                except EventStreamError as error:
                    raise self._attempt.unreadable(str(error)) from None
            for data in events:
                if data == _DONE:
                    return
                with self._attempt:
                    event = self._event(data)
                    self._attempt.succeeded()
                yield event
            if events:
                self._attempt.deadline_s = loop.time() + self._chunk_timeout_s

    def _event(self, data: bytes) -> dict[str, Any]:
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict) or "error" in event:
            raise self._attempt.unreadable("an event that is an error, or no JSON object")
        return event


async def _parsed(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        if len(body) > _INLINE_BYTES:
            return await asyncio.to_thread(orjson.loads, body)
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None

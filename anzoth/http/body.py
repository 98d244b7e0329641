"""How do the bytes of one request body reach the coroutine that asked for them?

A `Body` takes wire bytes as they come (`feed`, called by the connection) and hands them decoded to
one reader (the application): the whole (`read`), or what there is (`read_some`). While nobody
waits for bytes it holds little and says so (`wants_data`); who reads the whole has it hold at most
what that reader accepts.

Does not know: sockets, what time it is (the connection calls `fail` when time is up), what the body
says.
"""

from __future__ import annotations

import asyncio

import h11

from anzoth.config import HttpConfig
from anzoth.errors import AnzothError, BadRequest, PayloadTooLarge
from anzoth.http.framing import Chunked, FixedLength
from anzoth.http.head import Head
from anzoth.http.messages import ClientDisconnected

UNASKED_BYTES = 64 * 1024
"""What a client may send of a body before the application asks for it (or for more of it), and what
we are willing to read and throw away of a body that nobody wanted, to keep the connection."""


class Body:
    """One request body. Not for a request without one."""

    __slots__ = (
        "_content_length",
        "_error",
        "_framing",
        "_is_complete",
        "_limit_bytes",
        "_parser",
        "_parts",
        "_taken_bytes",
        "_waiter",
        "_waits_for_any",
        "received_bytes",
        "timeout_s",
        "waited_s",
        "wire_bytes",
    )

    def __init__(self, head: Head, parser: h11.Connection) -> None:
        self._parser = parser
        self._content_length = head.content_length
        self._framing = (
            Chunked() if head.content_length is None else FixedLength(head.content_length)
        )
        self._parts: list[bytes | bytearray] = []
        self._limit_bytes: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: AnzothError | ClientDisconnected | None = None
        self._is_complete = False
        self._taken_bytes = 0
        self._waits_for_any = False
        self.timeout_s: float | None = None
        """For how long a reader waits for the body in all; None: HttpConfig's limit."""
        self.waited_s = 0.0
        """How long that was before the present wait. What the reader does in between is not the
        client's slowness."""
        self.received_bytes = 0
        """Decoded body bytes so far."""
        self.wire_bytes = 0
        """The same with chunk framing: what the client's upload rate is measured by."""

    @property
    def is_complete(self) -> bool:
        return self._is_complete

    @property
    def is_awaited(self) -> bool:
        return self._waiter is not None

    @property
    def wants_data(self) -> bool:
        """Whether more bytes may be read from the socket now."""
        if self._error is not None or self._is_complete:
            return False
        # A reader that is woken but has not run yet waits no more: libuv may call up to 32 times
        # before it runs.
        is_awaited = self._waiter is not None and not self._waiter.done()
        return is_awaited or self.received_bytes - self._taken_bytes < UNASKED_BYTES

    @property
    def is_worth_discarding(self) -> bool:
        """Whether the rest is known to be so short that reading it beats a new connection."""
        if self._error is not None:
            return False
        if isinstance(self._framing, FixedLength):
            return self._framing.remaining_bytes <= UNASKED_BYTES
        return self._is_complete

    def due_at_s(self, started_s: float, config: HttpConfig) -> float:
        """When the body is late, if the wait for it began at `started_s`: the whole of it, or as
        much of it as should be here at the minimum rate."""
        started_s -= self.waited_s
        absolute_s = started_s + (self.timeout_s or config.body_timeout_s)
        if not config.min_body_bytes_per_s:
            return absolute_s
        paid_for_s = self.wire_bytes / config.min_body_bytes_per_s
        return min(absolute_s, started_s + config.body_grace_s + paid_for_s)

    def feed(self, data: bytes) -> bytes:
        """Takes the body's part of `data`; returns what comes behind the body.

        Errors go to the reader, not to the caller: `wants_data` is False from then on.
        """
        if self._is_complete:
            return data
        if self._error is not None or not data:
            return b""  # (to h11, no bytes would be the end of the connection)
        try:
            taken = self._framing.take(data)
            mine = data if taken == len(data) else data[:taken]
            self.wire_bytes += taken
            self._decode(mine)
        except BadRequest as error:
            self.fail(error)
            return b""
        if self._limit_bytes is not None and self.received_bytes > self._limit_bytes:
            self.fail(_too_large(self._limit_bytes))
            return b""
        if self._framing.is_complete:
            self._is_complete = True
            self._wake()
        elif self._waits_for_any and self._parts:
            self._wake()
        return data[taken:]

    def _decode(self, wire: bytes) -> None:
        ended = False
        try:
            self._parser.receive_data(wire)
            while not ended:
                event = self._parser.next_event()
                if isinstance(event, h11.Data):
                    self._parts.append(event.data)
                    self.received_bytes += len(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    ended = True
                else:
                    break
        except h11.RemoteProtocolError:
            raise BadRequest("The request body is malformed.") from None
        if ended != self._framing.is_complete or (ended and self._parser.trailing_data[0]):
            # Our framing and h11 saw different ends: whoever is right, the next byte is not safe.
            raise BadRequest("The request body is malformed.")

    def fail(self, error: AnzothError | ClientDisconnected) -> None:
        """The body will never be complete: tells the reader, now or when it comes."""
        if self._error is None and not self._is_complete:
            self._error = error
            self._parts.clear()
            self._wake()

    def discard(self) -> None:
        """Nobody will read the body: forget what came; what still comes is only counted."""
        self._parts.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def check_limit(self, limit_bytes: int) -> None:
        """Raises PayloadTooLarge if the body is already known to be longer."""
        if max(self._content_length or 0, self.received_bytes) > limit_bytes:
            raise _too_large(limit_bytes)

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body, for one reader. Raises what `fail` was given, or PayloadTooLarge."""
        self.check_limit(limit_bytes)
        await self._wait(limit_bytes, for_any=False)
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return bytes(self._parts[0])

    async def read_some(self, limit_bytes: int) -> bytes:
        """The next bytes, once: as many as there are, and none at the end of the body.

        `limit_bytes` is that of the whole body. Raises as `read` does.
        """
        self.check_limit(limit_bytes)
        await self._wait(limit_bytes, for_any=True)
        some = b"".join(self._parts)
        self._parts.clear()
        self._taken_bytes += len(some)
        return some

    async def _wait(self, limit_bytes: int, *, for_any: bool) -> None:
        if self._waiter is not None:
            raise RuntimeError("two coroutines read the body of one request")
        has_enough = self._is_complete or (for_any and self._parts)
        if not has_enough and self._error is None:
            self._limit_bytes = limit_bytes
            self._waits_for_any = for_any
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._waits_for_any = False
        if self._error is not None:
            raise self._error


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {limit_bytes} bytes.")

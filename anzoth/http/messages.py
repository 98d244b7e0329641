"""What does the HTTP layer hand to the application, and what does it take back?

The application is one coroutine function: `Request` in, `Response` or `StreamingResponse` out. It
may raise an `AnzothError` only where it wants the connection's own rendering of it.

Does not know: JSON, routes, keys, or how bytes reach a socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from anzoth.errors import AnzothError
from anzoth.http import sse

HeaderList = list[tuple[str, str]]


class Headers:
    """Request headers: names are lower case, values are decoded as latin-1 (RFC 9110 §5.5)."""

    __slots__ = ("_items",)

    def __init__(self, items: list[tuple[bytes, bytes]]) -> None:
        self._items = items

    def get(self, name: str) -> str | None:
        """The first value of `name` (lower case), or None."""
        wanted = name.encode("latin-1")
        for key, value in self._items:
            if key == wanted:
                return value.decode("latin-1")
        return None

    def items(self) -> list[tuple[str, str]]:
        return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in self._items]


@dataclass(slots=True)
class Request:
    """One request whose head passed the gate. The body is read when asked for, not before."""

    method: str
    path: str
    """Percent-decoded, without the query; always begins with '/'."""
    query: str
    headers: Headers
    request_id: str
    peer: str
    """The address of the socket's other end; 'unix' for Unix sockets."""
    received_at_s: float
    """time.monotonic() when the head was complete."""
    read_body: Callable[[int], Awaitable[bytes]]
    """`await request.read_body(limit_bytes)`: sends `100 Continue` first if the client wants it.

    Raises PayloadTooLarge, RequestTimeout (absolute deadline or below the minimum rate), or
    ClientDisconnected.
    """
    stream_body: Callable[[int, float], AsyncIterator[bytes]]
    """`async for data in request.stream_body(limit_bytes, timeout_s)`: the body as it comes, for
    one reader. While that works on a piece little more is taken from the client, so that a little
    of the body is ever in memory; `timeout_s` is how long it waits for the client in all.

    Raises as `read_body` does, at any time.
    """
    path_params: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Response:
    """A complete response. `content-length`, `date` and `connection` are added by the renderer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: HeaderList = field(default_factory=list)


class Sink(Protocol):
    """Where a streaming response writes. All calls but `drained` are synchronous and never block.

    Back-pressure: the sink buffers up to its high-water mark; a client that stays above it for
    longer than the configured time, or that leaves far more than that unread, is disconnected,
    which fires the callbacks.
    """

    @property
    def disconnected(self) -> bool: ...

    def write(self, data: bytes) -> None:
        """Sends body bytes now. Ignored after a disconnect."""
        ...

    async def drained(self) -> None:
        """Returns when the client has read enough for more to be written, at once if it has."""
        ...

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """`callback` runs once, at once if the client is already gone; never after the run."""
        ...


@dataclass(slots=True)
class StreamingResponse:
    """A response whose body is written while it is produced.

    The head goes out when the application returns this; then `run(sink)` is awaited. When it
    returns the body is complete. When it raises, the connection is cut without the final chunk, so
    that the client can tell a broken stream from a whole one. It is cancelled when the client goes.
    """

    run: Callable[[Sink], Awaitable[None]]
    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
    headers: HeaderList = field(default_factory=list)
    keep_alive_comment: bytes | None = b": keep-alive\n"
    """Written when nothing else was for a while (research/api: exactly one newline)."""
    error_frame: Callable[[AnzothError], bytes] = sse.error_frame
    """The last frame of an event stream that broke off."""


class ClientDisconnected(Exception):
    """The client closed the connection before its request or response was complete."""


Application = Callable[[Request], Awaitable[Response | StreamingResponse]]

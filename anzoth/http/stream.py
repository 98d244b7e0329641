"""How do a streaming response's bytes leave, and how does the application learn that nobody reads?

Writing is one synchronous call, so that one engine step can be one loop over all live streams. The
price is that such a writer cannot be made to wait: a client that reads too slowly is cut off
instead, by the connection's slow-reader deadline or, far above the mark, by this module at once.
Who writes much at its own pace awaits `drained` in between.

Does not know: tokens, SSE, or what comes before and after the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from anzoth.http.render import LAST_CHUNK, chunk

_LOGGER = logging.getLogger(__name__)

HARD_LIMIT_FACTOR = 16
"""A stream may briefly exceed the write buffer's mark, but never by more than this factor."""


class Stream:
    """The sink of one streaming response (see `messages.Sink`)."""

    __slots__ = (
        "_callbacks",
        "_comment",
        "_hard_limit_bytes",
        "_is_chunked",
        "_is_open",
        "_last_write_s",
        "_loop",
        "_may_write",
        "_ping_s",
        "_ping_timer",
        "_transport",
        "disconnected",
    )

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        loop: asyncio.AbstractEventLoop,
        *,
        is_chunked: bool,
        comment: bytes | None,
        ping_s: float,
        max_write_buffer_bytes: int,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._is_chunked = is_chunked
        self._comment = comment
        self._ping_s = ping_s
        self._hard_limit_bytes = max_write_buffer_bytes * HARD_LIMIT_FACTOR
        self._callbacks: list[Callable[[], None]] = []
        self._last_write_s = loop.time()
        self._is_open = True
        self._ping_timer: asyncio.TimerHandle | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.disconnected = False
        if comment is not None:
            self._ping_timer = loop.call_later(ping_s, self._on_ping_timer)

    @property
    def is_paused(self) -> bool:
        """The client leaves more than the mark unread."""
        return not self._may_write.is_set()

    def pause(self) -> None:
        """The connection's word on it."""
        self._may_write.clear()

    def resume(self) -> None:
        self._may_write.set()

    async def drained(self) -> None:
        # No timeout: the slow-reader deadline of the connection ends the exchange.
        await self._may_write.wait()

    def write(self, data: bytes) -> None:
        if not self._is_open or not data:
            return
        if self.is_paused and self._transport.get_write_buffer_size() > self._hard_limit_bytes:
            self._transport.abort()  # the connection hears of it and runs the callbacks
            return
        self._last_write_s = self._loop.time()
        self._transport.write(chunk(data) if self._is_chunked else data)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        if self.disconnected:
            callback()
        elif self._is_open:
            self._callbacks.append(callback)

    def ping(self) -> None:
        """Writes the comment: proxies keep silent streams open, and a lost client is noticed."""
        if self._comment is not None and not self.is_paused:
            self.write(self._comment)

    def _on_ping_timer(self) -> None:
        # One timer runs through the whole stream instead of being moved at each write.
        silent_s = self._loop.time() - self._last_write_s
        # The loop's clock has a resolution: a timer may come a little early.
        if silent_s + 0.001 >= self._ping_s:
            self.ping()
            silent_s = 0.0
        self._ping_timer = self._loop.call_later(self._ping_s - silent_s, self._on_ping_timer)

    def finish(self) -> None:
        """The body is complete."""
        if self._is_open and self._is_chunked:
            self._transport.write(LAST_CHUNK)
        self.close()

    def close(self) -> None:
        """No more writes and no more callbacks; the body may be incomplete."""
        self._is_open = False
        self._callbacks.clear()
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None

    def disconnect(self) -> None:
        """The client is gone: runs the callbacks."""
        if not self._is_open:
            return
        self.disconnected = True
        callbacks = list(self._callbacks)
        self.close()
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  # one owner's bug must not hide it from the rest
                _LOGGER.error("a disconnect callback failed: %s", type(error).__name__)

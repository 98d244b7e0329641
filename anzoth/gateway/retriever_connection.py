"""How do the bytes of one socket to the retriever become messages, and messages bytes?

The retriever's `Hello` must come first. A peer that sends anything but messages is cut off.

Does not know: requests, or what becomes of them when the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, cast

from anzoth.framing import FrameError
from anzoth.index_frames import Answer, Decoder, Hello, Message, Saved, Stats, encode

log = logging.getLogger(__name__)

MAX_UNSENT_BYTES = 64 << 20
"""Beyond this much unread by the retriever, changes wait and searches are refused."""


class Owner(Protocol):
    """Whose connection it is. Called from the loop: must not block."""

    def greeted(self, connection: RetrieverConnection) -> None: ...
    def saved(self, saved: Saved) -> None: ...
    def counted(self, stats: Stats) -> None: ...
    def connection_closed(self, connection: RetrieverConnection) -> None: ...


class RetrieverConnection(asyncio.Protocol):
    """One socket to the retriever, and the requests that wait on it."""

    def __init__(self, owner: Owner) -> None:
        self.hello: Hello | None = None
        self.closed = asyncio.Event()
        self.can_write = asyncio.Event()
        self.can_write.set()
        self._owner = owner
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Answer | None]] = {}
        self._next_request = 1

    def next_request(self) -> int:
        self._next_request += 1
        return self._next_request - 1

    def ask(self, request: int, message: Message, payload: bytes) -> asyncio.Future[Answer | None]:
        """Sends a message with this number; None is its answer if the connection ends."""
        answer = asyncio.get_running_loop().create_future()
        if self.closed.is_set():
            answer.set_result(None)
            return answer
        self._waiting[request] = answer
        answer.add_done_callback(lambda _: self._waiting.pop(request, None))
        self.send(message, payload)
        return answer

    def send(self, message: Message, payload: bytes = b"") -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message, payload))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's, only shaped like them.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self.can_write.set()
        for answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_result(None)
        self._owner.connection_closed(self)

    def pause_writing(self) -> None:
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.can_write.set()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for message, _ in self._decoder.feed(data):
                self._received(message)
        except FrameError as error:
            log.error("retriever: %s", error)
            self.close()

    def _received(self, message: Message) -> None:
        if self.hello is None:
            if not isinstance(message, Hello):
                raise FrameError(f"expected Hello first, got {type(message).__name__}")
            self.hello = message
            self._owner.greeted(self)
        elif isinstance(message, Saved):
            self._owner.saved(message)
        elif isinstance(message, Stats):
            self._owner.counted(message)
        elif isinstance(message, Answer):
            answer = self._waiting.get(message.request)
            if answer is not None and not answer.done():  # its caller may have been cancelled
                answer.set_result(message)
        else:
            raise FrameError(f"a retriever does not send {type(message).__name__} here")

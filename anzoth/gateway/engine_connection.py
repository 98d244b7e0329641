"""How do the bytes of one socket to an engine become messages, and messages bytes?

The engine's `Hello` must come first. A peer that sends anything but frames is cut off.

Does not know: requests, or what becomes of them when the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, cast

from anzoth.frames import Decoder, FrameError, Hello, Message

log = logging.getLogger(__name__)

MAX_UNSENT_BYTES = 4 << 20
"""Beyond this much unread by the engine, new requests are refused; aborts (tiny) still go out."""


class Owner(Protocol):
    """Whose connection it is. Called from the loop: must not block."""

    model: str

    def connection_opened(self, connection: EngineConnection) -> None: ...
    def connection_closed(self, connection: EngineConnection) -> None: ...
    def greeted(self, hello: Hello) -> None: ...

    def message(self, message: Message, payload: bytes) -> None:
        """Raises FrameError for what an engine does not say."""
        ...


class EngineConnection(asyncio.Protocol):
    """One socket to the engine."""

    def __init__(self, owner: Owner) -> None:
        self.greeted = False
        self.is_congested = False
        self.closed = asyncio.Event()
        self._owner = owner
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None

    def send(self, frame: bytes) -> None:
        """Ignored once the connection is closing: whoever waits for an answer is told `lost`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's, only shaped like them.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._owner.connection_opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._owner.connection_closed(self)

    def pause_writing(self) -> None:
        self.is_congested = True

    def resume_writing(self) -> None:
        self.is_congested = False

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for message, payload in self._decoder.feed(data):
                if self.greeted:
                    self._owner.message(message, payload)
                else:
                    self._greet(message)
        except FrameError as error:
            log.error("engine %s: %s", self._owner.model, error)
            self.close()

    def _greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise FrameError(f"expected Hello first, got {type(message).__name__}")
        self.greeted = True
        self._owner.greeted(message)

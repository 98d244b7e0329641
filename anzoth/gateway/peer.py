"""How does the gateway keep a socket to another process of its node, and what comes out of it?

    keep_connected    opens the socket, and opens it again with a short backoff when it ends
    PeerConnection    its bytes become messages; a Hello comes first

A peer that sends anything but messages of its protocol is cut off.

Does not know: which peer, what its messages mean, or what becomes of requests when it is gone.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar, cast

from anzoth.framing import FrameDecoder, FrameError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0

M = TypeVar("M")
C = TypeVar("C", bound="PeerConnection")


class PeerConnection(ABC, asyncio.Protocol, Generic[M]):
    """One socket to one peer. Subclasses say what to do with its messages."""

    def __init__(self, peer: str, decoder: FrameDecoder[M], max_unsent_bytes: int) -> None:
        """`peer`: as log lines call it. `max_unsent_bytes`: see `pause_writing`."""
        self.is_greeted = False
        self.closed = asyncio.Event()
        self._peer = peer
        self._decoder = decoder
        self._max_unsent_bytes = max_unsent_bytes
        self._transport: asyncio.Transport | None = None

    def send(self, frame: bytes) -> None:
        """Ignored once the connection is closing: whoever waits for an answer is told so."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @abstractmethod
    def greet(self, message: M) -> None:
        """The first message. Raises FrameError unless it is a Hello."""

    @abstractmethod
    def received(self, message: M, payload: bytes) -> None:
        """Any other message. Raises FrameError for what such a peer does not say."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's, only shaped like them.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._max_unsent_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for message, payload in self._decoder.feed(data):
                if self.is_greeted:
                    self.received(message, payload)
                else:
                    self.greet(message)
                    self.is_greeted = True
        except FrameError as error:
            log.error("%s: %s", self._peer, error)
            self.close()


async def keep_connected(
    path: Path, connection: Callable[[], C], watch: Callable[[C], Awaitable[object]]
) -> None:
    """Until cancelled. `watch` is called with each connection, which may have ended already, and
    returns when it has ended."""
    loop, backoff_s = asyncio.get_running_loop(), MIN_BACKOFF_S
    while True:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await loop.create_unix_connection(connection, str(path))
        except (OSError, TimeoutError):
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            continue
        await watch(made)
        if made.is_greeted:
            backoff_s = MIN_BACKOFF_S
        await asyncio.sleep(backoff_s)

"""What does one socket to an engine say, and to whom?

Does not know: requests, or what becomes of them when the connection ends.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from anzoth.frames import Decoder, FrameError, Hello, Message
from anzoth.gateway.peer import PeerConnection

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


class EngineConnection(PeerConnection[Message]):
    """One socket to the engine."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"engine {owner.model}", Decoder(), MAX_UNSENT_BYTES)
        self.is_congested = False
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.connection_opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._owner.connection_closed(self)

    def pause_writing(self) -> None:
        self.is_congested = True

    def resume_writing(self) -> None:
        self.is_congested = False

    def greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise FrameError(f"expected Hello first, got {type(message).__name__}")
        self._owner.greeted(message)

    def received(self, message: Message, payload: bytes) -> None:
        self._owner.message(message, payload)

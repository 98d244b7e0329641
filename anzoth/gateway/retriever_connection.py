"""What does one socket to the retriever say, and which requests wait on it?

Does not know: stores, or what becomes of requests when the connection ends.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from anzoth.framing import FrameError
from anzoth.gateway.peer import PeerConnection
from anzoth.index_frames import Answer, Decoder, Hello, Message, Saved, Stats, encode

MAX_UNSENT_BYTES = 64 << 20
"""Beyond this much unread by the retriever, changes wait and searches are refused."""


class Owner(Protocol):
    """Whose connection it is. Called from the loop: must not block."""

    def greeted(self, connection: RetrieverConnection) -> None: ...
    def saved(self, saved: Saved) -> None: ...
    def counted(self, stats: Stats) -> None: ...
    def connection_closed(self, connection: RetrieverConnection) -> None: ...


class RetrieverConnection(PeerConnection[Message]):
    """One socket to the retriever, and the requests that wait on it."""

    def __init__(self, owner: Owner) -> None:
        super().__init__("retriever", Decoder(), MAX_UNSENT_BYTES)
        self.can_write = asyncio.Event()
        self.can_write.set()
        self._owner = owner
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
        self.send(encode(message, payload))
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.can_write.set()
        for answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_result(None)
        self._owner.connection_closed(self)

    def pause_writing(self) -> None:
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.can_write.set()

    def greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise FrameError(f"expected Hello first, got {type(message).__name__}")
        self._owner.greeted(self)

    def received(self, message: Message, payload: bytes) -> None:
        if isinstance(message, Saved):
            self._owner.saved(message)
        elif isinstance(message, Stats):
            self._owner.counted(message)
        elif isinstance(message, Answer):
            answer = self._waiting.get(message.request)
            if answer is not None and not answer.done():  # its caller may have been cancelled
                answer.set_result(message)
        else:
            raise FrameError(f"a retriever does not send {type(message).__name__} here")

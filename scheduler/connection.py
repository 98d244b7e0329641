"""What is one gateway connection, as the engine sees it?

Bytes in become messages, frames out become bytes, and neither side can make the other wait:
reading takes what is there, writing keeps what the socket does not take. A gateway that leaves more
than the bound unread is disconnected, because the engine must not hold its output for ever.

A gateway numbers its requests as it likes; the connection knows which engine number each one has.

Does not know: what a request means, or when a step happens.
"""

from __future__ import annotations

import socket

from anzoth.frames import (
    Abort,
    Decoder,
    Embed,
    FrameError,
    Message,
    Purge,
    Submit,
    encode,
    unpack_token_ids,
)
from anzoth.scheduler.compile_queue import Job

_READ_BYTES = 1 << 20
MAX_UNSENT_BYTES = 16 << 20


Received = tuple[Submit, list[int]] | tuple[Embed, list[int]] | Abort | Purge
"""What a gateway may send; a request comes with its token ids."""


class PeerLost(Exception):
    """The gateway closed the connection, broke the protocol, or does not read."""


class Connection:
    """One accepted socket, its buffers and its requests."""

    def __init__(self, sock: socket.socket, max_unsent_bytes: int = MAX_UNSENT_BYTES) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.engine_numbers: dict[int, int] = {}
        """From the gateway's number of each unfinished request to the engine's."""
        self.compiling: dict[int, Job] = {}
        """By the gateway's number: requests whose grammar is not ready yet."""
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._max_unsent_bytes = max_unsent_bytes

    @property
    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> list[Received]:
        """The messages that have arrived completely, each checked for type. Raises PeerLost."""
        data = bytearray()
        try:
            while len(data) < _READ_BYTES:
                chunk = self.socket.recv(_READ_BYTES)
                if not chunk:
                    raise PeerLost("closed by the gateway")
                data += chunk
        except BlockingIOError:
            pass
        except OSError as error:
            raise PeerLost(error.strerror or "read error") from error
        try:
            return [_checked(*frame) for frame in self._decoder.feed(bytes(data))]
        except FrameError as error:
            raise PeerLost(f"broken frame: {error}") from error

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Sends a frame, or keeps what the socket does not take now. Raises PeerLost."""
        self._unsent += encode(message, payload)
        self.flush()
        if len(self._unsent) > self._max_unsent_bytes:
            raise PeerLost(f"{len(self._unsent)} bytes were not read")

    def flush(self) -> None:
        """Sends as much as the socket takes. Raises PeerLost."""
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise PeerLost(error.strerror or "write error") from error


def _checked(message: Message, payload: bytes) -> Received:
    """A gateway may only ask, abort and purge; ids that route messages must have their types.

    Other values inside a request are checked where it is admitted: they get an answer.
    """
    if isinstance(message, Submit):
        if not (
            type(message.request) is int
            and isinstance(message.tenant, str)
            and isinstance(message.cache_salt, str)
        ):
            raise FrameError("submit: request, tenant or cache_salt has the wrong type")
        return message, unpack_token_ids(payload)
    if isinstance(message, Embed):
        if not (type(message.request) is int and isinstance(message.tenant, str)):
            raise FrameError("embed: request or tenant has the wrong type")
        return message, unpack_token_ids(payload)
    if isinstance(message, Abort):
        if type(message.request) is not int or type(message.choice) not in (int, type(None)):
            raise FrameError("abort: request or choice has the wrong type")
        return message
    if isinstance(message, Purge):
        names = (*message.cache_salts, *(message.tags or ()))
        if type(message.purge) is not int or not all(isinstance(name, str) for name in names):
            raise FrameError("purge: its number, a salt or a tag has the wrong type")
        return message
    raise FrameError(f"a gateway does not send {type(message).__name__}")

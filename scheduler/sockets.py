"""How do gateways reach an engine process, and whose loss concerns whom?

One listening Unix socket, one `Connection` per gateway, and the parent's pipe, all in one selector
of one thread. Each connection gets `Hello` first. A gateway that is lost, silent to reads or breaks
the protocol is dropped with its requests; the others do not notice.

Does not know: what a message asks for, or when a step happens.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from anzoth.frames import Hello
from anzoth.scheduler.connection import Connection, PeerLost, Received

log = logging.getLogger(__name__)

_MAX_CONNECTIONS = 64


class Owner(Protocol):
    """What is served over the sockets."""

    def received(self, connection: Connection, message: Received) -> None:
        """A message has come. Raises PeerLost to end the connection."""
        ...

    def lost(self, connection: Connection) -> int:
        """The connection has ended: its requests must too. Returns how many there were."""
        ...


class Watched(Protocol):
    """Something with a file descriptor."""

    def fileno(self) -> int: ...


class Sockets:
    """The sockets of one engine process. `connections` are those that are open now."""

    def __init__(
        self,
        owner: Owner,
        hello: Hello,
        listener: socket.socket,
        parent_fd: int,
        max_unsent_bytes: int,
    ) -> None:
        self.connections: set[Connection] = set()
        self.parent_is_gone = False
        self._owner = owner
        self._hello = hello
        self._listener = listener
        self._parent_fd = parent_fd
        self._max_unsent_bytes = max_unsent_bytes
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(parent_fd, selectors.EVENT_READ, self._read_parent)

    def watch(self, source: Watched, is_readable: Callable[[], None]) -> None:
        """Also calls `is_readable` whenever `source` is, from within `poll`."""
        self._selector.register(source, selectors.EVENT_READ, is_readable)

    def poll(self, timeout_s: float) -> None:
        """Handles everything that has arrived, waiting for the first of it."""
        for key, events in self._selector.select(timeout_s):
            # One event per socket and round, and a connection is dropped by its own events only.
            if isinstance(key.data, Connection):
                self.guarded(key.data, partial(self._handle, events=events))
            else:
                key.data()

    def guarded(self, connection: Connection, action: Callable[[Connection], None]) -> None:
        """Performs I/O with one gateway, whose loss concerns only itself."""
        try:
            action(connection)
        except PeerLost as lost:
            self._drop(connection, str(lost))
            return
        wanted = selectors.EVENT_READ
        if connection.wants_to_write:
            wanted |= selectors.EVENT_WRITE
        if self._selector.get_key(connection.socket).events != wanted:
            self._selector.modify(connection.socket, wanted, connection)

    def close(self) -> None:
        for connection in self.connections:
            connection.socket.close()
        self._selector.close()

    def _read_parent(self) -> None:
        self.parent_is_gone = not os.read(self._parent_fd, 4096)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:  # the peer has gone again, or no descriptors are left
            log.warning("could not accept a connection: %s", error.strerror)
            return
        if len(self.connections) >= _MAX_CONNECTIONS:
            log.warning("refused a connection: %d are open", len(self.connections))
            sock.close()
            return
        connection = Connection(sock, self._max_unsent_bytes)
        self.connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self.guarded(connection, partial(Connection.send, message=self._hello))

    def _handle(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            connection.flush()
        if events & selectors.EVENT_READ:
            for message in connection.receive():
                self._owner.received(connection, message)

    def _drop(self, connection: Connection, reason: str) -> None:
        num_aborted = self._owner.lost(connection)
        log.info("a gateway connection ended (%s); requests aborted: %d", reason, num_aborted)
        self.connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()

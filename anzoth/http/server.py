"""Who owns the connections and the tasks that answer them, and how does all of it end?

Does not know: what the application does, or what a request looks like.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Any

from anzoth.config import HttpConfig
from anzoth.errors import AnzothError, CapacityUnavailable
from anzoth.http.connection import Connection
from anzoth.http.messages import Application
from anzoth.http.render import Renderer

_LOGGER = logging.getLogger(__name__)

_BACKLOG = 1024
_REFUSAL_ROOM = 64
"""Connections beyond the maximum that are told so; those beyond even that are just reset."""

_CANCEL_S = 5.0
"""How long cancelled application tasks have for their cleanup."""


class HttpServer:
    """Accepts connections on one listening socket and answers them with one application.

    Owns every connection and every task: a task ends by itself, by its client's disconnect, or in
    `drain`, which does not return before all have ended (or were given up and logged).
    """

    def __init__(self, application: Application, config: HttpConfig) -> None:
        self.application = application
        self.config = config
        self.renderer = Renderer()
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._became_empty = asyncio.Event()

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    @property
    def num_active(self) -> int:
        """Requests that are being answered."""
        return len(self._tasks)

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    async def start(self, sock: socket.socket) -> None:
        """Begins to accept on `sock`, which is bound (TCP or Unix) and becomes the server's."""
        loop = asyncio.get_running_loop()

        def new_connection() -> Connection:
            return Connection(self, loop)

        if sock.family == getattr(socket, "AF_UNIX", None):
            create = loop.create_unix_server
        else:
            # Inherited by every accepted connection: a peer whose machine vanished is noticed.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            create = loop.create_server
        self._listener = await create(new_connection, sock=sock, backlog=_BACKLOG)

    async def drain(self, timeout_s: float) -> None:
        """Stops accepting, lets requests finish for `timeout_s`, then ends what is left."""
        self._is_draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.begin_drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_empty()
        except TimeoutError:
            _LOGGER.warning("drain: %d connections did not finish in time", self.num_connections)
        for connection in list(self._connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(_CANCEL_S):
                await self._until_empty()
        except TimeoutError:
            _LOGGER.error("drain: %d tasks ignored their cancellation", self.num_active)

    async def _until_empty(self) -> None:
        while self._connections or self._tasks:
            self._became_empty.clear()
            await self._became_empty.wait()

    # --- what connections call (see `connection.Owner`) ----------------------------------------

    def connection_opened(self, connection: Connection) -> AnzothError | None:
        self._connections.add(connection)
        num_extra = len(self._connections) - self.config.max_connections
        if num_extra > _REFUSAL_ROOM:
            connection.abort()
        if self._is_draining:
            return CapacityUnavailable("The server is shutting down.")
        if num_extra > 0:
            return CapacityUnavailable("The server has no room for another connection.")
        return None

    def connection_closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._wake_when_empty()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake_when_empty()
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("an exchange ended with %s", type(error).__name__)

    def _wake_when_empty(self) -> None:
        if not self._connections and not self._tasks:
            self._became_empty.set()

"""How do gateways reach an engine that makes vectors, and what does its one thread do when?

As in scheduler/server.py: between two steps everything that has arrived is handled, and every
connection gets one `Step` frame per step, or one a second when idle. The vectors of a step go out
before it, one `Embedded` frame for each request that got some.

Does not know: sockets, how the process began, signals, or where the model came from.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial

from anzoth.frames import Abort, Embedded, Failed, Purge, Purged, Refused, Step, Submit
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.connection import MAX_UNSENT_BYTES, Connection, PeerLost, Received
from anzoth.scheduler.embedding_engine import EmbeddingEngine, Vectors
from anzoth.scheduler.sockets import Sockets

HEARTBEAT_S = 1.0


def serve(
    engine: EmbeddingEngine,
    model: str,
    listener: socket.socket,
    parent_fd: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    max_unsent_bytes: int = MAX_UNSENT_BYTES,
) -> None:
    """Runs the engine until `parent_fd` reports end of file. Raises what a step raises."""
    server = _Server(engine, model, listener, parent_fd, max_unsent_bytes)
    try:
        server.run(clock)
    finally:
        server.close()


class _Server:
    """One engine and its gateways."""

    def __init__(
        self,
        engine: EmbeddingEngine,
        model: str,
        listener: socket.socket,
        parent_fd: int,
        max_unsent_bytes: int,
    ) -> None:
        self._engine = engine
        self._routes: dict[int, tuple[Connection, int]] = {}
        """From the engine's number of a request to its connection and the number it has there."""
        hello = engine.hello(model)
        self._sockets = Sockets(self, hello, listener, parent_fd, max_unsent_bytes)

    def run(self, clock: Callable[[], float]) -> None:
        """The loop of the module's docstring."""
        heartbeat_at_s = clock()
        while True:
            busy = self._engine.has_work
            self._sockets.poll(0.0 if busy else max(0.0, heartbeat_at_s - clock()))
            if self._sockets.parent_is_gone:
                return
            busy = self._engine.has_work
            if busy:
                self._answer(self._engine.step())
            if busy or clock() >= heartbeat_at_s:
                self._report(idle=not busy)
                heartbeat_at_s = clock() + HEARTBEAT_S

    def close(self) -> None:
        self._sockets.close()

    # --- messages -----------------------------------------------------------------------------

    def received(self, connection: Connection, message: Received) -> None:
        """Takes effect before the next step."""
        if isinstance(message, Abort):
            self._abort(connection, message)
            return
        if isinstance(message, Purge):
            connection.send(Purged(message.purge, 0, 0))  # no text outlives its request here
            return
        request, token_ids = message
        if request.request in connection.engine_numbers:
            # An answer would be taken for the other request's.
            raise PeerLost(f"request number {request.request} is in use")
        if isinstance(request, Submit):
            answer = Refusal("invalid", "This model makes embeddings; it generates no text.")
        else:
            answer = self._engine.submit(request, token_ids)
        if isinstance(answer, Refusal):
            connection.send(
                Refused(request.request, answer.code, answer.message, answer.retry_after_ms)
            )
            return
        connection.engine_numbers[request.request] = answer
        self._routes[answer] = (connection, request.request)

    def lost(self, connection: Connection) -> int:
        """Its requests end with it."""
        for request in connection.engine_numbers.values():
            self._engine.abort(request)
            del self._routes[request]
        return len(connection.engine_numbers)

    def _abort(self, connection: Connection, abort: Abort) -> None:
        # Unknown is normal: the request may have finished while the abort was on its way.
        request = connection.engine_numbers.get(abort.request)
        if request is not None:
            self._engine.abort(request)
            self._forget_if_finished(request)

    def _answer(self, made: Iterable[Vectors]) -> None:
        for vectors in made:
            if vectors.request not in self._routes:
                continue  # its gateway was lost while another answer was sent
            connection, number = self._routes[vectors.request]
            self._forget_if_finished(vectors.request)
            if vectors.vectors is None:
                send = partial(Connection.send, message=Failed(number))
            else:
                message = Embedded(number, vectors.inputs)
                payload = b"".join(vectors.vectors)
                send = partial(Connection.send, message=message, payload=payload)
            self._sockets.guarded(connection, send)

    def _report(self, *, idle: bool) -> None:
        step = Step(self._engine.stats(idle=idle), ())
        for connection in tuple(self._sockets.connections):
            self._sockets.guarded(connection, partial(Connection.send, message=step))

    def _forget_if_finished(self, request: int) -> None:
        """The gateway may use a request's number again once it has ended."""
        if not self._engine.has_request(request):
            connection, number = self._routes.pop(request)
            del connection.engine_numbers[number]

"""How do gateways reach the engine, and what does the engine's one thread do when?

    loop:  work left?   poll the sockets without waiting, then one engine step
           idle?        wait on the sockets; a heartbeat every second

One thread: between two steps everything that has arrived is handled, so a submission or an abort
takes effect at the next step and nothing needs a lock. Each connection gets `Hello`, then one
`Step` frame per engine step with its own rows (perhaps none: the statistics alone tell that steps
happen). A connection that closes takes its requests with it.

A request with a grammar joins the queue when the grammar is compiled, which happens beside the loop
(scheduler/compile_queue.py); it is answered only then.

Does not know: how the process began, signals, or where the model came from.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import stat
import time
from collections.abc import Callable, Iterable
from functools import partial

from anzoth.frames import Abort, Admitted, Hello, Refused, Row, Step, Submit
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.compile_queue import CompileQueue, Result
from anzoth.scheduler.connection import MAX_UNSENT_BYTES, Connection, PeerLost
from anzoth.scheduler.constraint import Constraint, GrammarCompiler
from anzoth.scheduler.engine import Engine

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
_MAX_CONNECTIONS = 64


def listen(path: str) -> socket.socket:
    """A listening Unix socket at `path` that only this user can connect to.

    A socket left by a killed engine is replaced; anything else at that path is not touched.
    Raises OSError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(f"{path} exists and is not a socket")
        if os.path.lexists(path):
            os.unlink(path)
        # The mode must hold from the first moment: a chmod after bind would leave a gap.
        previous_umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(previous_umask)
        listener.listen(_MAX_CONNECTIONS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def serve(
    engine: Engine,
    model: str,
    listener: socket.socket,
    parent_fd: int,
    *,
    compiler: GrammarCompiler | None = None,
    clock: Callable[[], float] = time.monotonic,
    max_unsent_bytes: int = MAX_UNSENT_BYTES,
) -> None:
    """Runs the engine until `parent_fd` reports end of file. Raises what a step raises.

    Without a `compiler`, requests with a grammar are refused.
    """
    compiles = CompileQueue(compiler, clock) if compiler is not None else None
    server = _Server(engine, engine.hello(model), listener, parent_fd, max_unsent_bytes, compiles)
    try:
        server.run(clock)
    finally:
        server.close()


class _Server:
    """The sockets of one engine process."""

    def __init__(
        self,
        engine: Engine,
        hello: Hello,
        listener: socket.socket,
        parent_fd: int,
        max_unsent_bytes: int,
        compiles: CompileQueue | None,
    ) -> None:
        self._engine = engine
        self._hello = hello
        self._listener = listener
        self._parent_fd = parent_fd
        self._max_unsent_bytes = max_unsent_bytes
        self._parent_is_gone = False
        self._connections: set[Connection] = set()
        self._routes: dict[int, tuple[Connection, int]] = {}
        """From the engine's number of a request to its connection and the number it has there."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(parent_fd, selectors.EVENT_READ, self._read_parent)
        self._compiles = compiles
        if compiles is not None:
            self._selector.register(compiles, selectors.EVENT_READ, compiles.clear_wake_ups)

    def run(self, clock: Callable[[], float]) -> None:
        """The loop of the module's docstring."""
        heartbeat_at_s = clock()
        # What to verify when the work is done: the counts at once, every block a heartbeat later.
        counts_are_checked = blocks_are_checked = True
        while True:
            busy = self._engine.has_work
            self._poll(0.0 if busy else max(0.0, heartbeat_at_s - clock()))
            if self._parent_is_gone:
                return
            if self._engine.has_work:
                rows = self._engine.step()
                self._publish(rows, idle=False)
                counts_are_checked = blocks_are_checked = False
                heartbeat_at_s = clock() + HEARTBEAT_S
                continue
            if not counts_are_checked:
                self._engine.check_idle()
                counts_are_checked = True
            if clock() >= heartbeat_at_s:
                if not blocks_are_checked:
                    self._engine.check_integrity()
                    blocks_are_checked = True
                self._publish((), idle=True)
                heartbeat_at_s = clock() + HEARTBEAT_S

    def close(self) -> None:
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()
        if self._compiles is not None:
            self._compiles.close()

    # --- sockets ------------------------------------------------------------------------------

    def _poll(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            # One event per socket and round, and a connection is dropped by its own events only.
            if isinstance(key.data, Connection):
                self._guarded(key.data, partial(self._handle, events=events))
            else:
                key.data()
        # Afterwards: an answer may end a connection whose own event is still in the list above.
        if self._compiles is not None:
            self._compiles.poll()

    def _read_parent(self) -> None:
        self._parent_is_gone = not os.read(self._parent_fd, 4096)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:  # the peer has gone again, or no descriptors are left
            log.warning("could not accept a connection: %s", error.strerror)
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            log.warning("refused a connection: %d are open", len(self._connections))
            sock.close()
            return
        connection = Connection(sock, self._max_unsent_bytes)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self._guarded(connection, partial(Connection.send, message=self._hello))

    def _guarded(self, connection: Connection, action: Callable[[Connection], None]) -> None:
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

    def _drop(self, connection: Connection, reason: str) -> None:
        log.info(
            "a gateway connection ended (%s); requests aborted: %d",
            reason,
            len(connection.engine_numbers) + len(connection.compiling),
        )
        for request in connection.engine_numbers.values():
            self._engine.abort(request)
            del self._routes[request]
        if self._compiles is not None:
            for job in connection.compiling.values():
                self._compiles.cancel(job)
            connection.compiling.clear()
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()

    # --- messages -----------------------------------------------------------------------------

    def _handle(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            connection.flush()
        if events & selectors.EVENT_READ:
            for message in connection.receive():
                if isinstance(message, Abort):
                    self._abort(connection, message)
                else:
                    self._submit(connection, *message)

    def _submit(self, connection: Connection, submit: Submit, token_ids: list[int]) -> None:
        if submit.request in connection.engine_numbers or submit.request in connection.compiling:
            # An answer would be taken for the other request's.
            raise PeerLost(f"request number {submit.request} is in use")
        grammar = submit.sampling.grammar
        if grammar is None or self._compiles is None:
            self._queue(connection, submit, token_ids, None)
        elif refusal := self._engine.refusal(submit, token_ids):
            self._refuse(connection, submit, refusal)
        else:
            job = self._compiles.add(
                grammar, partial(self._compiled, connection, submit, token_ids)
            )
            if isinstance(job, Refusal):
                self._refuse(connection, submit, job)
            else:
                connection.compiling[submit.request] = job

    def _compiled(
        self, connection: Connection, submit: Submit, token_ids: list[int], result: Result
    ) -> None:
        del connection.compiling[submit.request]
        answer: Callable[[Connection], None]
        if isinstance(result, Refusal):
            answer = partial(self._refuse, submit=submit, refusal=result)
        else:
            answer = partial(self._queue, submit=submit, token_ids=token_ids, constraint=result)
        self._guarded(connection, answer)

    def _queue(
        self,
        connection: Connection,
        submit: Submit,
        token_ids: list[int],
        constraint: Constraint | None,
    ) -> None:
        answer = self._engine.submit(submit, token_ids, constraint)
        if not isinstance(answer, int):
            self._refuse(connection, submit, answer)
            return
        connection.engine_numbers[submit.request] = answer
        self._routes[answer] = (connection, submit.request)
        connection.send(Admitted(submit.request))

    def _refuse(self, connection: Connection, submit: Submit, refusal: Refusal) -> None:
        connection.send(
            Refused(submit.request, refusal.code, refusal.message, refusal.retry_after_ms)
        )

    def _abort(self, connection: Connection, abort: Abort) -> None:
        job = connection.compiling.get(abort.request)
        if job is not None and self._compiles is not None and abort.choice is None:
            self._compiles.cancel(job)
            del connection.compiling[abort.request]
        # Unknown is normal: the request may have finished while the abort was on its way.
        request = connection.engine_numbers.get(abort.request)
        if request is not None:
            self._engine.abort(request, abort.choice)
            self._forget_if_finished(request)

    def _publish(self, rows: Iterable[Row], *, idle: bool) -> None:
        """One `Step` to every connection, each with the rows of its own requests."""
        stats = self._engine.stats(idle=idle)
        rows_of: dict[Connection, list[Row]] = {connection: [] for connection in self._connections}
        finished: set[int] = set()
        for row in rows:
            connection, number = self._routes[row.request]
            rows_of[connection].append(Row(number, *row[1:]))
            if row.finish is not None:
                finished.add(row.request)
        for request in finished:
            self._forget_if_finished(request)
        for connection, own_rows in rows_of.items():
            step = Step(stats, tuple(own_rows))
            self._guarded(connection, partial(Connection.send, message=step))

    def _forget_if_finished(self, request: int) -> None:
        """The gateway may use a request's number again once all of its choices have ended."""
        if not self._engine.has_request(request):
            connection, number = self._routes.pop(request)
            del connection.engine_numbers[number]

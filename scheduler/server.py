"""How do gateways reach the engine, and what does the engine's one thread do when?

    loop:  work left?   poll the sockets without waiting, then one engine step
           idle?        wait on the sockets; a heartbeat every second

One thread: between two steps everything that has arrived is handled, so a submission or an abort
takes effect at the next step and nothing needs a lock. Each connection gets `Hello`, then one
`Step` frame per engine step with its own rows (perhaps none: the statistics alone tell that steps
happen). A connection that closes takes its requests with it.

A request with a grammar joins the queue when the grammar is compiled, which happens beside the loop
(scheduler/compile_queue.py); it is answered only then.

Does not know: sockets, how the process began, signals, or where the model came from.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial

from anzoth.frames import (
    Abort,
    Admitted,
    Embed,
    PromptRow,
    Purge,
    Purged,
    Refused,
    Row,
    Step,
    Submit,
    row_of,
)
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.compile_queue import CompileQueue, Result
from anzoth.scheduler.connection import MAX_UNSENT_BYTES, Connection, PeerLost, Received
from anzoth.scheduler.constraint import Constraint, GrammarCompiler
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.origin import Deletion
from anzoth.scheduler.sockets import Sockets

HEARTBEAT_S = 1.0


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
    server = _Server(engine, model, listener, parent_fd, max_unsent_bytes, compiles, clock)
    try:
        server.run()
    finally:
        server.close()


class _Server:
    """One engine and its gateways."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        listener: socket.socket,
        parent_fd: int,
        max_unsent_bytes: int,
        compiles: CompileQueue | None,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._routes: dict[int, tuple[Connection, int]] = {}
        """From the engine's number of a request to its connection and the number it has there."""
        hello = engine.hello(model)
        self._sockets = Sockets(self, hello, listener, parent_fd, max_unsent_bytes)
        self._compiles = compiles
        self._deletions: list[Deletion] = []
        """Those that came while a grammar was being compiled: its request must not undo them."""
        if compiles is not None:
            self._sockets.watch(compiles, compiles.clear_wake_ups)

    def run(self) -> None:
        """The loop of the module's docstring."""
        clock = self._clock
        heartbeat_at_s = clock()
        # What to verify when the work is done: the counts at once, every block a heartbeat later.
        counts_are_checked = blocks_are_checked = True
        while True:
            busy = self._engine.has_work
            self._poll(0.0 if busy else max(0.0, heartbeat_at_s - clock()))
            if self._sockets.parent_is_gone:
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
        self._sockets.close()
        if self._compiles is not None:
            self._compiles.close()

    def _poll(self, timeout_s: float) -> None:
        self._sockets.poll(timeout_s)
        # Afterwards: an answer may end a connection whose own event was handled just now.
        if self._compiles is not None:
            self._compiles.poll()

    def lost(self, connection: Connection) -> int:
        """Its requests end with it."""
        num_requests = len(connection.engine_numbers) + len(connection.compiling)
        for request in connection.engine_numbers.values():
            self._engine.abort(request)
            del self._routes[request]
        if self._compiles is not None:
            for job in connection.compiling.values():
                self._compiles.cancel(job)
            connection.compiling.clear()
        return num_requests

    # --- messages -----------------------------------------------------------------------------

    def received(self, connection: Connection, message: Received) -> None:
        """Takes effect before the next step."""
        if isinstance(message, Abort):
            self._abort(connection, message)
            return
        if isinstance(message, Purge):
            self._purge(connection, message)
            return
        request, token_ids = message
        if isinstance(request, Embed):
            refusal = Refusal("invalid", "This model generates text; it makes no embeddings.")
            self._refuse(connection, request, refusal)
        else:
            self._submit(connection, request, token_ids)

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
                grammar,
                partial(
                    self._compiled,
                    connection,
                    submit,
                    token_ids,
                    len(self._deletions),
                    self._clock(),
                ),
            )
            if isinstance(job, Refusal):
                self._refuse(connection, submit, job)
            else:
                connection.compiling[submit.request] = job

    def _compiled(
        self,
        connection: Connection,
        submit: Submit,
        token_ids: list[int],
        num_deletions: int,
        arrived_s: float,
        result: Result,
    ) -> None:
        del connection.compiling[submit.request]
        answer: Callable[[Connection], None]
        if isinstance(result, Refusal):
            answer = partial(self._refuse, submit=submit, refusal=result)
        else:
            answer = partial(
                self._queue,
                submit=submit,
                token_ids=token_ids,
                constraint=result,
                waited_s=self._clock() - arrived_s,
            )
        self._sockets.guarded(connection, answer)
        for deletion in self._deletions[num_deletions:]:
            self._engine.delete(deletion)

    def _queue(
        self,
        connection: Connection,
        submit: Submit,
        token_ids: list[int],
        constraint: Constraint | None,
        waited_s: float = 0.0,
    ) -> None:
        answer = self._engine.submit(submit, token_ids, constraint, waited_s)
        if not isinstance(answer, int):
            self._refuse(connection, submit, answer)
            return
        connection.engine_numbers[submit.request] = answer
        self._routes[answer] = (connection, submit.request)
        connection.send(Admitted(submit.request))

    def _refuse(self, connection: Connection, submit: Submit | Embed, refusal: Refusal) -> None:
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

    def _purge(self, connection: Connection, purge: Purge) -> None:
        tags = None if purge.tags is None else frozenset(purge.tags)
        deletion = Deletion(frozenset(purge.cache_salts), tags)
        if any(other.compiling for other in self._sockets.connections):
            self._deletions.append(deletion)
        else:
            self._deletions.clear()
        connection.send(Purged(purge.purge, *self._engine.delete(deletion)))

    def _publish(self, rows: Iterable[Row], *, idle: bool) -> None:
        """One `Step` to every connection, each with the rows of its own requests."""
        stats = self._engine.stats(idle=idle)
        rows_of: dict[Connection, list[Row]] = {
            connection: [] for connection in self._sockets.connections
        }
        finished: set[int] = set()
        for row in rows:
            connection, number = self._routes[row.request]
            rows_of[connection].append(row_of((number, *row[1:])))
            if row.finish is not None:
                finished.add(row.request)
        prompt_rows_of: dict[Connection, list[PromptRow]] = {}
        for row in self._engine.take_prompt_rows():
            connection, number = self._routes[row.request]
            prompt_rows_of.setdefault(connection, []).append(row._replace(request=number))
        for request in finished:
            self._forget_if_finished(request)
        for connection, own_rows in rows_of.items():
            step = Step(stats, tuple(own_rows), tuple(prompt_rows_of.get(connection, ())))
            self._sockets.guarded(connection, partial(Connection.send, message=step))

    def _forget_if_finished(self, request: int) -> None:
        """The gateway may use a request's number again once all of its choices have ended."""
        if not self._engine.has_request(request):
            connection, number = self._routes.pop(request)
            del connection.engine_numbers[number]

"""How is a grammar compiled without holding up the step that is running?

Each compilation has a thread of its own, at most two at once, and hands its result back through a
pipe that wakes the loop of scheduler/server.py. Results are delivered by `poll`, on that loop: the
engine itself never meets a thread. A compilation that takes longer than the bound fails; its thread
cannot be stopped, so it is left to end by llguidance's own limits, and another takes its place.

Does not know: sockets, or what a request is besides its grammar.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.constraint import (
    COMPILE_STACK_BYTES,
    Constraint,
    GrammarCompiler,
    GrammarError,
)

log = logging.getLogger(__name__)

COMPILE_TIMEOUT_S = 10.0
"""Waiting included. An ordinary schema takes milliseconds; the first one also reads the tokenizer,
which for 150,000 tokens takes a second or two."""
MAX_WAITING = 256
_MAX_AT_ONCE = 2
_MAX_THREADS = 8
"""With those that were given up."""
_RETRY_AFTER_MS = 1000

Result = Constraint | Refusal


@dataclass(slots=True, eq=False)
class Job:
    """One grammar on its way."""

    grammar: str = field(repr=False)
    deliver: Callable[[Result], None]
    deadline_s: float
    result: Result | None = None
    """Written by the job's thread, before it says that it is done."""


class CompileQueue:
    """Owns the threads that compile. Everything but their work happens on the caller's thread."""

    def __init__(self, compiler: GrammarCompiler, clock: Callable[[], float]) -> None:
        self._compiler = compiler
        self._clock = clock
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._done: deque[Job] = deque()
        """Filled by threads."""
        self._num_threads = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def fileno(self) -> int:
        """Readable when `poll` has something to deliver."""
        return self._wake_read

    def close(self) -> None:
        """Nothing is delivered any more; threads that still compile end by themselves."""
        self._waiting.clear()
        self._running.clear()
        os.close(self._wake_read)
        # The other end stays open: a thread may be about to write to it, and its number could by
        # then be another file's. The process ends soon.

    def add(self, grammar: str, deliver: Callable[[Result], None]) -> Job | Refusal:
        """`deliver` is called by a later `poll`, once, unless the job is cancelled before."""
        if len(self._waiting) >= MAX_WAITING:
            return _too_many()
        job = Job(grammar, deliver, self._clock() + COMPILE_TIMEOUT_S)
        self._waiting.append(job)
        self._start_waiting()
        return job

    def cancel(self, job: Job) -> None:
        """Its result, if it comes, goes nowhere."""
        self._running.discard(job)
        if job in self._waiting:
            self._waiting.remove(job)

    def poll(self) -> None:
        """Delivers what is ready or overdue, and starts what waits. Cheap when there is nothing."""
        while self._done:
            job = self._done.popleft()
            self._num_threads -= 1
            if job in self._running and job.result is not None:
                self._running.discard(job)
                job.deliver(job.result)
        if self._running or self._waiting:
            self._give_up_overdue(self._clock())
            self._start_waiting()

    def clear_wake_ups(self) -> None:
        """Call when `fileno` is readable, before `poll`."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

    def _give_up_overdue(self, now_s: float) -> None:
        for job in [job for job in self._running if job.deadline_s <= now_s]:
            if job in self._running:  # a delivery may cancel others
                self._running.discard(job)
                log.warning("a grammar was not compiled within %.0f s", COMPILE_TIMEOUT_S)
                job.deliver(Refusal("invalid", "The grammar or schema takes too long to compile."))
        while self._waiting and self._waiting[0].deadline_s <= now_s:
            self._waiting.popleft().deliver(_too_many())

    def _start_waiting(self) -> None:
        while (
            self._waiting and len(self._running) < _MAX_AT_ONCE and self._num_threads < _MAX_THREADS
        ):
            job = self._waiting.popleft()
            self._num_threads += 1
            self._running.add(job)
            # A daemon: the end of the process must not wait for it.
            thread = threading.Thread(target=self._work, args=(job,), daemon=True)
            previous = threading.stack_size(COMPILE_STACK_BYTES)
            try:
                thread.start()
            except RuntimeError:  # no memory, or no threads are left
                log.exception("no thread could be started to compile a grammar")
                self._finish(job, _too_many())
            finally:
                threading.stack_size(previous)

    # --- a job's own thread -------------------------------------------------------------------

    def _work(self, job: Job) -> None:
        result: Result
        try:
            result = self._compiler.compile(job.grammar)
        except GrammarError as error:
            result = Refusal("invalid", str(error))
        except BaseException as error:  # noqa: BLE001  # one grammar must not take the engine along
            # Not the message: it may quote the grammar.
            log.error("a grammar could not be compiled: %s", type(error).__name__)
            result = Refusal("invalid", "The grammar or schema cannot be used.")
        self._finish(job, result)

    def _finish(self, job: Job, result: Result) -> None:
        job.result = result
        self._done.append(job)
        try:
            os.write(self._wake_write, b"\0")
        except OSError:
            pass  # the pipe is full of wake-ups, or nobody waits for them any more


def _too_many() -> Refusal:
    return Refusal("capacity", "Many grammars wait to be compiled.", _RETRY_AFTER_MS)

"""Which process reads a file?

    gateway ──a socket pair per file──▶ zygote: has loaded every parser, reads nothing itself
                                          ├─fork─▶ reads one file, answers, ends
                                          └─fork─▶ …

Loading the parsers takes a Python process half a second, a fork of one that has them milliseconds.
So each file gets a process of its own: nothing of a file is left for the next, whoever's it is, and
a process that a file has taken over can spoil that file's answer only. It holds one socket, knows
no secret (of the gateway's environment only search paths reach the zygote), and is confined by the
kernel before it sees the first byte (see `anzoth.ingest.sandbox`).

For each file the gateway sends two sockets: over the first go the file and the answer; over the
second the zygote tells how the process ended. When the gateway closes it, the process is killed.

Does not know: tenants, where files come from.
"""

from __future__ import annotations

import codecs
import contextlib
import encodings
import gc
import logging
import os
import pkgutil
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from anzoth import child
from anzoth.ingest import sandbox, wire
from anzoth.ingest.chunker import chunk
from anzoth.ingest.limits import UnreadableFile
from anzoth.ingest.parse import parse

_RECEIVE_BYTES = 1 << 20
_GRACE_S = 2.0
"""The process ends itself at its deadline; this much later it is killed."""
_MEMORY_PER_FILE_BYTE = 3
"""A file is held once, copied once more while it arrives, and decoded."""

_log = logging.getLogger(__name__)

Counts = dict[str, Callable[[str], int]]


@dataclass(slots=True)
class _Running:
    """A process that reads a file."""

    pid: int
    ending: socket.socket
    deadline_s: float
    is_late: bool = False


@dataclass(slots=True)
class _Zygote:
    control: socket.socket
    counts: Counts
    wakeup: socket.socket
    running: dict[int, _Running] = field(default_factory=dict)
    """By the file descriptor of its `ending`."""

    def run(self) -> None:
        """Until the gateway is gone."""
        while True:
            poll = select.poll()
            for fd in (self.control.fileno(), child.parent_fd(), self.wakeup.fileno()):
                poll.register(fd, select.POLLIN)
            for fd in self.running:
                poll.register(fd, 0)  # only whether the other end was closed
            ready = {fd for fd, _ in poll.poll(self._timeout_ms())}
            if child.parent_fd() in ready:
                return
            if self.wakeup.fileno() in ready:
                self.wakeup.recv(4096)
            self._reap()
            for fd in ready & self.running.keys():
                self._kill(self.running[fd])
            self._kill_late()
            if self.control.fileno() in ready and not self._accept():
                return

    def _timeout_ms(self) -> float | None:
        if not self.running:
            return None
        first_s = min(running.deadline_s for running in self.running.values())
        return max(first_s - time.monotonic(), 0.05) * 1000

    def _accept(self) -> bool:
        """Starts a process for a file. Whether the gateway is still there."""
        message, fds, _, _ = socket.recv_fds(self.control, wire.DEADLINE.size, 2)
        if not message:
            return False
        content, ending = (socket.socket(fileno=fd) for fd in fds)
        (wall_s,) = wire.DEADLINE.unpack(message)
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_reader(content, self.counts, zygote)
        content.close()
        deadline_s = time.monotonic() + wall_s + _GRACE_S
        self.running[ending.fileno()] = _Running(pid, ending, deadline_s)
        return True

    def _reap(self) -> None:
        for fd, running in list(self.running.items()):
            pid, status = os.waitpid(running.pid, os.WNOHANG)
            if pid:
                del self.running[fd]
                is_late = running.is_late or (
                    os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
                )
                with contextlib.suppress(OSError):  # the gateway no longer wants to know
                    running.ending.send(wire.ENDED.pack(status, is_late))
                running.ending.close()

    def _kill_late(self) -> None:
        now_s = time.monotonic()
        for running in self.running.values():
            if now_s > running.deadline_s and not running.is_late:
                running.is_late = True
                self._kill(running)

    def _kill(self, running: _Running) -> None:
        os.kill(running.pid, signal.SIGKILL)  # not reaped yet: the number is still its own


def _be_reader(content: socket.socket, counts: Counts, zygote: int) -> None:
    """What a forked process does. Never returns."""
    status = 1
    try:
        sandbox.drop_privileges()
        child.set_parent_death_signal(signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        if os.getppid() == zygote:
            _keep_only(content.fileno())
            _read_file(content, counts)
            status = 0
    finally:
        os._exit(status)  # nothing of the zygote's is to be cleaned up here


def _keep_only(fd: int) -> None:
    """Closes every other descriptor; what libraries print goes nowhere, it may be a document's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))


def _read_file(content: socket.socket, counts: Counts) -> None:
    num_header, num_payload = wire.LENGTHS.unpack(_receive(content, wire.LENGTHS.size))
    job = wire.decode_job(_receive(content, num_header))
    count = None if job.tokenizer is None else counts[job.tokenizer]
    sandbox.confine(
        job.limits.memory_bytes + _MEMORY_PER_FILE_BYTE * num_payload,
        job.limits.cpu_s,
        job.limits.wall_s,
    )
    try:
        answer = _answer(_receive(content, num_payload), job, count)
    except UnreadableFile as error:
        answer = wire.encode_error(error)
    except MemoryError:
        answer = wire.encode_error(
            UnreadableFile("invalid_file", "The file needs more memory than a file may take.")
        )
    except Exception as error:  # noqa: BLE001  # the edge of a process: one file, one answer
        answer = wire.encode_error(
            UnreadableFile("server_error", "The file could not be read because of a fault here."),
            _where(error),
        )
    for piece in answer:
        content.sendall(piece)


def _answer(data: bytes, job: wire.Job, count: Callable[[str], int] | None) -> list[bytes]:
    document = parse(data, job.name, job.limits)
    del data
    if job.chunking is None:
        return wire.encode_answer(wire.Parsed(document, ()))
    assert count is not None
    chunks = chunk(document, job.chunking, count, job.title)
    return wire.encode_answer(wire.Parsed(document, tuple(chunks)))


def _where(error: Exception) -> str:
    """Which line of the program failed: nothing that the file says."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"


def _receive(content: socket.socket, size: int) -> bytes:
    pieces: list[bytes] = []
    while size:
        piece = content.recv(min(size, _RECEIVE_BYTES))
        if not piece:
            os._exit(1)  # the gateway is gone or gave up
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _count_of(path: str) -> Callable[[str], int]:
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _load_everything(counts: Counts) -> None:
    """What parsers load when they first need it, they load here: later nothing can be opened."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(LookupError, ImportError):  # some are for other systems
            codecs.lookup(module.name)
    samples = {
        "a.md": b"# a\n\n[b](c) <b>d</b>\n\n| a | b |\n|---|---|\n| c | d |\n",
        "a.txt": "Größe und Höhe über alles, schöne Grüße aus Köln an die Straße.".encode("cp1252"),
        "a.html": b"<!doctype html><p>a",
        "a.json": b'{"a": [1]}',
        "a.csv": b"a,b\n1,2\n",
    }
    for name, data in samples.items():
        parse(data, name)
    for count in counts.values():
        count("A first word.")


def main() -> None:
    settings = child.begin("anzoth.ingest")
    tokenizers = settings["tokenizers"]
    assert isinstance(tokenizers, dict)
    counts = {name: _count_of(path) for name, path in tokenizers.items()}
    _load_everything(counts)
    control = socket.socket(fileno=int(str(settings["control_fd"])))
    wakeup, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    gc.collect()
    gc.freeze()  # what is shared with the forks stays shared: no collection writes to it
    control.send(b"\x00")  # ready
    _Zygote(control, counts, wakeup).run()


if __name__ == "__main__":
    sys.exit(main())

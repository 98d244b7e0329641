"""How does the gateway have a file read by another process?

One zygote (see `anzoth.ingest.zygote`) is started when the first file comes, and again when it has
ended. A file that crashes, hangs or swells its process fails alone, with one clear error.

Does not know: tenants, the database, embeddings, parsers: none is ever loaded here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from anzoth import child
from anzoth.ingest import wire
from anzoth.ingest.limits import UnreadableFile

_READ_BYTES = 1 << 20
_START_TIMEOUT_S = 60.0
_ANSWER_GRACE_S = 10.0
"""After a file's deadline, for the zygote to notice and tell."""
_ENVIRONMENT = {"LANG": "C.UTF-8", "TOKENIZERS_PARALLELISM": "false"}
_KEPT = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
"""Of our environment: without them Python may not find itself."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ParserHost:
    """Reads files, at most `max_running` at the same time. `close` ends it."""

    tokenizers: Mapping[str, str]
    """Name → path of a tokenizer.json, for chunks."""
    max_running: int = 2
    _slots: asyncio.Semaphore = field(init=False)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _process: asyncio.subprocess.Process | None = None
    _control: socket.socket | None = None

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.max_running)

    @property
    def pid(self) -> int | None:
        """The zygote's. None: it does not run."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def read(
        self, job: wire.Job, content: bytes | AsyncIterator[bytes], size: int
    ) -> wire.Parsed:
        """The document in a file of `size` bytes, which may come in pieces, and its chunks.

        Raises UnreadableFile. Cancelling it kills the process that reads the file.
        """
        if size > job.limits.max_file_bytes:
            raise UnreadableFile(
                "invalid_file", f"The file is larger than {job.limits.max_file_bytes >> 20} MB."
            )
        async with self._slots:
            deadline = asyncio.timeout(job.limits.wall_s + _ANSWER_GRACE_S)
            try:
                async with deadline:
                    frame, ended = await self._exchange(job, content, size)
            except TimeoutError:
                if deadline.expired():
                    raise _late(job) from None
                raise  # of whoever sends the file
        if ended is None:
            raise UnreadableFile("server_error", "The reading of the file was interrupted. Retry.")
        status, is_late = ended
        if is_late:
            raise _late(job)
        if status != 0:
            raise _crashed(status, job)
        try:
            return await asyncio.to_thread(wire.decode_answer, frame)
        except wire.WireError as error:
            _log.warning("a parser's answer was refused: %s", error)
            raise UnreadableFile(
                "invalid_file", "The file made its reader fail. It is probably damaged."
            ) from None
        except UnreadableFile as error:
            if error.code == "server_error":
                _log.error("a parser failed: %s", " ".join(getattr(error, "__notes__", ())))
            raise

    async def _exchange(
        self, job: wire.Job, content: bytes | AsyncIterator[bytes], size: int
    ) -> tuple[bytes, tuple[int, bool] | None]:
        control = await self._ensure_started()
        ours, theirs = socket.socketpair()
        ending, their_ending = socket.socketpair()
        try:
            with theirs, their_ending:
                message = wire.DEADLINE.pack(job.limits.wall_s)
                socket.send_fds(control, [message], [theirs.fileno(), their_ending.fileno()])
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            ending_reader, ending_writer = await asyncio.open_unix_connection(sock=ending)
        except BaseException as error:
            ours.close()
            ending.close()
            if not isinstance(error, OSError):
                raise
            await self._drop(control)  # the zygote has ended
            return b"", None
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_send(writer, job, content, size))
                frame = await _receive(reader, job.limits.max_answer_bytes)
                sending.cancel()
            if frame is None:
                raise UnreadableFile("invalid_file", "The file has too much text. Split it.")
            told = await ending_reader.read(wire.ENDED.size)
            if len(told) != wire.ENDED.size:
                await self._drop(control)
                return frame, None
            return frame, wire.ENDED.unpack(told)
        except ExceptionGroup as failed:  # of whoever sends the file
            raise failed.exceptions[0] from None
        finally:
            writer.close()
            ending_writer.close()  # a process that is still there is killed now

    async def _ensure_started(self) -> socket.socket:
        async with self._starting:
            if self.pid is not None and self._control is not None:
                return self._control
            await self._stop()
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = await child.start(
                    "anzoth.ingest.zygote",
                    {"control_fd": theirs.fileno(), "tokenizers": dict(self.tokenizers)},
                    pass_fds=(theirs.fileno(),),
                    env=_ENVIRONMENT | {key: os.environ[key] for key in _KEPT if key in os.environ},
                )
            ours.setblocking(False)
            self._control = ours
            try:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    is_ready = await asyncio.get_running_loop().sock_recv(ours, 1)
            except TimeoutError:
                is_ready = b""
            if not is_ready:
                await self._stop()
                raise UnreadableFile("server_error", "The readers of files do not start. Retry.")
            return ours

    async def _drop(self, control: socket.socket) -> None:
        """The zygote told nothing of a process's end, so it has ended, or is about to."""
        async with self._starting:
            if self._control is control:
                await self._stop()

    async def close(self) -> None:
        """Ends the zygote, and with it every process that reads a file. Idempotent."""
        async with self._starting:
            await self._stop()

    async def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _send(
    writer: asyncio.StreamWriter, job: wire.Job, content: bytes | AsyncIterator[bytes], size: int
) -> None:
    """A process that has read enough stops reading; its answer says why."""
    try:
        writer.write(wire.encode_job(job, size))
        if isinstance(content, bytes):
            writer.write(content)
        else:
            async for piece in content:
                writer.write(piece)
                await writer.drain()
        await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass


async def _receive(reader: asyncio.StreamReader, max_bytes: int) -> bytes | None:
    """Everything up to the end. None: it is more than `max_bytes`."""
    pieces: list[bytes] = []
    total = 0
    try:
        while piece := await reader.read(_READ_BYTES):
            pieces.append(piece)
            total += len(piece)
            if total > max_bytes:
                return None
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended without reading all that was sent
    return b"".join(pieces)


def _late(job: wire.Job) -> UnreadableFile:
    return UnreadableFile(
        "invalid_file", f"Reading the file took longer than {job.limits.wall_s:g} s. Split it."
    )


def _crashed(status: int, job: wire.Job) -> UnreadableFile:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return UnreadableFile(
                "invalid_file",
                f"Reading the file took more than {job.limits.cpu_s} s of computing. Split it.",
            )
        if number == signal.SIGKILL:
            return UnreadableFile("server_error", "The reading of the file was interrupted. Retry.")
        return UnreadableFile(
            "invalid_file", "The file made its reader crash. It is probably damaged."
        )
    _log.error("a parser ended with status %d", os.waitstatus_to_exitcode(status))
    return UnreadableFile("server_error", "The file could not be read because of a fault here.")

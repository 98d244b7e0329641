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


@dataclass(slots=True, eq=False)
class _Zygote:
    """One, from its start to its end."""

    process: asyncio.subprocess.Process
    control: socket.socket
    tokenizers: Mapping[str, str]
    """Those that it has loaded."""
    num_reading: int = 0
    is_retired: bool = False
    """Another one has taken its place: it ends with what it still reads."""

    @classmethod
    async def start(cls, tokenizers: Mapping[str, str]) -> _Zygote:
        """Raises UnreadableFile when it does not come up."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await child.start(
                "anzoth.ingest.zygote",
                {"control_fd": theirs.fileno(), "tokenizers": tokenizers},
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT | {key: os.environ[key] for key in _KEPT if key in os.environ},
            )
        ours.setblocking(False)
        zygote = cls(process, ours, tokenizers)
        is_ready = b""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                is_ready = await asyncio.get_running_loop().sock_recv(ours, 1)
        except TimeoutError:
            pass
        finally:
            if not is_ready:
                await zygote.stop()
        if not is_ready:
            raise UnreadableFile("server_error", "The readers of files do not start. Retry.")
        return zygote

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def has(self, tokenizer: str | None, wanted: Mapping[str, str]) -> bool:
        """Whether it runs and its `tokenizer`, if one is needed, is the one that is wanted."""
        return self.is_running and (
            tokenizer is None or self.tokenizers.get(tokenizer) == wanted.get(tokenizer)
        )

    async def stop(self) -> None:
        """Idempotent. What it reads is ended with it."""
        self.control.close()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@dataclass(slots=True)
class ParserHost:
    """Reads files, at most `max_running` at the same time. `close` ends it."""

    tokenizers: Mapping[str, str] = field(default_factory=dict)
    """Name → path of a tokenizer.json, for chunks. It may be replaced: when a file needs one that
    the zygote lacks, a zygote that has these takes its place."""
    max_running: int = 2
    _slots: asyncio.Semaphore = field(init=False)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _current: _Zygote | None = None
    _retired: set[_Zygote] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.max_running)

    @property
    def pid(self) -> int | None:
        """The zygote's. None: it does not run."""
        zygote = self._current
        return None if zygote is None or not zygote.is_running else zygote.process.pid

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
        zygote = await self._ensure_started(job.tokenizer)
        zygote.num_reading += 1
        try:
            return await self._read_with(zygote, job, content, size)
        finally:
            zygote.num_reading -= 1
            if zygote.is_retired and not zygote.num_reading:
                self._retired.discard(zygote)
                await zygote.stop()

    async def _read_with(
        self, zygote: _Zygote, job: wire.Job, content: bytes | AsyncIterator[bytes], size: int
    ) -> tuple[bytes, tuple[int, bool] | None]:
        ours, theirs = socket.socketpair()
        ending, their_ending = socket.socketpair()
        try:
            with theirs, their_ending:
                message = wire.DEADLINE.pack(job.limits.wall_s)
                socket.send_fds(zygote.control, [message], [theirs.fileno(), their_ending.fileno()])
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            ending_reader, ending_writer = await asyncio.open_unix_connection(sock=ending)
        except BaseException as error:
            ours.close()
            ending.close()
            if not isinstance(error, OSError):
                raise
            await self._drop(zygote)  # the zygote has ended
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
                await self._drop(zygote)
                return frame, None
            return frame, wire.ENDED.unpack(told)
        except ExceptionGroup as failed:  # of whoever sends the file
            raise failed.exceptions[0] from None
        finally:
            writer.close()
            ending_writer.close()  # a process that is still there is killed now

    async def _ensure_started(self, tokenizer: str | None) -> _Zygote:
        """One that has this tokenizer."""
        async with self._starting:
            zygote, wanted = self._current, dict(self.tokenizers)
            if zygote is not None and zygote.has(tokenizer, wanted):
                return zygote
            self._current = None
            if zygote is not None:
                await self._retire(zygote)
            self._current = await _Zygote.start(wanted)
            return self._current

    async def _retire(self, zygote: _Zygote) -> None:
        if zygote.is_running and zygote.num_reading:
            zygote.is_retired = True
            self._retired.add(zygote)
        else:
            await zygote.stop()

    async def _drop(self, zygote: _Zygote) -> None:
        """It told nothing of a process's end, so it has ended, or is about to."""
        async with self._starting:
            if self._current is zygote:
                self._current = None
            await zygote.stop()

    async def close(self) -> None:
        """Ends the zygote, and with it every process that reads a file. Idempotent."""
        async with self._starting:
            for zygote in (self._current, *self._retired):
                if zygote is not None:
                    await zygote.stop()
            self._current = None
            self._retired.clear()


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

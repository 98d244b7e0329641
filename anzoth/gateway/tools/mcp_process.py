"""How is an MCP server that is a command of the operator's started, spoken to and ended?

Lines of JSON over its standard input and output, as the SDK's own transport has it, which this one
replaces: that one hands down some of our environment, reads lines of any length, and shows what the
process writes to its standard error, which may be anybody's secrets. A process that writes more
than is due, or does not read what it is told, is ended, with all that it started in its session.

Does not know: what the messages say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from anzoth.gateway.egress.failures import EgressFailure
from anzoth.gateway.tools.confined import CANNOT_START

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

Ids = tuple[int, int]
"""Of a user and a group."""

_PATH = "/usr/local/bin:/usr/bin:/bin"
_NOBODY = (65534, 65534)
_WRITE_TIMEOUT_S = 5.0
_END_TIMEOUT_S = 1.0
_READ_BYTES = 65_536
_LEAST_BYTES = 1024
"""As which a shorter line counts: it is work, too."""
_MAX_QUEUED = 16
"""Messages for a process that does not read: whoever gives a call up must not wait for it."""
_MAX_PENDING = 64
"""Requests that count for what is due."""

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
# By these a loader, a shell or a runtime is told to run something else first.
_STEERING = re.compile(
    r"(LD|DYLD|GLIBC|MALLOC|NODE|NPM|DENO|BUN|BASH|GEM|BUNDLE|JAVA|JDK|DOTNET|COMPLUS|LUA|PHP|GIT"
    r"|SSH|SSL|OPENSSL|ANZOTH)_.*"
    r"|(PYTHON|PERL|RUBY|_JAVA).*|GO(FLAGS|PATH|ROOT|ENV)|(CLASS|LOC|NLS|GCONV_)?PATH|.*_PROXY"
    r"|HOME|SHELL|ENV|IFS|TMPDIR|EDITOR|VISUAL|PAGER|PS4|PROMPT_COMMAND|HOSTALIASES"
)


def check_environment(environment: Mapping[str, str]) -> None:
    """Raises ValueError, which names a variable and never its value."""
    if len(environment) > 32:
        raise ValueError("there are more than 32 variables")
    for name, value in environment.items():
        if _VARIABLE.fullmatch(name) is None:
            raise ValueError("a variable's name is not of capital letters, digits and underscores")
        if _STEERING.fullmatch(name):
            raise ValueError(f"the variable {name} cannot be set")
        if "\0" in value or len(value) > 32_768 or not value.isprintable():
            raise ValueError(f"the variable {name} is not at most 32,768 printable characters")


@dataclass(slots=True)
class ToolProcess:
    """One run of a command. `transport` is what the SDK asks for."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    memory_mib: int
    user: str
    """Whose rights it has, where ours are root's."""
    due_bytes: int
    """How much the process may write for one request to it, or without any."""
    failure: EgressFailure | None = None
    """Why it is not there any more."""
    _left_bytes: int = 0

    @contextlib.asynccontextmanager
    async def transport(self) -> AsyncIterator[TransportStreams]:
        self._left_bytes = self.due_bytes
        ids = ids_of(self.user) if os.geteuid() == 0 else None
        folder = await asyncio.to_thread(_own_folder, ids)
        try:
            process = await self._start(folder, ids)
            try:
                async with self._streams(process) as streams:
                    yield streams
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _start(self, folder: Path, ids: Ids | None) -> asyncio.subprocess.Process:
        check_environment(self.environment)
        uid, gid = ids or (os.geteuid(), os.getegid())
        limits = map(str, (self.memory_mib, uid, gid, os.getpid()))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "anzoth.gateway.tools.confined", *limits, *self.argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
            env={
                "PATH": _PATH,
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "LANG": "C.UTF-8",
                **self.environment,
            },
            start_new_session=True,
        )

    @contextlib.asynccontextmanager
    async def _streams(
        self, process: asyncio.subprocess.Process
    ) -> AsyncIterator[TransportStreams]:
        from mcp.shared.message import SessionMessage

        to_session, from_process = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_process, from_session = anyio.create_memory_object_stream[SessionMessage](_MAX_QUEUED)

        async def read() -> None:
            async with to_session:
                try:
                    async for message in self._messages(process):
                        await to_session.send(message)
                    self.failure = await _ended(process)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass  # the session is over
                except EgressFailure as failure:
                    self.failure = failure
                    _kill(process)

        async def write() -> None:
            async with from_session:
                try:
                    async for message in from_session:
                        await self._write(process, message)
                except OSError:  # a TimeoutError is one too
                    self.failure = EgressFailure("unreachable", "The tool's process does not read.")
                    _kill(process)

        async with from_process, to_process, anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)
            try:
                yield from_process, to_process
            finally:
                group.cancel_scope.cancel()

    async def _messages(self, process: asyncio.subprocess.Process) -> AsyncIterator[SessionMessage]:
        """What is no message is skipped, as the SDK does: many programs greet whoever starts them.

        Raises EgressFailure where more comes than is due.
        """
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        assert process.stdout is not None
        line = bytearray()
        while piece := await process.stdout.read(_READ_BYTES):
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                raise EgressFailure("too_large", "The tool's process wrote more than is taken.")
            first, *others = piece.split(b"\n")
            line += first
            for other in others:
                self._left_bytes -= max(_LEAST_BYTES - len(line), 0)
                try:
                    message = jsonrpc_message_adapter.validate_json(bytes(line), by_name=False)
                except ValueError:
                    message = None
                line = bytearray(other)
                if message is not None:
                    yield SessionMessage(message)

    async def _write(self, process: asyncio.subprocess.Process, sent: SessionMessage) -> None:
        from mcp_types import JSONRPCRequest

        assert process.stdin is not None
        text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
        if isinstance(sent.message, JSONRPCRequest):  # not what we say to its own requests
            self._left_bytes = max(self._left_bytes, 0) + self.due_bytes
            self._left_bytes = min(self._left_bytes, _MAX_PENDING * self.due_bytes)
        process.stdin.write(text.encode() + b"\n")
        async with asyncio.timeout(_WRITE_TIMEOUT_S):
            await process.stdin.drain()


def ids_of(user: str) -> Ids:
    """Raises EgressFailure where there is no such user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        if user == "nobody":  # a small container need not name it
            return _NOBODY
        raise EgressFailure("refused", "The user whose rights commands have is none.") from None
    return entry.pw_uid, entry.pw_gid


def _own_folder(ids: Ids | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="anzoth-tool-"))
    if ids is not None:
        with contextlib.suppress(OSError):  # a container may have mapped only root
            os.chown(folder, *ids)
    return folder


async def _ended(process: asyncio.subprocess.Process) -> EgressFailure:
    """Why it says no more."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    if process.returncode == CANNOT_START:
        return EgressFailure(
            "unreachable", "The command cannot be started with the rights that it has."
        )
    return EgressFailure("unreachable", "The tool's process ended.")


def _kill(process: asyncio.subprocess.Process) -> None:
    """Whatever is left of its session's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It may end by itself when nobody speaks to it any more, for a moment."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _kill(process)
    try:
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        pass  # it is held by the kernel, or one that left its session holds the pipe

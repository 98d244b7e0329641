"""How is one child process kept running, and how is a stuck engine noticed?

Does not know: which children there are, or what they do (see `supervisor`, `model_host`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from anzoth import child
from anzoth.config import ConfigError
from anzoth.frames import Decoder, Hello
from anzoth.framing import FrameDecoder, FrameError

_RESTART_PAUSE_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_AFTER_S = 60.0
"""A child that lived this long starts the pauses from the beginning."""
_CONNECT_RETRY_S = 0.5
_LOADING_RETRY_S = 0.05
"""Before an engine's first Hello: somebody waits for it."""
_LAST_REPORT_S = 1.0
"""For what an ended process has written to reach us."""

Report = Mapping[str, object]


class ChildCannotStart(ConfigError):
    """A child said that its settings are impossible; `reason` is its own sentence, if it told."""

    def __init__(self, name: str, reason: str | None) -> None:
        super().__init__(f"the {name} cannot start; its last line says why")
        self.reason = reason or str(self)


@dataclass(slots=True)
class Child:
    """One process that is kept running until it is told to stop."""

    name: str
    module: str
    settings: Callable[[], Mapping[str, object]]
    """Asked again whenever it is started."""
    log: Callable[[str], None]
    pass_fds: tuple[int, ...] = ()
    on_report: Callable[[Report], None] | None = None
    """Given what the process says about itself (see `anzoth.child`). None: it is not asked."""
    may_restart: Callable[[], bool] = lambda: True
    """Whether an end is an accident. False: it is why the process cannot be had."""
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False
    _last_error: str | None = None

    async def keep_running(self) -> None:
        """Runs the process, and runs it again whenever it ends, until `stop`.

        Raises ChildCannotStart when the child says that its settings are impossible, or has ended
        and may not be started again.
        """
        failures = 0
        while not self._stopping:
            started_s = time.monotonic()
            status = await self._run_once()
            if self._stopping:
                return
            if status == child.EXIT_CONFIG:
                raise ChildCannotStart(self.name, self._last_error)
            if not self.may_restart():
                raise ChildCannotStart(self.name, f"the {self.name} ended ({_describe(status)})")
            failures = 0 if time.monotonic() - started_s > _HEALTHY_AFTER_S else failures + 1
            pause_s = _RESTART_PAUSE_S[min(failures, len(_RESTART_PAUSE_S)) - 1]
            self.log(f"{self.name} ended ({_describe(status)}); starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _run_once(self) -> int:
        self._last_error = None
        asked = self.on_report is not None
        self._process = process = await child.start(
            self.module,
            {**self.settings(), "report": asked},
            stdout=asyncio.subprocess.PIPE if asked else None,
            pass_fds=self.pass_fds,
        )
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read_reports(process.stdout))
                status = await process.wait()
                await asyncio.wait({reading}, timeout=_LAST_REPORT_S)
                reading.cancel()
            return status
        finally:
            self.kill()

    async def _read_reports(self, stdout: asyncio.StreamReader | None) -> None:
        """Until the process, and whoever inherited the pipe from it, has ended."""
        if stdout is None or self.on_report is None:
            return
        while line := await stdout.readline():
            try:
                report = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # a library printed something
            if isinstance(report, dict):
                if isinstance(error := report.get("error"), str):
                    self._last_error = error
                self.on_report(report)

    @contextlib.asynccontextmanager
    async def running(self, group: asyncio.TaskGroup, stop_timeout_s: float) -> AsyncIterator[None]:
        """Keeps it running for the duration of the block, then stops it, whatever happened."""
        keeper = group.create_task(self.keep_running())
        try:
            yield
        finally:
            await self.stop(stop_timeout_s)
            keeper.cancel()

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL after `timeout_s`. Idempotent."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            self.log(f"{self.name} did not stop within {timeout_s:g} s and was killed")
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int | None:
        """None: it does not run now."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def terminate(self) -> None:
        """SIGTERM without waiting: a second one asks a draining gateway to hurry."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, if it is running. `keep_running` will start it again unless it was stopped."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def _describe(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


@dataclass(slots=True)
class EngineWatch:
    """Kills an engine that is alive but makes no progress; knows whether one answers.

    An engine sends a frame to every connection at least once a second, whether busy or idle; only a
    step that does not return can keep it silent. Liveness is progress, not the process's existence.
    A retriever is watched in the same way.
    """

    child: Child
    socket_path: Path
    stall_timeout_s: float
    new_decoder: Callable[[], FrameDecoder[Any]] = Decoder
    """Of the process's own protocol; whatever it says is a sign of life."""
    hello: Hello | None = None
    """What an engine said about itself when it last became ready."""
    is_ready: bool = False
    """It answers now."""
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    """It has answered once."""

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self.socket_path))
            except OSError:  # still loading, or restarting
                await asyncio.sleep(
                    _CONNECT_RETRY_S if self.was_ready.is_set() else _LOADING_RETRY_S
                )
                continue
            try:
                await self._watch(reader)
            finally:
                self.is_ready = False
                writer.close()
            await asyncio.sleep(_CONNECT_RETRY_S)

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """Returns when the connection ends, having killed the engine if it went silent."""
        decoder = self.new_decoder()
        try:
            while True:
                async with asyncio.timeout(self.stall_timeout_s):
                    data = await reader.read(65536)
                if not data:
                    return
                if not self.is_ready:  # after its Hello, what it says is for the gateway
                    self._greet(decoder, data)
        except TimeoutError:
            self.child.log(f"{self.child.name} made no progress for {self.stall_timeout_s:g} s")
            self.child.kill()
        except OSError:
            return

    def _greet(self, decoder: FrameDecoder[Any], data: bytes) -> None:
        try:
            for message, _ in decoder.feed(data):
                if isinstance(message, Hello):
                    self.hello = message
                self.is_ready = True  # a Hello comes first, or it is an error
                self.was_ready.set()
        except FrameError as error:
            self.child.log(f"{self.child.name}: {error}")

"""How is one child process kept running, and how is a stuck engine noticed?

Does not know: which children there are, or what they do (see `supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anzoth import child
from anzoth.config import ConfigError

_RESTART_PAUSE_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_AFTER_S = 60.0
"""A child that lived this long starts the pauses from the beginning."""
_CONNECT_RETRY_S = 0.5


@dataclass(slots=True)
class Child:
    """One process that is kept running until it is told to stop."""

    name: str
    module: str
    settings: Mapping[str, object]
    log: Callable[[str], None]
    pass_fds: tuple[int, ...] = ()
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False

    async def keep_running(self) -> None:
        """Runs the process, and runs it again whenever it ends, until `stop`.

        Raises ConfigError when the child says that its settings are impossible.
        """
        failures = 0
        while not self._stopping:
            started_s = time.monotonic()
            status = await self._run_once()
            if self._stopping:
                return
            if status == child.EXIT_CONFIG:
                raise ConfigError(f"the {self.name} cannot start; its last line says why")
            failures = 0 if time.monotonic() - started_s > _HEALTHY_AFTER_S else failures + 1
            pause_s = _RESTART_PAUSE_S[min(failures, len(_RESTART_PAUSE_S)) - 1]
            self.log(f"{self.name} ended ({_describe(status)}); starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _run_once(self) -> int:
        self._process = await child.start(self.module, self.settings, pass_fds=self.pass_fds)
        try:
            return await self._process.wait()
        finally:
            self.kill()

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
    """Kills an engine that is alive but makes no progress.

    An engine sends a frame to every connection at least once a second, whether busy or idle; only a
    step that does not return can keep it silent. Liveness is progress, not the process's existence.
    """

    child: Child
    socket_path: Path
    stall_timeout_s: float

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self.socket_path))
            except OSError:
                await asyncio.sleep(_CONNECT_RETRY_S)  # still loading, or restarting
                continue
            try:
                await self._watch(reader)
            finally:
                writer.close()
            await asyncio.sleep(_CONNECT_RETRY_S)

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """Returns when the connection ends, having killed the engine if it went silent."""
        try:
            while True:
                async with asyncio.timeout(self.stall_timeout_s):
                    if not await reader.read(65536):  # what it says is for the gateway
                        return
        except TimeoutError:
            self.child.log(f"{self.child.name} made no progress for {self.stall_timeout_s:g} s")
            self.child.kill()
        except OSError:
            return

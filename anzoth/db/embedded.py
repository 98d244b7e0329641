"""How does a process get a running embedded Postgres: the supervisor, or one command of the CLI?

The supervisor keeps a `Warden` and restarts it when its process ends. A command uses `running`,
which takes the server's Postgres when there is one and else starts one for as long as it needs it.

Does not know: where the cluster lives and how Postgres is run (see `cluster`, `warden`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson

from anzoth import child
from anzoth.db import cluster
from anzoth.db.errors import DatabaseDown, DatabaseError, DatabaseUnusable

_POLL_S = 0.02
_PROBE_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Warden:
    """One warden process, and through it one Postgres."""

    data_dir: Path
    process: asyncio.subprocess.Process
    """Ends when Postgres has ended: `wait()` on it tells a supervisor that it must restart."""

    @classmethod
    async def start(
        cls, data_dir: Path, *, lock_timeout_s: float = 30.0, log_level: str = "info"
    ) -> Warden:
        """Starts the process, and nothing more: call `wait_ready`.

        The new warden waits up to `lock_timeout_s` for the Postgres of an earlier one to be gone.
        """
        settings = {
            "data_dir": str(data_dir),
            "lock_timeout_s": lock_timeout_s,
            "log_level": log_level,
            "report": True,
        }
        process = await child.start("anzoth.db.warden", settings, stdout=asyncio.subprocess.PIPE)
        return cls(data_dir, process)

    @property
    def dsn(self) -> str:
        """Valid once `wait_ready` returned. Holds no secret."""
        return cluster.dsn_of(self.data_dir)

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Returns when Postgres answers a query. Raises DatabaseUnusable or DatabaseDown."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait_started()
                while not await can_connect(self.dsn):
                    if self.process.returncode is not None:
                        await self._wait_started()  # reads why
                        raise DatabaseDown("the embedded Postgres ended during its start")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise DatabaseDown(
                f"the embedded Postgres was not ready within {timeout_s:g} s"
            ) from None

    async def _wait_started(self) -> None:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        report = orjson.loads(line) if line.endswith(b"\n") else {}
        if report.get("started"):
            return
        status = await self.process.wait()
        message = report.get("error") or f"the warden of Postgres ended with status {status}"
        if status == cluster.EXIT_LOCKED:
            raise DatabaseDown(message)
        raise DatabaseUnusable(message)

    async def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Fast shutdown: open sessions are ended, everything committed is on disk. Idempotent."""
        try:
            async with asyncio.timeout(timeout_s):
                if self.process.returncode is None:
                    self.process.terminate()
                await self.process.wait()
        except TimeoutError:
            self.process.kill()  # the kernel passes it on to Postgres as a fast shutdown
            await self.process.wait()
        finally:
            if self.process.stdin is not None:
                self.process.stdin.close()


@contextlib.asynccontextmanager
async def running(data_dir: Path, timeout_s: float = 60.0) -> AsyncIterator[str]:
    """The DSN of a Postgres on `data_dir` that answers for the duration of the block.

    Raises DatabaseError. Commands that overlap share one Postgres: the one that started it waits
    for the others before it stops it (see `_Visitors`).
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            visitors = await _Visitors.enter(data_dir)
    except TimeoutError:
        raise DatabaseDown("another command is using the embedded Postgres") from None
    try:
        warden = await _ensure_running(data_dir, deadline_s)
        try:
            yield cluster.dsn_of(data_dir)
        finally:
            if warden is not None:
                await visitors.wait_alone(deadline_s)
                await warden.stop()
    finally:
        visitors.leave()


async def can_connect(dsn: str) -> bool:
    """Whether the database answers a query now."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            connection = await asyncpg.connect(dsn)
            try:
                await connection.fetchval("SELECT 1")
            finally:
                connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # TimeoutError is an OSError
        return False
    return True


async def _ensure_running(data_dir: Path, deadline_s: float) -> Warden | None:
    """None: somebody else's Postgres answers. A warden: it is ours to stop."""
    dsn = cluster.dsn_of(data_dir)
    while True:
        if cluster.has_socket(data_dir) and await can_connect(dsn):
            return None
        warden = await Warden.start(data_dir, lock_timeout_s=0.2, log_level="error")
        try:
            await warden.wait_ready(max(1.0, deadline_s - time.monotonic()))
        except DatabaseDown:
            # Somebody else's Postgres is starting, or just stopping: look again.
            await warden.stop()
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(_POLL_S)
        except (DatabaseError, asyncio.CancelledError):
            await asyncio.shield(warden.stop())
            raise
        else:
            return warden


@dataclass(slots=True)
class _Visitors:
    """The commands that use one embedded Postgres at this moment: holders of a shared file lock."""

    fd: int

    @classmethod
    async def enter(cls, data_dir: Path) -> _Visitors:
        """Waits while another command is stopping the Postgres that it had started."""
        visitors = cls(_open_visitors_file(data_dir))
        try:
            await visitors._acquire(fcntl.LOCK_SH)
        except BaseException:
            visitors.leave()
            raise
        return visitors

    async def wait_alone(self, deadline_s: float) -> None:
        """Until no other command is left, or `deadline_s`; newcomers wait until `leave`."""
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                await self._acquire(fcntl.LOCK_EX)
        except TimeoutError:
            pass

    def leave(self) -> None:
        os.close(self.fd)

    async def _acquire(self, kind: int) -> None:
        while True:
            try:
                fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_POLL_S)
            else:
                return


def _open_visitors_file(data_dir: Path) -> int:
    try:
        cluster.make_data_dir(data_dir)
        return os.open(data_dir / "postgres.users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnusable(
            f"cannot use the data directory {data_dir}: {error.strerror}"
        ) from error

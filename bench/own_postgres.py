"""A PostgreSQL of a bench's own, which may be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from anzoth.db import cluster, embedded

START_TIMEOUT_S = 60.0


class Postgres:
    """The embedded one, in a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.dsn = cluster.dsn_of(data_dir)
        self._data_dir = data_dir
        self._warden: subprocess.Popen[bytes] | None = None
        self.is_up = False

    async def start(self) -> None:
        self._warden = subprocess.Popen(  # noqa: ASYNC220  # a fork, beside which nothing waits
            [sys.executable, "-P", "-m", "anzoth.db.warden"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._warden.stdin is not None
        settings = {"data_dir": str(self._data_dir), "log_level": "critical"}
        self._warden.stdin.write(json.dumps(settings).encode() + b"\n")
        self._warden.stdin.flush()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await embedded.can_connect(self.dsn):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            words = self._folder.joinpath("log").read_text(errors="replace")[-2000:]
            status = self._warden.poll()
            raise RuntimeError(f"Postgres does not start (warden: {status}): {words}") from None
        self.is_up = True

    @property
    def _folder(self) -> Path:
        return cluster.folder_of(self._data_dir.absolute())

    def kill(self) -> None:
        self.is_up = False
        postmaster = (self._folder / "data" / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGKILL)

    async def restart(self) -> None:
        assert self._warden is not None
        await asyncio.to_thread(self._warden.wait)
        await self.start()

    def stop(self) -> None:
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()

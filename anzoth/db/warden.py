"""The process that owns the embedded Postgres: starts it, holds its lock, and stops it in time.

It stops Postgres (fast shutdown) on SIGTERM and when its own parent is gone. When the warden itself
is killed, the kernel tells Postgres to shut down. The lock's file descriptor is shared with every
Postgres process, so the next warden waits until the last of them is gone, however this one ended.

Settings: `data_dir`, `lock_timeout_s`, and `report`: when true, one line of JSON on standard output
says {"started": true} or {"error": …}.

Does not know: when Postgres is ready to answer (see `embedded`), or what is stored in it.
"""

from __future__ import annotations

import enum
import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import orjson

from anzoth import child
from anzoth.db import cluster as clusters
from anzoth.db.cluster import Cluster
from anzoth.db.errors import DatabaseError

_LOCK_RETRY_S = 0.05
_FAST_SHUTDOWN_S = 20.0
_log = logging.getLogger(__name__)


class Wake(enum.Enum):
    """Why the warden stopped waiting."""

    STOP = enum.auto()
    CHILD = enum.auto()
    TIMEOUT = enum.auto()


class Signals:
    """Turns SIGTERM, SIGCHLD and the end of standard input into something to wait for."""

    def __init__(self) -> None:
        self._readable, writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the wake-up pipe carries the number
        self._stop = False

    def wait(self, timeout_s: float | None = None) -> Wake:
        """STOP again and again once it was asked for."""
        if not self._stop:
            watched = [self._readable, child.parent_fd()]
            ready, _, _ = select.select(watched, [], [], timeout_s)
            numbers = os.read(self._readable, 64) if self._readable in ready else b""
            # The parent says nothing after the settings: readable means that it is gone.
            self._stop = signal.SIGTERM in numbers or child.parent_fd() in ready
            if not self._stop:
                return Wake.CHILD if numbers else Wake.TIMEOUT
        return Wake.STOP


def main() -> None:
    settings = child.begin("postgres")
    # From here on the end of the parent must not kill us before we have stopped Postgres.
    child.set_parent_death_signal(signal.SIGTERM)
    signals = Signals()
    try:
        status = _run(settings, signals)
    except DatabaseError as error:
        if settings.get("report"):
            _report(settings, {"error": str(error)})
            raise SystemExit(child.EXIT_CONFIG) from error
        raise child.fail_config("postgres", error) from error
    raise SystemExit(status)


def _run(settings: Mapping[str, object], signals: Signals) -> int:
    cluster = clusters.prepare(Path(str(settings["data_dir"])))
    lock_fd = os.open(cluster.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _lock(lock_fd, float(str(settings.get("lock_timeout_s", 30.0))), signals):
        _report(settings, {"error": "another process is still using this data directory"})
        return clusters.EXIT_LOCKED
    clusters.initialise(cluster)
    postgres = clusters.start(cluster, lock_fd)
    os.close(lock_fd)  # Postgres' processes keep it; ours would outlive them by a moment
    _report(settings, {"started": True})
    while (wake := signals.wait()) is not Wake.STOP:
        if wake is Wake.CHILD and (status := postgres.poll()) is not None:
            return _ended(cluster, settings, status)
    _stop(postgres)
    return 0


def _lock(lock_fd: int, timeout_s: float, signals: Signals) -> bool:
    """Waits until no Postgres process of this data dir is left. False: not in time, or stopped."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s or signals.wait(_LOCK_RETRY_S) is Wake.STOP:
                return False
        else:
            return True


def _ended(cluster: Cluster, settings: Mapping[str, object], status: int) -> int:
    """Postgres ended by itself: at its start (its last words say why), or later."""
    words = clusters.last_words(cluster)
    _log.error("Postgres ended with status %d; %s", status, words or f"see {cluster.log}")
    _report(settings, {"error": words})
    return 1


def _stop(postgres: subprocess.Popen[bytes]) -> None:
    """Fast shutdown: sessions are ended, the data is checkpointed. Harsher when that takes long."""
    for number, timeout_s in ((signal.SIGINT, _FAST_SHUTDOWN_S), (signal.SIGQUIT, 5.0)):
        postgres.send_signal(number)
        try:
            postgres.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _log.warning("Postgres ignores %s", number.name)
        else:
            return
    postgres.kill()
    postgres.wait()


def _report(settings: Mapping[str, object], message: Mapping[str, object]) -> None:
    if settings.get("report"):
        try:
            sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
            sys.stdout.buffer.flush()
        except OSError:
            pass  # the parent is gone, and with it the reader


if __name__ == "__main__":
    main()

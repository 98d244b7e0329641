"""What does every process that the supervisor starts do in the same way?

It receives its settings as one line of JSON on standard input (so that no secret stands in a
command line or an environment that `ps` shows), and it takes the end of that same input as the
death of its parent. On Linux the kernel is asked to deliver that death as a signal too, which also
reaches a process that is busy inside one long native call. So nothing outlives the supervisor,
however the supervisor ended.

A child whose settings say `report` tells its parent about itself, one line of JSON on standard
output each: `{"progress": 0.5}` while it begins, `{"error": "…"}` before it gives up.

Does not know: what any process does.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

import orjson

EXIT_CONFIG = 78
"""Exit status (sysexits' EX_CONFIG): the settings are impossible, starting again will not help."""

_PR_SET_PDEATHSIG = 1


async def start(
    module: str,
    settings: Mapping[str, object],
    *,
    stdout: int | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """The parent's side: runs `module`, whose `main` calls `begin`, and tells it its settings.

    `env` replaces the environment, for a child that must not know what is in ours.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # what is in the current directory must not stand in for what is installed
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,  # stays open: its end is how the child learns of ours
        stdout=stdout,
        pass_fds=pass_fds,
        env=env,
        start_new_session=True,  # a signal to our whole group is ours alone to act on, in order
    )
    assert process.stdin is not None
    process.stdin.write(orjson.dumps(settings) + b"\n")
    return process


def begin(process_name: str) -> dict[str, object]:
    """Called first in a child's `main`: reads the settings, ties the child's life to its parent's.

    Ctrl-C reaches the whole process group; only the supervisor acts on it, in order.
    """
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_parent_death_signal(signal.SIGKILL)
    forbid_core_dumps()
    line = _read_line(sys.stdin.fileno())
    if not line or os.getppid() != parent:
        raise SystemExit(f"{process_name}: the supervisor is gone")
    settings = orjson.loads(line)
    logging.basicConfig(
        level=settings.get("log_level", "INFO").upper(),
        format=f"%(asctime)s %(levelname)s {process_name}: %(message)s",
        stream=sys.stderr,
    )
    quieten_libraries()
    if settings.get("report"):
        logging.getLogger().addHandler(_ProgressReports())
    return settings


def quieten_libraries() -> None:
    """Some log every URL, and at `debug` every header; the MCP SDK logs what servers write."""
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for library in ("mcp", "client"):  # both are the SDK's
        logging.getLogger(library).setLevel(logging.CRITICAL)


def forbid_core_dumps() -> None:
    """For this process and those it starts: their memory holds keys, prompts and the pepper."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def set_parent_death_signal(number: signal.Signals) -> None:
    """Linux: the kernel sends `number` when the thread that started us ends. Elsewhere: nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def fail_config(
    process_name: str, message: object, settings: Mapping[str, object] | None = None
) -> SystemExit:
    """To be raised by a child whose settings are impossible: one sentence, then `EXIT_CONFIG`."""
    print(f"{process_name}: {message}", file=sys.stderr, flush=True)
    if settings is not None and settings.get("report"):
        report({"error": str(message)})
    return SystemExit(EXIT_CONFIG)


def report(fact: Mapping[str, object]) -> None:
    """Tells the parent, which must have asked for it."""
    try:
        os.write(sys.__stdout__.fileno(), orjson.dumps(fact) + b"\n")  # type: ignore[union-attr]  # it has one
    except OSError:
        pass  # the parent is gone, and with it the reader


class _ProgressReports(logging.Handler):
    """Log records that carry a `progress` (a share from 0 to 1) reach the parent as a number."""

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "progress", None)
        if progress is not None:
            report({"progress": progress})


def parent_fd() -> int:
    """A file descriptor that becomes readable (end of file) when the parent is gone."""
    return sys.stdin.fileno()


def _read_line(fd: int) -> bytes:
    """One line, unbuffered: nothing after it may be swallowed, because the end of input matters."""
    line = bytearray()
    while byte := os.read(fd, 1):
        if byte == b"\n":
            return bytes(line)
        line += byte
    return b""

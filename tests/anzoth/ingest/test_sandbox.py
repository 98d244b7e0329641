"""What a confined process can no longer do, tried in one."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRY = """
import os, signal, socket, sys
from anzoth.ingest import sandbox
sandbox.confine(256 << 20, 5, 20.0)
try:
    {attempt}
except (OSError, MemoryError) as error:
    print(type(error).__name__)
else:
    print("done")
"""


def attempt(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", TRY.format(attempt=code)], capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd')",
        "open('/tmp/anzoth-sandbox-test', 'w')",
        "os.close(0); os.open('/etc/passwd', os.O_RDONLY)",
        "socket.socket()",
        "os.close(0); socket.socket()",
        "os.pipe()",
        "os.dup(1)",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "os.unlink('/tmp/anzoth-sandbox-test')",
        "os.mkdir('/tmp/anzoth-sandbox-test')",
        "os.stat('/etc/passwd')",
        "os.readlink('/proc/self/exe')",
    ],
)
def test_a_confined_process_cannot(code: str) -> None:
    ended = attempt(code)
    assert ended.stdout.strip() in ("OSError", "PermissionError"), ended.stderr


@pytest.mark.slow
def test_a_confined_process_computes_and_writes_to_what_it_has() -> None:
    assert attempt("sum(range(100_000)); bytearray(64 << 20)").stdout == "done\n"


@pytest.mark.slow
def test_memory_beyond_the_limit_is_refused() -> None:
    assert attempt("bytearray(300 << 20)").stdout == "MemoryError\n"

"""What may a process still do that reads a file from a stranger?

Compute, within its memory and time; read and write the one socket that it holds; end. The kernel
enforces it: limits on memory, processor time, written bytes and file descriptors (none can be
opened any more: no file, no socket, no pipe), and on Linux a list of the system calls that remain,
so that nothing is started, signalled, renamed or deleted either. None of it needs privileges, and
none of it can be taken back.

Does not know: what is read, or how the process was made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path

_NOBODY = 65534
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_EPERM = 1
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_OF_NUMBER, _OFFSET_OF_ARCHITECTURE = 0, 4

# Name → number on x86-64 and on arm64 (None: it does not exist there). `rt_sigaction` and
# `setitimer` are not needed once a parser runs; what is not here fails with EPERM.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "futex": (202, 98),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "getrusage": (98, 165),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}


def drop_privileges() -> None:
    """Whoever is root becomes nobody, where there is one. Undoes a parent death signal."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a container may have mapped only root
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def confine(memory_bytes: int, cpu_s: int, wall_s: float) -> None:
    """Leaves the process `memory_bytes` beyond what it has now, and that much time.

    Only before a parser runs and after all modules are loaded: nothing can be imported afterwards.
    """
    signal.setitimer(signal.ITIMER_REAL, wall_s)  # SIGALRM ends it, inside native code too
    address_space = _address_space_bytes()
    if address_space is not None:
        _limit(resource.RLIMIT_AS, address_space + memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu_s, spare=1)  # SIGXCPU, a second before SIGKILL
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 0)
    forbid_system_calls()


def forbid_system_calls() -> bool:
    """Whether the kernel does that here: Linux on x86-64 and arm64."""
    known = _ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or known is None:
        return False
    program = _program(*known)
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    described = Program(len(program) // 8, ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0) == 0


def _program(architecture: int, column: int) -> bytes:
    """The filter, in the kernel's classic BPF: eight bytes an instruction."""

    def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    parts = [
        instruction(_LOAD_WORD, 0, 0, _OFFSET_OF_ARCHITECTURE),
        instruction(_JUMP_IF_EQUAL, 1, 0, architecture),
        instruction(_RETURN, 0, 0, _KILL_PROCESS),
        instruction(_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
    ]
    for numbers in _ALLOWED.values():
        number = numbers[column]
        if number is not None:
            parts.append(instruction(_JUMP_IF_EQUAL, 0, 1, number))
            parts.append(instruction(_RETURN, 0, 0, _ALLOW))
    parts.append(instruction(_RETURN, 0, 0, _ERRNO | _EPERM))
    return b"".join(parts)


def _limit(which: int, value: int, spare: int = 0) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard - spare)
    resource.setrlimit(which, (value, value + spare))


def _address_space_bytes() -> int | None:
    """Of this process, shared parts included. None: unknown (not Linux)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None

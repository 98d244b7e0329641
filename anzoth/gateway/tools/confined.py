"""What may a command of the operator's still do, when it runs for a tenant's tool?

Run as a program with `memory in MiB, uid, gid, parent's pid, program, arguments…`: limits itself
and becomes that program. The kernel ends it with the gateway. It is no sandbox: a command is one
that the operator chose, may read what its user may read, and has the machine's network.

Does not know: what the program does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

from anzoth import child

CANNOT_START = 127
"""Exit status: the program is not there, or not for this user."""
_MAX_FILES = 256
_MAX_FILE_BYTES = 1 << 30
_NICE = 5
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    memory_mib, uid, gid, parent, *argv = sys.argv[1:]
    _become(int(uid), int(gid))
    # Private memory that can be written: what runtimes only reserve does not count.
    _limit(resource.RLIMIT_DATA, int(memory_mib) << 20)
    _limit(resource.RLIMIT_NOFILE, _MAX_FILES)
    _limit(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    os.nice(_NICE)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    child.set_parent_death_signal(signal.SIGKILL)  # last: a change of user undoes it
    if os.getppid() != int(parent):
        raise SystemExit(CANNOT_START)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and so would the program
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError:
        raise SystemExit(CANNOT_START) from None


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _become(uid: int, gid: int) -> None:
    if (os.geteuid(), os.getegid()) != (uid, gid):
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError:
            raise SystemExit(CANNOT_START) from None


if __name__ == "__main__":
    main()

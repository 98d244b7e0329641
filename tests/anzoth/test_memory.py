"""What the operating system says about memory is read."""

from __future__ import annotations

import os
import subprocess

from anzoth.memory import available_memory_bytes, resident_bytes

MIB = 1 << 20


def test_this_machine_has_memory_and_a_limit_bounds_it() -> None:
    assert available_memory_bytes() > 100 * MIB
    assert available_memory_bytes(1) == MIB
    assert available_memory_bytes(1 << 40) <= available_memory_bytes() + 1000 * MIB


def test_a_process_is_resident_and_one_that_ended_is_not() -> None:
    assert resident_bytes(os.getpid()) > MIB
    done = subprocess.Popen(["true"])
    done.wait()
    assert resident_bytes(done.pid) == 0

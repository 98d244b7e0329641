"""How much memory is there to take?

Does not know: who takes it, or for what.
"""

from __future__ import annotations

import os
from pathlib import Path


def available_memory_bytes(limit_mib: int | None = None) -> int:
    """Memory this process could still use without swapping: the machine's, or its container's.

    Never more than `limit_mib`, if there is one.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = [_meminfo_available() or pages]
    limit, used = (_cgroup_bytes(name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        found.append(max(limit - used, 0))
    if limit_mib is not None:
        found.append(limit_mib << 20)
    return min(found)


def resident_bytes(pid: int) -> int:
    """What a process holds of the machine's memory now; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _meminfo_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return None


def _cgroup_bytes(name: str) -> int | None:
    try:
        text = (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return None  # no container limit visible here
    return int(text) if text.isdigit() else None

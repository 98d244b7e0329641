"""Do the counts of a killed process survive it, each with the entry that it is of?"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anzoth.gateway import journal_counts
from anzoth.gateway.journal_counts import COMPLETION, PROMPT, LiveCounts, read_counts

KILLED = """
import os, signal, sys
from pathlib import Path
from anzoth.gateway.journal_counts import COMPLETION, LiveCounts
slot = LiveCounts(Path(sys.argv[1]), 4).try_claim(2**40)
for _ in range(1000):
    slot.counts[COMPLETION] += 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_counts_outlive_the_process_that_is_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLED, str(tmp_path / "live")], check=False, cwd=tmp_path
    )
    assert done.returncode == -signal.SIGKILL
    assert read_counts(tmp_path / "live") == {2**40: (0, 0, 1000, 0)}


def test_a_slot_that_is_claimed_again_begins_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "live"
    live = LiveCounts(path, 1)
    first = live.try_claim(7)
    assert first is not None
    first.counts[PROMPT] = 5
    assert live.try_claim(8) is None
    live.release(first)
    assert read_counts(path) == {7: (5, 0, 0, 0)}
    assert live.try_claim(8) is not None
    assert read_counts(path) == {8: (0, 0, 0, 0)}


def test_the_file_is_whole_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "live"
    LiveCounts(path, 100)
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == 64 * 101
    assert found.st_blocks * 512 >= found.st_size


def test_after_the_machine_was_started_again_nothing_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "live"
    slot = LiveCounts(path, 1).try_claim(7)
    assert slot is not None
    slot.counts[COMPLETION] = 3
    assert read_counts(path) == {7: (0, 0, 3, 0)}
    monkeypatch.setattr(journal_counts, "_boot_id", lambda: os.urandom(16))
    assert read_counts(path) == {}


@pytest.mark.parametrize("content", [b"", b"x", bytes(64), b"\xa5" * 63, bytes(640)])
def test_no_file_and_a_damaged_one_hold_nothing(tmp_path: Path, content: bytes) -> None:
    assert read_counts(tmp_path / "live") == {}
    (tmp_path / "live").write_bytes(content)
    assert read_counts(tmp_path / "live") == {}

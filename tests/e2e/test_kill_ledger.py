"""The usage ledger under kill -9: a short run of `bench/kill_ledger.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HARNESS = Path(__file__).parents[2] / "bench" / "kill_ledger.py"
KILLS = 8


def test_whatever_is_killed_each_request_is_written_down_once_and_rightly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", str(HARNESS), "--kills", str(KILLS), "--in-memory"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] == KILLS
    assert result["violations"] == 0
    # It was a test of something: requests ran when they were killed, and some came to their end.
    assert result["rows_crashed"] > 0
    assert result["rows"] > result["rows_crashed"]
    assert result["segments_replayed"] > 0
    assert 0 < result["tokens_received"] <= result["tokens_in_ledger"] <= result["tokens_sampled"]

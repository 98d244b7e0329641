"""A report says what it said when it was signed, or it is no report."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from anzoth.gateway.audit_heads import SigningKey
from anzoth.isolation import report
from anzoth.isolation.report import Check, NotAReport, Report, failed, passed

KEY = SigningKey(bytes(range(32)))
AT = datetime(2026, 1, 31, tzinfo=UTC)


def report_of(*checks: Check) -> Report:
    return Report("1.0", "http://127.0.0.1:8000/v1", ("t-a", "t-b"), AT, AT, checks)


def written(folder: Path, signed: dict[str, Any]) -> Path:
    path = folder / "report.json"
    path.write_bytes(orjson.dumps(signed, option=orjson.OPT_INDENT_2))
    return path


def test_a_signed_report_is_read_back(tmp_path: Path) -> None:
    signed = report_of(passed("ids", "GET /x", foreign={"status": 404})).signed(KEY)
    path = written(tmp_path, signed)
    assert report.read(path) == signed
    assert report.read(path, KEY.public) == signed
    assert signed["report"]["passed"]
    assert signed["report"]["counts"] == {"passed": 1}
    assert signed["report"]["checks"][0]["found"] == {"foreign": {"status": 404}}


@pytest.mark.parametrize("field", ["passed", "version", "checks", "ended_at", "installation"])
def test_a_changed_report_is_refused(tmp_path: Path, field: str) -> None:
    signed = copy.deepcopy(report_of(failed("ids", "GET /x", "the status differs")).signed(KEY))
    signed["report"][field] = True
    with pytest.raises(NotAReport, match="somebody changed it"):
        report.read(written(tmp_path, signed))


def test_a_report_signed_anew_by_another_is_not_the_installations(tmp_path: Path) -> None:
    path = written(tmp_path, report_of(passed("ids", "x")).signed(SigningKey(bytes(32))))
    report.read(path)
    with pytest.raises(NotAReport, match="not the given key"):
        report.read(path, KEY.public)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"report":{},"public_key":"zz","signature":""}']
)
def test_what_is_no_report_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(NotAReport, match="no report"):
        report.read(path)


@pytest.mark.parametrize(
    ("checks", "has_passed"),
    [
        ([], False),
        ([passed("a", "x"), Check("a", "y", "left out", "none here")], True),
        ([passed("a", "x"), failed("a", "y", "why")], False),
        ([passed("a", "x"), Check("a", "y", "not probed", "why")], False),
    ],
)
def test_a_report_passes_only_if_nothing_failed_or_was_forgotten(
    checks: list[Check], has_passed: bool
) -> None:
    assert report_of(*checks).has_passed is has_passed

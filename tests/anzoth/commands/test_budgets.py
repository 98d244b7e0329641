"""Budgets are written and shown as exact decimal text, wherever limits are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anzoth.cli import build

pytestmark = pytest.mark.slow


def test_budgets_are_written_and_shown_as_exact_decimal_text(dsn: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        where = ("--database-url", dsn, "--data-dir", str(tmp_path))
        return CliRunner().invoke(build(), [*arguments, *where])

    def told(*arguments: str) -> Any:
        done = run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def budgets(of: dict[str, Any]) -> tuple[str | None, str | None]:
        return of["budget_per_day"], of["budget_per_month"]

    told("tenants", "create", "acme")
    made = told(
        *("keys", "create", "--tenant", "acme", "--name", "k"),
        *("--budget-per-month", "25.50", "--budget-per-day", "0.000000001"),
    )
    assert budgets(made) == ("0.000000001", "25.5")
    assert [budgets(key) for key in told("keys", "list")] == [("0.000000001", "25.5")]
    changed = told("keys", "update", made["id"], "--budget-per-day", "none")
    assert budgets(changed) == (None, "25.5")
    project = told("projects", "create", "p", "--tenant", "acme", "--budget-per-day", "7")
    assert budgets(project) == ("7", None)
    update = ("tenants", "update", "acme", "--budget-per-month")
    assert budgets(told(*update, "1000")) == (None, "1000")
    listed = [budgets(limit) for limit in told("tenants", "limits", "acme")]
    assert listed == [(None, "1000"), ("7", None), (None, "25.5")]
    text = run("tenants", "limits", "acme").stdout
    assert "budget_per_month 1000" in text
    assert "budget_per_month 25.5" in text
    events = told("audit", "list", "--tenant", "acme")
    recorded = [event["details"].get("budget_per_month") for event in events]
    assert {"25.5", "1000"} <= set(recorded)
    assert "expected a decimal number" in run(*update, "1e3").stderr
    assert "more than 0" in run(*update, "0.00").stderr

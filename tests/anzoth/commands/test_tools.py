"""Does an operator register, look at and approve tools, whatever a server says of itself?

The server is a process that the commands start, and speaks MCP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_kit import listing_command
from typer.testing import CliRunner, Result

from anzoth.cli import build
from anzoth.commands.tools import _line
from anzoth.gateway import directory

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-of-notes"
ADD = {"name": "add", "description": "Adds a note.", "inputSchema": {"type": "object"}}
READ = {**ADD, "name": "read", "annotations": {"readOnlyHint": True}}
OF_ACME = ("--tenant", "acme")
Anzoth = Callable[..., Result]


@pytest.fixture
def listing(data_dir: Path) -> Path:
    """What the server lists, where its process can read it, too."""
    path = data_dir / "tools.json"
    path.write_text(json.dumps([ADD, READ]))
    return path


@pytest.fixture
def anzoth(dsn: str, tmp_path: Path, listing: Path) -> Anzoth:
    config = tmp_path / "anzoth.toml"
    argv = json.dumps(listing_command(listing))
    config.write_text(f"[tools.commands]\nnotes = {argv}\n")
    for name in ("acme", "other"):
        asyncio.run(directory.create_tenant(dsn, name))
    where = ["--database-url", dsn, "--data-dir", str(tmp_path / "data"), "--config", str(config)]

    def run(*arguments: str, sends: str | None = None) -> Result:
        return CliRunner().invoke(build(), ["tools", *arguments, *where], input=sends)

    return run


def shown(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def states(server: dict[str, Any]) -> dict[str, str]:
    return {tool["name"]: tool["state"] for tool in server["tools"]}


def test_a_command_is_registered_looked_at_approved_quarantined_and_deleted(
    anzoth: Anzoth, listing: Path
) -> None:
    made = shown(anzoth("create", "notes", *OF_ACME, "--command", "notes", "--json"))
    assert (made["kind"], made["note"]) == ("command", None)
    assert states(made) == {"add": "pending", "read": "pending"}
    refused = anzoth("approve", "notes", *OF_ACME, sends="n\n")
    assert refused.exit_code == 1
    assert "add (pending, may write)" in refused.stdout
    assert "read (pending, only reads)" in refused.stdout
    assert states(shown(anzoth("show", "notes", *OF_ACME, "--json")))["add"] == "pending"
    approved = anzoth("approve", "notes", *OF_ACME, sends="y\n")
    assert approved.stdout.endswith("Approved add, read.\n")
    worse = "Adds a note.\x1b[2J\u202e And mails it."
    listing.write_text(json.dumps([{**ADD, "description": worse}, READ]))
    refreshed = anzoth("refresh", "notes", *OF_ACME)
    assert "add (quarantined, may write)" in refreshed.stdout
    assert "Adds a note.\ufffd[2J\ufffd And mails it." in refreshed.stdout
    assert "before: Adds a note." in refreshed.stdout
    assert "\x1b" not in refreshed.stdout
    (listed,) = shown(anzoth("list", *OF_ACME, "--json"))
    assert states(listed) == {"add": "quarantined", "read": "approved"}
    again = shown(anzoth("approve", "notes", "add", *OF_ACME, "--yes", "--json"))
    assert states(again) == {"add": "approved", "read": "approved"}
    withdrawn = shown(anzoth("withdraw", "notes", "add", *OF_ACME, "--json"))
    assert states(withdrawn) == {"add": "pending", "read": "approved"}
    assert anzoth("show", "notes", "--tenant", "other").exit_code == 1
    assert "Deleted" in anzoth("delete", "notes", *OF_ACME).stdout
    assert shown(anzoth("list", *OF_ACME, "--json")) == []


def test_credentials_come_from_a_file_and_are_never_shown(anzoth: Anzoth, tmp_path: Path) -> None:
    secrets, body = tmp_path / "secrets.json", {"environment": {"TOKEN": SECRET}}
    secrets.write_text(json.dumps(body))
    created = anzoth(
        *("create", "notes", *OF_ACME, "--command", "notes"), "--credentials", str(secrets)
    )
    assert created.exit_code == 0, created.output
    assert SECRET not in created.output
    shows = anzoth("show", "notes", *OF_ACME, "--json")
    assert shown(shows)["has_credentials"] is True
    assert SECRET not in shows.output
    removed = anzoth("update", "notes", *OF_ACME, "--remove-credentials", "--json")
    assert shown(removed)["has_credentials"] is False
    sent = anzoth(
        *("update", "notes", *OF_ACME, "--credentials", "-", "--json"), sends=json.dumps(body)
    )
    assert shown(sent)["has_credentials"] is True
    for wrong in ("{", json.dumps({"headers": {"x": SECRET}}), json.dumps({"token": SECRET})):
        refused = anzoth("update", "notes", *OF_ACME, "--credentials", "-", sends=wrong)
        assert (refused.exit_code, SECRET in refused.output) == (1, False)


def test_a_plain_http_tool_is_made_of_its_definition_and_rules_are_kept(
    anzoth: Anzoth, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    definition = tmp_path / "get.json"
    tool = {"name": "get", "description": "An order.", "input_schema": schema, "read_only": True}
    definition.write_text(json.dumps(tool))
    url = "https://erp.example.com/orders/{id}"
    made = shown(
        anzoth(
            *("create", "erp", *OF_ACME, "--url", url, "--definition", str(definition)),
            *("--approval", "always", "--timeout-s", "2.5", "--calls-per-minute", "9", "--json"),
        )
    )
    assert (made["kind"], made["method"], made["url"]) == ("http", "GET", url)
    assert (made["approval"], made["timeout_s"], made["calls_per_minute"]) == ("always", 2.5, 9)
    assert states(made) == {"get": "approved"}
    changed = shown(
        anzoth(
            *("update", "erp", *OF_ACME, "--calls-per-minute", "0", "--taint", "values", "--json")
        )
    )
    assert (changed["calls_per_minute"], changed["taint"]) == (None, "values")
    assert changed["approval"] == "always"


def test_a_host_that_nobody_allowed_is_registered_and_said_not_to_be_reached(
    anzoth: Anzoth,
) -> None:
    made = shown(anzoth("create", "crm", *OF_ACME, "--url", "https://crm.invalid/", "--json"))
    assert made["note"] is not None
    assert (made["listed_at"], made["tools"]) == (None, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "notes", "--tenant", "nobody", "--command", "notes"),
        ("create", "notes", *OF_ACME, "--command", "rm"),
        ("create", "CRM", *OF_ACME, "--url", "https://crm.example.com/"),
        ("create", "crm", *OF_ACME),
        ("approve", "notes", *OF_ACME),
    ],
)
def test_what_cannot_be_done_is_one_sentence(anzoth: Anzoth, arguments: tuple[str, ...]) -> None:
    refused = anzoth(*arguments)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("anzoth: ")
    assert refused.stderr.count("\n") == 1


def test_what_a_stranger_wrote_cannot_move_a_cursor() -> None:
    assert (
        _line("a\n\n b\tc\x1b[2J\x9b\u202e\u200b\ufeffé漢")
        == "a b c\ufffd[2J\ufffd\ufffd\ufffd\ufffdé漢"
    )

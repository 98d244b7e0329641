"""Do the commands do what they say, with and without a running server, in text and in JSON?"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from anzoth import cli
from anzoth.db.embedded import Warden
from anzoth.db.pool import Database
from anzoth.gateway import directory, keys
from anzoth.gateway.auth import Authenticator

pytestmark = pytest.mark.slow


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "anzoth.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


class Commands:
    """The commands on one data directory, run in this process."""

    def __init__(self, *where: str) -> None:
        self.where = where

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.build(), [*arguments, *self.where])

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    def error(self, *arguments: str) -> str:
        """The one sentence of a command that must fail."""
        done = self.run(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("anzoth: ")
        assert done.stderr.count("\n") == 1
        return done.stderr


def test_a_shell_gets_the_status_and_each_stream_apart(data_dir: Path) -> None:
    where = ("--data-dir", str(data_dir / "new"))
    done = shell("tenants", "create", "acme", "--json", *where)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["name"] == "acme"
    done = shell("tenants", "create", "acme", *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("anzoth: ")
    done = shell("tenant", "list", *where)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'tenants'?" in done.stderr


def test_every_command_is_named_in_the_help_and_found() -> None:
    commands = Commands()
    printed = commands.run("--help").stdout
    for name in (*cli.COMMANDS, *cli.GROUPS):
        assert name in printed
        assert f" {name} [OPTIONS]" in commands.run(name, "--help").stdout


def test_a_command_imports_no_other() -> None:
    code = (
        "import sys; from anzoth import cli; sys.argv[1:] = ['migrate', '--help']\n"
        "try: cli.main()\n"
        "finally: print(*sorted(m for m in sys.modules if m.startswith('anzoth.commands.')))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "anzoth.commands.migrate anzoth.commands.options"


def test_a_key_s_life_from_a_fresh_directory(data_dir: Path) -> None:
    commands = Commands("--data-dir", str(data_dir / "new"))
    assert commands.json("tenants", "create", "acme")["name"] == "acme"
    created = commands.json(
        *("keys", "create", "--tenant", "acme", "--name", "ci", "--scope", "chat"),
        *("--scope", "models:read", "--model", "llama-*", "--rpm", "60", "--tpm", "1000"),
        *("--expires", "90d"),
    )
    key = keys.try_parse(created["key"])
    assert key is not None
    assert (created["kid"], created["tenant"], created["name"]) == (key.kid, "acme", "ci")
    assert (created["scopes"], created["models"]) == (["chat", "models:read"], ["llama-*"])
    assert (created["rpm"], created["tpm"]) == (60, 1000)
    listed = commands.run("keys", "list", "--json")
    assert key.text.partition("_")[2] not in listed.stdout
    assert "digest" not in listed.stdout
    (row,) = json.loads(listed.stdout)
    assert (row["id"], row["kid"], row["revoked_at"]) == (created["id"], key.kid, None)
    assert row["expires_at"] == created["expires_at"]
    assert commands.json("keys", "revoke", created["id"])["id"] == created["id"]
    (row,) = commands.json("keys", "list", "--tenant", "acme")
    assert row["revoked_at"] is not None
    (tenant,) = commands.json("tenants", "list")
    assert tenant["num_keys"] == 0
    assert commands.json("migrate") == {"applied": []}


def test_commands_work_beside_a_running_server(data_dir: Path) -> None:
    async def scenario() -> None:
        warden = await Warden.start(data_dir)
        await warden.wait_ready()
        commands = Commands("--data-dir", str(data_dir))
        await asyncio.to_thread(commands.json, "tenants", "create", "acme")
        created = await asyncio.to_thread(
            commands.json, "keys", "create", "--tenant", "acme", "--name", "x"
        )
        database = await Database.open(warden.dsn)
        pepper = keys.load_pepper(data_dir)
        authenticator = Authenticator(database, warden.dsn, pepper)
        principal = await authenticator.authenticate(f"Bearer {created['key']}")
        assert str(principal.key_id) == created["id"]
        assert principal.scopes == set(directory.DEFAULT_SCOPES)
        assert warden.process.returncode is None
        await database.close()
        await warden.stop()

    asyncio.run(scenario())


def test_text_output_shows_a_key_once(dsn: str, tmp_path: Path) -> None:
    commands = Commands("--database-url", dsn, "--data-dir", str(tmp_path))
    assert commands.run("tenants", "create", "[bold]acme[/]").stdout.count("[bold]acme[/]") == 1
    printed = commands.run("keys", "create", "--tenant", "[bold]acme[/]", "--name", "n").stdout
    (text,) = [line.strip() for line in printed.splitlines() if line.startswith("  anz-")]
    key = keys.try_parse(text)
    assert key is not None
    listed = commands.run("keys", "list").stdout
    assert key.kid in listed
    assert "active" in listed
    assert key.text[17:25] not in listed
    assert commands.run("keys", "revoke", key.kid).exit_code == 0
    assert "revoked" in commands.run("keys", "list").stdout


def test_a_key_is_updated_rotated_and_revoked_and_stays_the_same(dsn: str, tmp_path: Path) -> None:
    commands = Commands("--database-url", dsn, "--data-dir", str(tmp_path))
    commands.json("tenants", "create", "acme")
    commands.json("projects", "create", "web", "--tenant", "acme", "--rpm", "9")
    created = commands.json(
        *("keys", "create", "--tenant", "acme", "--name", "ci", "--project", "web"),
        *("--scope", "chat", "--network", "10.0.0.0/8", "--tool", "weather", "--rpm", "60"),
        *("--output-tpm", "500", "--concurrency", "3"),
    )
    assert created["networks"] == ["10.0.0.0/8"]
    assert (created["rpm"], created["output_tpm"], created["concurrency"]) == (60, 500, 3)
    changed = commands.json(
        *("keys", "update", created["id"], "--add-scope", "rerank", "--rpm", "none"),
        *("--remove-network", "10.0.0.0/8", "--add-network", "::1", "--restrict", "models"),
        *("--add-model", "llama*", "--expires", "90d"),
    )
    assert (changed["scopes"], changed["models"]) == (["chat", "rerank"], ["llama*"])
    assert (changed["networks"], changed["rpm"]) == (["::1/128"], None)
    rotated = commands.json("keys", "rotate", created["kid"], "--grace", "2h")
    assert rotated["id"] == created["id"]
    assert rotated["key"] != created["key"]
    assert keys.try_parse(rotated["key"]) is not None
    (listed,) = commands.json("keys", "list")
    assert listed["kid"] == rotated["kid"]
    assert listed["predecessor_expires_at"] == rotated["old_until"]
    assert (listed["project"], listed["concurrency"], listed["tools"]) == ("web", 3, ["weather"])
    revoked = commands.json("keys", "revoke", created["kid"], "--let-finish")  # by its old name
    assert revoked["id"] == created["id"]
    assert "was revoked on" in commands.error("keys", "rotate", created["id"])
    assert "at most 7 days" in commands.error("keys", "rotate", created["id"], "--grace", "8d")


def test_limits_of_tenants_projects_and_models_are_set_and_listed(dsn: str, tmp_path: Path) -> None:
    commands = Commands("--database-url", dsn, "--data-dir", str(tmp_path))
    commands.json("tenants", "create", "acme")
    assert commands.json("tenants", "update", "acme", "--tpm", "1000")["tpm"] == 1000
    updated = commands.json("tenants", "update", "acme", "--for-model", "llama", "--rpm", "5")
    assert (updated["for_model"], updated["rpm"], updated["tpm"]) == ("llama", 5, None)
    commands.json("projects", "create", "web", "--tenant", "acme")
    commands.json(
        *("projects", "update", "web", "--tenant", "acme", "--new-name", "shop"),
        *("--tokens-per-day", "9000"),
    )
    listed = commands.json("tenants", "limits", "acme")
    assert [(limit["project"], limit["model"]) for limit in listed] == [
        (None, None),
        (None, "llama"),
        ("shop", None),
    ]
    assert "tokens_per_day 9000" in commands.run("tenants", "limits", "acme").stdout
    commands.json("tenants", "update", "acme", "--tpm", "none")
    assert len(commands.json("tenants", "limits", "acme")) == 2
    names = [project["name"] for project in commands.json("projects", "list", "--tenant", "acme")]
    assert names == ["default", "shop"]
    archived = commands.json("projects", "archive", "shop", "--tenant", "acme")
    assert archived["num_revoked_keys"] == 0
    assert "no project named" in commands.error("projects", "update", "shop", "--tenant", "acme")
    assert "a whole number or none" in commands.error("tenants", "update", "acme", "--rpm", "x")
    assert "rpm is 0" in commands.error("tenants", "update", "acme", "--rpm", "0")


def test_a_tenant_is_deleted_only_when_that_was_meant(dsn: str, tmp_path: Path) -> None:
    commands = Commands("--database-url", dsn, "--data-dir", str(tmp_path))
    for name in ("one", "two"):
        commands.json("tenants", "create", name)
        commands.json("keys", "create", "--tenant", name, "--name", "k")
    unsure = commands.run("tenants", "delete", "one")  # nobody there to answer
    assert unsure.exit_code == 1
    assert [t["deleted_at"] for t in commands.json("tenants", "list")] == [None, None]
    assert "1 keys were revoked" in commands.run("tenants", "delete", "one", "--yes").stdout
    deleted = commands.json("tenants", "delete", "two")
    assert (deleted["name"], deleted["num_revoked_keys"]) == ("two", 1)
    assert all(t["deleted_at"] for t in commands.json("tenants", "list"))
    assert "was deleted on" in commands.error("tenants", "delete", "two", "--yes")
    assert "deleted 2" in commands.run("tenants", "list").stdout


def test_mistakes_are_one_sentence_each(dsn: str, tmp_path: Path) -> None:
    commands = Commands("--database-url", dsn, "--data-dir", str(tmp_path))
    create = ("keys", "create", "--name", "n", "--tenant")
    assert "anzoth tenants create ghost" in commands.error(*create, "ghost")
    assert "expected a duration" in commands.error(*create, "a", "--expires", "soon")
    assert "unknown scope 'x'" in commands.error(*create, "a", "--scope", "x")
    assert "no such key" in commands.error("keys", "revoke", "x")
    assert "no tenant" in commands.error("keys", "list", "--tenant", "ghost")


def test_a_database_that_cannot_be_used_is_one_sentence(empty_dsn: str, tmp_path: Path) -> None:
    commands = Commands("--database-url", empty_dsn)
    assert "run: anzoth migrate" in commands.error("tenants", "list")
    assert commands.json("migrate")["applied"]
    assert commands.json("tenants", "list") == []
    for url in ("postgresql://u:canary@127.0.0.1:1/x", "nonsense"):
        error = Commands("--database-url", url).error("tenants", "list")
        assert "canary" not in error
    (tmp_path / "file").write_text("")
    bad = Commands("--data-dir", str(tmp_path / "file" / "x"))
    assert "data directory" in bad.error("tenants", "list")
    assert "anzoth.toml" in Commands("--config", "/nonexistent/anzoth.toml").error("migrate")


def test_the_configuration_file_finds_the_installation(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "anzoth.toml"
    file.write_text(f"[server]\ndata_dir = {str(tmp_path)!r}\ndatabase_url = {dsn!r}\n")
    assert Commands("--config", str(file)).json("tenants", "list") == []

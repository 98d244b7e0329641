"""`anzoth service-accounts`: what an operator types, and whether the keys work and end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anzoth import cli
from anzoth.gateway import directory, keys, project_directory
from anzoth.gateway.limit_rules import Limits

pytestmark = pytest.mark.slow


class Commands:
    """The commands on one database, in this process."""

    def __init__(self, dsn: str, data_dir: Path) -> None:
        self.where = ["--database-url", dsn, "--data-dir", str(data_dir)]

    def text(self, *arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(cli.build(), [*arguments, *self.where])
        assert done.exit_code == status, done.output
        return done.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture
def commands(dsn: str, data_dir: Path) -> Commands:
    async def prepare() -> None:
        await directory.create_tenant(dsn, "acme")
        await project_directory.create_project(dsn, "acme", "web", Limits())

    asyncio.run(prepare())
    return Commands(dsn, data_dir)


def test_an_account_owns_its_keys_and_takes_them_along(commands: Commands) -> None:
    create = ("service-accounts", "create", "robot", "--tenant", "acme", "--project", "web")
    made = commands.json(*create, "--scope", "chat", "--expires", "1d")
    assert keys.try_parse(made["key"]) is not None
    more = ("keys", "create", "--tenant", "acme", "--project", "web", "--name", "second")
    second = commands.json(*more, "--service-account", made["id"])
    listed = {key["id"]: key for key in commands.json("keys", "list")}
    assert {listed[id]["owner"] for id in (made["key_id"], second["id"])} == {"robot"}
    assert listed[made["key_id"]]["scopes"] == ["chat"]
    (account,) = commands.json("service-accounts", "list", "--tenant", "acme")
    assert (account["id"], account["name"], account["project"]) == (made["id"], "robot", "web")
    assert "robot" in commands.text("service-accounts", "list", "--tenant", "acme")
    of_default = ("service-accounts", "list", "--tenant", "acme", "--project", "default")
    assert commands.json(*of_default) == []
    assert commands.json("service-accounts", "delete", made["id"])["num_revoked_keys"] == 2
    assert all(key["revoked_at"] is not None for key in commands.json("keys", "list"))
    assert commands.json("service-accounts", "list", "--tenant", "acme") == []
    types = {event["type"] for event in commands.json("audit", "list", "--tenant", "acme")}
    assert {"service_account.created", "service_account.deleted", "api_key.deleted"} <= types


def test_what_cannot_be_done_is_said_in_one_sentence(commands: Commands) -> None:
    made = commands.json("service-accounts", "create", "robot", "--tenant", "acme")
    create = ("service-accounts", "create", "--tenant", "acme")
    key = ("keys", "create", "--tenant", "acme", "--name", "k", "--service-account")
    unknown = "00000000-0000-0000-0000-000000000000"
    for arguments, says in (
        ((*create, " "), "printable characters"),
        ((*create, "x", "--project", "nowhere"), "no project named 'nowhere'"),
        ((*create, "x", "--scope", "admin", "--expires", "1d"), "no key with the scope admin"),
        (("service-accounts", "delete", "x"), "not a service account's id"),
        (("service-accounts", "delete", unknown), "no such service account"),
        ((*key, unknown), "no such service account in the project 'default'"),
        ((*key, made["id"], "--project", "web"), "no such service account in the project 'web'"),
        ((*key, made["id"], "--scope", "admin", "--expires", "1d"), "no key with the scope admin"),
        ((*key[:-1], "--scope", "admin"), "must expire"),
        ((*key[:-1], "--scope", "admin", "--expires", "1d", "--project", "web"), "above projects"),
    ):
        said = commands.text(*arguments, status=1)
        assert says in said, arguments
        assert said.count("\n") == 1

"""`anzoth users` and `anzoth invites`: what an operator types, and what a person can do then."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from accounts_kit import PASSWORD, Site, run_site
from typer.testing import CliRunner

from anzoth import cli
from anzoth.gateway import directory

pytestmark = pytest.mark.slow


class Commands:
    """The commands on one database, in this process. The pepper is that of `accounts_kit`."""

    def __init__(self, dsn: str, data_dir: Path) -> None:
        (data_dir / "pepper").write_text(b"0123456789abcdef0123456789abcdef".hex() + "\n")
        self.where = ["--database-url", dsn, "--data-dir", str(data_dir)]

    def text(self, *arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(cli.build(), [*arguments, *self.where])
        assert done.exit_code == status, done.output
        return done.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture
def commands(dsn: str, data_dir: Path) -> Commands:
    asyncio.run(directory.create_tenant(dsn, "acme"))
    return Commands(dsn, data_dir)


def test_a_user_that_the_operator_made_sets_a_password_and_signs_in(
    dsn: str, commands: Commands
) -> None:
    made = commands.json(
        "users", "create", "Ann@example.com", "--tenant", "acme", "--role", "owner"
    )

    async def scenario(site: Site) -> None:
        browser = site.browser()
        body = {"token": made["token"], "new_password": PASSWORD}
        assert (await browser.post("/v1/auth/password/reset", body)).status == 200
        reply = await browser.sign_in("ann@example.com")
        assert reply.json["user"]["id"] == made["id"]
        assert [o["role"] for o in reply.json["organizations"]] == ["owner"]

    run_site(dsn, scenario)
    (listed,) = commands.json("users", "list")
    assert (listed["email"], listed["roles"]) == ("ann@example.com", ["acme:owner"])
    assert "ann@example.com" in commands.text("users", "list", "--tenant", "acme")
    assert "already a user" in commands.text("users", "create", "ann@example.com", status=1)
    commands.json("users", "set-role", "ann@example.com", "--tenant", "acme", "--role", "viewer")
    assert commands.json("users", "list")[0]["roles"] == ["acme:viewer"]
    assert commands.json("users", "disable", "ann@example.com")["ended_sessions"] == 1
    assert "disabled" in commands.text("users", "list")
    commands.json("users", "disable", "ann@example.com", "--undo")
    again = commands.json("users", "reset-password", "ann@example.com", "--second-factor")
    assert again["token"] != made["token"]


def test_an_operator_is_made_by_command_and_then_no_bootstrap_link_is(
    dsn: str, commands: Commands
) -> None:
    commands.text("users", "create", "op@example.com", "--operator")
    (listed,) = commands.json("users", "list")
    assert listed["is_operator"] is True


def test_an_invitation_made_by_command_is_accepted(dsn: str, commands: Commands) -> None:
    made = commands.json("invites", "create", "bob@example.com", "--tenant", "acme")
    gone = commands.json(
        "invites", "create", "eve@example.com", "--tenant", "acme", "--role", "admin"
    )
    assert commands.json("invites", "revoke", gone["id"], "--tenant", "acme")["deleted"] is True

    async def scenario(site: Site) -> None:
        for token, status in ((made["token"], 200), (gone["token"], 404)):
            body = {"token": token, "password": PASSWORD}
            reply = await site.browser().post("/v1/auth/invitations/accept", body)
            assert reply.status == status

    run_site(dsn, scenario)
    (listed,) = commands.json("invites", "list", "--tenant", "acme")
    assert listed["email"] == "bob@example.com"
    assert "token" not in listed
    assert "accepted" in commands.text("invites", "list", "--tenant", "acme")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("users", "create", "nonsense"), "not an email"),
        (("users", "create", "a@b.c", "--tenant", "nowhere"), "no tenant named 'nowhere'"),
        (("users", "create", "a@b.c", "--tenant", "acme", "--role", "king"), "no role 'king'"),
        (("users", "reset-password", "a@b.c"), "no user with this email"),
        (("users", "disable", "a@b.c"), "no user with this email"),
        (("users", "list", "--tenant", "nowhere"), "no tenant named"),
        (("invites", "create", "a@b.c", "--tenant", "nowhere"), "no tenant named"),
        (("invites", "revoke", "x", "--tenant", "acme"), "not an invitation's id"),
        (
            ("invites", "revoke", "00000000-0000-0000-0000-000000000000", "--tenant", "acme"),
            "no such invitation",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    commands: Commands, arguments: tuple[str, ...], says: str
) -> None:
    said = commands.text(*arguments, status=1)
    assert says in said
    assert said.count("\n") == 1

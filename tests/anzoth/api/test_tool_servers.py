"""Tool servers over the API: registered, looked at, approved; secrets go in and never come out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, running_api
from files_kit import add_tenant
from registry_kit import SaidByServers, defined

from anzoth.db.pool import Database
from anzoth.gateway.accounts.roles import ADMIN, MEMBER, SCOPES_OF_ROLE, VIEWER
from anzoth.gateway.tools.definitions import ToolFailure

pytestmark = pytest.mark.slow

SERVERS = "/v1/tool_servers"
SECRET = "s3cr3t-of-crm"
CRM = {
    "label": "crm",
    "kind": "mcp",
    "url": "https://crm.example.com/mcp",
    "credentials": {"headers": {"authorization": f"Bearer {SECRET}"}},
}
Scenario = Callable[[Api, SaidByServers], Awaitable[None]]


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path) -> Callable[[Scenario], None]:
    """`admin`, `member` and `viewer` are keys of one tenant, `foreign` is an admin of another."""

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            database, said = await Database.open(dsn), SaidByServers()
            socket = tmp_path / "engine.sock"
            async with running_api(checkpoint, socket, database=database, tool_servers=said) as api:
                one, two = await add_tenant(dsn, "one"), await add_tenant(dsn, "two")
                for name in (VIEWER, MEMBER, ADMIN):
                    api.keys.principals[name] = replace(one, scopes=SCOPES_OF_ROLE[name])
                api.keys.principals["foreign"] = replace(two, scopes=SCOPES_OF_ROLE[ADMIN])
                await scenario(api, said)
            await database.close()

        asyncio.run(main())

    return run_scenario


async def ask(
    api: Api, method: str, path: str, body: Any = None, *, key: str = ADMIN, status: int = 200
) -> dict[str, Any]:
    reply = await api.call(method, SERVERS + path, body, key=key)
    assert reply.status == status, reply.body
    assert SECRET.encode() not in reply.body
    if status == 200:
        assert dict(reply.headers)["cache-control"] == "no-store"
    return reply.json


def seen(server: dict[str, Any]) -> dict[str, Any]:
    """What an admin approves who has looked at all of it."""
    tools = [{"name": tool["name"], "digest": tool["digest"]} for tool in server["tools"]]
    return {"tools": tools}


def states(server: dict[str, Any]) -> dict[str, str]:
    return {tool["name"]: tool["state"] for tool in server["tools"]}


def test_a_server_is_registered_looked_at_approved_changed_and_deleted(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(api: Api, said: SaidByServers) -> None:
        said.by_label["crm"] = [defined("get", is_read_only=True), defined("put")]
        made = await ask(api, "POST", "", CRM)
        path = f"/{made['id']}"
        assert (made["object"], made["has_credentials"], made["note"]) == (
            "tool_server",
            True,
            None,
        )
        assert states(made) == {"get": "pending", "put": "pending"}
        assert [tool["read_only"] for tool in made["tools"]] == [True, False]
        assert made["tools"][0]["input_schema"] == defined("get").input_schema
        approved = await ask(api, "POST", f"{path}/approve", seen(made))
        assert states(approved) == {"get": "approved", "put": "approved"}
        said.by_label["crm"] = [defined("get", is_read_only=True), defined("put", "Worse.")]
        changed = await ask(api, "POST", f"{path}/refresh")
        assert states(changed) == {"get": "approved", "put": "quarantined"}
        put = changed["tools"][1]
        assert (put["description"], put["approved_before"]["description"]) == ("Worse.", "Does it.")
        assert put["digest"] != put["approved_before"]["digest"]
        conflict = await ask(api, "POST", f"{path}/approve", seen(made), status=409)
        assert conflict["error"]["code"] == "conflict"
        await ask(api, "POST", f"{path}/withdraw", {"tools": ["get", "put"]})
        stricter = await ask(api, "POST", path, {"approval": "always", "credentials": None})
        assert (stricter["approval"], stricter["has_credentials"]) == ("always", False)
        assert states(stricter) == {"get": "pending", "put": "pending"}
        (listed,) = (await ask(api, "GET", ""))["data"]
        assert listed == stricter == await ask(api, "GET", path)
        assert (await ask(api, "DELETE", path))["deleted"] is True
        assert (await ask(api, "GET", ""))["data"] == []
        await ask(api, "GET", path, status=404)

    run(scenario)


def test_members_look_admins_decide_and_viewers_do_neither(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api, said: SaidByServers) -> None:
        made = await ask(api, "POST", "", CRM)
        path = f"/{made['id']}"
        writes = (
            ("POST", "", CRM),
            ("POST", path, {"approval": "never"}),
            ("DELETE", path, None),
            ("POST", f"{path}/refresh", None),
            ("POST", f"{path}/approve", {"tools": [{"name": "x", "digest": "00" * 32}]}),
            ("POST", f"{path}/withdraw", {"tools": ["x"]}),
        )
        for method, where, body in writes:
            for key in (VIEWER, MEMBER):
                await ask(api, method, where, body, key=key, status=403)
        for where in ("", path):
            await ask(api, "GET", where, key=MEMBER)
            await ask(api, "GET", where, key=VIEWER, status=403)

    run(scenario)


def test_another_tenants_server_answers_as_one_that_never_was(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(api: Api, said: SaidByServers) -> None:
        made = await ask(api, "POST", "", CRM)
        never = "00000000-0000-0000-0000-000000000000"
        for suffix, method, body in (
            ("", "GET", None),
            ("", "POST", {"approval": "never"}),
            ("", "DELETE", None),
            ("/refresh", "POST", None),
            ("/approve", "POST", {"tools": [{"name": "get", "digest": "00" * 32}]}),
            ("/withdraw", "POST", {"tools": ["get"]}),
        ):
            answers = [
                await ask(api, method, f"/{id}{suffix}", body, key="foreign", status=404)
                for id in (made["id"], never, "nonsense")
            ]
            assert answers[0] == answers[1] == answers[2]
        assert (await ask(api, "GET", "", key="foreign"))["data"] == []

    run(scenario)


def test_what_goes_wrong_at_a_server_is_a_note_and_a_command_is_refused(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(api: Api, said: SaidByServers) -> None:
        said.by_label["crm"] = ToolFailure("egress_refused", "This host is not allowed.")
        made = await ask(api, "POST", "", CRM)
        assert (made["note"], made["listed_at"]) == ("This host is not allowed.", None)
        command = {"label": "sh", "kind": "command", "command": "sh"}
        error = (await ask(api, "POST", "", command, status=400))["error"]
        assert (error["param"], error["code"]) == ("kind", "invalid_value")
        taken = (await ask(api, "POST", "", CRM, status=400))["error"]
        assert taken["param"] == "label"

    run(scenario)

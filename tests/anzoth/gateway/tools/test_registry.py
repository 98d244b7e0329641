"""Tool servers are one tenant's; a person approves what they saw; secrets go in and never out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from registry_kit import MCP, URL, World, defined, operator, run, tools_of

from anzoth.db.pool import operator as operator_connection
from anzoth.errors import AnzothError, Conflict, InvalidValue, StorageFull, ToolServerNotFound
from anzoth.gateway import directory
from anzoth.gateway.tenant_crypt import CannotOpen
from anzoth.gateway.tools.definitions import (
    NO_CREDENTIALS,
    CallLimits,
    Credentials,
    ToolFailure,
)
from anzoth.gateway.tools.managing import ServerChange, ServerRequest
from anzoth.gateway.tools.registry import MAX_SERVERS

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-of-crm"
SEALED = Credentials(headers={"authorization": f"Bearer {SECRET}"})
COMMAND = ServerRequest("notes", "command", command="notes")
HTTP = ServerRequest(
    "orders",
    "http",
    "https://erp.example.com/v1/orders/{id}",
    method="GET",
    tool=defined("get", "An order.", is_read_only=True),
)


def test_a_server_is_asked_at_once_and_nothing_is_called_before_somebody_approved(dsn: str) -> None:
    async def scenario(world: World) -> None:
        world.said.by_label["crm"] = [defined("get", is_read_only=True), defined("put")]
        view = await world.registry.create(world.acme, MCP)
        assert (view.server.label, view.server.url, view.note) == ("crm", URL, None)
        assert view.listed_at is not None
        assert {name: tool.state for name, tool in tools_of(view).items()} == {
            "get": "pending",
            "put": "pending",
        }
        assert await world.callable() == set()
        digests = {"get": tools_of(view)["get"].said.digest}
        view = await world.registry.approve(world.acme, str(view.server.id), digests)
        assert await world.callable() == {"crm__get"}
        found = (await world.catalogue.of(world.acme.tenant))["crm__get"]
        assert (found.server, found.definition) == (view.server, defined("get", is_read_only=True))
        view = await world.registry.withdraw(world.acme, str(view.server.id), ["get", "put"])
        assert await world.callable() == set()
        types = [event["type"] for event in await world.events()]
        assert types == ["tool.created", "tool.approved", "tool.withdrawn"]  # `put` never was
        assert {event["request_id"] for event in await world.events()} == {"req_1"}

    run(dsn, scenario)


def test_an_approval_is_of_what_was_looked_at_and_all_of_it_or_nothing(dsn: str) -> None:
    async def scenario(world: World) -> None:
        world.said.by_label["crm"] = [defined("get"), defined("put")]
        view = await world.registry.create(world.acme, MCP)
        id, seen = str(view.server.id), {t.said.name: t.said.digest for t in view.tools}
        await world.says(view.server, defined("get"), defined("put", "Something else."))
        with pytest.raises(Conflict, match="'put' is defined differently"):
            await world.registry.approve(world.acme, id, seen)
        with pytest.raises(InvalidValue):
            await world.registry.approve(world.acme, id, {"get": seen["get"], "gone": b""})
        assert await world.callable() == set()
        assert [event["type"] for event in await world.events()] == ["tool.created"]

    run(dsn, scenario)


def test_credentials_are_sealed_shown_to_the_server_alone_and_stand_nowhere(dsn: str) -> None:
    async def scenario(world: World) -> None:
        view = await world.registry.create(world.acme, replace(MCP, credentials=SEALED))
        server, id = view.server, str(view.server.id)
        assert (server.has_credentials, world.said.shown) == (True, [SEALED])
        assert await world.catalogue.credentials(world.acme.tenant, server) == SEALED
        assert SECRET not in repr((view, SEALED, await world.registry.list(world.acme)))
        new = Credentials(headers={"x-key": "another"})
        changed = ServerChange(sets_credentials=True, credentials=new)
        await world.registry.update(world.acme, id, changed)
        assert await world.catalogue.credentials(world.acme.tenant, server) == new
        view = await world.registry.update(world.acme, id, ServerChange(approval="always"))
        assert (view.server.approval, view.server.has_credentials) == ("always", True)
        view = await world.registry.update(world.acme, id, ServerChange(sets_credentials=True))
        assert view.server.has_credentials is False
        assert await world.catalogue.credentials(world.acme.tenant, server) == NO_CREDENTIALS
        async with operator_connection(dsn) as connection:
            for table in ("tool_servers", "tools", "audit_log"):
                rows = await connection.fetch(f"SELECT to_jsonb(t)::text FROM anzoth.{table} AS t")
                assert not any(SECRET in row[0] or "Bearer" in row[0] for row in rows)
        details = [orjson.loads(event["details"]) for event in await world.events()]
        assert [d.get("credentials") for d in details] == [None, "set", None, "removed"]

    run(dsn, scenario)


def test_sealed_credentials_of_one_server_do_not_open_for_another(dsn: str) -> None:
    async def scenario(world: World) -> None:
        first = await world.registry.create(world.acme, replace(MCP, credentials=SEALED))
        second = await world.registry.create(
            world.acme, replace(MCP, label="spy", credentials=SEALED)
        )
        async with world.database.tenant(world.acme.tenant) as connection:
            await connection.execute(
                "UPDATE anzoth.tool_servers SET credentials = (SELECT credentials FROM "
                "anzoth.tool_servers WHERE id = $1) WHERE id = $2",
                *(first.server.id, second.server.id),
            )
        with pytest.raises(CannotOpen):
            await world.catalogue.credentials(world.acme.tenant, second.server)

    run(dsn, scenario)


def test_another_tenants_server_looks_like_one_that_never_was(dsn: str) -> None:
    async def scenario(world: World) -> None:
        world.said.by_label["crm"] = [defined("get")]
        view = await world.approve_all(await world.registry.create(world.acme, MCP))
        id, spy, registry = str(view.server.id), world.other, world.registry
        for wrong in (id, "00000000-0000-0000-0000-000000000000", "nonsense"):
            for ask in (
                registry.get(spy, wrong),
                registry.update(spy, wrong, ServerChange(approval="never")),
                registry.delete(spy, wrong),
                registry.refresh(spy, wrong),
                registry.approve(spy, wrong, {"get": b""}),
                registry.withdraw(spy, wrong, ["get"]),
            ):
                with pytest.raises(ToolServerNotFound, match=r"^There is no such tool server\.$"):
                    await ask
        assert (await registry.list(spy), await world.callable(spy)) == ([], set())
        mine = await registry.create(spy, replace(MCP, url="https://other.example.com/"))
        assert mine.server.label == "crm"  # the same label may be somebody else's, too
        assert await world.callable() == {"crm__get"}

    run(dsn, scenario)


def test_a_server_that_does_not_answer_is_registered_and_says_why(dsn: str) -> None:
    async def scenario(world: World) -> None:
        world.said.by_label["crm"] = ToolFailure("egress_refused", "The host is not allowed.")
        view = await world.registry.create(world.acme, MCP)
        assert (view.note, view.listed_at, view.tools) == ("The host is not allowed.", None, ())
        world.said.by_label["crm"] = [defined("get")]
        view = await world.registry.refresh(world.acme, str(view.server.id))
        assert (view.note, len(view.tools)) == (None, 1)
        await world.approve_all(view)
        world.said.by_label["crm"] = ToolFailure("unreachable", "It is away.")
        view = await world.registry.refresh(world.acme, str(view.server.id))
        assert (view.note, tools_of(view)["get"].state) == ("It is away.", "approved")

    run(dsn, scenario)


def test_a_plain_http_tool_is_what_its_tenant_wrote_and_approved_by_that(dsn: str) -> None:
    async def scenario(world: World) -> None:
        view = await world.registry.create(world.acme, HTTP)
        assert (view.server.method, tools_of(view)["get"].state) == ("GET", "approved")
        assert await world.callable() == {"orders__get"}
        assert world.said.shown == []
        event = orjson.loads((await world.events())[0]["details"])
        assert event["digest"] == HTTP.tool.digest.hex()  # type: ignore[union-attr]
        for wrong in (defined("a.b"), defined("get", "x" * 17_000)):
            with pytest.raises(InvalidValue) as raised:
                await world.registry.create(world.acme, replace(HTTP, label="x", tool=wrong))
            assert raised.value.param == "tool"

    run(dsn, scenario)


def test_a_command_and_its_environment_are_the_operators(dsn: str) -> None:
    async def scenario(world: World) -> None:
        environment = Credentials(environment={"TOKEN": "t"})
        with pytest.raises(InvalidValue, match="only the operator"):
            await world.registry.create(world.acme, COMMAND)
        by = operator(world.acme)
        with pytest.raises(InvalidValue, match="no such name"):
            await world.registry.create(by, replace(COMMAND, command="rm"))
        world.said.by_label["notes"] = [defined("add")]
        view = await world.registry.create(by, replace(COMMAND, credentials=environment))
        assert world.said.shown == [environment]
        preload = Credentials(environment={"LD_PRELOAD": "x"})
        change = ServerChange(sets_credentials=True, credentials=preload)
        with pytest.raises(InvalidValue) as raised:
            await world.registry.update(world.acme, str(view.server.id), change)
        assert raised.value.param == "credentials"
        # Its tenant decides about what it does, all the same.
        await world.approve_all(view)
        assert await world.callable() == {"notes__add"}
        assert [event["actor_kind"] for event in await world.events()] == ["operator", "api_key"]

    run(dsn, scenario)


def test_what_a_server_may_not_be_is_said(dsn: str) -> None:
    async def scenario(world: World) -> None:
        await world.registry.create(world.acme, MCP)
        cases: list[tuple[ServerRequest, type[AnzothError], str]] = [
            (MCP, InvalidValue, "label"),
            (
                replace(MCP, label="x", credentials=Credentials(environment={"A": "b"})),
                InvalidValue,
                "credentials.environment",
            ),
        ]
        for request, error, param in cases:
            with pytest.raises(error) as raised:
                await world.registry.create(world.acme, request)
            assert raised.value.param == param
        for number in range(MAX_SERVERS - 1):
            await world.registry.create(world.acme, replace(HTTP, label=f"s{number}"))
        with pytest.raises(StorageFull) as full:
            await world.registry.create(world.acme, replace(HTTP, label="more"))
        assert full.value.rule == "tools.full"

    run(dsn, scenario)


def test_rules_that_are_not_named_stay(dsn: str) -> None:
    async def scenario(world: World) -> None:
        limits = CallLimits(2.5, 1000, 7)
        view = await world.registry.create(world.acme, replace(MCP, limits=limits, taint="values"))
        assert (view.server.limits, view.server.taint) == (limits, "values")
        id = str(view.server.id)
        changes: list[tuple[ServerChange, dict[str, Any]]] = [
            (ServerChange(timeout_s=9), {"timeout_ms": 9000}),
            (
                ServerChange(max_result_bytes=5, taint="any"),
                {"max_result_bytes": 5, "taint": "any"},
            ),
            (ServerChange(sets_calls_per_minute=True), {"calls_per_minute": None}),
        ]
        for change, _ in changes:
            view = await world.registry.update(world.acme, id, change)
        assert view.server.limits == CallLimits(9.0, 5, None)
        said = [orjson.loads(e["details"]) for e in await world.events() if "updated" in e["type"]]
        assert said == [details for _, details in changes]

    run(dsn, scenario)


def test_a_deleted_tenant_has_no_tool_servers_and_gets_none(dsn: str) -> None:
    async def scenario(world: World) -> None:
        world.said.by_label["crm"] = [defined("get")]
        await world.approve_all(await world.registry.create(world.acme, MCP))
        await directory.delete_tenant(dsn, "acme")
        assert await world.registry.list(world.acme) == []
        assert await world.callable() == set()
        with pytest.raises(AnzothError, match="was deleted"):
            await world.registry.create(world.acme, MCP)

    run(dsn, scenario)

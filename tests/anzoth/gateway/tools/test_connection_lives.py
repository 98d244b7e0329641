"""How long a connection to a server lives, for whom, and how many there are."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any
from uuid import UUID

import pytest
from connections_kit import approved, called, endless_comments, endless_events, failing, run
from mcp_kit import (
    Rogue,
    Said,
    connecting,
    limits,
    rogue_server,
    server_at,
    text_result,
    write_answer,
)
from outside_kit import egress_to

from anzoth.gateway.tools import connections as connections_module
from anzoth.gateway.tools import mcp_connection
from anzoth.gateway.tools.definitions import NO_CREDENTIALS, Credentials

pytestmark = pytest.mark.slow  # whichever is the first imports the SDK


def with_sessions(**said: Said) -> Rogue:
    """A server that numbers its sessions."""
    numbers = itertools.count()

    async def initialize(message: Any, writer: asyncio.StreamWriter) -> object:
        result = await rogue.usual(message, writer)
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        write_answer(writer, json.dumps(answer).encode(), mcp_session_id=str(next(numbers)))
        return None

    rogue = Rogue(by_method={"initialize": initialize, **said})
    return rogue


def test_a_server_that_forgot_the_session_is_met_anew() -> None:
    calls: list[str] = []

    async def call(message: Any, writer: asyncio.StreamWriter) -> object:
        calls.append(rogue.headers[-1]["mcp-session-id"])
        if calls[-1] == "0":
            return write_answer(writer, b"gone", "404 Not Found", "text/plain")
        return text_result("done")

    rogue = with_sessions(**{"tools/call": call})

    async def body() -> None:
        assert (await called(rogue)).text == "done"
        assert calls == ["0", "1"]

    run(body)


def test_a_stream_of_notifications_without_end_is_left() -> None:
    streams = 0

    async def flood(message: Any, writer: asyncio.StreamWriter) -> object:
        nonlocal streams
        streams += 1
        return await endless_events(message, writer)

    async def body() -> None:
        async with rogue_server(with_sessions(GET=flood)) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                tool = await approved(connections, server)
                await place.hung_up.wait()
                assert (await connections.call(tool, {"x": "y"}, NO_CREDENTIALS)).text == "y"
        assert streams == 1

    run(body)


def test_an_idle_connection_is_closed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def end(_message: Any, writer: asyncio.StreamWriter) -> object:
        ended.set()
        return write_answer(writer, b"")

    async def body() -> None:
        monkeypatch.setattr(mcp_connection, "_IDLE_S", 0.05)
        async with rogue_server(with_sessions(DELETE=end)) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                tool = await approved(connections, server)
                await ended.wait()
                assert (await connections.call(tool, {"x": "y"}, NO_CREDENTIALS)).text == "y"

    run(body)


def test_connections_of_a_tenant_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def call(_message: Any, _writer: asyncio.StreamWriter) -> object:
        began.set()
        await go_on.wait()
        return text_result("done")

    async def body() -> None:
        monkeypatch.setattr(connections_module, "_MAX_OF_TENANT", 1)
        async with rogue_server(rogue := Rogue(by_method={"tools/call": call})) as place:
            first, second = (server_at(f"http://{place.address}/mcp") for _ in range(2))
            other = server_at(first.url or "", tenant_id=UUID(int=2))
            async with connecting(egress_to(place)) as (connections, _):
                tool = await approved(connections, first)
                calling = asyncio.ensure_future(connections.call(tool, {}, NO_CREDENTIALS))
                await began.wait()
                with failing("unreachable"):
                    await connections.list_tools(second, NO_CREDENTIALS)
                await connections.list_tools(other, NO_CREDENTIALS)
                go_on.set()
                await calling
                await connections.list_tools(second, NO_CREDENTIALS)
                await connections.list_tools(first, NO_CREDENTIALS)
        began_sessions = [one for one in rogue.asked if one["method"] == "initialize"]
        assert len(began_sessions) == 4

    run(body)


def test_a_server_that_ends_the_connection_amid_a_call_is_met_anew_next_time() -> None:
    calls = 0

    async def call(_message: Any, writer: asyncio.StreamWriter) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            writer.close()
            return None
        return text_result("done")

    async def body() -> None:
        async with rogue_server(Rogue(by_method={"tools/call": call})) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                tool = await approved(connections, server)
                with failing("unreachable"):
                    await connections.call(tool, {}, NO_CREDENTIALS)
                assert (await connections.call(tool, {}, NO_CREDENTIALS)).text == "done"

    run(body)


def test_tenants_and_credentials_do_not_share_a_connection() -> None:
    rogue = Rogue()

    async def body() -> None:
        async with rogue_server(rogue) as place:
            first = server_at(f"http://{place.address}/mcp")
            other = server_at(first.url or "", id=first.id, tenant_id=UUID(int=2))
            async with connecting(egress_to(place)) as (connections, _):
                for server, secret in ((first, "a"), (other, "b"), (first, "c")):
                    credentials = Credentials(headers={"X-Api-Key": secret})
                    tool = await approved(connections, server, credentials)
                    await connections.call(tool, {"x": secret}, credentials)
                    await connections.call(tool, {"x": secret}, credentials)
        for message, headers in zip(rogue.asked, rogue.headers, strict=True):
            if message["method"] == "tools/call":
                assert headers["x-api-key"] == message["params"]["arguments"]["x"]
        began = [message for message in rogue.asked if message["method"] == "initialize"]
        assert len(began) == 3

    run(body)


def test_arguments_that_cannot_be_sent_harm_no_other_call() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    async def body() -> None:
        async with rogue_server(rogue := Rogue()) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                tool = await approved(connections, server)
                for odd in ("\ud800", float("nan"), deep, "x" * 2_000_000, object()):
                    with failing("too_large" if odd == "x" * 2_000_000 else "protocol"):
                        await connections.call(tool, {"x": odd}, NO_CREDENTIALS)
                big = await connections.call(tool, {"x": "y", "z": 10**30}, NO_CREDENTIALS)
                assert big.text == "y"
        assert [message["method"] for message in rogue.asked].count("initialize") == 1

    run(body)


def test_a_connection_that_nobody_waits_for_any_more_is_not_opened() -> None:
    async def body() -> None:
        rogue = Rogue(by_method={"server/discover": endless_comments})
        async with rogue_server(rogue) as place:
            server = server_at(f"http://{place.address}/mcp", limits=limits(timeout_s=0.1))
            async with connecting(egress_to(place)) as (connections, _):
                with failing("timeout"):
                    await connections.list_tools(server, NO_CREDENTIALS)
                await place.hung_up.wait()

    run(body)


def test_closing_ends_calls_that_are_running() -> None:
    async def body() -> None:
        began = asyncio.Event()

        async def hang(_message: Any, _writer: asyncio.StreamWriter) -> object:
            began.set()
            await asyncio.Event().wait()
            return None

        async with rogue_server(Rogue(by_method={"tools/call": hang})) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                tool = await approved(connections, server)
                calling = asyncio.ensure_future(connections.call(tool, {}, NO_CREDENTIALS))
                await began.wait()
                await connections.close()
                with failing("unreachable"):
                    await calling
                with failing("unreachable"):
                    await connections.call(tool, {}, NO_CREDENTIALS)

    run(body)

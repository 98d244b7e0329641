"""Real MCP servers, of both eras, called as a gateway calls them."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from connections_kit import (
    SECRET,
    called,
    endless_comments,
    endless_events,
    events,
    failing,
    run,
    saying,
)
from mcp.server.mcpserver import MCPServer
from mcp_kit import (
    Rogue,
    connecting,
    limits,
    rogue_server,
    sdk_server,
    server_at,
    text_result,
    tool_named,
    write_answer,
)
from mcp_types import ToolAnnotations
from outside_kit import egress_to

from anzoth.gateway.tools.definitions import NO_CREDENTIALS, Credentials, GovernedTool, ToolFailure

WITH_SECRET = Credentials(headers={"Authorization": f"Bearer {SECRET}"})
pytestmark = pytest.mark.slow  # whichever is the first imports the SDK


def crm() -> MCPServer:
    server = MCPServer("crm")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def look_up(name: str, number: int = 1) -> str:
        """Looks a customer up."""
        return f"{name} {number} times"

    @server.tool()
    def fail() -> str:
        raise ValueError("it cannot")

    return server


@pytest.mark.parametrize("is_old", [False, True], ids=["2026", "2025"])
@pytest.mark.parametrize("json_response", [False, True], ids=["events", "json"])
def test_a_tool_of_the_sdk_s_own_server_is_listed_and_called(
    is_old: bool, json_response: bool
) -> None:
    async def body() -> None:
        async with sdk_server(crm(), is_old=is_old, json_response=json_response) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, noted):
                listed = await connections.list_tools(server, WITH_SECRET)
                tool = tool_named(server, listed, "look_up")
                assert [one.name for one in listed] == ["fail", "look_up"]
                assert (tool.definition.description, tool.definition.is_read_only) == (
                    "Looks a customer up.",
                    True,
                )
                assert tool.definition.input_schema["required"] == ["name"]
                result = await connections.call(tool, {"name": "Ada", "number": 3}, WITH_SECRET)
                assert (result.text, result.is_error) == ("Ada 3 times", False)
                assert result.num_bytes > len(result.text)
                failed = await connections.call(tool_named(server, listed, "fail"), {}, WITH_SECRET)
                assert failed.is_error
                assert noted.listings == []
            posts = [asked for asked in place.asked if asked.line == "POST /mcp"]
            assert {asked.headers["authorization"] for asked in posts} == {f"Bearer {SECRET}"}
            called = [one for one in posts if one.headers.get("mcp-method") == "tools/call"]
            assert bool(called) is not is_old
            assert ("DELETE /mcp" in [asked.line for asked in place.asked]) is is_old

    run(body)


@pytest.mark.parametrize("is_old", [False, True], ids=["2026", "2025"])
def test_many_calls_share_one_connection(is_old: bool) -> None:
    async def body() -> None:
        async with sdk_server(crm(), is_old=is_old) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                listed = await connections.list_tools(server, NO_CREDENTIALS)
                tool = tool_named(server, listed, "look_up")
                results = await asyncio.gather(
                    *(connections.call(tool, {"name": str(n)}, NO_CREDENTIALS) for n in range(50))
                )
        assert [result.text for result in results] == [f"{n} 1 times" for n in range(50)]

    run(body)


@pytest.mark.parametrize("is_old", [False, True], ids=["2026", "2025"])
def test_ending_a_call_ends_it_at_the_server(is_old: bool) -> None:
    began, ended = asyncio.Event(), asyncio.Event()
    server = MCPServer("slow")

    @server.tool()
    async def wait() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    async def body() -> None:
        async with sdk_server(server, is_old=is_old) as place:
            at = server_at(f"http://{place.address}/mcp", limits=limits())
            async with connecting(egress_to(place)) as (connections, _):
                listed = await connections.list_tools(at, NO_CREDENTIALS)
                tool = tool_named(at, listed, "wait")
                calling = asyncio.ensure_future(connections.call(tool, {}, NO_CREDENTIALS))
                await began.wait()
                calling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await calling
                await ended.wait()

                began.clear()
                ended.clear()
                hasty = GovernedTool(
                    server_at(at.url or "", limits=limits(timeout_s=0.5)), tool.definition
                )
                with failing("timeout"):
                    await connections.call(hasty, {}, NO_CREDENTIALS)
                await ended.wait()

    run(body)


def test_a_raw_server_is_called() -> None:
    async def body() -> None:
        assert (await called(Rogue())).text == "hello"

    run(body)


async def _hang(_message: Any, _writer: asyncio.StreamWriter) -> object:
    await asyncio.Event().wait()
    return None


async def _resumed_for_ever(_message: Any, writer: asyncio.StreamWriter) -> object:
    events(writer, b"id: 1\nretry: 1\ndata:\n\n")
    writer.close()
    return None


def test_a_call_that_hangs_or_is_kept_open_ends_in_time() -> None:
    async def body() -> None:
        for said in (_hang, endless_comments):
            with failing("timeout"):
                await called(Rogue(by_method={"tools/call": said}), timeout_s=0.4)
        again = Rogue(by_method={"tools/call": _resumed_for_ever, "GET": _resumed_for_ever})
        with failing("protocol"):
            await called(again, timeout_s=5)

    run(body)


async def _endless(_message: Any, writer: asyncio.StreamWriter) -> object:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    writer.write(head + b'{"jsonrpc": "2.0", "id": 1, "result": {"content": "')
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


def test_an_answer_that_is_too_large_ends_where_its_limit_is() -> None:
    async def body() -> None:
        for said in (_endless, endless_events):
            with failing("too_large"):
                await called(Rogue(by_method={"tools/call": said}), max_result_bytes=1000)
        big = saying(lambda _message, _writer: text_result("é" * 501))
        with failing("too_large"):
            await called(big, max_result_bytes=1000)
        fits = saying(lambda _message, _writer: text_result("é" * 500))
        assert len((await called(fits, max_result_bytes=1000)).text) == 500

    run(body)


def test_a_redirect_leads_nowhere() -> None:
    async def body() -> None:
        async with rogue_server(inside := Rogue()) as secret_place:
            to = f"http://{secret_place.address}/mcp"
            for status in ("302 F", "307 T", "308 P"):
                rogue = saying(
                    lambda _message, writer, s=status: write_answer(writer, b"", s, location=to)
                )
                with failing("egress_refused", secret_place.address):
                    await called(rogue, WITH_SECRET)
            assert inside.asked == []

    run(body)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [("401 U", "protocol", "credentials"), ("403 F", "protocol", "credentials")]
    + [("500 I", "protocol", "500"), ("429 T", "protocol", "429")],
)
def test_a_status_that_is_an_error_is_said(status: str, kind: str, says: str) -> None:
    async def body() -> None:
        rogue = saying(lambda _m, writer: write_answer(writer, b"rogue words", status, "text/html"))
        with pytest.raises(ToolFailure, match=says) as raised:
            await called(rogue)
        assert raised.value.kind == kind
        assert "rogue words" not in str(raised.value)

    run(body)


@pytest.mark.parametrize(
    "answer",
    [b"rogue words", b"{", b"[]", b"[" * 9999, b"\xff\xfe", b'{"jsonrpc":"2.0","id":%d,"result":7}']
    + [b'{"jsonrpc":"2.0","id":%d,"result":{"content":7}}']
    + [b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"rogue words"}]}}'],
    ids=["words", "half", "list", "deep", "no-text", "number", "no-content", "unknown-content"],
)
def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    def said(message: Any, writer: asyncio.StreamWriter) -> None:
        write_answer(writer, answer % message["id"] if b"%d" in answer else answer)

    async def main() -> None:
        with failing("protocol"):
            await called(saying(said))

    run(main)


def test_an_error_of_the_server_s_own_is_what_the_tool_says() -> None:
    def said(message: Any, writer: asyncio.StreamWriter) -> None:
        error = {"code": -32602, "message": "x must be a colour"}
        answer = {"jsonrpc": "2.0", "id": message["id"], "error": error}
        write_answer(writer, json.dumps(answer).encode(), "400 Bad")

    async def body() -> None:
        result = await called(saying(said))
        assert (result.text, result.is_error) == ("x must be a colour", True)

    run(body)


def test_what_is_no_text_is_named_and_a_structure_is_text() -> None:
    content = [
        {"type": "image", "data": "AAAA", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": "a:b", "text": "inside"}},
        {"type": "resource_link", "name": "n", "uri": "c:d"},
    ]

    async def body() -> None:
        mixed = await called(saying(lambda *_: {"content": content}))
        assert mixed.text == "[image, not shown]\ninside\n[resource n: c:d]"
        structured = await called(
            saying(lambda *_: {"content": [], "structuredContent": {"a": 10**30}})
        )
        assert structured.text == '{"a": 1000000000000000000000000000000}'

    run(body)


def test_a_result_is_not_checked_by_the_server_s_own_patterns() -> None:
    """A pattern like this one runs for longer than anybody waits."""
    rogue = saying(
        lambda *_: {"content": [], "structuredContent": {"a": "a" * 40 + "!"}}, "tools/call"
    )
    pattern = {"type": "string", "pattern": "^(a+)+$"}
    rogue.tools[0]["outputSchema"] = {"type": "object", "properties": {"a": pattern}}

    async def body() -> None:
        assert "aaaa" in (await called(rogue)).text

    run(body)


def test_a_server_gets_no_answer_to_what_it_asks_of_us() -> None:
    answered: list[dict[str, Any]] = []
    all_answered = asyncio.Event()

    async def said(message: Any, writer: asyncio.StreamWriter) -> object:
        asks = [
            {"jsonrpc": "2.0", "id": name, "method": name, "params": params}
            for name, params in (
                ("sampling/createMessage", {"messages": [], "maxTokens": 9}),
                ("roots/list", {}),
                ("elicitation/create", {"message": "?", "requestedSchema": {"type": "object"}}),
                ("ping", {}),
                ("tasks/list", {}),
            )
        ]
        result = {"jsonrpc": "2.0", "id": message["id"], "result": text_result("done")}
        events(writer, b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in asks))
        await writer.drain()
        await all_answered.wait()
        writer.write(b"data: %b\n\n" % json.dumps(result).encode())
        return None

    class Listening(Rogue):
        async def handle(self, asked: Any, writer: asyncio.StreamWriter) -> None:
            if asked.body and "method" not in (message := json.loads(asked.body)):
                answered.append(message)
                if len(answered) == 5:
                    all_answered.set()
                write_answer(writer, b"", "202 Accepted")
                return
            await super().handle(asked, writer)

    async def body() -> None:
        assert (await called(Listening(by_method={"tools/call": said}))).text == "done"
        given = {message["id"]: message.get("result") for message in answered}
        assert given.pop("ping") == {}
        assert set(given.values()) == {None}

    run(body)


def test_headers_that_would_steer_a_request_are_not_sent() -> None:
    async def body() -> None:
        async with rogue_server(rogue := Rogue()) as place:
            server = server_at(f"http://{place.address}/mcp")
            async with connecting(egress_to(place)) as (connections, _):
                for name, value in (("Host", "inside"), ("X-Key", f"{SECRET}\r\nHost: inside")):
                    with failing("egress_refused"):
                        await connections.list_tools(server, Credentials(headers={name: value}))
        assert rogue.asked == []

    run(body)


def test_a_host_that_is_not_allowed_is_not_asked() -> None:
    async def body() -> None:
        async with rogue_server(rogue := Rogue()) as place:
            server = server_at(f"http://{place.address}/mcp")
            for egress in (egress_to(), egress_to(place, private=())):
                async with connecting(egress) as (connections, _):
                    with failing("egress_refused"):
                        await connections.list_tools(server, NO_CREDENTIALS)
        assert rogue.asked == []

    run(body)


def test_nothing_of_a_call_is_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    odd = b'{"rogue words": "' + SECRET.encode() + b'"}'

    async def body() -> None:
        for said in (
            lambda _message, writer: write_answer(writer, odd),
            lambda _message, writer: events(writer, b"data: " + odd + b"\n\n"),
        ):
            with failing("protocol"):
                await called(saying(said), WITH_SECRET)

    run(body)
    assert SECRET not in caplog.text
    assert "rogue words" not in caplog.text

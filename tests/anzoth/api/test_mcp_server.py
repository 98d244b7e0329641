"""POST /mcp: who is let in, which messages are answered, which are refused, and how."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from api_harness import Api, Scenario
from mcp_client_kit import rpc
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

from anzoth.api import mcp_server
from anzoth.api.json_rpc import INVALID_REQUEST, PARSE_ERROR, REFUSED
from anzoth.api.mcp_server import HEADER_MISMATCH, UNSUPPORTED_VERSION

Run = Callable[[Scenario], None]

MODERN = {"mcp-protocol-version": "2026-07-28"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(
    ("body", "status", "code", "id"),
    [
        (b"{", 400, PARSE_ERROR, None),
        (b"\xff", 400, PARSE_ERROR, None),
        (b'{"id": ' + b"[" * 5000, 400, PARSE_ERROR, None),
        (b'{"jsonrpc": "2.0", "id": 1e999, "method": "ping"}', 400, PARSE_ERROR, None),
        ([], 400, INVALID_REQUEST, None),
        ([rpc("ping"), rpc("ping", id=2)], 400, INVALID_REQUEST, None),
        ("ping", 400, INVALID_REQUEST, None),
        ({}, 400, INVALID_REQUEST, None),
        ({"id": 1, "method": "ping"}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": 2.0, "id": 1, "method": "ping"}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": "2.0", "id": 1}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": 1}}, 400, INVALID_REQUEST, 1),
        (rpc("ping", id=None), 400, INVALID_REQUEST, None),
        (rpc("ping", id=True), 400, INVALID_REQUEST, None),
        (rpc("ping", id=1.5), 400, INVALID_REQUEST, None),
        (rpc("ping", id={}), 400, INVALID_REQUEST, None),
        (rpc("ping", id="x" * 257), 400, INVALID_REQUEST, None),
        (
            b'{"jsonrpc": "2.0", "id": 123456789012345678901234567890, "method": "ping"}',
            400, INVALID_REQUEST, None,
        ),
        (rpc("ping", params=[1]), 400, INVALID_REQUEST, 1),
        (rpc("ping", params="x"), 400, INVALID_REQUEST, 1),
        (rpc("x" * 129), 400, INVALID_REQUEST, 1),
        (rpc(""), 400, INVALID_REQUEST, 1),
        ({**rpc("ping"), "method": 3}, 400, INVALID_REQUEST, 1),
        (rpc("__class__"), 200, METHOD_NOT_FOUND, 1),
        (rpc("server/discover"), 200, METHOD_NOT_FOUND, 1),
        (rpc("resources/list", id="a"), 200, METHOD_NOT_FOUND, "a"),
        (rpc("initialize"), 200, INVALID_PARAMS, 1),
        (rpc("initialize", {"protocolVersion": 3}), 200, INVALID_PARAMS, 1),
        (rpc("tools/list", {"cursor": "x"}), 200, INVALID_PARAMS, 1),
        (rpc("tools/call"), 200, INVALID_PARAMS, 1),
        (rpc("tools/call", {"name": ["search"]}), 200, INVALID_PARAMS, 1),
        (rpc("tools/call", {"name": "__class__"}), 200, INVALID_PARAMS, 1),
        (rpc("tools/list", {"_meta": META}), 400, HEADER_MISMATCH, 1),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_no_request_of_the_first_era_is_refused(
    body: object, status: int, code: int, id: object, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.call("POST", "/mcp", body)
        assert (reply.status, reply.error["code"], reply.json["id"]) == (status, code, id)
        assert reply.json["jsonrpc"] == "2.0"
        assert isinstance(reply.error["message"], str)

    run(scenario)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, rpc("tools/list"), 400, INVALID_PARAMS),
        ({}, rpc("tools/list", {"_meta": 3}), 400, INVALID_PARAMS),
        ({}, rpc("tools/list", {"_meta": {**META, next(iter(META)): 3}}), 400, HEADER_MISMATCH),
        ({}, rpc("tools/list", {"_meta": META}), 400, HEADER_MISMATCH),
        ({"mcp-method": "ping"}, rpc("tools/list", {"_meta": META}), 400, HEADER_MISMATCH),
        ({"mcp-method": "ping"}, rpc("ping", {"_meta": META}), 404, METHOD_NOT_FOUND),
        ({"mcp-method": "initialize"}, rpc("initialize", {"_meta": META}), 404, METHOD_NOT_FOUND),
        (
            {"mcp-method": "tools/call"},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "fetch"},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "=?base64?!?="},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "=?base64?/w==?="},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "=?base64?ZMO8?="},
            rpc("tools/call", {"name": "dü", "_meta": META}), 400, INVALID_PARAMS,
        ),
        (
            {"mcp-method": "tools/call"},
            rpc("tools/call", {"name": {}, "_meta": META}), 400, HEADER_MISMATCH,
        ),
        ({"mcp-protocol-version": "2027-01-01"}, rpc("ping"), 400, UNSUPPORTED_VERSION),
        ({"mcp-protocol-version": ""}, rpc("ping"), 400, UNSUPPORTED_VERSION),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_says_one_thing_in_headers_and_another_in_the_body_is_refused(
    headers: dict[str, str], body: dict[str, Any], status: int, code: int, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.call("POST", "/mcp", body, headers={**MODERN, **headers})
        assert (reply.status, reply.error["code"], reply.json["id"]) == (status, code, 1)
        if code == UNSUPPORTED_VERSION:
            versions = mcp_server.HANDSHAKE_VERSIONS + mcp_server.MODERN_VERSIONS
            assert reply.error["data"]["supported"] == list(versions)

    run(scenario)


def test_a_routing_header_that_is_there_twice_is_refused(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for name in ("mcp-protocol-version", "mcp-method", "mcp-name"):
            fields = {"mcp-method": "tools/call", "mcp-name": "search", **MODERN}
            body = rpc("tools/call", {"name": "search", "_meta": META})
            request = api.request("POST", "/mcp", body, headers=fields)
            request.headers._items.append((name.encode(), fields[name].encode()))
            answer = await api.app(request)
            assert answer.status == 400
            assert b"more than once" in answer.body  # type: ignore[union-attr]  # it is whole

    run(scenario)


def test_notifications_are_taken_and_nobody_is_asked(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for method in ("notifications/initialized", "notifications/cancelled", "tools/call", "x"):
            for headers in ({}, MODERN):
                body = {"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}}
                reply = await api.call("POST", "/mcp", body, headers=headers)
                assert (reply.status, reply.body) == (202, b"")
        assert not api.ledger.records

    run(scenario)


def test_the_version_is_the_clients_or_the_newest_with_a_handshake(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for asked, agreed in (
            ("2025-03-26", "2025-03-26"), ("2025-11-25", "2025-11-25"),
            ("2026-07-28", "2025-11-25"), ("x", "2025-11-25"),
        ):  # fmt: skip
            params = {"protocolVersion": asked, "capabilities": {}, "clientInfo": {}}
            reply = await api.call("POST", "/mcp", rpc("initialize", params))
            assert reply.json["result"]["protocolVersion"] == agreed
            assert "mcp-session-id" not in reply.headers

    run(scenario)


def test_only_posts_of_json_from_programs_and_own_pages_are_answered(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for method in ("GET", "DELETE"):
            reply = await api.call(method, "/mcp")
            assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST")
        for headers, status in (
            ({"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"}, 200),
            ({"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:9000"}, 403),
            ({"origin": "https://evil.test", "host": "evil.test"}, 403),
            ({"origin": "http://evil.test", "host": "evil.test"}, 403),  # DNS rebinding
            ({"origin": "null"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({}, 200),
            ({"content-type": "text/plain"}, 415),
        ):
            reply = await api.call("POST", "/mcp", rpc("ping"), headers=headers, peer="127.0.0.1")
            assert reply.status == status, headers
            if status == 403:
                assert reply.error["data"]["code"] == "origin_not_allowed"
        for key in (None, "wrong"):
            reply = await api.call("POST", "/mcp", rpc("ping"), key=key)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert (reply.error["code"], reply.json["id"]) == (REFUSED, None)

    run(scenario)


def test_whatever_is_sent_is_answered_in_json_rpc(run: Run) -> None:
    """Messages that are right but for a few parts, which are anything."""
    rng = random.Random(3)
    parts = (
        *(None, True, 0, -1, 2**63, 1.5, "", "x", "2.0", "tools/call", "search", [], [[]], {}),
        *(
            {"name": "search"},
            {"_meta": META},
            {"_meta": {}},
            {"": {"": []}},
            "\u2028\0",
            "ü" * 300,
        ),
    )

    async def scenario(api: Api) -> None:
        statuses = set()
        for _ in range(400):
            method = rng.choice(["initialize", "ping", "tools/list", "tools/call", "x"])
            params = {"name": rng.choice(["search", "fetch", "x"]), "arguments": {}, "_meta": META}
            message = rpc(method, params, id=rng.choice([1, "a"]))
            for _ in range(rng.randint(0, 3)):
                where = rng.choice([message, params])
                where[rng.choice([*where, "x"])] = rng.choice(parts)
                del where[rng.choice([*where])]
            headers = {"mcp-method": method, "mcp-name": "search"} | rng.choice([{}, MODERN])
            reply = await api.call("POST", "/mcp", message, headers=headers)
            statuses.add(reply.status)
            if reply.status != 202:
                assert reply.json["jsonrpc"] == "2.0"
                assert set(reply.json) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
        assert statuses == {200, 202, 400, 404}

    run(scenario)

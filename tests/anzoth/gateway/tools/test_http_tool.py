"""A model's arguments fill a template; they never make it another request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp_kit import connecting, limits, server_at
from outside_kit import answers, egress_to, serving

from anzoth.gateway.egress.egress import Answer
from anzoth.gateway.tools.definitions import (
    Credentials,
    GovernedTool,
    ToolDefinition,
    ToolFailure,
    ToolResult,
)
from anzoth.gateway.tools.http_tool import (
    check_template,
    request_of,
    require_declared,
    result_of,
)

ORDERS = "https://crm.example/v1/orders/{order_id}"


@pytest.mark.parametrize(
    ("url", "method", "arguments", "expected", "body"),
    [
        (ORDERS, "GET", {"order_id": "a b"}, "https://crm.example/v1/orders/a%20b", None),
        (ORDERS, "GET", {"order_id": 7, "full": True, "tag": ["x", "y&z"]},
         "https://crm.example/v1/orders/7?full=true&tag=x&tag=y%26z", None),
        (ORDERS, "GET", {"order_id": "?a=b#c"}, "https://crm.example/v1/orders/%3Fa%3Db%23c", None),
        (ORDERS, "GET", {"order_id": "7%2e"}, "https://crm.example/v1/orders/7%252e", None),
        (ORDERS, "GET", {"order_id": "é{x}"}, "https://crm.example/v1/orders/%C3%A9%7Bx%7D", None),
        (ORDERS, "POST", {"order_id": 7, "note": {"a": [1]}},
         "https://crm.example/v1/orders/7", b'{"note":{"a":[1]}}'),
        ("https://h/s?q={q}&k=1", "GET", {"q": "a&k=2\r\nX: y", "z": None},
         "https://h/s?q=a%26k%3D2%0D%0AX%3A%20y&k=1&z=null", None),
        ("https://h/s?q={q}", "GET", {"q": ""}, "https://h/s?q=", None),
        ("https://h/{a}/{a}", "DELETE", {"a": 1.5}, "https://h/1.5/1.5", None),
    ],
)  # fmt: skip
def test_arguments_stand_where_the_template_has_them(
    url: str, method: str, arguments: dict[str, Any], expected: str, body: bytes | None
) -> None:
    request = request_of(url, method, arguments)
    assert (request.method, request.url, request.body) == (method, expected, body)


@pytest.mark.parametrize(
    "order_id",
    ["..", ".", "", "../admin", "a/refund", "..\\admin", "a\r\nHost: b", "\x00", "a\tb", "\ud800"]
    + [None, ["a"], {"a": 1}],
    ids=ascii,
)
def test_an_argument_that_would_change_the_path_is_refused(order_id: object) -> None:
    with pytest.raises(ToolFailure) as raised:
        request_of(ORDERS, "DELETE", {"order_id": order_id})
    assert raised.value.kind == "protocol"


def test_pieces_of_a_path_do_not_add_up_to_a_step_upwards() -> None:
    for arguments in ({"a": ".", "b": "."}, {"a": "%2e", "b": "."}):
        if arguments["a"] == ".":
            with pytest.raises(ToolFailure, match="another path"):
                request_of("https://h/x/{a}{b}/y", "GET", arguments)
        else:
            assert (
                request_of("https://h/x/{a}{b}/y", "GET", arguments).url == "https://h/x/%252e./y"
            )


def test_what_is_missing_or_too_large_is_said() -> None:
    with pytest.raises(ToolFailure, match="'order_id' is missing"):
        request_of(ORDERS, "GET", {})
    with pytest.raises(ToolFailure, match="too large"):
        request_of("https://h/", "POST", {"a": "x" * 2_000_000})
    for value in (10**40, "\ud800"):
        with pytest.raises(ToolFailure, match="cannot be sent"):
            request_of("https://h/", "POST", {"a": value})


@pytest.mark.parametrize(
    "url",
    ["https://{host}/a", "https://h{x}.example/a", "https://h:{port}/", "{scheme}://h/", "ftp://h/"]
    + [
        "https://me:pw@h/",
        "https://h/#{a}",
        "https://h/{a-b}",
        "https://h/{a",
        "https://h/a}",
        "h/a",
    ]
    + ["https://h/{}", "https://h/a b", "https://h/\n", "https://h/?{a}=1", "https://h/?a=1&x{a}"]
    + ["https://h\\@evil/", "https://h/é", "https://[h/", ""],
    ids=ascii,
)
def test_what_is_no_template_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|netloc"):
        check_template(url)
    with pytest.raises(ToolFailure):
        request_of(url, "GET", {"host": "evil", "a": "b"})


@pytest.mark.parametrize("schema", [{}, {"properties": {}}, {"properties": {"order_id": {}}}])
def test_an_argument_that_nobody_declared_is_refused_unless_the_schema_is_open(
    schema: dict[str, object],
) -> None:
    given = {"order_id": 7, "_method": "DELETE"}
    with pytest.raises(ToolFailure, match="does not declare"):
        require_declared(schema, given)
    require_declared({**schema, "additionalProperties": {"type": "string"}}, given)
    require_declared({"properties": {name: {} for name in given}}, given)


def test_a_method_is_one_of_a_few() -> None:
    check_template(ORDERS, "PATCH")
    for method in ("CONNECT", "TRACE", "get", "GET /x HTTP/1.1\r\n"):
        with pytest.raises(ValueError, match="method"):
            check_template(ORDERS, method)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, "application/json; charset=utf-8", b"{}"), ToolResult("{}", False, 2)),
        (Answer(200, "application/problem+json", b"{}"), ToolResult("{}", False, 2)),
        (Answer(204, "", b""), ToolResult("", False, 0)),
        (Answer(404, "text/plain", b"no"), ToolResult("HTTP status 404\nno", True, 2)),
        (Answer(200, "text/html", b"\xff"), ToolResult("\ufffd", False, 1)),
    ],
)
def test_an_answer_is_its_text(answer: Answer, expected: ToolResult) -> None:
    assert result_of(answer) == expected


def test_what_is_no_text_is_no_result() -> None:
    for content_type in ("image/png", "application/octet-stream", "", "application/zip"):
        with pytest.raises(ToolFailure, match="no text"):
            result_of(Answer(200, content_type, b"PK"))


def test_a_call_goes_out_with_its_credentials_and_comes_back_bounded() -> None:
    async def body() -> None:
        async with serving(answers(b'{"total": 3}')) as place:
            server = server_at(
                f"http://{place.address}/v1/orders/{{order_id}}",
                kind="http",
                method="POST",
                limits=limits(),
            )
            names: dict[str, object] = {"order_id": {}, "full": {}}
            definition = ToolDefinition("order", "", {"type": "object", "properties": names})
            tool = GovernedTool(server, definition)
            secret = Credentials(headers={"Authorization": "canary-secret"})
            async with connecting(egress_to(place)) as (connections, noted):
                result = await connections.call(tool, {"order_id": 7, "full": True}, secret)
                assert (result.text, result.num_bytes) == ('{"total": 3}', 12)
                small = server_at(server.url or "", kind="http", limits=limits(max_result_bytes=5))
                for one, given, kind in (
                    (small, secret, "too_large"),
                    (server, Credentials(headers={"Host": "canary-secret"}), "egress_refused"),
                    (server_at("http://other.example/", kind="http"), secret, "egress_refused"),
                ):
                    with pytest.raises(ToolFailure) as raised:
                        await connections.call(
                            GovernedTool(one, definition), {"order_id": 7}, given
                        )
                    assert raised.value.kind == kind
                    assert "canary-secret" not in str(raised.value)
                with pytest.raises(ToolFailure, match="does not declare"):
                    await connections.call(tool, {"order_id": 7, "_method": "DELETE"}, secret)
                with pytest.raises(ToolFailure, match="lists nothing"):
                    await connections.list_tools(server, secret)
                assert noted.listings == []
        assert place.asked[0].line == "POST /v1/orders/7 HTTP/1.1"
        assert place.asked[0].body == b'{"full":true}'
        assert place.asked[0].headers["authorization"] == "canary-secret"

    asyncio.run(body())

"""What a tool server may be: nothing is accepted that would be ignored, or lead elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from anzoth.api.tool_server_fields import (
    parse_approval,
    parse_change,
    parse_server,
    parse_withdrawal,
)
from anzoth.errors import AnzothError
from anzoth.gateway.tools.definitions import CallLimits, Credentials
from anzoth.gateway.tools.managing import ServerChange, ServerRequest

MCP = {"label": "crm", "kind": "mcp", "url": "https://crm.example.com:8443/mcp"}
SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "lang": {"type": "string"}},
    "required": ["id"],
}
TOOL = {"name": "get", "description": "An order.", "input_schema": SCHEMA}
HTTP = {"label": "erp", "kind": "http", "url": "https://erp.example.com/o/{id}", "tool": TOOL}
COMMAND = {"label": "notes", "kind": "command", "command": "notes"}


def test_a_server_is_read_with_its_defaults() -> None:
    request = parse_server(MCP)
    assert request == ServerRequest("crm", "mcp", "https://crm.example.com:8443/mcp")
    assert (request.approval, request.taint, request.method) == ("writes", "any", None)
    assert request.limits == CallLimits()
    full = parse_server(
        {
            **MCP,
            "approval": "always",
            "taint": "values",
            "timeout_s": 2.5,
            "max_result_bytes": 1000,
            "calls_per_minute": 7,
            "credentials": {"headers": {"Authorization": "Bearer x"}},
        }
    )
    assert (full.approval, full.taint, full.limits) == (
        "always",
        "values",
        CallLimits(2.5, 1000, 7),
    )
    assert full.credentials == Credentials(headers={"Authorization": "Bearer x"})
    http = parse_server({**HTTP, "method": "POST"})
    assert (http.method, parse_server(HTTP).method) == ("POST", "GET")
    assert http.tool is not None
    assert (http.tool.name, http.tool.input_schema, http.tool.is_read_only) == (
        "get",
        SCHEMA,
        False,
    )
    assert parse_server({**COMMAND, "credentials": {}}).credentials is None


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({**MCP, "label": None}, "label", "invalid_value"),
        ({**MCP, "label": "CRM"}, "label", "invalid_value"),
        ({**MCP, "label": "a__b"}, "label", "invalid_value"),
        ({**MCP, "label": "_a"}, "label", "invalid_value"),
        ({**MCP, "label": "a_"}, "label", "invalid_value"),
        ({**MCP, "label": "a" * 25}, "label", "invalid_value"),
        ({**MCP, "kind": "sse"}, "kind", "invalid_value"),
        ({"label": "x", "kind": "mcp"}, "url", "missing_required_parameter"),
        ({**MCP, "url": "ftp://h/x"}, "url", "invalid_value"),
        ({**MCP, "url": "https:///x"}, "url", "invalid_value"),
        ({**MCP, "url": "https://user:pw@h/x"}, "url", "invalid_value"),
        ({**MCP, "url": "https://h/x#y"}, "url", "invalid_value"),
        ({**MCP, "url": "https://h/a b"}, "url", "invalid_value"),
        ({**MCP, "url": "https://h\\@evil/"}, "url", "invalid_value"),
        ({**MCP, "url": "https://h:99999/"}, "url", "invalid_value"),
        ({**MCP, "url": "https://h/é"}, "url", "invalid_value"),
        ({**MCP, "url": "https://h/{id}"}, "url", "invalid_value"),
        ({**MCP, "command": "x"}, "command", "unsupported_parameter"),
        ({**MCP, "method": "POST"}, "method", "unsupported_parameter"),
        ({**MCP, "tool": TOOL}, "tool", "unsupported_parameter"),
        ({**MCP, "timeout_s": 0}, "timeout_s", "invalid_value"),
        ({**MCP, "timeout_s": 601}, "timeout_s", "invalid_value"),
        ({**MCP, "max_result_bytes": 2**21}, "max_result_bytes", "invalid_value"),
        ({**MCP, "calls_per_minute": 0}, "calls_per_minute", "invalid_value"),
        ({**MCP, "approval": "sometimes"}, "approval", "invalid_value"),
        ({**MCP, "approvel": "always"}, None, "invalid_value"),
        ({**MCP, "credentials": "Bearer x"}, "credentials", "invalid_value"),
        ({**MCP, "credentials": {"token": "x"}}, "credentials", "invalid_value"),
        (
            {**MCP, "credentials": {"headers": {"Host": "evil"}}},
            "credentials.headers",
            "invalid_value",
        ),
        (
            {**MCP, "credentials": {"headers": {"x": "a\r\nb: c"}}},
            "credentials.headers",
            "invalid_value",
        ),
        (
            {**COMMAND, "credentials": {"environment": {"a=b": "c"}}},
            "credentials.environment",
            "invalid_value",
        ),
        (
            {**COMMAND, "credentials": {"environment": {"a": "b\0"}}},
            "credentials.environment",
            "invalid_value",
        ),
        ({**COMMAND, "url": "https://h/"}, "url", "unsupported_parameter"),
        ({**HTTP, "tool": None}, "tool", "missing_required_parameter"),
        ({**HTTP, "tool": {**TOOL, "more": 1}}, "tool", "invalid_value"),
        ({**HTTP, "tool": {**TOOL, "input_schema": []}}, "tool.input_schema", "invalid_value"),
        (
            {**HTTP, "tool": {**TOOL, "input_schema": {"type": "string"}}},
            "tool.input_schema",
            "invalid_value",
        ),
        (
            {**HTTP, "tool": {**TOOL, "input_schema": {**SCHEMA, "required": 5}}},
            "tool.input_schema",
            "invalid_value",
        ),
        ({**HTTP, "method": "TRACE"}, "method", "invalid_value"),
        ({**HTTP, "url": "https://{id}.example.com/"}, "url", "invalid_value"),
        ({**HTTP, "url": "https://h/{other}"}, "url", "invalid_value"),
        ({**HTTP, "url": "https://h/{lang}"}, "url", "invalid_value"),  # it may be absent
        ({**HTTP, "url": "https://h/{id"}, "url", "invalid_value"),
        ({**HTTP, "url": "https://h/{i d}"}, "url", "invalid_value"),
    ],
)
def test_what_would_be_wrong_or_ignored_is_refused(
    body: dict[str, Any], param: str | None, code: str
) -> None:
    with pytest.raises(AnzothError) as raised:
        parse_server(body)
    assert (raised.value.param, raised.value.code, raised.value.status) == (param, code, 400)
    assert "evil" not in raised.value.message


def test_a_change_names_what_changes_and_null_takes_away_what_can_be_absent() -> None:
    assert parse_change({}) == ServerChange()
    assert parse_change({"approval": None, "timeout_s": 5}) == ServerChange(timeout_s=5.0)
    assert parse_change({"calls_per_minute": None, "credentials": None}) == ServerChange(
        sets_calls_per_minute=True, sets_credentials=True
    )
    assert parse_change({"calls_per_minute": 3}) == ServerChange(
        sets_calls_per_minute=True, calls_per_minute=3
    )
    new = Credentials(headers={"x-key": "v"})
    assert parse_change({"credentials": {"headers": {"x-key": "v"}}}) == ServerChange(
        sets_credentials=True, credentials=new
    )


@pytest.mark.parametrize("name", ["label", "kind", "url", "command", "method", "tool"])
def test_where_a_server_is_and_what_it_says_never_changes(name: str) -> None:
    with pytest.raises(AnzothError) as raised:
        parse_change({name: "https://elsewhere.example.com/"})
    assert (raised.value.param, raised.value.code) == (name, "unsupported_parameter")


def test_an_approval_names_what_was_looked_at_by_its_digest() -> None:
    digest = "0f" * 32
    assert parse_approval({"tools": [{"name": "get", "digest": digest}]}) == {
        "get": bytes.fromhex(digest)
    }
    wrong: list[tuple[Any, str]] = [
        ([], "tools"),
        (["get"], "tools[0]"),
        ([{"name": "get"}], "tools[0].digest"),
        ([{"name": "get", "digest": "0F" * 32}], "tools[0].digest"),
        ([{"name": "get", "digest": digest}] * 2, "tools"),
    ]
    for tools, param in wrong:
        with pytest.raises(AnzothError) as raised:
            parse_approval({"tools": tools})
        assert raised.value.param == param
    assert parse_withdrawal({"tools": ["get"]}) == ("get",)

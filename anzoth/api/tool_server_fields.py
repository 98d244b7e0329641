"""What may a tool server be, what of it may be changed, and how is it shown?

`parse_server` and `parse_change` are the contract; `anzoth tools` uses them too. A field that is
misspelt is an error here: whoever registers a server has to know by which rules it is called.

Does not know: who may register what (see `gateway.tools.registry`), or whether a host may be
reached (see `gateway.egress`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from anzoth.api.fields import (
    Field,
    array,
    boolean,
    integer,
    json_object,
    mapping,
    nested,
    number,
    one_of,
    parse,
    string,
    unsupported,
    wrong_value,
)
from anzoth.errors import InvalidValue, MissingParameter
from anzoth.gateway.egress.headers import check_headers
from anzoth.gateway.tools.definitions import (
    CallLimits,
    Credentials,
    ServerKind,
    ToolDefinition,
)
from anzoth.gateway.tools.http_tool import METHODS, check_template
from anzoth.gateway.tools.managing import PinnedTool, ServerChange, ServerRequest, ServerView
from anzoth.gateway.tools.mcp_process import check_environment
from anzoth.gateway.tools.pins import MAX_TOOLS

T = TypeVar("T")

MAX_LABEL = 24
MAX_URL = 2048
MAX_TIMEOUT_S = 600
MAX_RESULT_BYTES = 1 << 20
_MAX_DESCRIPTION = 8192

_LABEL = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_URL = re.compile(r"https?://[^/?#@{}]+([/?][^#]*)?")
_URL_CHARACTERS = re.compile(r"[!#-;=?-\[\]_a-z{}~]*")  # what RFC 3986 allows, and braces
_ARGUMENT = re.compile(r"\{(\w+)\}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _label(value: Any, param: str) -> str:
    label = string(MAX_LABEL)(value, param)
    if _LABEL.fullmatch(label) is None:
        raise wrong_value(param, "a-z, 0-9 and single underscores between them")
    return label


def _url(value: Any, param: str) -> str:
    url = string(MAX_URL)(value, param)
    if _URL.fullmatch(url) is None or _URL_CHARACTERS.fullmatch(url) is None:
        raise wrong_value(param, "https://host/path, without a user, a password or a fragment")
    try:
        host, _ = (parts := urlsplit(url)).hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise wrong_value(param, "a host and a port that there can be")
    return url


def _headers(value: Any, param: str) -> dict[str, str]:
    return _checked(mapping(string(8192), 16, 64)(value, param), check_headers, param)


def _environment(value: Any, param: str) -> dict[str, str]:
    environment = mapping(string(32_768), 32, 64)(value, param)
    return _checked(environment, check_environment, param)


def _checked(value: T, check: Callable[[T], None], param: str) -> T:
    """Raises InvalidValue for what `check` refuses: its messages quote no values."""
    try:
        check(value)
    except ValueError as error:
        raise InvalidValue(f"Invalid value for '{param}': {error}.", param=param) from None
    return value


def _only(fields: Sequence[Field], what: str, value: Any, param: str | None = None) -> None:
    names = [field.name for field in fields]
    if any(name not in names for name in value):
        raise InvalidValue(f"{what} has only these fields: {', '.join(names)}.", param=param)


_CREDENTIALS = (
    Field("headers", _headers, default={}),
    Field("environment", _environment, default={}),
)
_TOOL = (
    Field("name", string(64, min_characters=1), required=True),
    Field("description", string(_MAX_DESCRIPTION), required=True),
    Field("input_schema", json_object, required=True),
    Field("read_only", boolean, default=False),
)


def _credentials(value: Any, param: str) -> Credentials | None:
    """None: there are none in it."""
    _only(_CREDENTIALS, "'credentials'", json_object(value, param), param)
    made = Credentials(**parse(_CREDENTIALS, value, f"{param}."))
    return made if made.headers or made.environment else None


def _tool(value: Any, param: str) -> ToolDefinition:
    _only(_TOOL, f"'{param}'", json_object(value, param), param)
    given = parse(_TOOL, value, f"{param}.")
    schema = given["input_schema"]
    are_typed = isinstance(schema.get("properties", {}), dict) and isinstance(
        schema.get("required", []), list
    )
    if schema.get("type") != "object" or not are_typed:
        raise wrong_value(f"{param}.input_schema", "the JSON schema of an object")
    return ToolDefinition(given["name"], given["description"], schema, given["read_only"])


_RULES = (
    Field("approval", one_of("never", "writes", "always"), default="writes"),
    Field("taint", one_of("any", "values"), default="any"),
    Field("timeout_s", number(0, MAX_TIMEOUT_S, above_low=True), default=30.0),
    Field("max_result_bytes", integer(1, MAX_RESULT_BYTES), default=65_536),
    Field("calls_per_minute", integer(1, 1_000_000)),
    Field("credentials", _credentials),
)
_FIELDS = (
    Field("label", _label, required=True),
    Field("kind", one_of("mcp", "http", "command"), required=True),
    Field("url", _url),
    Field("command", string(64, min_characters=1)),
    Field("method", one_of(*METHODS)),
    Field("tool", _tool),
    *_RULES,
)
_OF_KIND: Mapping[ServerKind, tuple[str, ...]] = {
    "mcp": ("url",),
    "command": ("command",),
    "http": ("url", "tool"),
}


def parse_server(body: Mapping[str, Any]) -> ServerRequest:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter."""
    _only(_FIELDS, "A tool server", body)
    given = parse(_FIELDS, body)
    kind: ServerKind = given["kind"]
    for name in _OF_KIND[kind]:
        if given[name] is None:
            raise MissingParameter(f"Missing required parameter: '{name}'.", param=name)
    allowed = (*_OF_KIND[kind], *(("method",) if kind == "http" else ()))
    for name in ("url", "command", "method", "tool"):
        if name not in allowed and given[name] is not None:
            raise unsupported(name, f"is not of a server of kind '{kind}'")
    _check_template(given["url"], given["tool"])
    return ServerRequest(
        label=given["label"],
        kind=kind,
        url=given["url"],
        command=given["command"],
        method=(given["method"] or "GET") if kind == "http" else None,
        tool=given["tool"],
        approval=given["approval"],
        taint=given["taint"],
        limits=CallLimits(given["timeout_s"], given["max_result_bytes"], given["calls_per_minute"]),
        credentials=given["credentials"],
    )


def _check_template(url: str | None, tool: ToolDefinition | None) -> None:
    """What stands in braces is an argument that every call has. Raises InvalidValue."""
    if url is None:
        return
    _checked(url, check_template, "url")
    schema = {} if tool is None else tool.input_schema
    properties, required = schema.get("properties", {}), schema.get("required", [])
    for name in _ARGUMENT.findall(url):
        if name not in properties or name not in required:
            raise wrong_value("url", "in braces only names of required properties of the tool")


def parse_change(body: Mapping[str, Any]) -> ServerChange:
    """`null` takes `credentials` or `calls_per_minute` away; of the others it says nothing.

    Raises InvalidValue, and UnsupportedParameter for what cannot be changed.
    """
    fixed = {field.name for field in _FIELDS} - {field.name for field in _RULES}
    for name in sorted(fixed & body.keys()):
        raise unsupported(name, "never changes: register another server instead")
    _only(_RULES, "A change of a tool server", body)
    given = parse(_RULES, body)
    named = {field.name for field in _RULES if body.get(field.name) is not None}
    return ServerChange(
        **{
            name: given[name] if name in named else None
            for name in ("approval", "taint", "timeout_s", "max_result_bytes")
        },
        sets_calls_per_minute="calls_per_minute" in body,
        calls_per_minute=given["calls_per_minute"],
        sets_credentials="credentials" in body,
        credentials=given["credentials"],
    )


# --- decisions ----------------------------------------------------------------------------------


def _digest(value: Any, param: str) -> bytes:
    digest = string(64)(value, param)
    if _DIGEST.fullmatch(digest) is None:
        raise wrong_value(param, "64 hexadecimal digits")
    return bytes.fromhex(digest)


_NAME = string(128, min_characters=1)
_SEEN = nested(Field("name", _NAME, required=True), Field("digest", _digest, required=True))
_APPROVE = (Field("tools", array(_SEEN, MAX_TOOLS, min_items=1), required=True),)
_WITHDRAW = (Field("tools", array(_NAME, MAX_TOOLS, min_items=1), required=True),)


def parse_approval(body: Mapping[str, Any]) -> dict[str, bytes]:
    """Digests of what was looked at, by the tools' names. Raises MissingParameter, InvalidValue."""
    tools = parse(_APPROVE, body)["tools"]
    digests = {tool["name"]: tool["digest"] for tool in tools}
    if len(digests) < len(tools):
        raise wrong_value("tools", "each tool once")
    return digests


def parse_withdrawal(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of tools. Raises MissingParameter, InvalidValue."""
    return parse(_WITHDRAW, body)["tools"]


# --- how it is shown ----------------------------------------------------------------------------


def describe(view: ServerView) -> dict[str, Any]:
    """As this API and `anzoth tools --json` show it."""
    server, listed_at = view.server, view.listed_at
    return {
        "id": str(server.id),
        "object": "tool_server",
        "label": server.label,
        "kind": server.kind,
        "url": server.url,
        "command": server.command,
        "method": server.method if server.kind == "http" else None,
        "approval": server.approval,
        "taint": server.taint,
        "timeout_s": server.limits.timeout_s,
        "max_result_bytes": server.limits.max_result_bytes,
        "calls_per_minute": server.limits.calls_per_minute,
        "has_credentials": server.has_credentials,
        "created_at": int(view.created_at.timestamp()),
        "updated_at": int(view.updated_at.timestamp()),
        "listed_at": None if listed_at is None else int(listed_at.timestamp()),
        "note": view.note,
        "tools": [_describe_tool(tool) for tool in view.tools],
    }


def _describe_tool(tool: PinnedTool) -> dict[str, Any]:
    """What an approval is about, beside what was approved before."""
    approved_at = tool.approved_at
    pinned = _describe_definition(tool.definition)
    return {
        "name": tool.definition.name,
        "state": tool.state,
        **_describe_definition(tool.said),
        "approved_before": pinned if tool.state == "quarantined" else None,
        "first_seen_at": int(tool.first_seen_at.timestamp()),
        "approved_at": None if approved_at is None else int(approved_at.timestamp()),
    }


def _describe_definition(definition: ToolDefinition) -> dict[str, Any]:
    return {
        "digest": definition.digest.hex(),
        "description": definition.description,
        "input_schema": dict(definition.input_schema),
        "read_only": definition.is_read_only,
    }

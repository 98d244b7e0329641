"""POST /mcp: the knowledge bases of a key as tools of the Model Context Protocol.

Streamable HTTP, answered with JSON: without sessions, without streams, nothing is remembered from
one request to the next. Both eras of the protocol:

    up to 2025-11-25    `initialize`, then `tools/list`, `tools/call`, `ping`
    2026-07-28          `server/discover`, `tools/list`, `tools/call`; each request says by itself,
                        in `_meta` and again in headers, what it is

The key, its scope and its addresses are checked as on every route. Only `tools/call` counts as a
request: against the limits, and as a row of usage. Notifications are taken and dropped; whoever
wants to end a call closes its connection.

What a caller can mend (a wrong argument, an unknown document) is a result with `isError`, so that
the model reads it; its usage row has the status that the same error has elsewhere. All other errors
are JSON-RPC errors under their own HTTP status.

Does not know: which tools there are (see `mcp_tools`), or how anything is found.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from anzoth.api import cookies, json_rpc, mcp_tools
from anzoth.api.call import Answer, Call
from anzoth.api.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, Id, Message, RpcError
from anzoth.errors import AnzothError, ForeignOrigin
from anzoth.http.messages import Headers, Response

MAX_BODY_BYTES = 256 << 10
"""A query has 16,384 characters at most."""
HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS = ("2026-07-28",)
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
"""The protocol's own codes."""
_VERSION, _METHOD, _NAME = "mcp-protocol-version", "mcp-method", "mcp-name"
"""Headers."""
_OF_PROTOCOL = "io.modelcontextprotocol/"
_ENVELOPE_VERSION = f"{_OF_PROTOCOL}protocolVersion"
_ENVELOPE_CAPABILITIES = f"{_OF_PROTOCOL}clientCapabilities"
_CACHE = {"ttlMs": 300_000, "cacheScope": "private"}
_SENTINEL = ("=?base64?", "?=")
_CALL = "tools/call"
_VERSION_CHARACTERS = 16
"""Of what a client says is its version: the protocol wants it back, whatever it is."""
_NO_STORE = ("cache-control", "no-store")
_MENDABLE = frozenset({400, 404})
_INSTRUCTIONS = (
    "Documents of one organization. Call 'search' with a question to find what they say about it; "
    "call 'fetch' with the id of a result to read the document. Cite its title."
)


async def answer(call: Call) -> Answer:
    if not cookies.has_own_origin(call.request, call.services.accounts.config):
        raise ForeignOrigin()
    message, headers = json_rpc.parse(call.body), call.request.headers
    _check_version(headers, message)
    if message.id is None:
        call.forgo()
        return Response(202, headers=call.headers)
    methods = _MODERN if _is_modern(headers) else _HANDSHAKE
    method = methods.get(message.method)
    if method is None or not method.counts:
        call.forgo()
    if method is None:
        raise RpcError(
            METHOD_NOT_FOUND, f"No such method. There are: {', '.join(methods)}.", status=404
        )
    if _is_modern(headers):
        _check_envelope(headers, message)
    content = _result(headers, message.id, await method.run(call, message))
    return Response(200, content, headers=[*call.headers, _NO_STORE])


def render_error(call: Call, error: AnzothError) -> Response:
    """As a result where the model can mend it, else as a JSON-RPC error."""
    id, headers = json_rpc.id_of(call.body), call.request.headers
    if isinstance(error, RpcError):
        # To clients of the first era a 404 means that their session is over.
        is_plain = not _is_modern(headers) and error.rpc_code in (METHOD_NOT_FOUND, INVALID_PARAMS)
        return json_rpc.error_response(id, error, status=200 if is_plain else None)
    if id is None or call.body.get("method") != _CALL or error.status not in _MENDABLE:
        return json_rpc.error_response(id, error)
    said = {"content": mcp_tools.text(error.message), "isError": True}
    return Response(200, _result(headers, id, said), headers=[*error.headers(), _NO_STORE])


def _result(headers: Headers, id: Id, value: Mapping[str, Any]) -> bytes:
    if _is_modern(headers):
        info = {f"{_OF_PROTOCOL}serverInfo": _server_info()}
        value = {**value, "resultType": "complete", "_meta": info}
    return json_rpc.result(id, value)


# --- eras -----------------------------------------------------------------------------------------


def _is_modern(headers: Headers) -> bool:
    return headers.get(_VERSION) in MODERN_VERSIONS


def _check_version(headers: Headers, message: Message) -> None:
    """Raises RpcError for one that is not spoken here, or that is said in the wrong place."""
    version = _only(headers, _VERSION)
    if version is None:
        if _ENVELOPE_VERSION in _envelope(message):
            raise RpcError(HEADER_MISMATCH, f"The header '{_VERSION}' is missing.")
    elif version not in (*HANDSHAKE_VERSIONS, *MODERN_VERSIONS):
        supported = [*HANDSHAKE_VERSIONS, *MODERN_VERSIONS]
        raise RpcError(
            UNSUPPORTED_VERSION,
            f"This protocol version is not spoken here. These are: {', '.join(supported)}.",
            data={"supported": supported, "requested": version[:_VERSION_CHARACTERS]},
        )


def _check_envelope(headers: Headers, message: Message) -> None:
    """What stands in headers and in the body must be the same: whoever routes by the headers must
    not be lied to. Raises RpcError."""
    meta = _envelope(message)
    for key in (_ENVELOPE_VERSION, _ENVELOPE_CAPABILITIES):
        if key not in meta:
            raise RpcError(INVALID_PARAMS, f"'params._meta' lacks '{key}'.")
    said = {_VERSION: meta[_ENVELOPE_VERSION], _METHOD: message.method}
    if message.method == _CALL and "name" in message.params:
        said[_NAME] = message.params["name"]
    for header, value in said.items():
        if _decoded(_only(headers, header)) != value:
            raise RpcError(HEADER_MISMATCH, f"The header '{header}' says another than the body.")


def _envelope(message: Message) -> Mapping[str, Any]:
    meta = message.params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def _only(headers: Headers, name: str) -> str | None:
    """Raises RpcError for two: one is somebody else's."""
    found = [value for key, value in headers.items() if key == name]
    if len(found) > 1:
        raise RpcError(HEADER_MISMATCH, f"The header '{name}' is there more than once.")
    return found[0] if found else None


def _decoded(value: str | None) -> str | None:
    """What a header says that cannot say it in plain ASCII. None: nothing."""
    prefix, suffix = _SENTINEL
    if value is None or not (value.startswith(prefix) and value.endswith(suffix)):
        return value
    try:
        return base64.b64decode(value[len(prefix) : -len(suffix)], validate=True).decode()
    except ValueError:  # that of the alphabet, and that of UTF-8
        return None


# --- methods --------------------------------------------------------------------------------------


async def _initialize(call: Call, message: Message) -> Mapping[str, Any]:
    wanted = message.params.get("protocolVersion")
    if not isinstance(wanted, str):
        raise RpcError(INVALID_PARAMS, "'protocolVersion' must be a string.")
    return {
        "protocolVersion": wanted if wanted in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1],
        "capabilities": {"tools": {}},
        "serverInfo": _server_info(),
        "instructions": _INSTRUCTIONS,
    }


async def _discover(call: Call, message: Message) -> Mapping[str, Any]:
    return {
        "supportedVersions": list(MODERN_VERSIONS),
        "capabilities": {"tools": {}},
        "instructions": _INSTRUCTIONS,
        **_CACHE,
    }


async def _ping(call: Call, message: Message) -> Mapping[str, Any]:
    return {}


async def _list_tools(call: Call, message: Message) -> Mapping[str, Any]:
    if message.params.get("cursor") is not None:
        raise RpcError(INVALID_PARAMS, "There is no such 'cursor': all tools are on one page.")
    listed = {"tools": [tool.described for tool in mcp_tools.shown(call.principal)]}
    return {**listed, **_CACHE} if _is_modern(call.request.headers) else listed


async def _call_tool(call: Call, message: Message) -> Mapping[str, Any]:
    name = message.params.get("name")
    tool = mcp_tools.TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"No such tool. There are: {', '.join(mcp_tools.TOOLS)}.")
    return await mcp_tools.run(call, tool, message.params.get("arguments"))


@dataclass(slots=True, frozen=True)
class Method:
    """One line of a table of methods."""

    run: Callable[[Call, Message], Awaitable[Mapping[str, Any]]]
    counts: bool = False
    """It is a request to the limits, and leaves a row of usage."""


_TOOL_METHODS = {"tools/list": Method(_list_tools), _CALL: Method(_call_tool, counts=True)}
_HANDSHAKE = {"initialize": Method(_initialize), "ping": Method(_ping), **_TOOL_METHODS}
_MODERN = {"server/discover": Method(_discover), **_TOOL_METHODS}


@functools.cache
def _server_info() -> Mapping[str, str]:
    return {"name": "anzoth", "title": "Anzoth", "version": metadata.version("anzoth")}

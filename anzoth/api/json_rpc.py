"""What is a JSON-RPC message, and what answers one?

One message per body: MCP took batches out again with its revision 2025-06-18, and here they are
refused. What is answered before its id is known has the id null.

    error.code     -32700 to -32600 are JSON-RPC's own; REFUSED is every refusal of this server
    error.data     what OpenAI's errors say beside the message: `type`, `code`, `param`

Does not know: methods, or what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from anzoth.errors import AnzothError, BadRequest, MalformedJson
from anzoth.http.messages import Response

PARSE_ERROR, INTERNAL_ERROR = -32700, -32603
INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32600, -32601, -32602
REFUSED = -32010
"""One of those that are left to implementations."""
_MAX_ID_CHARACTERS = 256
_MAX_METHOD_CHARACTERS = 128

Id = str | int


class RpcError(BadRequest):
    """The body is not one JSON-RPC request or notification."""

    def __init__(
        self,
        rpc_code: int,
        message: str | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        status: int = 400,
    ) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code
        self.data = data
        self.status = status


@dataclass(slots=True, frozen=True)
class Message:
    """A request, or a notification."""

    method: str
    params: Mapping[str, Any] = field(repr=False)
    id: Id | None
    """None: a notification, which nobody answers."""


def parse(body: Mapping[str, Any]) -> Message:
    """Raises RpcError."""
    if body.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, "'jsonrpc' must be '2.0': send one JSON-RPC 2.0 request.")
    method, params = body.get("method"), body.get("params")
    if not isinstance(method, str) or not 1 <= len(method) <= _MAX_METHOD_CHARACTERS:
        raise RpcError(INVALID_REQUEST, "'method' must be the name of a method.")
    if params is not None and not isinstance(params, dict):
        raise RpcError(INVALID_REQUEST, "'params' must be an object, or left out.")
    id = id_of(body)
    if id is None and "id" in body:
        raise RpcError(
            INVALID_REQUEST,
            "'id' must be an integer of at most 64 bits or a string of at most "
            f"{_MAX_ID_CHARACTERS} characters.",
        )
    return Message(method, params or {}, id)


def id_of(body: Mapping[str, Any]) -> Id | None:
    """That an answer can carry; None: there is none."""
    id = body.get("id")
    if isinstance(id, str):
        return id if len(id) <= _MAX_ID_CHARACTERS else None
    return id if isinstance(id, int) and not isinstance(id, bool) else None


def result(id: Id | None, value: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "result": value})


def error_response(id: Id | None, error: AnzothError, *, status: int | None = None) -> Response:
    """`status`: instead of the error's own."""
    said: dict[str, Any] = {"code": _code(error), "message": error.message}
    if not isinstance(error, RpcError):
        said["data"] = {"type": error.type, "code": error.code, "param": error.param}
    elif error.data is not None:
        said["data"] = error.data
    content = orjson.dumps({"jsonrpc": "2.0", "id": id, "error": said})
    return Response(error.status if status is None else status, content, headers=error.headers())


def _code(error: AnzothError) -> int:
    if isinstance(error, RpcError):
        return error.rpc_code
    if isinstance(error, MalformedJson):
        return PARSE_ERROR
    if type(error) is BadRequest:  # the body was no object
        return INVALID_REQUEST
    return INTERNAL_ERROR if type(error) is AnzothError else REFUSED

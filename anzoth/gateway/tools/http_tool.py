"""Which request is a call of a plain HTTP tool, and what does the answer say?

The URL is a template, `https://host/v1/orders/{order_id}?lang={lang}`: arguments that it names
stand in its path or its query, the others in the query (GET, HEAD, DELETE) or in a JSON body. A
model wrote the arguments, so none of them may make the request another one than the template's: a
host is never an argument, what stands in a path is one piece of it, and there are no arguments but
those that are declared, unless the schema itself says that there may be.

Does not know: how a request is sent.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from anzoth.gateway.egress.egress import Answer
from anzoth.gateway.tools.definitions import ToolFailure, ToolResult

METHODS = ("GET", "HEAD", "DELETE", "POST", "PUT", "PATCH")
_BODILESS = ("GET", "HEAD", "DELETE")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_NOT_IN_PATH = re.compile(r"[/\\\x00-\x1f\x7f]")
_TEXT = re.compile(r"text/|application/([\w.+-]*\+)?(json|xml|yaml|x-yaml|javascript)\b")
_MAX_BODY_BYTES = 1 << 20
_OPENING = frozenset(
    ("additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "if", "$ref")
)
"""Where a schema has one of these, it says what else there may be."""


@dataclass(slots=True, frozen=True)
class HttpRequest:
    """What is sent for one call."""

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


def check_template(url: str, method: str = "GET") -> None:
    """Raises ValueError where `url` is no template, or `method` none that a tool can have."""
    if method not in METHODS:
        raise ValueError(f"the method is none of {', '.join(METHODS)}")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("a URL must look like https://host/path/{argument}")
    if "{" in parts.netloc or "}" in parts.netloc or "@" in parts.netloc or parts.fragment:
        raise ValueError("host and port of a URL are no arguments; it has no user and no fragment")
    rest = _PARAMETER.sub("", url)
    if "{" in rest or "}" in rest or re.search(r"[\x00-\x20\\\x7f-\U0010ffff]", rest):
        raise ValueError("a URL is ASCII, and an argument in it is a name in braces")
    if "{" in parts.query and re.search(r"(^|&)[^=&]*\{", parts.query):
        raise ValueError("in the query of a URL only values are arguments")


def require_declared(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raises ToolFailure for an argument that would be a parameter of the request of which nobody
    has thought: many servers take `_method=DELETE` for another method."""
    if not _OPENING & schema.keys() and arguments.keys() - schema.get("properties", {}).keys():
        raise ToolFailure("protocol", "There are arguments that the tool does not declare.")


def request_of(url: str, method: str, arguments: Mapping[str, Any]) -> HttpRequest:
    """The request of a call. Raises ToolFailure for arguments that the template cannot take."""
    try:
        check_template(url, method)
    except ValueError:
        raise ToolFailure("protocol", "The tool's URL is no template.") from None
    path, question, query = url.partition("?")
    used: set[str] = set()

    def in_path(found: re.Match[str]) -> str:
        used.add(name := found[1])
        text = _scalar(name, arguments)
        if not text or _NOT_IN_PATH.search(text):
            raise ToolFailure("protocol", f"The argument {name!r} cannot stand in the URL's path.")
        return _quoted(name, text)

    def in_query(found: re.Match[str]) -> str:
        used.add(name := found[1])
        return _quoted(name, _scalar(name, arguments))

    filled = _PARAMETER.sub(in_path, path)
    _require_same_depth(filled)
    if question:
        filled += "?" + _PARAMETER.sub(in_query, query)
    rest = {name: value for name, value in arguments.items() if name not in used}
    if method in _BODILESS:
        return HttpRequest(method, _with_query(filled, rest))
    try:
        body = orjson.dumps(rest)
    except TypeError:  # numbers past 64 bits, halves of surrogate pairs
        raise ToolFailure("protocol", "The arguments cannot be sent as JSON.") from None
    if len(body) > _MAX_BODY_BYTES:
        raise ToolFailure("too_large", "The arguments are too large.")
    return HttpRequest(method, filled, body)


def result_of(answer: Answer) -> ToolResult:
    """Raises ToolFailure for what is no text."""
    content_type = answer.content_type.lower().strip()
    if answer.body and not _TEXT.match(content_type):
        raise ToolFailure("protocol", "The tool answered with something that is no text.")
    text = answer.body.decode(errors="replace")
    is_error = answer.status >= 400
    if is_error:
        text = f"HTTP status {answer.status}\n{text}"
    return ToolResult(text, is_error, len(answer.body))


def _scalar(name: str, arguments: Mapping[str, Any]) -> str:
    if name not in arguments:
        raise ToolFailure("protocol", f"The argument {name!r} is missing.")
    value = arguments[name]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ToolFailure("protocol", f"The argument {name!r} must be a text, a number or a boolean.")


def _quoted(name: str, text: str) -> str:
    try:
        return urllib.parse.quote(text, safe="")
    except UnicodeEncodeError:
        raise ToolFailure("protocol", f"The argument {name!r} is no valid text.") from None


def _require_same_depth(url: str) -> None:
    """No piece of the path is one that the client or the server takes for a step up."""
    path = urllib.parse.urlsplit(url).path
    if any(urllib.parse.unquote(piece) in (".", "..") for piece in path.split("/")):
        raise ToolFailure("protocol", "The arguments would lead to another path.")


def _with_query(url: str, rest: Mapping[str, Any]) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in rest.items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, one if isinstance(one, str) else json.dumps(one)) for one in values]
    if not pairs:
        return url
    try:
        query = urllib.parse.urlencode(pairs)
    except UnicodeEncodeError:
        raise ToolFailure("protocol", "The arguments are no valid text.") from None
    return f"{url}{'&' if '?' in url else '?'}{query}"

"""What does a request head ask for, and is there only one way to read it?

h11 turns the gate's bytes into fields; this module decides what they mean and refuses whatever two
readers could understand differently: two lengths, a length beside chunks, a Host that is no host, a
path that decodes to something else elsewhere.

Does not know: sockets, limits on sizes (`gate`), routes.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import h11

from anzoth.errors import (
    AnzothError,
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    HttpVersionNotSupported,
    NotImplementedByServer,
)

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

_SINGLE_FIELDS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"x-request-id",
    }
)
"""Fields that we act on and that may come once: a second one means that two readers may differ."""

# RFC 3986 §3.2: host [ ":" port ]. An empty host is valid there, but not in an http URI.
_HOST = re.compile(
    rb"(?:\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)"
    rb"(?::[0-9]{0,5})?",
    re.ASCII,
)
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASHES = re.compile(rb"//+")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class Head(NamedTuple):
    """A request head with one meaning. (A frozen dataclass takes four times as long to make.)"""

    method: str
    path: str
    """Percent-decoded; begins with '/'; no empty and no dot segments."""
    query: str
    headers: list[tuple[bytes, bytes]]
    is_http_1_1: bool
    content_length: int | None
    is_chunked: bool
    expects_continue: bool
    wants_close: bool
    request_id: str | None
    """The client's own, if it is short and harmless."""

    @property
    def has_body(self) -> bool:
        return self.is_chunked or bool(self.content_length)


def parse(raw: bytes) -> tuple[Head, h11.Connection]:
    """The head in `raw` (which passed the gate), and the parser that is ready for its body.

    Every request gets its own h11 connection (1 µs): it then holds exactly one request's bytes, and
    h11's sending half, which we do not use, has no state to be kept in step.

    Raises an AnzothError with the status to answer.
    """
    parser = h11.Connection(our_role=h11.SERVER)
    try:
        parser.receive_data(raw)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise _translate(error) from None
    if not isinstance(event, h11.Request):
        raise BadRequest("The request head is malformed.")
    return _interpret(event), parser


def _translate(error: h11.RemoteProtocolError) -> AnzothError:
    """h11's messages quote the offending line, which may hold a key: ours never do."""
    if error.error_status_hint == 501:
        return NotImplementedByServer("The only supported Transfer-Encoding is chunked.")
    if error.error_status_hint == 431:
        return HeadersTooLarge()
    return BadRequest("The request head is malformed.")


def _interpret(event: h11.Request) -> Head:
    if event.http_version not in (b"1.1", b"1.0"):
        raise HttpVersionNotSupported()
    if event.method not in _METHODS:
        raise NotImplementedByServer("This server does not implement that method.")
    is_http_1_1 = event.http_version == b"1.1"
    headers = list(event.headers)
    single: dict[bytes, bytes] = {}
    wants_close = not is_http_1_1
    for name, value in headers:
        if name in _SINGLE_FIELDS:
            if name in single:
                raise BadRequest(f"The request has more than one {name.decode()} header.")
            single[name] = value
        elif name == b"connection" and b"close" in value.lower():
            wants_close |= b"close" in [token.strip() for token in value.lower().split(b",")]
    host = single.get(b"host")
    if host is not None:
        _check_host(host)
    path, query = _split_target(event.method, event.target, host)
    content_length, is_chunked = _body_framing(single, is_http_1_1)
    request_id = single.get(b"x-request-id", b"")
    return Head(
        method=event.method.decode("ascii"),
        path=path,
        query=query,
        headers=headers,
        is_http_1_1=is_http_1_1,
        content_length=content_length,
        is_chunked=is_chunked,
        expects_continue=_expects_continue(single.get(b"expect"), is_http_1_1),
        wants_close=wants_close,
        request_id=request_id.decode("ascii") if _REQUEST_ID.fullmatch(request_id) else None,
    )


def _body_framing(single: dict[bytes, bytes], is_http_1_1: bool) -> tuple[int | None, bool]:
    """RFC 9112 §6: how the body ends. h11 already refused any coding but `chunked`."""
    length = single.get(b"content-length")
    if b"transfer-encoding" not in single:
        return (None if length is None else int(length)), False
    if length is not None:
        raise BadRequest("The request has both Content-Length and Transfer-Encoding.")
    if not is_http_1_1:
        raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
    return None, True


def _expects_continue(expect: bytes | None, is_http_1_1: bool) -> bool:
    if expect is None or not is_http_1_1:  # RFC 9110 §10.1.1: ignored in HTTP/1.0
        return False
    if expect.lower() != b"100-continue":
        raise ExpectationFailed()
    return True


def _check_host(host: bytes) -> None:
    match = _HOST.fullmatch(host)
    if match is None:
        raise BadRequest("The Host header is not a valid host.")
    if match["ipv6"] is not None:
        try:
            ipaddress.IPv6Address(match["ipv6"].decode("ascii"))
        except ValueError:
            raise BadRequest("The Host header is not a valid host.") from None


def _split_target(method: bytes, target: bytes, host: bytes | None) -> tuple[str, str]:
    """The decoded path and the raw query (RFC 9112 §3.2)."""
    if not target.startswith(b"/"):
        target = _origin_form(method, target, host)
    if b"#" in target:
        raise BadRequest("The request target must not contain a fragment.")
    path, _, query = target.partition(b"?")
    return _decode_path(path), query.decode("ascii")


def _origin_form(method: bytes, target: bytes, host: bytes | None) -> bytes:
    if target == b"*" and method == b"OPTIONS":
        return b"/"  # a question about the whole server gets the answer for its root
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise BadRequest("The request target must be a path that begins with '/'.")
    authority, rest = match.groups()
    _check_host(authority)
    if host is not None and host.lower() != authority.lower():
        raise BadRequest("The request target and the Host header name different hosts.")
    return rest if rest.startswith(b"/") else b"/" + rest


def _decode_path(path: bytes) -> str:
    if b"//" in path:
        # A base URL with a slash at its end makes SDKs ask for `/v1//chat/completions`.
        path = _SLASHES.sub(b"/", path)
    num_bytes = len(path)
    if b"%" in path:
        if _BAD_ESCAPE.search(path):
            raise BadRequest("The request path contains an invalid percent-escape.")
        path = unquote_to_bytes(path)
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("The request path is not valid UTF-8.") from None
    if len(text) != num_bytes and _CONTROL.search(text):  # unescaped ones did not pass the gate
        raise BadRequest("The request path contains control characters.")
    if "/." in text and not {".", ".."}.isdisjoint(text.split("/")):
        # Clients resolve these before they send (RFC 3986 §5.2.4); left over, they are an attempt.
        raise BadRequest("The request path must not contain '.' or '..' segments.")
    return text

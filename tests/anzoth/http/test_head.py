"""What a well-formed head means: paths, hosts, how the body ends, what the client wants."""

from __future__ import annotations

import pytest

from anzoth.http.head import Head, parse


def parse_head(target: bytes = b"/", fields: bytes = b"", version: bytes = b"1.1") -> Head:
    head, _ = parse(b"POST %b HTTP/%b\r\nHost: x\r\n%b\r\n" % (target, version, fields))
    return head


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/models", "/v1/models", ""),
        (b"/v1//chat/completions", "/v1/chat/completions", ""),
        (b"//chat/completions", "/chat/completions", ""),
        (b"///", "/", ""),
        (b"/a%20b%C3%A9", "/a bé", ""),
        (b"/v1/models/org%2Fname", "/v1/models/org/name", ""),
        (b"/a.b/.c/..d", "/a.b/.c/..d", ""),
        (b"/a?b=%zz&c=//", "/a", "b=%zz&c=//"),
        (b"/a?", "/a", ""),
        (b"/a??b", "/a", "?b"),
        (b"http://x/a?b", "/a", "b"),
        (b"HTTP://X?b", "/", "b"),
    ],
)
def test_target_is_split_and_decoded_once(target: bytes, path: str, query: str) -> None:
    head = parse_head(target)
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("fields", "length", "is_chunked", "has_body"),
    [
        (b"", None, False, False),
        (b"Content-Length: 0\r\n", 0, False, False),
        (b"Content-Length: 7\r\n", 7, False, True),
        (b"Transfer-Encoding: chunked\r\n", None, True, True),
    ],
)
def test_body_framing(fields: bytes, length: int | None, is_chunked: bool, has_body: bool) -> None:
    head = parse_head(fields=fields)
    assert (head.content_length, head.is_chunked, head.has_body) == (length, is_chunked, has_body)


@pytest.mark.parametrize(
    ("version", "fields", "wants_close"),
    [
        (b"1.1", b"", False),
        (b"1.1", b"Connection: keep-alive\r\n", False),
        (b"1.1", b"Connection: Close\r\n", True),
        (b"1.1", b"Connection: te, close\r\nTE: trailers\r\n", True),
        (b"1.1", b"Connection: te\r\nConnection: close\r\n", True),
        (b"1.1", b"Connection: closed\r\n", False),
        (b"1.0", b"", True),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_who_wants_the_connection_closed(version: bytes, fields: bytes, wants_close: bool) -> None:
    assert parse_head(fields=fields, version=version).wants_close is wants_close


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        (b"abc-1.2:3_4", True),
        (b"a" * 64, True),
        (b"a" * 65, False),
        (b"a b", False),
        (b"a,b", False),
        (b"a\xe9", False),
        (b"<script>", False),
        (b"", False),
    ],
)
def test_a_request_id_is_taken_over_only_when_short_and_harmless(
    value: bytes, is_taken: bool
) -> None:
    head = parse_head(fields=b"X-Request-ID: " + value + b"\r\n")
    assert head.request_id == (value.decode() if is_taken else None)


def test_expect_continue_in_any_case() -> None:
    assert parse_head(fields=b"Content-Length: 1\r\nExpect: 100-Continue\r\n").expects_continue

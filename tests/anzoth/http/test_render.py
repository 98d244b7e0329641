"""The bytes of responses."""

from __future__ import annotations

import pytest

from anzoth.errors import CapacityUnavailable
from anzoth.http.messages import Response
from anzoth.http.render import Renderer, chunk, error_response


def lines(data: bytes) -> list[bytes]:
    return data.split(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_response_has_its_length_date_server_and_request_id() -> None:
    data = Renderer().response(Response(201, b"{}", headers=[("x-a", "b")]), "req_1")
    assert data.endswith(b"\r\n\r\n{}")
    status, date, *fields = lines(data)
    assert status == b"HTTP/1.1 201 Created"
    assert date.startswith(b"date: ")
    assert date.endswith(b" GMT")
    assert fields == [
        b"server: anzoth",
        b"x-request-id: req_1",
        b"content-type: application/json",
        b"x-a: b",
        b"content-length: 2",
    ]


def test_the_answer_to_head_announces_the_length_without_the_body() -> None:
    data = Renderer().response(Response(200, b"12345"), "req_1", is_head=True, close=True)
    assert b"content-length: 5\r\n" in data
    assert data.endswith(b"connection: close\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_no_length(status: int) -> None:
    data = Renderer().response(Response(status, b"ignored"), "req_1")
    assert b"content-length" not in data
    assert data.endswith(b"\r\n\r\n")


def test_a_status_that_nobody_registered_is_written_too() -> None:
    assert Renderer().response(Response(499), "req_1").startswith(b"HTTP/1.1 499 \r\n")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("place", ["name", "value", "content_type"])
def test_a_line_break_in_a_header_never_reaches_the_wire(value: str, place: str) -> None:
    response = Response(200)
    if place == "content_type":
        response.content_type = value
    else:
        response.headers = [(value, "x") if place == "name" else ("x", value)]
    with pytest.raises(ValueError, match="line break"):
        Renderer().response(response, "req_1")


def test_an_error_keeps_its_headers() -> None:
    response = error_response(CapacityUnavailable(retry_after_ms=1500))
    data = Renderer().response(response, "req_1")
    assert b"\r\nretry-after-ms: 1500\r\nretry-after: 2\r\nx-should-retry: true\r\n" in data


def test_a_chunk_states_its_size_in_hex() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"

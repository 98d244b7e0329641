"""Whatever arrives, the answer is a clear error or a closed connection, and the server lives on."""

from __future__ import annotations

import random
import socket
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
GOOD = {"model": "anzoth-default", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(autouse=True)
def still_serving(client):
    """After each test the same server still answers a good request."""
    yield
    assert client.post(CHAT, json=GOOD).status_code == 200


def raw(server, data: bytes) -> bytes:
    """Sends bytes, reads until the server closes or falls silent."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, "invalid_value"),
        (b"", None, "invalid_value"),
        (b"[]", None, "invalid_value"),
        (b"\xff\xfe", None, "invalid_value"),
        (b"[" * 100_000, None, "invalid_value"),
        (b'{"model": "anzoth-default"}', "messages", "missing_required_parameter"),
        (b'{"messages": []}', "model", "missing_required_parameter"),
        (b'{"model": 5, "messages": []}', "model", "invalid_value"),
        (b'{"model": "anzoth-default", "messages": "hi"}', "messages", "invalid_value"),
        (b'{"model": "anzoth-default", "messages": []}', "messages", "invalid_value"),
    ],
)
def test_malformed_bodies_are_400_and_name_the_field(client, body, param, code) -> None:
    answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code
    assert (error["param"] or "").partition("[")[0] == (param or "")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "hot"),
        ("temperature", 2.01),
        ("temperature", -1),
        ("temperature", True),
        ("top_p", 1.5),
        ("n", 0),
        ("n", 129),
        ("max_tokens", 0),
        ("max_tokens", 10**30),
        ("max_tokens", 1.5),
        ("stop", ["a"] * 5),
        ("stop", 3),
        ("seed", "x"),
        ("logit_bias", {"999999999": 1}),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"1": 101}),
        ("logprobs", 3),
        ("top_logprobs", 5),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("messages", [{"role": "wizard", "content": "hi"}]),
        ("messages", [{"role": "user", "content": 5}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ("messages", [{"role": "user"}]),
        ("tools", [{"type": "function", "function": {"name": "not a name"}}]),
        ("response_format", {"type": "xml"}),
        ("modalities", ["audio"]),
    ],
)
def test_impossible_values_are_400_never_500(client, field, value) -> None:
    answer = client.post(CHAT, json={**GOOD, field: value})
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["param"] or "").startswith(field)


def test_unknown_model_and_unknown_url_are_404(client) -> None:
    answer = client.post(CHAT, json={**GOOD, "model": "gpt-9"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert client.get("/v1/nothing").status_code == 404
    wrong = client.put(CHAT, json=GOOD)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "OPTIONS, POST")


def test_too_long_prompt_is_400_at_once(client) -> None:
    long = [{"role": "user", "content": "all work and no play " * 20_000}]
    answer = client.post(CHAT, json={**GOOD, "messages": long})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_body_over_the_limit_is_413(client) -> None:
    answer = client.post(CHAT, content=b" " * (9 << 20))
    assert answer.status_code == 413


def test_ten_thousand_headers_are_431(server) -> None:
    head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n"
    assert raw(server, head).startswith(b"HTTP/1.1 431 ")


def test_binary_garbage_gets_an_error_or_a_closed_connection(server) -> None:
    noise = random.Random(1)
    for size in (1, 2, 10, 100, 1000, 10_000, 100_000):
        answer = raw(server, noise.randbytes(size))
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
        assert not answer.startswith(b"HTTP/1.1 500")

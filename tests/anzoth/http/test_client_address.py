"""Whose address is believed?"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from anzoth.http.client_address import client_address, parse_networks
from anzoth.http.messages import Headers, Request

TRUSTED = parse_networks(["10.0.0.0/8", "2001:db8::5"])


async def no_body(limit_bytes: int) -> bytes:
    return b""


async def no_stream(limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
    yield b""


def request(peer: str, *forwarded: str) -> Request:
    headers = Headers([(b"x-forwarded-for", value.encode()) for value in forwarded])
    return Request("GET", "/", "", headers, "req", peer, 0.0, no_body, no_stream)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("192.0.2.1", ("203.0.113.9",), "192.0.2.1"),  # nobody trusts that peer
        ("::ffff:192.0.2.1", (), "192.0.2.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("::ffff:10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("10.9.9.9, 203.0.113.9, 10.0.0.2",), "203.0.113.9"),
        ("10.0.0.1", ("1.2.3.4", "203.0.113.9"), "203.0.113.9"),  # the client wrote the first
        ("10.0.0.1", ("203.0.113.9", "nonsense"), None),
        ("10.0.0.1", ("203.0.113.9, ",), None),
        ("10.0.0.1", ("10.0.0.7",), "10.0.0.7"),
        ("2001:db8::5", ("2001:db8::6",), "2001:db8::6"),
        ("unix", ("203.0.113.9",), None),
        ("fe80::1%eth0", (), "fe80::1"),
    ],
)
def test_the_address_is_the_last_one_that_a_trusted_proxy_saw(
    peer: str, forwarded: tuple[str, ...], expected: str | None
) -> None:
    address = client_address(request(peer, *forwarded), TRUSTED)
    assert (None if address is None else str(address)) == expected


def test_without_trusted_proxies_the_header_means_nothing() -> None:
    assert str(client_address(request("10.0.0.1", "203.0.113.9"), ())) == "10.0.0.1"

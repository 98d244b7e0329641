"""Real servers on this machine, asked by names that lead where an attacker wants them to lead."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from outside_kit import (
    HERE,
    LOOPBACK,
    Asked,
    Handler,
    answers,
    egress_to,
    serving,
    tls_of,
)

from anzoth.gateway.egress.egress import Answer, Egress
from anzoth.gateway.egress.failures import EgressFailure
from anzoth.tool_config import EgressConfig

SECRET = "canary-secret"


async def fetch(egress: Egress, url: str, **more: object) -> Answer:
    given = {"headers": {}, "max_bytes": 1000, "timeout_s": 5.0, **more}
    return await egress.fetch("GET", url, **given)  # type: ignore[arg-type]  # a test's own


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 20))  # type: ignore[arg-type]  # a coroutine


@contextlib.contextmanager
def failing(kind: str, *absent: str):
    with pytest.raises(EgressFailure) as raised:
        yield raised
    assert raised.value.kind == kind, raised.value
    for text in (SECRET, "169.254", "10.0.0", *absent):
        assert text not in str(raised.value)


def test_an_allowed_host_answers_with_its_own_name_and_our_headers() -> None:
    async def body() -> None:
        async with serving(answers(b'{"a": 1}')) as place:
            egress = egress_to(f"crm.example:{place.port}", names={"crm.example": [HERE]})
            url = f"http://CRM.example:{place.port}/a%2Fb?c=d"
            answer = await fetch(egress, url, headers={"Authorization": SECRET})
        assert (answer.status, answer.body) == (200, b'{"a": 1}')
        (asked,) = place.asked
        assert asked.line == "GET /a%2Fb?c=d HTTP/1.1"
        assert asked.headers["host"] == f"crm.example:{place.port}"
        assert asked.headers["authorization"] == SECRET
        assert asked.headers["accept-encoding"] == "identity"

    run(body)


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example:{port}/",
        "http://crm.example/",
        "https://crm.example/",
        "http://crm.example:{port}@other.example:{port}/",
        "http://me:pw@crm.example:{port}/",
        "http://crm.example.:1/",
        "ftp://crm.example:{port}/",
        "file:///etc/passwd",
        "unix:///run/x",
        "//crm.example:{port}/",
        "http://",
        "http://crm.example:{port}\\@other.example/",
        "http://crm.example:{port}/" + "a" * 9000,
        "http://crm.example:99999/",
        "http://crm\r\n.example:{port}/",
        "http://\ud800/",
    ],
    ids=ascii,
)
def test_what_is_not_allowed_is_not_connected_to(url: str) -> None:
    async def body() -> None:
        async with serving(answers()) as place:
            names = {"crm.example": [HERE], "other.example": [HERE]}
            egress = egress_to(f"crm.example:{place.port}", names=names)
            with failing("refused"):
                egress.require_allowed(url.format(port=place.port))
            with failing("refused"):
                await fetch(egress, url.format(port=place.port))
        assert place.num_connections == 0

    run(body)


@pytest.mark.parametrize(
    "addresses",
    [[HERE], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["169.254.169.254"], ["10.0.0.1"]]
    + [["fe80::1%lo"], ["0.0.0.0"], ["nonsense"], []],
    ids=str,
)
def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused(
    addresses: Sequence[str],
) -> None:
    async def body() -> None:
        async with serving(answers()) as place:
            egress = egress_to(
                f"crm.example:{place.port}", names={"crm.example": addresses}, private=()
            )
            with failing("refused", HERE):
                await fetch(egress, f"http://crm.example:{place.port}/")
        assert place.num_connections == 0

    run(body)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_another_way_to_write_an_address_is_no_way_in(host: str) -> None:
    """The system's resolver takes them for addresses: what it says of them is checked."""

    async def body() -> None:
        async with serving(answers()) as place:
            config = EgressConfig(allow=(f"{host}:{place.port}",))
            with failing("refused"):
                await fetch(Egress(config), f"http://{host}:{place.port}/")
        assert place.num_connections == 0

    run(body)


def test_a_name_that_changes_its_mind_is_asked_once_for_each_connection() -> None:
    """DNS rebinding: a second look would find the private address."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return [HERE] if len(asked) == 1 else ["169.254.169.254"]

    async def body() -> None:
        async with serving(answers()) as place:
            config = EgressConfig(allow=(f"crm.example:{place.port}",), private=LOOPBACK)
            egress = Egress(
                config, resolve=resolve, trusted=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            )
            await fetch(egress, f"http://crm.example:{place.port}/")
            assert asked == ["crm.example"]
            with failing("refused"):
                await fetch(egress, f"http://crm.example:{place.port}/")
        assert place.num_connections == 1

    run(body)


def test_of_mixed_addresses_only_the_permitted_ones_are_tried() -> None:
    async def body() -> None:
        async with serving(answers()) as place:
            names = {"crm.example": ["169.254.169.254", "127.0.0.2", HERE]}
            egress = egress_to(f"crm.example:{place.port}", names=names)
            assert (await fetch(egress, f"http://crm.example:{place.port}/")).status == 200

    run(body)


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
def test_a_redirect_is_not_followed(status: str) -> None:
    async def body() -> None:
        async with serving(answers()) as inside:
            to = f"http://{inside.address}/latest/meta-data/{SECRET}"
            async with serving(answers(status=status, location=to)) as place:
                with failing("refused", inside.address):
                    await fetch(egress_to(place, inside), f"http://{place.address}/")
            assert inside.num_connections == 0

    run(body)


def test_tls_names_the_host_and_not_its_address(tmp_path: Path) -> None:
    async def body() -> None:
        of_server, trusted = tls_of(tmp_path, "crm.example")
        named: list[str | None] = []
        of_server.sni_callback = lambda _socket, name, _context: named.append(name)

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return [HERE]

        async with serving(answers(), of_server) as place:
            hosts = ("crm.example", "other.example")
            allow = tuple(f"{host}:{place.port}" for host in hosts)
            config = EgressConfig(allow=allow, private=LOOPBACK)
            egress = Egress(config, resolve=resolve, trusted=trusted)
            answer = await fetch(egress, f"https://crm.example:{place.port}/")
            assert (answer.status, named) == (200, ["crm.example"])
            with failing("unreachable"):
                await fetch(egress, f"https://other.example:{place.port}/")

    run(body)


async def _hang(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _drip(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _interim(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("handler", [_hang, _drip, _interim])
def test_a_server_that_takes_its_time_has_a_limited_one(handler: Handler) -> None:
    async def body() -> None:
        async with serving(handler) as place:
            with failing("timeout"):
                await fetch(egress_to(place), f"http://{place.address}/", timeout_s=0.1)
            if handler is not _hang:
                await place.hung_up.wait()

    run(body)


async def _endless(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


def test_an_endless_answer_ends_at_its_limit() -> None:
    async def body() -> None:
        async with serving(_endless) as place:
            with failing("too_large"):
                await fetch(egress_to(place), f"http://{place.address}/", max_bytes=100_000)
            await place.hung_up.wait()

    run(body)


def test_a_limit_is_exact() -> None:
    async def body() -> None:
        async with serving(answers(b"x" * 1000)) as place:
            url = f"http://{place.address}/"
            assert len((await fetch(egress_to(place), url, max_bytes=1000)).body) == 1000
            with failing("too_large"):
                await fetch(egress_to(place), url, max_bytes=999)

    run(body)


def test_a_compressed_answer_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"x" * 10_000_000)

    async def body() -> None:
        for encoding in ("gzip", "br", "zstd", "identity, gzip"):
            async with serving(answers(bomb, content_encoding=encoding)) as place:
                with failing("protocol"):
                    await fetch(egress_to(place), f"http://{place.address}/", max_bytes=10**9)

    run(body)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab",
        b"",
    ],
    ids=lambda answer: answer[:40].decode(),
)
def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    async def handle(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async def body() -> None:
        async with serving(handle) as place:
            with failing("unreachable"):
                await fetch(egress_to(place), f"http://{place.address}/")

    run(body)


def test_nobody_there_and_no_such_name_are_said() -> None:
    async def body() -> None:
        async with serving(answers()) as place:
            pass
        with failing("unreachable"):
            await fetch(egress_to(place), f"http://{place.address}/")
        with failing("unreachable"):
            await fetch(egress_to("gone.example:80"), "http://gone.example:80/")

    run(body)


def test_the_environment_s_proxies_and_credentials_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def body() -> None:
        async with serving(answers()) as proxy, serving(answers()) as place:
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://{proxy.address}")
            netrc = tmp_path / "netrc"
            netrc.write_text(f"machine {HERE} login me password {SECRET}\n")
            monkeypatch.setenv("NETRC", str(netrc))
            await fetch(egress_to(place), f"http://{place.address}/")
            assert proxy.num_connections == 0
            assert "authorization" not in place.asked[0].headers

    run(body)


def test_secrets_are_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def body() -> None:
        async with serving(answers(status="500 no")) as place:
            url = f"http://{place.address}/"
            await fetch(egress_to(place), url, headers={"Authorization": SECRET})
            with failing("refused"):
                await fetch(egress_to(place), url, headers={"Authorization": f"{SECRET}\r\n"})

    run(body)
    assert SECRET not in caplog.text


def test_a_cancelled_fetch_hangs_up() -> None:
    async def body() -> None:
        async with serving(_drip) as place:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await fetch(egress_to(place), f"http://{place.address}/")
            await place.hung_up.wait()

    run(body)

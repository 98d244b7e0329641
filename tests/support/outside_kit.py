"""Servers on this machine that stand for the world outside, and names that lead to them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from anzoth.gateway.egress.egress import Egress
from anzoth.tool_config import EgressConfig

HERE = "127.0.0.1"
LOOPBACK = ("127.0.0.0/8", "::1/128")
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Handler = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    """One request that came."""

    line: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Place:
    """A server on a port of its own."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    num_connections: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """The other side ended a connection that was being answered."""

    @property
    def address(self) -> str:
        return f"{HERE}:{self.port}"


def answers(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> Handler:
    """Always the same."""
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    async def handle(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
        await writer.drain()

    return handle


@contextlib.asynccontextmanager
async def serving(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Place]:
    """A server whose requests `handle` answers, one after the other on each connection."""

    tasks: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        place.num_connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *fields = head.decode().rstrip("\r\n").split("\r\n")
                pairs = (one.partition(": ") for one in fields)
                asked = Asked(line, {name.lower(): value for name, _, value in pairs})
                asked.body = await reader.readexactly(int(asked.headers.get("content-length", 0)))
                place.asked.append(asked)
                await handle(asked, writer)
        except (OSError, asyncio.IncompleteReadError):
            place.hung_up.set()
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            writer.close()

    server = await asyncio.start_server(connected, HERE, 0, ssl=tls)
    place = Place(server.sockets[0].getsockname()[1])
    try:
        yield place
    finally:
        server.close()
        for task in tasks:
            assert task is not None
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # type: ignore[arg-type]  # tasks


def egress_to(
    *places: Place | str, names: Mapping[str, Sequence[str]] | None = None, **config: object
) -> Egress:
    """Lets these be reached, on this machine too. `names`: what resolves, and to what."""
    allow = tuple(place.address if isinstance(place, Place) else place for place in places)
    made = EgressConfig(**{"allow": allow, "private": LOOPBACK, **config})  # type: ignore[arg-type]  # a test's own

    async def resolve(host: str, _port: int) -> Sequence[str]:
        try:
            return (names or {})[host]
        except KeyError:
            raise OSError("no such name") from None

    return Egress(made, resolve=resolve, trusted=TRUSTS_NOBODY)


def tls_of(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and its clients' contexts: a certificate that is of `host` and of nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    since = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(since)
        .not_valid_after(since + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / f"{host}.pem"
    file.write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=pem.decode())
    return server, client

"""How does a request go out, and what of the answer is let in?

The one place where sockets to hosts of tenants are opened. No proxy, credential or certificate of
the environment is used, no cookie is kept, no compressed answer is taken (its size says nothing).

Does not know: what is asked, or what an answer means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable

import httpcore2
import httpx2

from anzoth.gateway.egress.allowance import Allowance
from anzoth.gateway.egress.dialer import Dialer
from anzoth.gateway.egress.failures import EgressFailure

_CONNECT_TIMEOUT_S = 5.0
_HEAD_TIMEOUT_S = 30.0
"""Where an allowance has no end."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LIBRARY_ERRORS = (
    *(httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError),
    *(httpcore2.UnsupportedProtocol, httpcore2.ConnectionNotAvailable),
)


def endpoint(url: httpx2.URL) -> tuple[str, int]:
    """Host and port, as they will be connected to. Raises EgressFailure for what names none."""
    host = url.raw_host.decode("ascii")
    if url.scheme not in _DEFAULT_PORTS or not host or url.userinfo:
        raise EgressFailure("refused", "An address must look like https://host:port/path.")
    return host, _DEFAULT_PORTS[url.scheme] if url.port is None else url.port


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses. TLS still names the host."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._sockets: httpcore2.AsyncNetworkBackend = httpcore2.AnyIOBackend()  # type: ignore[assignment]  # what it is without anyio

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        for address in await self._dialer.addresses(host, port):
            try:
                return await self._sockets.connect_tcp(address, port, timeout=_CONNECT_TIMEOUT_S)
            except (httpcore2.NetworkError, httpcore2.TimeoutException):
                continue
        raise EgressFailure("unreachable", f"{host}:{port} cannot be connected to.")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise EgressFailure("refused", "An address must look like https://host:port/path.")


class Outbound:
    """The connections of one purpose of one tenant, which nobody else uses."""

    __slots__ = ("_dialer", "_pool")

    def __init__(self, dialer: Dialer, tls: ssl.SSLContext, max_connections: int) -> None:
        self._dialer = dialer
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=30.0,
            network_backend=_CheckedNetwork(dialer),
        )

    async def exchange(self, request: httpx2.Request, allowance: Allowance) -> httpx2.Response:
        """An answer whose body is still to come, and must be closed. Reading it raises
        EgressFailure, as this does."""
        self._dialer.require_allowed(*endpoint(request.url))
        allowance.begin()
        deadline_s = allowance.deadline_s
        if deadline_s is None:
            deadline_s = asyncio.get_running_loop().time() + _HEAD_TIMEOUT_S
        headers = [pair for pair in request.headers.raw if pair[0].lower() != b"accept-encoding"]
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        sent = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=[*headers, (b"accept-encoding", b"identity")],
            content=request.stream,
        )
        try:
            async with asyncio.timeout_at(deadline_s):
                answer = await self._pool.handle_async_request(sent)
        except (TimeoutError, *_LIBRARY_ERRORS) as error:
            raise _failure(error) from None
        response = httpx2.Response(
            status_code=answer.status,
            headers=[pair for pair in answer.headers if pair[0].lower() != b"set-cookie"],
            stream=_Body(answer, allowance),
        )
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            await response.aclose()
            raise EgressFailure("protocol", "The server compresses its answer, unasked.")
        return response

    async def close(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """An answer's body, as far as its allowance goes."""

    def __init__(self, answer: httpcore2.Response, allowance: Allowance) -> None:
        self._answer = answer
        self._allowance = allowance

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(self._answer.aiter_stream()) as parts:
            while True:
                try:
                    async with asyncio.timeout_at(self._allowance.deadline_s):
                        part = await anext(parts, None)
                except (TimeoutError, *_LIBRARY_ERRORS) as error:
                    raise _failure(error) from None
                if part is None:
                    return
                self._allowance.take(len(part))
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


def _failure(error: BaseException) -> EgressFailure:
    if isinstance(error, TimeoutError | httpcore2.TimeoutException):
        return EgressFailure("timeout", "The server did not answer in time.")
    if isinstance(error, httpcore2.NetworkError):
        return EgressFailure("unreachable", "The connection to the server failed or broke.")
    return EgressFailure("unreachable", "The server hung up, or what it answered is no HTTP.")

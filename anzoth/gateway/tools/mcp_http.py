"""How does the MCP SDK send a request over HTTP, without a server doing more than it may?

The SDK takes an exception of its HTTP client for the end of the whole connection, waits for as long
as a server keeps a stream open, and asks again as often as a server lets it. So what it gets from
here is always an answer: where nothing came, or no more is let in, an error or an early end, and
the reason is kept for whoever called. Each call is watched (`mcp_watch`); the stream that stays
open for notifications has an allowance of its own for as long as the connection lives.

Does not know: what the messages say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import httpx2
import orjson
from mcp.client.streamable_http import streamable_http_client

from anzoth.gateway.egress.allowance import Allowance
from anzoth.gateway.egress.failures import EgressFailure
from anzoth.gateway.egress.outbound import Outbound
from anzoth.gateway.tools.mcp_watch import Watch, watched

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

_NOTIFYING_BYTES = 65_536
_NOTIFYING_EXCHANGES = 4
_MAX_REDIRECTS = 2
"""Within the host, scheme and port of the URL; others are followed by nobody."""
_SMALL_BYTES, _SMALL_TIMEOUT_S = 16_384, 2.0
"""Of messages that have no answer."""


@contextlib.asynccontextmanager
async def streams_over_http(
    outbound: Outbound, url: str, headers: Mapping[str, str]
) -> AsyncIterator[TransportStreams]:
    """The transport that the SDK asks for. Closes `outbound`."""
    client = httpx2.AsyncClient(
        transport=ContainedTransport(outbound),
        headers={"user-agent": "anzoth"} | {name.lower(): headers[name] for name in headers},
        timeout=None,  # each exchange has a deadline
        trust_env=False,
        max_redirects=_MAX_REDIRECTS,
    )
    async with client, streamable_http_client(url, http_client=client) as streams:
        yield streams


class ContainedTransport(httpx2.AsyncBaseTransport):
    """The requests of one MCP connection."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._notifying = Watch(Allowance(_NOTIFYING_BYTES, None, _NOTIFYING_EXCHANGES))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        watch = self._watch_of(request)
        try:
            response = await self._outbound.exchange(request, watch.allowance)
        except EgressFailure as failure:
            watch.failure = failure
            return httpx2.Response(502)
        watch.failure = _failure_of(response)
        if response.status_code == 404 and "mcp-session-id" in request.headers:
            watch.is_session_gone = True
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_EarlyEnd(response.stream, watch),
        )

    def _watch_of(self, request: httpx2.Request) -> Watch:
        if request.method == "GET" and "last-event-id" not in request.headers:
            return self._notifying  # the caller in whose context it began is the connecting one
        watch = watched()
        if request.method == "DELETE" or watch is None or _has_no_answer(request.content):
            return Watch(Allowance.of(_SMALL_BYTES, _SMALL_TIMEOUT_S))
        if request.method == "GET" and watch.allowance.max_exchanges == 0:
            return self._notifying
        return watch

    async def aclose(self) -> None:
        await self._outbound.close()


class _EarlyEnd(httpx2.AsyncByteStream):
    """A body that just ends where it may not go on."""

    def __init__(self, stream: httpx2.AsyncByteStream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except EgressFailure as failure:
            self._watch.failure = failure

    async def aclose(self) -> None:
        await self._stream.aclose()


def _has_no_answer(content: bytes) -> bool:
    """A notification, or what we say to a server that asks us for something."""
    message = orjson.loads(content or b"{}")
    return bool(message) and not ("id" in message and "method" in message)


def _failure_of(response: httpx2.Response) -> EgressFailure | None:
    status = response.status_code
    if response.has_redirect_location:
        return EgressFailure("refused", "The server redirects elsewhere, which is not followed.")
    if status in (401, 403):
        return EgressFailure("protocol", f"The server refuses the credentials (status {status}).")
    content_type = response.headers.get("content-type", "")
    if status >= 400 and not content_type.startswith("application/json"):
        return EgressFailure("protocol", f"The server answered with status {status}.")
    return None

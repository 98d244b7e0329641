"""How do bytes go to another server and come back?

The one module that knows the HTTP client. Redirects, proxies and credentials that the environment
names are not used. Reading has no timeout of its own: whoever reads has an absolute deadline.

Does not know: what is sent, or what an answer means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2

from anzoth.backend_config import BackendConfig
from anzoth.gateway import tls
from anzoth.gateway.backend_errors import NoAnswer, NoConnectionFree


class Reply:
    """An answer whose head is there."""

    __slots__ = ("_response", "status")

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self._response = response

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, not decompressed. Raises NoAnswer."""
        try:
            async for piece in self._response.aiter_raw():
                yield piece
        except httpx2.HTTPError as error:
            raise NoAnswer(type(error).__name__) from None

    async def close(self) -> None:
        """Ends the connection if the body was not read to its end."""
        await self._response.aclose()


class Client:
    """The connections to one server."""

    __slots__ = ("_base_url", "_client", "_headers")

    def __init__(self, config: BackendConfig, headers: Mapping[str, str]) -> None:
        self._base_url = config.base_url.rstrip("/")
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **headers,
        }
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(
                connect=config.connect_timeout_s,
                read=None,
                write=config.first_byte_timeout_s,
                pool=config.connect_timeout_s,
            ),
            limits=httpx2.Limits(
                max_connections=config.max_connections,
                max_keepalive_connections=config.max_connections,
                keepalive_expiry=30.0,
            ),
            trust_env=False,
            verify=tls.trusted(trust_env=False),
        )

    async def post(self, path: str, content: bytes) -> Reply:
        """The caller must close the reply. Raises NoAnswer or NoConnectionFree."""
        request = self._client.build_request(
            "POST", self._base_url + path, content=content, headers=self._headers
        )
        try:
            response = await self._client.send(request, stream=True, follow_redirects=False)
        except httpx2.PoolTimeout:
            raise NoConnectionFree() from None
        except httpx2.HTTPError as error:
            raise NoAnswer(type(error).__name__) from None
        return Reply(response)

    async def close(self) -> None:
        await self._client.aclose()

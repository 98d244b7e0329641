"""How does a command reach a running server over HTTP?

The HTTP client is loaded when a connection is made: few commands have use for it.

Does not know: what is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anzoth.control import NotReached
from anzoth.gateway import tls

if TYPE_CHECKING:
    import httpx2

_TIMEOUT_S, _CONNECT_TIMEOUT_S = 120, 5
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def client_of(url: str, **options: Any) -> httpx2.AsyncClient:
    """`options`: of httpx2.AsyncClient."""
    import httpx2

    is_far = urlsplit(url).hostname not in _LOOPBACK
    return httpx2.AsyncClient(
        base_url=url,
        timeout=httpx2.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
        trust_env=is_far,  # a proxy is for what is far away
        verify=tls.trusted(is_far),
        **options,
    )


async def send(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """Raises NotReached."""
    import httpx2

    try:
        return await client.send(request)
    except httpx2.HTTPError as error:
        raise NotReached(
            f"no server answers at {client.base_url} ({type(error).__name__}); "
            "is it running, and is the address right?"
        ) from None

"""How is anything outside reached, for tenants?

By this and by nothing else: what [egress] does not allow is refused, whoever asks, whatever it is
asked for, and wherever a server redirects to.

Does not know: what a tool is.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anzoth.gateway import tls
from anzoth.gateway.egress.allowance import Allowance
from anzoth.gateway.egress.dialer import Dialer, Resolve, resolved_by_system
from anzoth.gateway.egress.failures import EgressFailure
from anzoth.gateway.egress.headers import check_headers
from anzoth.gateway.egress.hosts import AllowedHosts
from anzoth.tool_config import EgressConfig

if TYPE_CHECKING:
    import httpx2

    from anzoth.gateway.egress.outbound import Outbound

MAX_URL_BYTES = 8192


@dataclass(slots=True, frozen=True)
class Answer:
    """A whole answer, and no redirect."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


class Egress:
    """The way out, as [egress] has it."""

    __slots__ = ("_dialer", "_tls")

    def __init__(
        self,
        config: EgressConfig,
        *,
        resolve: Resolve = resolved_by_system,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        """`trusted`: whom to believe over TLS. None: the system's authorities."""
        listed = [ipaddress.ip_network(network) for network in config.private]
        self._dialer = Dialer(AllowedHosts(config.allow), listed, resolve)
        self._tls = trusted

    def require_allowed(self, url: str) -> None:
        """Whether anything at `url` may be asked for, as far as can be known without asking.

        Raises EgressFailure.
        """
        from anzoth.gateway.egress.outbound import endpoint

        self._dialer.require_allowed(*endpoint(_parsed(url)))

    def open(self, max_connections: int) -> Outbound:
        """Connections of one's own. The caller must close it."""
        from anzoth.gateway.egress.outbound import Outbound  # a gateway without tools needs none

        trusted = tls.trusted(trust_env=False) if self._tls is None else self._tls
        return Outbound(self._dialer, trusted, max_connections)

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        max_bytes: int,
        timeout_s: float,
    ) -> Answer:
        """One exchange over a connection of its own. `body` is JSON. Raises EgressFailure.

        A redirect is an error: what was allowed is this address, with these headers.
        """
        import httpx2

        try:
            check_headers(headers)
        except ValueError as error:
            raise EgressFailure("refused", f"Of the credentials, {error}.") from None
        sent = {"user-agent": "anzoth", "accept": "application/json, text/*;q=0.9"}
        sent |= {name.lower(): value for name, value in headers.items()}
        if body is not None:
            sent["content-type"] = "application/json"
        request = httpx2.Request(method, _parsed(url), headers=sent, content=body)
        allowance = Allowance.of(max_bytes, timeout_s)
        outbound = self.open(max_connections=1)
        try:
            response = await outbound.exchange(request, allowance)
            try:
                if response.has_redirect_location:
                    raise EgressFailure(
                        "refused", "The server redirects elsewhere, which is not followed."
                    )
                content = b"".join([part async for part in response.aiter_raw()])
            finally:
                await response.aclose()
        finally:
            await outbound.close()
        return Answer(response.status_code, response.headers.get("content-type", ""), content)


def _parsed(url: str) -> httpx2.URL:
    import httpx2

    try:
        if len(url.encode()) <= MAX_URL_BYTES:
            return httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        pass
    raise EgressFailure("refused", "This is no address of a server, or a too long one.")

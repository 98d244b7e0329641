"""To which addresses may a connection to this host be made?

A name is resolved once for each connection, and what is connected to is an address that was
checked: whoever answers for the name has no second chance to answer otherwise.

Does not know: how a connection is made.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from anzoth.gateway.egress.addresses import Network, may_connect
from anzoth.gateway.egress.failures import EgressFailure
from anzoth.gateway.egress.hosts import AllowedHosts, normal

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, best first. Raises OSError."""

_RESOLVE_TIMEOUT_S = 5.0
_MAX_ADDRESSES = 4


async def resolved_by_system(host: str, port: int) -> Sequence[str]:
    """Raises OSError, and UnicodeError for what can be no name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Dialer:
    """Knows whom the operator lets be reached."""

    __slots__ = ("_allowed", "_listed", "_resolve")

    def __init__(self, allowed: AllowedHosts, listed: Sequence[Network], resolve: Resolve) -> None:
        self._allowed = allowed
        self._listed = listed
        self._resolve = resolve

    def require_allowed(self, host: str, port: int) -> None:
        """Raises EgressFailure."""
        if not self._allowed.permit(host, port):
            raise EgressFailure(
                "refused",
                f"{host}:{port} is not among the hosts that this server's operator lets tools "
                "reach ([egress] allow).",
            )

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """At least one, each of them checked. Raises EgressFailure."""
        self.require_allowed(host, port)
        host = normal(host)
        permitted = [
            address
            for address in await self._addresses(host, port)
            if may_connect(address, self._listed)
        ]
        if not permitted:
            raise EgressFailure(
                "refused",
                f"{host} leads to no address that tools may be at: only public ones, and those "
                "that this server's operator lists ([egress] private).",
            )
        return permitted[:_MAX_ADDRESSES]

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                return await self._resolve(host, port)
        except (OSError, UnicodeError):  # a TimeoutError is an OSError
            raise EgressFailure("unreachable", f"{host} cannot be found.") from None

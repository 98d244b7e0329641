"""Which address does a request come from?

That of the connection, unless the connection comes from a proxy that the configuration trusts: then
`X-Forwarded-For` is read from its end, over further trusted proxies, to the first address that is
none. What stands before that was written by whoever sent the request, and is never believed.

Does not know: what an address may do.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from anzoth.http.messages import Request

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises ValueError for what is neither an address nor a network (`10.0.0.0/8`)."""
    return tuple(ip_network(text) for text in texts)


def client_address(request: Request, trusted_proxies: Sequence[Network]) -> Address | None:
    """None: unknown (a Unix socket, or a trusted proxy that names nothing that can be read)."""
    address = try_parse(request.peer)
    if not trusted_proxies or address is None or not _is_in(address, trusted_proxies):
        return address
    hops = [
        hop
        for name, value in request.headers.items()
        if name == "x-forwarded-for"
        for hop in value.split(",")
    ]
    for hop in reversed(hops):
        address = try_parse(hop.strip())
        if address is None or not _is_in(address, trusted_proxies):
            return address
    return address


@functools.lru_cache(4096)
def try_parse(text: str) -> Address | None:
    """IPv4 addresses that a dual-stack socket shows as IPv6 are what they are."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)

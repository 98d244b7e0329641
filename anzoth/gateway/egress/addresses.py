"""Which addresses may be connected to?

Public ones, and those in networks that the operator lists. An IPv6 address that carries an IPv4
address reaches whatever that one is, so both must be permitted by themselves:

    ::ffff:0:0/96   mapped (RFC 4291)             ::/96       compatible (RFC 4291)
    ::ffff:0:0:0/96 translated (RFC 2765)         2002::/16   6to4 (RFC 3056)
    64:ff9b::/96    NAT64 (RFC 6052)              2001::/32   Teredo (RFC 4380), inverted

Does not know: names, or what is at an address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# What `is_global` does not say, or not in every version of Python: a cloud's host agent, addresses
# for protocols (where another cloud has its metadata), the relays of 6to4, documentation.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")
)
_ALL_ONES = 0xFFFFFFFF


def _low(address: int) -> int:
    return address & _ALL_ONES


_CARRIERS: Sequence[tuple[ipaddress.IPv6Network, Callable[[int], int]]] = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), _low),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), _low),
    (ipaddress.IPv6Network("64:ff9b::/96"), _low),
    (ipaddress.IPv6Network("::/96"), _low),
    (ipaddress.IPv6Network("2002::/16"), lambda address: (address >> 80) & _ALL_ONES),
    (ipaddress.IPv6Network("2001::/32"), lambda address: _low(address) ^ _ALL_ONES),
)


def may_connect(text: str, listed: Sequence[Network]) -> bool:
    """Whether `text` is an address that is public, or in a network that is `listed`."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return _may_connect(address, listed)


def _may_connect(address: Address, listed: Sequence[Network]) -> bool:
    if address.is_multicast or address.is_unspecified:
        return False
    is_listed = any(address in network for network in listed)  # of the other version: not in it
    if isinstance(address, ipaddress.IPv4Address):
        return is_listed or _is_public(address)
    if address.scope_id is not None:
        return False
    for network, carried in _CARRIERS:
        if address in network and not address.is_loopback:
            inner = ipaddress.IPv4Address(carried(int(address)))
            return is_listed and _may_connect(inner, listed)
    return is_listed or (address in _GLOBAL_UNICAST and _is_public(address))


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)

"""Which hosts did the operator allow?

    crm.example         over TLS, at port 443
    crm.example:8080    at that port
    *.tools.example     every name below it (not itself), at port 443; with a port: at that port

A host is compared as it will be resolved and named to the other side: in small letters, without the
root's dot, an IPv6 address in its shortest form.

Does not know: addresses, or what is asked of a host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_DEFAULT_PORT = 443


class AllowedHosts:
    """The list of [egress] allow."""

    __slots__ = ("_below", "_exactly")

    def __init__(self, entries: Iterable[str]) -> None:
        self._exactly: set[tuple[str, int]] = set()
        self._below: set[tuple[str, int]] = set()
        for entry in entries:
            host, port = _split(entry)
            if host.startswith("*."):
                self._below.add((normal(host[2:]), port))
            else:
                self._exactly.add((normal(host), port))

    def permit(self, host: str, port: int) -> bool:
        host = normal(host)
        if (host, port) in self._exactly:
            return True
        _, _, parent = host.partition(".")
        while parent and self._below:
            if (parent, port) in self._below:
                return True
            _, _, parent = parent.partition(".")
        return False


def normal(host: str) -> str:
    """One spelling for each host."""
    host = host.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _split(entry: str) -> tuple[str, int]:
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and not (host.startswith("[") and not host.endswith("]")):
        return host, int(port)
    return entry, _DEFAULT_PORT

"""Sections [egress] and [tools]: what may tenants' tools reach, and how much may a request do?

Nothing is reached by default. Hosts, networks and commands are named there and nowhere else: no
request and no tenant can add any.

Does not know: how anything is reached, or who may call what.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anzoth.settings import ConfigError, section

_ALLOWED_HOST = re.compile(
    r"(?:(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_COMMAND_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(slots=True, frozen=True)
class EgressConfig:
    """Section [egress]."""

    allow: tuple[str, ...] = ()
    """Hosts that tools may be at: `host` (over TLS, at port 443), `host:port`, and `*.host` for all
    names below it. An IPv6 address stands in brackets."""
    private: tuple[str, ...] = ()
    """Networks (`10.1.0.0/16`) that may be connected to although they are not public, where an
    allowed host's name leads to them."""

    def __post_init__(self) -> None:
        for entry in self.allow:
            found = _ALLOWED_HOST.fullmatch(entry.lower())
            if found is None or not 0 < int(found["port"] or 443) < 65536:
                raise ConfigError(
                    f"allow of [egress] names {entry!r}; expected host, host:port or *.host"
                )
        for network in self.private:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigError(f"private of [egress] names {network!r}: {error}") from None


@dataclass(slots=True, frozen=True)
class ToolsConfig:
    """Section [tools]."""

    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Programs that are MCP servers over their standard input and output, by name: the only ones
    that are ever started. Only in the file."""
    command_memory_mib: int = 2048
    """What one of their processes may take."""
    command_user: str = "nobody"
    """Whose rights their processes have, where the server runs as root."""
    max_rounds: int = 8
    """How often the model of one request may be asked again with what its tools said."""
    max_calls: int = 32
    """Of tools on this side, in one request."""
    timeout_s: float = 120.0
    """For all rounds of tools of one request together."""
    keep_arguments: bool = False
    """The audit log keeps the arguments of calls, sealed with the tenant's key, and not only their
    digest."""


def egress_of(document: Mapping[str, Any], environ: Mapping[str, str]) -> EgressConfig:
    """Raises ConfigError."""
    return section(EgressConfig, document, {}, environ, "ANZOTH_EGRESS_")


def tools_of(document: Mapping[str, Any], environ: Mapping[str, str]) -> ToolsConfig:
    """Raises ConfigError."""
    document = dict(document)
    commands = _commands(document.pop("commands", {}))
    environ = {name: environ[name] for name in environ if name != "ANZOTH_TOOLS_COMMANDS"}
    made = section(ToolsConfig, document, {}, environ, "ANZOTH_TOOLS_")
    for name in ("command_memory_mib", "max_rounds", "max_calls", "timeout_s"):
        if not getattr(made, name):
            raise ConfigError(f"{name} of [tools] is 0; expected more")
    return replace(made, commands=commands)


def _commands(table: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise ConfigError("commands of [tools] must be a table of name = [program, arguments…]")
    for name, argv in table.items():
        if _COMMAND_NAME.fullmatch(name) is None:
            raise ConfigError(
                f"commands of [tools] names {name!r}; expected small letters, digits, '-' and '_'"
            )
        if not (isinstance(argv, list) and argv and all(isinstance(a, str) and a for a in argv)):
            raise ConfigError(f"command {name} of [tools]: expected a list of program, arguments…")
    return {name: tuple(argv) for name, argv in table.items()}

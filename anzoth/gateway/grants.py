"""Is what one key may do a part of what another may?

The answer errs towards no: patterns are compared by their text, so a pattern that happens to match
less than another in a way that its text does not show counts as more.

Does not know: why it is asked (see `key_minting`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits
from anzoth.gateway.principal import Network
from anzoth.gateway.scopes import covers
from anzoth.gateway.tools.definitions import SEPARATOR

_WILDCARDS = frozenset("*?[")


@dataclass(slots=True, frozen=True)
class Grants:
    """All that a key may do. See `Principal` for what None means."""

    scopes: Collection[str]
    models: Sequence[str] | None = None
    endpoints: Sequence[str] | None = None
    networks: Sequence[Network] | None = None
    knowledge_bases: Collection[str] | None = None
    tools: Collection[str] = ()
    expires_at: datetime | None = None
    limits: Mapping[str | None, Limits] = field(default_factory=dict)
    """By model; None: for all together."""


def excess(wanted: Grants, own: Grants) -> str | None:
    """The first field in which `wanted` is not within `own`; None: it is within it wholly."""
    for name, is_within in _CHECKS.items():
        if not is_within(wanted, own):
            return name
    return None


def _scopes(wanted: Grants, own: Grants) -> bool:
    return all(covers(own.scopes, scope) for scope in wanted.scopes)


def _are_within(wanted: Sequence[str] | None, own: Sequence[str] | None) -> bool:
    if own is None or wanted is None:
        return own is None
    return all(any(_is_narrower(pattern, of) for of in own) for pattern in wanted)


def _is_narrower(pattern: str, of: str) -> bool:
    """Whether all that `pattern` matches is surely matched by `of`, too."""
    if pattern == of:
        return True
    if not _WILDCARDS & set(pattern):
        return fnmatchcase(pattern, of)
    prefix = of.removesuffix("*")
    return prefix != of and not _WILDCARDS & set(prefix) and pattern.startswith(prefix)


def _networks(wanted: Grants, own: Grants) -> bool:
    if own.networks is None or wanted.networks is None:
        return own.networks is None
    return all(any(_is_part(network, of) for of in own.networks) for network in wanted.networks)


def _is_part(network: Network, of: Network) -> bool:
    return (
        network.version == of.version
        and network.network_address in of
        and network.broadcast_address in of
    )


def _knowledge_bases(wanted: Grants, own: Grants) -> bool:
    if own.knowledge_bases is None or wanted.knowledge_bases is None:
        return own.knowledge_bases is None
    return set(wanted.knowledge_bases) <= set(own.knowledge_bases)


def _tools(wanted: Grants, own: Grants) -> bool:
    """Who registers tools and approves them may let others call any. A server's label stands for
    all of its tools."""
    if covers(own.scopes, "tools:write"):
        return True
    return all({tool, tool.partition(SEPARATOR)[0]} & set(own.tools) for tool in wanted.tools)


def _expires_at(wanted: Grants, own: Grants) -> bool:
    if own.expires_at is None or wanted.expires_at is None:
        return own.expires_at is None
    return wanted.expires_at <= own.expires_at


def _limits(wanted: Grants, own: Grants) -> bool:
    """Each limit there is must be there, and no larger."""
    for model, limits in own.limits.items():
        theirs = wanted.limits.get(model, Limits())
        for name in LIMIT_NAMES:
            most, asked = getattr(limits, name), getattr(theirs, name)
            if most is not None and (asked is None or asked > most):
                return False
    return True


_CHECKS: Mapping[str, Callable[[Grants, Grants], bool]] = {
    "scopes": _scopes,
    "models": lambda wanted, own: _are_within(wanted.models, own.models),
    "endpoints": lambda wanted, own: _are_within(wanted.endpoints, own.endpoints),
    "networks": _networks,
    "knowledge_bases": _knowledge_bases,
    "tools": _tools,
    "expires_at": _expires_at,
    "limits": _limits,
}

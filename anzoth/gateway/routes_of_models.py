"""In which order are the targets of an alias tried for one request?

Targets with a weight come first, each before the others as often as its share says; those without
one follow as they are listed. The order is a function of a key alone (rendezvous hashing, weighted
by an exponential race): the same request goes the same way on every gateway, and when a target is
added or fails, only its own requests move.

Does not know: whether a target answers, or who asks it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anzoth.gateway.aliases import Target
from anzoth.gateway.principal import TenantHandle

_PREFIX_CHARACTERS = 2048
"""Of a prompt's beginning that decide where it goes: longer than most system prompts."""
_DIGEST_BYTES = 8


def in_order(targets: Iterable[Target], key: bytes) -> list[Target]:
    """The first to be tried first."""
    listed = list(targets)
    weighted = sorted(
        (target for target in listed if target.weight), key=lambda target: _finish(target, key)
    )
    return [*weighted, *(target for target in listed if not target.weight)]


def _finish(target: Target, key: bytes) -> float:
    """When this target finishes its race: exponential with its weight as the rate."""
    digest = hashlib.blake2b(key, digest_size=_DIGEST_BYTES, key=_label(target)).digest()
    uniform = (int.from_bytes(digest) + 1) / (1 << 8 * _DIGEST_BYTES)
    return -math.log(uniform) / target.weight


def _label(target: Target) -> bytes:
    return hashlib.blake2b(target.name.encode(), digest_size=32).digest()


def prefix_key(tenant: TenantHandle, beginning: str) -> bytes:
    """The key of requests that begin alike, of one tenant: nobody else can compute it."""
    secret = hashlib.blake2b(tenant.cache_salt.encode(), digest_size=32).digest()
    text = beginning[:_PREFIX_CHARACTERS].encode("utf-8", "replace")
    return hashlib.blake2b(text, digest_size=16, key=secret).digest()


def beginning_of_chat(messages: Sequence[Mapping[str, Any]], cache_key: str | None) -> str:
    """What does not change while a conversation grows: all up to the first word of its user."""
    if cache_key is not None:
        return cache_key
    parts: list[str] = []
    for message in messages:
        parts += (message["role"], str(message.get("content")))
        if message["role"] == "user":
            break
    return "\n".join(parts)

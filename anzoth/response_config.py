"""Section [responses]: for how long, and how much, are responses and conversations kept?

Does not know: how they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anzoth.settings import ConfigError, section


@dataclass(slots=True, frozen=True)
class ResponsesConfig:
    """Section [responses]."""

    retention_days: int = 30
    """0: nothing is kept (OpenAI: 30). Of a conversation, since it was last changed."""
    max_kib: int = 8192
    """Of one response, with all that it goes on from: a larger one is not kept. And of one
    conversation: it takes no more."""
    tenant_mib: int = 2048
    """Of all responses and conversations of one tenant. The oldest make room for new ones."""


def responses_of(document: Mapping[str, Any], environ: Mapping[str, str]) -> ResponsesConfig:
    """Raises ConfigError."""
    made = section(ResponsesConfig, document, {}, environ, "ANZOTH_RESPONSES_")
    if made.max_kib < 1:
        raise ConfigError("max_kib is 0; expected at least 1")
    least_mib = -(-made.max_kib // 1024) * 2
    if made.tenant_mib < least_mib:
        raise ConfigError(
            f"tenant_mib is {made.tenant_mib}; expected at least {least_mib}, twice max_kib"
        )
    return made

"""Does this call need approval because of what the model has read?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anzoth.gateway.tools.grants import GrantedTool

RULE = "tool.taint"


class Untrusted:
    """What a conversation holds that nobody vouches for: passages, and results of tools."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """`trusted`: what the user and the operator wrote."""
        self._trusted = list(trusted)
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        """The model reads it from its next turn on."""
        self._texts.append(text)

    def rule(self, tool: GrantedTool, arguments: Mapping[str, Any]) -> str | None:
        """Which rule makes this call need approval; None: none."""
        if not self._texts or tool.tool.definition.is_read_only:
            return None
        return RULE

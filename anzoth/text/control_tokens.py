"""How can a message speak of a control token without acting as one?

`<|im_end|>` in a message's text must not end the turn: whoever writes part of a conversation (a
user, or a document that was pasted in) could otherwise write the rest of it too. Tokenizers do not
see the difference, because by then the text stands in one rendered prompt.

So before rendering, each control token in what the caller sent (messages, tools, variables) is
replaced by a marker that nobody can guess; afterwards the prompt is cut at the markers, and what
they stand for is encoded as ordinary text. Prompts without control tokens in what was sent are
encoded exactly as ever.

Does not know: what a template does with messages, or which messages an API takes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


class ControlTokens:
    """The control tokens of one tokenizer."""

    __slots__ = ("_pattern",)

    def __init__(self, texts: Iterable[str]) -> None:
        # Longest first: one may begin like another.
        ordered = sorted({text for text in texts if text}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def hide(self, value: Any) -> Hidden:  # JSON: what the template will read
        """`value` with each control token in any of its strings replaced by a marker."""
        pattern, hidden = self._pattern, Hidden(value)
        if pattern is not None:
            hidden.value = _map_strings(value, lambda text: pattern.sub(hidden.marker_for, text))
        return hidden


@dataclass(slots=True)
class Hidden:
    """A caller's values without control tokens, and what their markers stand for."""

    value: Any  # JSON
    literals: list[str] = field(default_factory=list)
    # Digits only: templates trim, quote and change case, and none of that touches digits.
    _key: str = field(default_factory=lambda: f"{secrets.randbelow(10**24):024d}")

    def marker_for(self, match: re.Match[str]) -> str:
        self.literals.append(match[0])
        return f"{self._key}{len(self.literals) - 1:08d}"

    def split(self, prompt: str) -> Iterator[tuple[str, bool]]:
        """The prompt's parts in order: (text, whether it is ordinary text whatever it says)."""
        if not self.literals:
            yield prompt, False
            return
        parts = re.split(f"{self._key}([0-9]{{8}})", prompt)
        for index, part in enumerate(parts):
            if index % 2:
                yield self.literals[int(part)], True
            elif part:
                yield part, False


def _map_strings(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        # Keys too: the arguments and parameters of tools have names of the caller's choosing.
        return {
            _map_strings(key, change): _map_strings(entry, change) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [_map_strings(entry, change) for entry in value]
    return value

"""What is one text, to an engine that makes a vector of each?

Does not know: tokenizers, tensors, or whose text it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Text:
    """A text, or two of them as one pair. Never empty."""

    token_ids: list[int] = field(repr=False)
    """Special tokens included."""
    second_at: int | None = None
    """Where the tokens of the second type begin. None: all are of the first."""

    def __len__(self) -> int:
        return len(self.token_ids)

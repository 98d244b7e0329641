"""What is one example that the bundled model learns from, or is examined on?

A conversation in the messages of the OpenAI API, so that training text and served prompts are made
by the same chat template. The turns of the assistant carry what the evaluation wants to know.

Does not know: tokens, or how conversations are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]  # Any: JSON


@dataclass(slots=True, frozen=True)
class ToolCall:
    """A function that the assistant wants to be called."""

    name: str
    arguments: Json

    def message(self) -> Json:
        return {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(slots=True, frozen=True)
class Turn:
    """One message."""

    role: str
    content: str
    topic: str | None = None
    """Of an assistant's turn: the skill that it shows, for the evaluation."""
    key: str = ""
    """What every right answer in this place contains (compared without case)."""
    calls: tuple[ToolCall, ...] = ()

    def message(self) -> Json:
        message: Json = {"role": self.role, "content": self.content}
        if self.calls:
            message["tool_calls"] = [call.message() for call in self.calls]
        return message


@dataclass(slots=True, frozen=True)
class Conversation:
    """Turns, and the tools (in the API's own form) that the assistant may call in them."""

    turns: tuple[Turn, ...]
    tools: tuple[Json, ...] = ()

    def messages(self) -> list[Json]:
        return [turn.message() for turn in self.turns]

    def up_to(self, turn: int) -> Conversation:
        """What the assistant saw when it said `turns[turn]`."""
        return Conversation(self.turns[:turn], self.tools)


def text_of(turns: Sequence[Turn]) -> str:
    """For people: the last turns in one line."""
    return " / ".join(turn.content or str(turn.calls) for turn in turns)

"""How does a model's reasoning reach an answer, streamed or whole?

    Generation ── text ──▶ ReasoningReader ── reasoning ──────────────────▶ the answer
                                           └─ text ─▶ ToolCallReader, if any ─▶┘

The reader stands in front of the one for calls: a call that a model only thinks of is none. The
answers of models that do not reason do not pass through here at all.

Does not know: how reasoning is marked (see `anzoth.text.reasoning`), calls, JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from anzoth.gateway.choices import Consumer, Ending, TokenLogprob
from anzoth.text.reasoning import Beginning, Event, Reasoning, ReasoningParser


class ReasoningConsumer(Protocol):
    """Takes reasoning."""

    def reasoning(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """More of it; all of a choice's comes before its text. `logprobs` as with text."""
        ...


@dataclass(slots=True)
class _Reading:
    """One choice, as far as it was read."""

    parser: ReasoningParser
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of tokens whose text is still held back, or was a mark."""


class ReasoningReader:
    """The consumer that divides the text it gets between two others."""

    __slots__ = ("_answer", "_readings", "_text")

    def __init__(
        self, answer: ReasoningConsumer, text: Consumer, num_choices: int, beginning: Beginning
    ) -> None:
        """`answer` takes the reasoning, `text` the rest and the endings."""
        self._answer = answer
        self._text = text
        self._readings = [_Reading(ReasoningParser(beginning)) for _ in range(num_choices)]

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        reading = self._readings[choice]
        reading.logprobs.extend(logprobs)
        self._give(choice, reading, reading.parser.push(text))

    def finished(self, choice: int, ending: Ending) -> None:
        reading = self._readings[choice]
        self._give(choice, reading, reading.parser.flush())
        if reading.logprobs:
            self._text.text(choice, "", reading.logprobs)
        self._text.finished(choice, ending)

    def _give(self, choice: int, reading: _Reading, events: Sequence[Event]) -> None:
        for event in events:
            logprobs, reading.logprobs = reading.logprobs, []
            if isinstance(event, Reasoning):
                self._answer.reasoning(choice, event.text, logprobs)
            else:
                self._text.text(choice, event, logprobs)

"""Which part of a model's text is reasoning, and which is the answer?

A model that reasons does so at the beginning of its text, between two marks:

    <think>…</think>answer      the model writes both marks
    …</think>answer             the generation prompt ends with <think> already
    answer                      the generation prompt has closed the reasoning, or there is none

Only at the beginning: an answer may speak of the marks. White space around either part is layout
and belongs to neither; that of a text without reasoning is left alone. How the text is cut into
pieces makes no difference to what is found in it.

Does not know: tokenizers, the API's shapes, tool calls (they are looked for in the answer).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from anzoth.text.marks import num_undecided

OPEN, CLOSE = "<think>", "</think>"
MARKERS = frozenset({OPEN, CLOSE})
"""Tokens that belong to the text even where a checkpoint lists them as special ones."""

_SPACE = " \t\r\n"


@dataclass(slots=True, frozen=True)
class Reasoning:
    """A piece of reasoning."""

    text: str


Event = str | Reasoning
"""A str is a piece of the answer."""


class Beginning(Enum):
    """Where the reasoning stands when a prompt ends."""

    POSSIBLE = "the model may begin to reason"
    INSIDE = "the prompt has begun it"


def has_reasoning(chat_template: str) -> bool:
    """Whether a model with this template reasons between the marks (or can)."""
    # The template has to drop the reasoning of earlier turns, or to write it: the closing mark is
    # in all of them, the opening one is not.
    return CLOSE in chat_template


def beginning_after(prompt: str) -> Beginning | None:
    """What the end of a rendered prompt says; a few characters of it are enough. None: the
    reasoning is closed already, what follows is the answer.
    """
    end = prompt.rstrip(_SPACE)
    if end.endswith(CLOSE):
        return None
    return Beginning.INSIDE if end.endswith(OPEN) else Beginning.POSSIBLE


class _Part(Enum):
    START = "nothing but white space, or a beginning of the opening mark"
    REASONING = "between the marks"
    GAP = "behind the closing mark: nothing but white space"
    ANSWER = "the answer has begun"


class ReasoningParser:
    """Reads one text, a piece at a time."""

    __slots__ = ("_has_given", "_held", "_part", "_space", "has_reasoning")

    def __init__(self, beginning: Beginning = Beginning.POSSIBLE) -> None:
        self._part = _Part.REASONING if beginning is Beginning.INSIDE else _Part.START
        self._held = ""
        """Shorter than a mark."""
        self._space: list[str] = []
        """White space before `_held` that is layout, or not."""
        self._has_given = False
        """Whether there was any reasoning but white space."""
        self.has_reasoning = beginning is Beginning.INSIDE
        """Whether the text began with reasoning, were it empty."""

    @property
    def is_reasoning(self) -> bool | None:
        """Whether more text would be reasoning, its closing mark included. None: undecided."""
        if self._part is _Part.START:
            return None
        return self._part is _Part.REASONING

    def push(self, text: str) -> list[Event]:
        """What is certain by now, in order. No text is empty."""
        events: list[Event] = []
        if self._part is _Part.START:
            text = self._start(text)
        if self._part is _Part.REASONING:
            text = self._reasoning(events, text)
        if self._part is _Part.GAP:
            text = text.lstrip(_SPACE)
            self._part = _Part.ANSWER if text else _Part.GAP
        if self._part is _Part.ANSWER and text:
            events.append(text)
        return events

    def flush(self) -> list[Event]:
        """The text is over: what was held back is decided."""
        space, held = "".join(self._space), self._held
        self._space, self._held = [], ""
        if self._part is _Part.START:
            return [space + held] if space + held else []
        return [Reasoning(space + held)] if held else []

    def _start(self, text: str) -> str:
        """The text that is left for the next part; all of it stays held while that is undecided."""
        text = self._held + text
        begun = text.lstrip(_SPACE)
        self._space.append(text[: len(text) - len(begun)])
        if begun.startswith(OPEN):
            self._part, self._held = _Part.REASONING, ""
            self.has_reasoning = True
            self._space.clear()
            return begun[len(OPEN) :]
        if OPEN.startswith(begun):
            self._held = begun
            return ""
        self._part, self._held = _Part.ANSWER, ""
        text = "".join(self._space) + begun
        self._space.clear()
        return text

    def _reasoning(self, events: list[Event], text: str) -> str:
        """Gives what is certainly reasoning; what follows its end is left for the next part."""
        text = self._held + text
        end = text.find(CLOSE)
        is_closed = end >= 0
        if not is_closed:
            end = len(text) - num_undecided(text, CLOSE)
        self._give(events, text[:end])
        if is_closed:
            self._part, self._held = _Part.GAP, ""
            self._space.clear()
            return text[end + len(CLOSE) :]
        self._held = text[end:]
        return ""

    def _give(self, events: list[Event], text: str) -> None:
        """Reasoning but for white space at its ends, which is held, or dropped at the beginning."""
        if not self._has_given:
            text = text.lstrip(_SPACE)
        given = text.rstrip(_SPACE)
        if given:
            events.append(Reasoning("".join(self._space) + given))
            self._space.clear()
            self._has_given = True
        if space := text[len(given) :]:
            self._space.append(space)


class ReasoningCounter:
    """How many tokens of one text are reasoning, given what each of them adds to it?

    Those up to the closing mark count, the marks included: everything before the answer. A token
    that holds the end of the mark and more counts too; a text without reasoning has none.
    """

    __slots__ = ("_num_undecided", "_parser", "num_tokens")

    def __init__(self, beginning: Beginning) -> None:
        self._parser = ReasoningParser(beginning)
        self._num_undecided = 0
        self.num_tokens = 0

    def push(self, text: str) -> None:
        """One more token, which adds `text`."""
        if self._parser.is_reasoning is False:
            return
        self._parser.push(text)
        self._num_undecided += 1
        if self._parser.is_reasoning is None:
            return
        if self._parser.has_reasoning:
            self.num_tokens += self._num_undecided
        self._num_undecided = 0

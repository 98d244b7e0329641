"""How do one choice's tokens become text, and who takes that text?

A choice owns its detokenizer, its stop strings and the log probabilities of tokens whose text is
still held back. Whatever is certain goes to a `Consumer`: one renders each piece at once (a
stream), the `Collector` here keeps them (a whole answer). Both see the same calls.

Does not know: the engine, limits, JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from anzoth.frames import Row
from anzoth.text.detokenizer import Detokenizer
from anzoth.text.reasoning import ReasoningCounter
from anzoth.text.stops import StopMatcher

Ending = Literal["stop", "length", "tool_calls"]
"""`tool_calls` is what a consumer makes of a `stop`, when it read calls in the text."""


@dataclass(slots=True, frozen=True)
class TokenLogprob:
    """One generated token as callers asked to see it."""

    token_id: int
    logprob: float
    top: Sequence[tuple[int, float]]
    text_offset: int
    """Where in the choice's text the token begins, in characters."""


class Consumer(Protocol):
    """Takes what is generated, in order within a choice. Called from the engine's step loop."""

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """More text; `logprobs` (empty unless asked for): the tokens that begin in it."""
        ...

    def finished(self, choice: int, ending: Ending) -> None: ...


@dataclass(slots=True)
class ChoiceText:
    """One finished choice."""

    text: str = field(default="", repr=False)
    logprobs: tuple[TokenLogprob, ...] = ()
    ending: Ending | None = None


class Collector:
    """The consumer of answers that are not streamed."""

    __slots__ = ("_logprobs", "_texts", "endings")

    def __init__(self, num_choices: int) -> None:
        self._texts: list[list[str]] = [[] for _ in range(num_choices)]
        self._logprobs: list[list[TokenLogprob]] = [[] for _ in range(num_choices)]
        self.endings: list[Ending | None] = [None] * num_choices

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        self._texts[choice].append(text)
        self._logprobs[choice].extend(logprobs)

    def finished(self, choice: int, ending: Ending) -> None:
        self.endings[choice] = ending

    def choices(self) -> list[ChoiceText]:
        return [
            ChoiceText("".join(texts), tuple(logprobs), ending)
            for texts, logprobs, ending in zip(
                self._texts, self._logprobs, self.endings, strict=True
            )
        ]

    def replay(self, consumer: Consumer) -> None:
        """Gives everything so far to `consumer`, a choice at a time."""
        for index, choice in enumerate(self.choices()):
            if choice.text or choice.logprobs:
                consumer.text(index, choice.text, choice.logprobs)
            if choice.ending is not None:
                consumer.finished(index, choice.ending)


class Choice:
    """One continuation: its tokens become text, unless a stop string ends it first."""

    __slots__ = (
        "_detokenizer",
        "_num_decoded",
        "_num_given",
        "_pending",
        "_reasoning",
        "_stops",
        "last_token_s",
        "num_delivered",
        "num_tokens",
    )

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        reasoning: ReasoningCounter | None = None,
    ) -> None:
        """`reasoning`: of a model that reasons."""
        self.num_tokens = 0
        self.num_delivered = 0
        """Of a stream: its tokens when it was last given text."""
        self.last_token_s: float | None = None
        self._detokenizer = detokenizer
        self._stops = stops
        self._reasoning = reasoning
        self._num_decoded = 0
        self._num_given = 0
        self._pending: list[TokenLogprob] = []

    @property
    def is_stopped(self) -> bool:
        """A stop string ended the text; the engine does not know it yet."""
        return self._stops.matched is not None

    @property
    def num_reasoning_tokens(self) -> int:
        return 0 if self._reasoning is None else self._reasoning.num_tokens

    def push(self, row: Row, token: int) -> str:
        """The text that this token makes certain."""
        if row.logprob is not None:
            top = [(int(other), float(value)) for other, value in row.top_logprobs or ()]
            self._pending.append(TokenLogprob(token, row.logprob, top, self._num_decoded))
        decoded = self._detokenizer.push(token)
        self._num_decoded += len(decoded)
        if self._reasoning is not None:
            self._reasoning.push(decoded)
        return self._give(self._stops.push(decoded))

    def flush(self) -> str:
        """What was held back, at the end."""
        text = self._stops.push(self._detokenizer.flush())
        return self._give(text + self._stops.flush())

    def take_logprobs(self, *, is_last: bool) -> list[TokenLogprob]:
        """Of the tokens whose text has been given. At the end: the rest, unless a stop cut it."""
        if not self._pending:
            return []
        if is_last and not self.is_stopped:
            taken, self._pending = self._pending, []
            return taken
        taken = [entry for entry in self._pending if entry.text_offset < self._num_given]
        self._pending = self._pending[len(taken) :]
        return taken

    def _give(self, text: str) -> str:
        self._num_given += len(text)
        return text

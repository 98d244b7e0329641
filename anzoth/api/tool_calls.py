"""How do tool calls in a generated text reach an answer, streamed or whole?

    Generation ── text ──▶ ToolCallReader ── text, calls ──▶ ChatChunks (a stream)
                                                        └──▶ ChatCollector (a whole answer)

The reader stands between a generation and what takes its text, so neither of them has to look for
calls, and an answer without tools does not pass through here at all. A call is held back until it
is complete and valid, and then comes as one event: a client never sees half of a call that turns
out to be none.

Does not know: how calls are written (see `anzoth.text.tool_calls`), JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from anzoth.gateway.choices import Collector, Consumer, Ending, TokenLogprob
from anzoth.text.tool_calls import Event, ToolCall, ToolCallParser


class CallConsumer(Consumer, Protocol):
    """Takes text and calls."""

    def tool_call(
        self, choice: int, number: int, call: ToolCall, logprobs: Sequence[TokenLogprob]
    ) -> None:
        """Call `number` (from 0) of this choice; `logprobs` as with text."""
        ...


class ChatCollector(Collector):
    """The consumer of chat answers that are not streamed."""

    __slots__ = ("_reasoning", "annotations", "calls")

    def __init__(self, num_choices: int) -> None:
        super().__init__(num_choices)
        self.calls: list[list[ToolCall]] = [[] for _ in range(num_choices)]
        self.annotations: list[list[dict[str, Any]]] = [[] for _ in range(num_choices)]
        self._reasoning: list[list[str]] = [[] for _ in range(num_choices)]

    def reasoning(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        self._reasoning[choice].append(text)
        self.text(choice, "", logprobs)

    def tool_call(
        self, choice: int, number: int, call: ToolCall, logprobs: Sequence[TokenLogprob]
    ) -> None:
        self.calls[choice].append(call)
        self.text(choice, "", logprobs)

    def annotated(self, choice: int, annotations: list[dict[str, Any]]) -> None:
        self.annotations[choice] = annotations

    def reasonings(self) -> list[str]:
        """Of each choice; empty for one without."""
        return ["".join(texts) for texts in self._reasoning]


@dataclass(slots=True)
class _Reading:
    """One choice, as far as it was read."""

    parser: ToolCallParser
    num_calls: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of tokens whose text is still held back."""
    is_over: bool = False


class ToolCallReader:
    """The consumer that finds calls in the text it gets and hands both on."""

    __slots__ = ("_called", "_consumer", "_end", "_is_parallel", "_readings")

    def __init__(
        self,
        consumer: CallConsumer,
        parsers: Sequence[ToolCallParser],
        end: Callable[[int, Ending], None],
        *,
        is_parallel: bool,
        called: Ending = "tool_calls",
    ) -> None:
        """`parsers`: one per choice. `end` tells the generation how a choice ended; without
        `is_parallel`, that is after its first call. `called`: how an answer with calls ends.
        """
        self._consumer = consumer
        self._readings = [_Reading(parser) for parser in parsers]
        self._end = end
        self._is_parallel = is_parallel
        self._called: Ending = called

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        reading = self._readings[choice]
        if reading.is_over:
            return
        reading.logprobs.extend(logprobs)
        self._give(choice, reading, reading.parser.push(text))

    def finished(self, choice: int, ending: Ending) -> None:
        reading = self._readings[choice]
        if reading.is_over:
            return
        self._give(choice, reading, reading.parser.flush())
        if not reading.is_over:
            # An answer that was cut says so, whatever it holds: its last call may be missing.
            has_calls = reading.num_calls > 0 and ending == "stop"
            self._finish(choice, reading, self._called if has_calls else ending)

    def _give(self, choice: int, reading: _Reading, events: Sequence[Event]) -> None:
        for event in events:
            logprobs, reading.logprobs = reading.logprobs, []
            if isinstance(event, str):
                self._consumer.text(choice, event, logprobs)
                continue
            self._consumer.tool_call(choice, reading.num_calls, event, logprobs)
            reading.num_calls += 1
            if not self._is_parallel:
                self._finish(choice, reading, self._called)
                return

    def _finish(self, choice: int, reading: _Reading, ending: Ending) -> None:
        reading.is_over = True
        if reading.logprobs:
            self._consumer.text(choice, "", reading.logprobs)
        self._consumer.finished(choice, ending)
        self._end(choice, ending)

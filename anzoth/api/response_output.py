"""How does what a model writes become the output items of a response, and the events of a stream?

    Generation ── text, reasoning, calls, annotations ──▶ ResponseOutput ── items ──▶ a response
                                                                        └─ events ──▶ its stream

One consumer makes both, so that a stream, put together, is the response that is not streamed.

    item             opened by                        closed by
    file_search_call the search, which is over        itself
    reasoning        its first text                   the first word of the answer, a call, the end
    message          the first word of the answer     the end: citations are known only then
    function_call    a call that is whole             itself

There is one message at most in a turn: text behind a call is more of it. Turns end where tools of
servers are called (see `response_tools` for their items). White space before the first word is
layout where nothing but calls follows.

Does not know: HTTP, what an event is written to, or what else is in a response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anzoth.api import answers
from anzoth.api.citing import Annotation
from anzoth.api.response_items import Item, new_item, output_text
from anzoth.gateway.choices import Ending, TokenLogprob
from anzoth.gateway.models import ServedModel
from anzoth.text.tool_calls import ToolCall

_LEFT_TO_CALLER = ("function_call", "mcp_approval_request")
"""Items after which it is the caller's turn: no message needs to follow."""

Emit = Callable[[str, dict[str, Any]], None]
"""Takes the type of an event and its other fields."""


def silently(_type: str, _fields: dict[str, Any]) -> None:
    """The `Emit` of a response that is not streamed."""


class _Part:
    """A text that grows, in the only part of its item."""

    def __init__(self, item: Item, index: int) -> None:
        self.item = item
        self.place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        self.texts: list[str] = []
        self.logprobs: list[Item] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class ResponseOutput:
    """The consumer of the one choice that a response has."""

    def __init__(
        self, model: ServedModel | None, emit: Emit = silently, *, has_logprobs: bool = False
    ) -> None:
        """`model`: that writes; None: what is said is no model's."""
        self.items: list[Item] = []
        self.ending: Ending | None = None
        self._model = model
        self.emit = emit
        self._has_logprobs = has_logprobs
        self._reasoning: _Part | None = None
        self._message: _Part | None = None
        self._space = ""
        """Before the first word of the answer."""
        self._space_logprobs: list[Item] = []
        self._annotations: list[Annotation] = []
        self._unknown_citations: list[Annotation] = []

    @property
    def finished_items(self) -> list[Item]:
        return [item for item in self.items if item.get("status") != "in_progress"]

    # --- what comes ------------------------------------------------------------------------------

    def searched(self, queries: Sequence[str], results: Sequence[Item] | None) -> None:
        """Before anything else. `results`: None where they are not to be shown."""
        begun = new_item(
            "file_search_call", status="in_progress", queries=list(queries), results=None
        )
        index = self.open(begun)
        place = {"item_id": begun["id"], "output_index": index}
        for step in ("in_progress", "searching", "completed"):
            self.emit(f"response.file_search_call.{step}", place)
        shown = None if results is None else list(results)
        self.close(index, {**begun, "status": "completed", "results": shown})

    def reasoning(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        part = self._reasoning
        if part is None:
            item = new_item("reasoning", summary=[], content=[], status="in_progress")
            part = self._reasoning = _Part(item, self.open(item))
            empty = {"type": "reasoning_text", "text": ""}
            self.emit("response.content_part.added", {**part.place, "part": empty})
        part.texts.append(text)
        self.emit("response.reasoning_text.delta", {**part.place, "delta": text})

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        rendered = self._rendered(logprobs)
        if self._message is None:
            self._space += text
            self._space_logprobs += rendered
            if text.strip():
                self._begin_message()
        elif text or rendered:
            self._say(self._message, text, rendered)

    def tool_call(
        self, choice: int, number: int, call: ToolCall, logprobs: Sequence[TokenLogprob]
    ) -> None:
        """The arguments come in one event: clients join pieces of them, and one will do."""
        self._end_reasoning()
        written = None if self._model is None else self._model.tool_calls
        made = answers.tool_call(call, written)
        begun = new_item(
            "function_call",
            call_id=made["id"],
            name=call.name,
            arguments="",
            status="in_progress",
        )
        index = self.open(begun)
        place = {"item_id": begun["id"], "output_index": index}
        arguments = call.arguments
        self.emit("response.function_call_arguments.delta", {**place, "delta": arguments})
        done = {**place, "name": call.name, "arguments": arguments}
        self.emit("response.function_call_arguments.done", done)
        self.close(index, {**begun, "arguments": arguments, "status": "completed"})

    def annotated(self, choice: int, annotations: list[Annotation]) -> None:
        for annotation in annotations:
            if annotation["type"] == "unknown_citation":  # OpenAI has no such type
                self._unknown_citations.append(annotation)
            else:
                self._annotations.append(annotation)

    def finished(self, choice: int, ending: Ending) -> None:
        self.ending = ending
        is_cut = ending == "length"
        has_called = any(item["type"] in _LEFT_TO_CALLER for item in self.items)
        was_thinking = is_cut and self._reasoning is not None
        if self._message is None and not has_called and not was_thinking:
            self._begin_message()
        self._end_reasoning(is_cut=was_thinking)
        if self._message is not None:
            self._end_message(self._message, is_cut=is_cut)

    def end_turn(self) -> None:
        """What was said is over; what is said from now on stands in items of its own."""
        self._end_reasoning()
        if self._message is not None:
            self._end_message(self._message, is_cut=False)
        self._message = None
        self._space, self._space_logprobs = "", []
        self._annotations, self._unknown_citations = [], []

    def refuse(self, text: str) -> None:
        """The whole output is that there is no answer in the form that is asked for."""
        item = new_item("message", role="assistant", content=[], status="in_progress")
        index = self.open(item)
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        part = {"type": "refusal", "refusal": text}
        self.emit("response.content_part.added", {**place, "part": {**part, "refusal": ""}})
        self.emit("response.refusal.delta", {**place, "delta": text})
        self.emit("response.refusal.done", {**place, "refusal": text})
        self.emit("response.content_part.done", {**place, "part": part})
        self.close(index, {**item, "content": [part], "status": "completed"})
        self.ending = "stop"

    # --- items and their parts -------------------------------------------------------------------

    def open(self, item: Item) -> int:
        """Its place in the output."""
        self.items.append(item)
        index = len(self.items) - 1
        self.emit("response.output_item.added", {"output_index": index, "item": item})
        return index

    def close(self, index: int, item: Item) -> None:
        self.items[index] = item
        self.emit("response.output_item.done", {"output_index": index, "item": item})

    def _begin_message(self) -> None:
        """With the white space that came before."""
        self._end_reasoning()
        item = new_item("message", role="assistant", content=[], status="in_progress")
        part = self._message = _Part(item, self.open(item))
        self.emit("response.content_part.added", {**part.place, "part": output_text("")})
        if self._space or self._space_logprobs:
            self._say(part, self._space, self._space_logprobs)

    def _say(self, part: _Part, text: str, logprobs: Sequence[Item]) -> None:
        part.texts.append(text)
        part.logprobs += logprobs
        fields = {**part.place, "delta": text, "logprobs": logprobs}
        self.emit("response.output_text.delta", fields)

    def _end_message(self, part: _Part, *, is_cut: bool) -> None:
        for index, annotation in enumerate(self._annotations):
            fields = {**part.place, "annotation_index": index, "annotation": annotation}
            self.emit("response.output_text.annotation.added", fields)
        whole = output_text(part.text, self._annotations, part.logprobs)
        if self._unknown_citations:
            whole["x_anzoth"] = {"unknown_citations": self._unknown_citations}
        done = {**part.place, "text": whole["text"], "logprobs": whole["logprobs"]}
        self.emit("response.output_text.done", done)
        self._end_part(part, whole, is_cut=is_cut)

    def _end_reasoning(self, *, is_cut: bool = False) -> None:
        part, self._reasoning = self._reasoning, None
        if part is not None:
            self.emit("response.reasoning_text.done", {**part.place, "text": part.text})
            whole = {"type": "reasoning_text", "text": part.text}
            self._end_part(part, whole, is_cut=is_cut)

    def _end_part(self, part: _Part, whole: Item, *, is_cut: bool) -> None:
        self.emit("response.content_part.done", {**part.place, "part": whole})
        status = "incomplete" if is_cut else "completed"
        item = {**part.item, "content": [whole], "status": status}
        self.close(part.place["output_index"], item)

    def _rendered(self, logprobs: Sequence[TokenLogprob]) -> list[Item]:
        if not self._has_logprobs or self._model is None or not logprobs:
            return []
        return answers.chat_logprobs(logprobs, self._model.tokenizer)["content"]

"""How do the citations of a generated text reach an answer, streamed or whole?

    Generation ── text ──▶ CitationReader ── text, annotations ──▶ ChatChunks (a stream)
                                                              └──▶ ChatCollector (a whole answer)

It stands next to the answer, so it sees what the caller reads: no reasoning, no calls. Annotations
come when a choice is over: only then is known where its last sentence ends.

Does not know: what supports a citation (see `gateway.knowledge.citations`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from anzoth.api.reasoning import ReasoningConsumer
from anzoth.api.tool_calls import CallConsumer
from anzoth.gateway.choices import Ending, TokenLogprob
from anzoth.gateway.knowledge.citations import Citation, Evidence, UnknownMark
from anzoth.text.tool_calls import ToolCall

Annotation = dict[str, Any]  # JSON
Annotate = Callable[[str], list[Annotation]]


@dataclass(slots=True, frozen=True)
class Extras:
    """What an answer has besides what was generated."""

    annotate: Annotate | None = None
    """None: it cites nothing."""
    fields: Mapping[str, Any] = field(default_factory=dict)  # JSON
    """Of the answer, or of the first chunk of a stream."""


NO_EXTRAS = Extras()


class ChatConsumer(CallConsumer, ReasoningConsumer, Protocol):
    """Takes text, calls, reasoning and annotations."""

    def annotated(self, choice: int, annotations: list[Annotation]) -> None:
        """Of all text of this choice, which is over."""
        ...


class CitationReader:
    """The consumer that annotates the text it hands on."""

    __slots__ = ("_annotate", "_consumer", "_texts")

    def __init__(self, consumer: ChatConsumer, annotate: Annotate, num_choices: int) -> None:
        self._consumer = consumer
        self._annotate = annotate
        self._texts: list[list[str]] = [[] for _ in range(num_choices)]

    def text(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        self._texts[choice].append(text)
        self._consumer.text(choice, text, logprobs)

    def reasoning(self, choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        self._consumer.reasoning(choice, text, logprobs)

    def tool_call(
        self, choice: int, number: int, call: ToolCall, logprobs: Sequence[TokenLogprob]
    ) -> None:
        self._consumer.tool_call(choice, number, call, logprobs)

    def annotated(self, choice: int, annotations: list[Annotation]) -> None:
        self._consumer.annotated(choice, annotations)

    def turn_ended(self, choice: int) -> None:
        """What follows is another text."""
        annotations = self._annotate("".join(self._texts[choice]))
        self._texts[choice] = []
        if annotations:
            self._consumer.annotated(choice, annotations)

    def finished(self, choice: int, ending: Ending) -> None:
        self.turn_ended(choice)
        self._consumer.finished(choice, ending)


def response_annotations_by(evidence: Evidence) -> Annotate:
    """In the shape of the Responses API, with our fields behind OpenAI's. A mark that cites nothing
    is an annotation of the type `unknown_citation`."""
    return lambda text: [_annotation(made) for made in evidence.citations(text)]


def annotations_by(evidence: Evidence) -> Annotate:
    """In the shape of OpenAI's chat annotations, which knows URLs only and is checked by clients:
    each file has that of its text. What the Responses API says of it stands beside, with our fields
    behind."""
    return lambda text: [_of_chat(_annotation(made)) for made in evidence.citations(text)]


def annotated_fields(annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Of a message that has them. OpenAI has no type for a mark that cites nothing."""
    unknown = [made for made in annotations if made["type"] == "unknown_citation"]
    known = [made for made in annotations if made["type"] != "unknown_citation"]
    extension = {"x_anzoth": {"unknown_citations": unknown}} if unknown else {}
    return {"annotations": known, **extension}


def _of_chat(made: Annotation) -> Annotation:
    if made["type"] == "unknown_citation":
        return made
    cited = {name: value for name, value in made.items() if name != "type"}
    text = f"/v1/vector_stores/{made['vector_store_id']}/files/{made['file_id']}/content"
    place = {name: made[name] for name in ("start_index", "end_index")}
    return {
        "type": "url_citation",
        "url_citation": {**place, "title": made["filename"], "url": text},
        "file_citation": cited,
    }


def _annotation(made: Citation | UnknownMark) -> Annotation:
    place = {
        "index": made.start_index,
        "start_index": made.start_index,
        "end_index": made.end_index,
        "number": made.number,
    }
    if isinstance(made, UnknownMark):
        return {"type": "unknown_citation", **place}
    return {
        "type": "file_citation",
        "file_id": made.passage.file_id,
        "filename": made.passage.filename,
        **place,
        "vector_store_id": made.passage.store_id,
        "page": made.page,
        "start": made.start,
        "end": made.end,
        "quote": made.quote,
        "score": made.score,
        "verified": made.verified,
    }

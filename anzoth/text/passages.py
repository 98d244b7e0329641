"""How are passages from documents laid out in a prompt?

One layout for every model, whichever chat template it has: the passages stand in the last message
of the user, numbered, in front of the question, because that is where any template keeps them and
where they do not disturb the cached prefix of the earlier turns. Answers cite a passage by its
number, `[2]`. The bundled model is trained on exactly this text (`anzoth.demo`).

Does not know: where passages come from, or whether they are relevant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INSTRUCTION = (
    "Answer the question from these passages and cite the passage you used, like [1]. "
    "If they do not contain the answer, say so."
)


@dataclass(slots=True, frozen=True)
class Passage:
    """A piece of a document, short enough to be read whole."""

    text: str
    title: str | None = None
    """Of its document or section, where it has one."""


def question_with_passages(question: str, passages: Sequence[Passage]) -> str:
    """The user's message: instruction, one line per passage, then the question."""
    lines = [INSTRUCTION, ""]
    for number, passage in enumerate(passages, 1):
        title = f"{_one_line(passage.title)}: " if passage.title else ""
        lines.append(f"[{number}] {title}{_one_line(passage.text)}")
    return "\n".join([*lines, "", f"Question: {question}"])


def with_passages(
    messages: Sequence[Mapping[str, Any]],  # JSON
    passages: Sequence[Passage],
) -> list[Mapping[str, Any]]:
    """`messages` with the passages in the user's last one. Without passages: as they are.

    Raises ValueError when no message is the user's.
    """
    changed = list(messages)
    if not passages:
        return changed
    for index in range(len(changed) - 1, -1, -1):
        if changed[index]["role"] == "user":
            content = question_with_passages(changed[index]["content"], passages)
            changed[index] = {**changed[index], "content": content}
            return changed
    raise ValueError("passages need a message of the user's to stand in")


def _one_line(text: str) -> str:
    """A line break inside a passage would look like the end of it."""
    return " ".join(text.split())

"""Documents made of words that nobody else has, so that whatever comes out says whose it was.

Every such word is the mark and a number. (The mark stems to itself, and no word has another's
stem.) All of them are about a lamp.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import documents

MARK = "qvzkjwxh"
MARKED = re.compile(rf"{MARK}\d{{6}}")
COMMON = "lamp"
STATIC = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
}


class Words:
    """Never the same twice, and whose each is."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.owners: dict[str, object] = {}

    def take(self, owner: object) -> str:
        word = f"{MARK}{next(self._numbers):06}"
        self.owners[word] = owner
        return word

    def foreign(self, text: str, to: object) -> set[str]:
        """Those in a text that are not this owner's."""
        return {word for word in MARKED.findall(text) if self.owners.get(word) is not to}


@dataclass(eq=False)
class Document:
    """What a file says, and how it is cut."""

    filename: str
    content: bytes = field(repr=False)
    words: tuple[str, ...]
    """In the content."""
    chunking: Mapping[str, Any] | None = None
    is_readable: bool = True
    text: str | None = field(default=None, repr=False)
    """As it is searched; known as soon as somebody has read it."""

    @property
    def all_words(self) -> set[str]:
        return {*self.words, *MARKED.findall(self.filename)}


def make(
    words: Words, owner: object, kind: str, num_sections: int, *, is_static: bool = False
) -> Document:
    """`kind`: one of KINDS."""
    own = tuple(words.take(owner) for _ in range(num_sections))
    name = f"{words.take(owner)}.{kind}"
    content = KINDS[kind]([_sentences(word) for word in own])
    return Document(name, content.encode(), own, STATIC if is_static else None)


def make_hostile(words: Words, owner: object, kind: str) -> Document:
    """`kind`: one of HOSTILE. What it holds is not read."""
    extension, content = HOSTILE[kind]
    word = words.take(owner)
    name = f"{words.take(owner)}.{extension}"
    return Document(name, content + b"\n" + word.encode(), (word,), None, is_readable=False)


def _sentences(word: str) -> list[str]:
    return [
        f"The {COMMON} of {word} stands in room {number} and burns. "
        f"Whoever asks for {word} gets it on day {number}."
        for number in range(1, 3)
    ]


def _html(sections: Sequence[Sequence[str]]) -> str:
    body = "".join(
        f"<h2>Part {number}</h2>" + "".join(f"<p>{text}</p>" for text in texts)
        for number, texts in enumerate(sections, 1)
    )
    return f"<!doctype html><html><head><title>Lamps</title></head><body>{body}</body></html>"


def _markdown(sections: Sequence[Sequence[str]]) -> str:
    parts = (
        f"## Part {number}\n\n" + "\n\n".join(texts) for number, texts in enumerate(sections, 1)
    )
    return "# Lamps\n\n" + "\n\n".join(parts) + "\n"


def _rows(sections: Sequence[Sequence[str]]) -> str:
    return "Number,Says\n" + "".join(
        f'{number},"{text}"\n' for number, text in enumerate(itertools.chain(*sections), 1)
    )


KINDS: Mapping[str, Callable[[Sequence[Sequence[str]]], str]] = {
    "txt": lambda sections: "\n\n".join(itertools.chain(*sections)),
    "md": _markdown,
    "html": _html,
    "json": lambda sections: json.dumps({"lamps": [{"says": texts} for texts in sections]}),
    "csv": _rows,
}
HOSTILE: Mapping[str, tuple[str, bytes]] = {
    "picture": ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + random.Random(1).randbytes(500)),
    "entities": (
        "docx",
        documents.zipped(
            {"word/document.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}, documents.word()
        ),
    ),
    "locked": ("pdf", documents.locked_pdf()),
}

"""The documents of `kill_ingest.py`: of every kind, and some that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import documents
import docx

_WORDS = (
    *("amber", "anchor", "basin", "beacon", "cedar", "copper", "delta", "ember", "falcon"),
    *("garnet", "harbour", "island", "juniper", "kernel", "lantern", "marble", "nectar", "orchid"),
    *("pepper", "quarry", "ribbon", "saddle", "timber", "umbrella", "velvet", "willow"),
)
_SHARED = (
    "This paragraph stands in many of these documents, and its vector is made once per tenant."
)


@dataclass(slots=True, frozen=True)
class Made:
    """A document, and what must be found in its chunks."""

    name: str
    content: bytes = field(repr=False)
    marks: tuple[str, ...] = ()
    """Words of its own, each once in the document. Without any: it cannot be read."""


def make(number: int, chosen: random.Random) -> Made:
    """Document `number` of a run."""
    if chosen.random() < 0.1:
        name, content = chosen.choice(_BAD)
        return Made(f"{number}-{name}", content)
    kind = chosen.choice(sorted(_WRITERS))
    count = chosen.choice((1, 3, 12, 60))
    marks = tuple(f"mark{number}x{index}y" for index in range(count))
    paragraphs = [
        f"{mark} " + " ".join(chosen.choices(_WORDS, k=chosen.randint(8, 50))) + "."
        for mark in marks
    ]
    if chosen.random() < 0.5:
        paragraphs.insert(chosen.randrange(count + 1), _SHARED)
    return Made(f"{number}.{kind}", _WRITERS[kind](paragraphs), marks)


def _pdf(paragraphs: list[str]) -> bytes:
    lines = [
        (" ".join(words[start : start + 12]), 11)
        for words in map(str.split, paragraphs)
        for start in range(0, len(words), 12)
    ]
    return documents.pdf([lines[start : start + 40] for start in range(0, len(lines), 40)])


def _docx(paragraphs: list[str]) -> bytes:
    made = docx.Document()
    for index, paragraph in enumerate(paragraphs):
        if index % 10 == 0:
            made.add_heading(f"Section {index // 10}", 1)
        made.add_paragraph(paragraph)
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def _html(paragraphs: list[str]) -> bytes:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return f"<!doctype html><html><body><h1>Page</h1>{body}</body></html>".encode()


def _markdown(paragraphs: list[str]) -> bytes:
    return "\n\n".join(f"## Part\n\n{paragraph}" for paragraph in paragraphs).encode()


def _csv(paragraphs: list[str]) -> bytes:
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerow(("number", "text"))
    rows.writerows(enumerate(paragraphs))
    return written.getvalue().encode()


def _json(paragraphs: list[str]) -> bytes:
    return json.dumps([{"text": paragraph} for paragraph in paragraphs]).encode()


def _text(paragraphs: list[str]) -> bytes:
    return "\n\n".join(paragraphs).encode()


_WRITERS: dict[str, Callable[[list[str]], bytes]] = {
    "pdf": _pdf,
    "docx": _docx,
    "html": _html,
    "md": _markdown,
    "csv": _csv,
    "json": _json,
    "txt": _text,
}
_BAD = (
    ("locked.pdf", documents.locked_pdf()),
    ("bomb.docx", documents.zipped({"word/document.xml": b" " * (8 << 20)}, documents.word())),
    ("blank.txt", b"\n \n"),
    ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + random.Random(1).randbytes(2000)),
)

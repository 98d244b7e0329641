"""What is a document, once it is read?

A document is one canonical text and the blocks that it is made of, in order. A block is a span of
that text, so whatever is cut out of a document later can be cited as (page, start, end), and the
cited text is `text[start:end]`, character by character.

    text     Opening hours\n\nMonday to Friday.\n\nday | from\nMonday | 9:00
    blocks   heading        paragraph          table_header table_row

Does not know: kinds of files, tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from anzoth.ingest.clean import clean
from anzoth.ingest.limits import Limits, UnreadableFile

BlockKind = Literal["heading", "paragraph", "list_item", "table_header", "table_row", "code"]

_CELL_SEPARATOR = " | "
_CLOSE = {("list_item", "list_item"), ("table_header", "table_row"), ("table_row", "table_row")}
"""Pairs of kinds between which no empty line stands."""


@dataclass(slots=True, frozen=True)
class Block:
    """A span of the document's text. A table's rows follow its header, if it has one."""

    kind: BlockKind
    start: int
    end: int
    page: int | None = None
    """From 1: a page of a pdf, a slide, and of a docx where Word noted them. None: unknown."""
    level: int | None = None
    """Of a heading, from 1."""


@dataclass(slots=True, frozen=True)
class Document:
    """What a file says, in reading order."""

    kind: str
    text: str
    blocks: tuple[Block, ...]
    title: str | None = None
    """The document's own; None: it has none, and a file name has to do."""
    num_pages: int | None = None
    notes: tuple[str, ...] = ()
    """What was left out, in sentences for whoever uploaded the file."""

    def text_of(self, block: Block) -> str:
        return self.text[block.start : block.end]

    @property
    def sha256(self) -> str:
        """Of the canonical text: two files that say the same have the same."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(slots=True)
class DocumentBuilder:
    """Where a parser writes what it reads. Cleans every text; keeps the limits of text."""

    limits: Limits = field(default_factory=Limits)
    title: str | None = None
    num_pages: int | None = None
    page: int | None = None
    """Of the blocks to come."""
    _pieces: list[str] = field(default_factory=list)
    _blocks: list[Block] = field(default_factory=list)
    _length: int = 0
    _num_hidden: int = 0
    _notes: list[str] = field(default_factory=list)

    def add(self, kind: BlockKind, text: str, level: int | None = None) -> None:
        """Appends a block; blank text is nothing. Raises UnreadableFile above the limits."""
        if len(text) > 2 * self.limits.max_text_chars:
            raise self._too_much()
        text, num_hidden = clean(text)
        self._num_hidden += num_hidden
        text = text.strip("\n") if kind == "code" else text.strip()
        if not text.strip():
            return
        if self._blocks:
            is_close = (self._blocks[-1].kind, kind) in _CLOSE
            separator = "\n" if is_close else "\n\n"
            self._pieces.append(separator)
            self._length += len(separator)
        start = self._length
        self._pieces.append(text)
        self._length += len(text)
        if self._length > self.limits.max_text_chars:
            raise self._too_much()
        if len(self._blocks) >= self.limits.max_blocks:
            raise UnreadableFile(
                "invalid_file",
                f"The file has more than {self.limits.max_blocks:,} paragraphs or rows. Split it.",
            )
        self._blocks.append(Block(kind, start, self._length, self.page, level))

    def add_row(self, cells: Sequence[str], *, is_header: bool = False) -> None:
        """Appends a table's row: its cells on one line. A row of empty cells is nothing."""
        texts = [" ".join(cell.split()) for cell in cells]
        if not any(texts):
            return
        while not texts[-1]:
            texts.pop()
        self.add("table_header" if is_header else "table_row", _CELL_SEPARATOR.join(texts))

    def add_paragraphs(self, text: str) -> None:
        """Appends plain text, cut at empty lines."""
        for paragraph in paragraphs(text):
            self.add("paragraph", paragraph)

    def hide(self, text: str) -> None:
        """Counts text that a reader of the file does not see, and that is therefore left out."""
        self._num_hidden += len(text.strip())

    def note(self, sentence: str) -> None:
        """Says once what was left out."""
        if sentence not in self._notes:
            self._notes.append(sentence)

    @property
    def num_blocks(self) -> int:
        return len(self._blocks)

    def build(self, kind: str) -> Document:
        """Raises UnreadableFile when nothing was read."""
        if not self._blocks:
            raise UnreadableFile(
                "invalid_file",
                "The file has no text. A scan needs text recognition (OCR) before it is uploaded."
                if kind == "pdf"
                else "The file has no text.",
            )
        if self._num_hidden:
            self.note(f"{self._num_hidden:,} hidden characters were left out.")
        title = " ".join(clean(self.title or "")[0].split())[:200] or None
        return Document(
            kind, "".join(self._pieces), tuple(self._blocks), title, self.num_pages,
            tuple(self._notes),
        )  # fmt: skip

    def _too_much(self) -> UnreadableFile:
        return UnreadableFile(
            "invalid_file",
            f"The file has more than {self.limits.max_text_chars:,} characters of text. Split it.",
        )


def paragraphs(text: str) -> Iterator[str]:
    """Runs of lines that are not blank."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)

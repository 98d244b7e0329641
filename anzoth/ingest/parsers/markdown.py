"""Markdown (CommonMark with tables): the text that it stands for, without its marks.

HTML inside it goes through the HTML reader, so what that hides is hidden here too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from anzoth.ingest.document import BlockKind, DocumentBuilder
from anzoth.ingest.parsers import html

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(---|\.\.\.)[ \t]*(\n|\Z)", re.S)
_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.M)


def read(text: str, out: DocumentBuilder) -> None:
    """One block per heading, paragraph, list item, table row and code block."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if front := _FRONT_MATTER.match(text):
        if title := _TITLE.search(front[1]):
            out.title = title[1]
        out.add("code", front[1])
        text = text[front.end() :]
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    _Reader(out).read(tokens)


class _Reader:
    def __init__(self, out: DocumentBuilder) -> None:
        self._out = out
        self._num_items = 0
        self._row: list[str] | None = None
        self._is_header = False

    def read(self, tokens: Sequence[Token]) -> None:
        heading: int | None = None
        for token in tokens:
            match token.type:
                case "heading_open":
                    heading = int(token.tag[1:])
                case "heading_close":
                    heading = None
                case "list_item_open":
                    self._num_items += 1
                case "list_item_close":
                    self._num_items -= 1
                case "thead_open" | "thead_close":
                    self._is_header = token.nesting == 1
                case "tr_open":
                    self._row = []
                case "tr_close":
                    self._out.add_row(self._row or [], is_header=self._is_header)
                    self._row = None
                case "inline":
                    self._inline(inline_text(token.children or ()), heading)
                case "fence" | "code_block":
                    self._out.add("code", token.content)
                case "html_block":
                    html.read_fragment(token.content, self._out)

    def _inline(self, text: str, heading: int | None) -> None:
        if self._row is not None:
            self._row.append(text)
            return
        if heading is not None:
            self._out.add("heading", text, heading)
            if heading == 1 and self._out.title is None:
                self._out.title = text
            return
        kind: BlockKind = "list_item" if self._num_items else "paragraph"
        self._out.add(kind, text)


def inline_text(tokens: Sequence[Token]) -> str:
    """Text without marks; of an image its description. Comments and tags are dropped."""
    pieces: list[str] = []
    for token in tokens:
        match token.type:
            case "text" | "code_inline" | "text_special" | "image":
                pieces.append(token.content)
            case "softbreak" | "hardbreak":
                pieces.append("\n")
    return "".join(pieces)

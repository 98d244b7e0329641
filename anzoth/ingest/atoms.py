"""Into which pieces that are never cut does a document fall, and how good is a cut between them?

A block that fits into a chunk is one atom; a larger one falls into sentences or lines, a larger
one of those into runs of words.

Does not know: how atoms are packed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from anzoth.ingest.document import Block, Document
from anzoth.ingest.sentences import Span, lines, pieces, sentences

Count = Callable[[str], int]

_CHARS_PER_TOKEN = 12
"""No chunk has more than this many characters for each token that it may have: word-piece
tokenizers make one unknown token of a word of any length."""
_MAX_HEADING_CHARS = 200
_CONTEXT_SHARE = 4
"""Context takes at most a quarter of a chunk."""


class Cut(IntEnum):
    """What a cut in front of an atom would separate; the larger, the better the cut."""

    HEADING_FROM_TEXT = 0
    """Also a table's header from its first row."""
    WORDS = 1
    SENTENCES = 2
    ROWS = 3
    BLOCKS = 4
    SECTIONS = 5


@dataclass(slots=True, frozen=True)
class Atom:
    """A span that goes into a chunk as a whole."""

    start: int
    end: int
    num_tokens: int
    cut: Cut
    page: int | None
    headings: tuple[str, ...]
    """Above it; a heading is not above itself."""
    table_header: Span | None
    """Of a table's row: where its header stands."""
    rank: int
    """Of its text, evenly distributed: among equally good cuts the highest rank wins, so that the
    choice depends on what stands there and not on what stands before."""


@dataclass(slots=True)
class Measure:
    """Tokens of a text, by the embedder's tokenizer and never fewer than its length allows."""

    count: Count

    def __call__(self, text: str) -> int:
        return max(self.count(text), math.ceil(len(text) / _CHARS_PER_TOKEN))


@dataclass(slots=True)
class Atomizer:
    """Walks over the blocks of one document."""

    document: Document
    title: str | None
    max_tokens: int
    measure: Measure
    has_context: bool
    is_fine: bool
    """Blocks always fall into sentences and lines."""
    _headings: list[tuple[int, str]] = field(default_factory=list)
    _header: Span | None = None
    _context_tokens: dict[tuple[tuple[str, ...], Span | None], tuple[str, int]] = field(
        default_factory=dict
    )

    def atoms(self) -> Iterator[Atom]:
        previous: Block | None = None
        for block in self.document.blocks:
            if block.kind == "heading":
                level = block.level or 1
                while self._headings and self._headings[-1][0] >= level:
                    self._headings.pop()
            self._follow_table(block, previous)
            yield from self._of_block(block, _cut_before(block, previous))
            if block.kind == "heading":
                text = " ".join(self.document.text_of(block).split())[:_MAX_HEADING_CHARS]
                self._headings.append((block.level or 1, text))
            previous = block

    def _follow_table(self, block: Block, previous: Block | None) -> None:
        if block.kind == "table_header":
            self._header = (block.start, block.end)
        elif block.kind != "table_row" or previous is None or not _is_table(previous):
            self._header = None

    def _of_block(self, block: Block, cut: Cut) -> Iterator[Atom]:
        text = self.document.text
        header = self._header if block.kind == "table_row" else None
        headings = tuple(name for _, name in self._headings)
        limit = self.max_tokens - self.context(headings, header)[1]
        max_chars = limit * _CHARS_PER_TOKEN
        span = (block.start, block.end)
        is_whole = not self.is_fine or block.kind not in ("paragraph", "code")
        if is_whole and span[1] - span[0] <= max_chars:
            num_tokens = self.measure(text[span[0] : span[1]])
            if num_tokens <= limit:
                yield self._atom(span, num_tokens, cut, block, headings, header)
                return
        split = lines if block.kind == "code" else sentences
        for part in split(text, *span):
            piece_cut = Cut.SENTENCES
            for piece in pieces(text, part, limit, max_chars, self.measure):
                num_tokens = self.measure(text[piece[0] : piece[1]])
                where = cut if piece[0] == span[0] else piece_cut
                yield self._atom(piece, num_tokens, where, block, headings, header)
                piece_cut = Cut.WORDS

    def _atom(
        self, span: Span, num_tokens: int, cut: Cut, block: Block, headings: tuple[str, ...],
        header: Span | None,
    ) -> Atom:  # fmt: skip
        rank = zlib.crc32(self.document.text[span[0] : span[1]].encode())
        return Atom(span[0], span[1], num_tokens, cut, block.page, headings, header, rank)

    def context(self, headings: tuple[str, ...], header: Span | None) -> tuple[str, int]:
        """What stands in front of a chunk that begins here, and how many tokens it takes."""
        if not self.has_context:
            return "", 0
        key = (headings, header)
        if key not in self._context_tokens:
            text = self._context(headings, header)
            self._context_tokens[key] = (text, self.measure(f"{text}\n\n") if text else 0)
        return self._context_tokens[key]

    def _context(self, headings: tuple[str, ...], header: Span | None) -> str:
        allowed = self.max_tokens // _CONTEXT_SHARE
        title = self.title if self.title not in headings else None
        above = [name for name in (title, *headings) if name]
        columns = "" if header is None else self.document.text[header[0] : header[1]]
        while True:
            text = "\n".join(line for line in (" > ".join(above), columns) if line)
            if not text or self.measure(f"{text}\n\n") <= allowed:
                return text
            if len(above) > 1:
                above.pop(1 if len(above) > 2 else 0)  # the innermost heading says most
            elif above and len(above[0]) > 40:
                above = [above[0][: len(above[0]) // 2].rstrip()]
            elif columns:
                columns = columns[: len(columns) // 2].rstrip() if len(columns) > 20 else ""
            else:
                return ""


def _is_table(block: Block) -> bool:
    return block.kind in ("table_header", "table_row")


def _cut_before(block: Block, previous: Block | None) -> Cut:
    if previous is None:
        return Cut.SECTIONS
    if block.kind == "heading":
        return Cut.HEADING_FROM_TEXT if previous.kind == "heading" else Cut.SECTIONS
    if previous.kind in ("heading", "table_header"):
        return Cut.HEADING_FROM_TEXT
    if block.kind == previous.kind and block.kind in ("list_item", "table_row"):
        return Cut.ROWS
    return Cut.BLOCKS

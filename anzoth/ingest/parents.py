"""Which part of the document is a model given around a chunk?

The largest section that holds the chunk and is not too long; the whole document, if that is not. In
a section that is too long itself: the chunks before and behind, in a row, as many as fit.

Tokens are the sum of those of the chunks, contexts and overlaps included, so a parent has rather
fewer than it may. Does not know: how chunks were cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from anzoth.ingest.chunks import Chunk
from anzoth.ingest.document import Document


@dataclass(slots=True)
class _Section:
    """A heading and what stands under it, its subsections included."""

    start: int
    end: int
    level: int
    outer: int | None
    """Position of the section around it. None: it is the document."""


def with_parents(chunks: Sequence[Chunk], document: Document, max_tokens: int) -> list[Chunk]:
    """The same chunks with their parents. O(chunks · depth of headings + blocks)."""
    sections = _sections(document)
    section_starts = [section.start for section in sections]
    chunk_starts = [made.start for made in chunks]
    sums = [0, *accumulate(made.num_tokens for made in chunks)]

    def largest_that_fits(made: Chunk) -> tuple[int, bool]:
        """The section; or the innermost one, which does not fit."""
        innermost = position = bisect_right(section_starts, made.start) - 1
        while sections[position].end <= made.start:
            position = innermost = sections[position].outer or 0
        found: int | None = None
        around: int | None = position
        while around is not None:
            section = sections[around]
            first = bisect_left(chunk_starts, section.start)
            last = bisect_left(chunk_starts, section.end)
            if sums[last] - sums[first] > max_tokens:
                break
            found, around = around, section.outer
        return (innermost, False) if found is None else (found, True)

    grown: list[Chunk] = []
    first = 0
    while first < len(chunks):
        chosen = largest_that_fits(chunks[first])
        last = first + 1
        while last < len(chunks) and largest_that_fits(chunks[last]) == chosen:
            if not chosen[1] and sums[last + 1] - sums[first] > max_tokens:
                break
            last += 1
        start, end = chunks[first].start, chunks[last - 1].end
        grown += [replace(made, parent_start=start, parent_end=end) for made in chunks[first:last]]
        first = last
    return grown


def _sections(document: Document) -> list[_Section]:
    """In the order of their starts; the first is the document."""
    sections = [_Section(0, len(document.text) + 1, 0, None)]
    open_sections = [0]
    for block in document.blocks:
        if block.kind == "heading":
            level = block.level or 1
            while sections[open_sections[-1]].level >= level:
                sections[open_sections.pop()].end = block.start
            sections.append(_Section(block.start, len(document.text) + 1, level, open_sections[-1]))
            open_sections.append(len(sections) - 1)
    return sections

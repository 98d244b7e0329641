"""Where may a text be cut, from the best places to the worst?

Ends of lines and sentences, then spaces, then anywhere between two characters that are not one
letter. Spans only: nothing is changed, and what lies between two spans is white space.

Does not know: documents, how large a piece may be counted in anything but what it is told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

Span = tuple[int, int]

_END = re.compile(r"[.!?…]+[\"'»”’)\]]*[ \t]+|[。！？]+[」』”’）]*|[ \t]*\n\s*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[])(?:\w|[A-Z]\w?|e\.g|i\.e|z\.\s?B|d\.\s?h|u\.\s?a|al|approx|bzw|ca|cf|co|corp|dept|dr|"
    r"ed|eq|etc|evtl|ff|fig|figs|inc|jr|ltd|mr|mrs|ms|nos?|nr|pp?|prof|rev|sec|sr|st|str|tab|usw|vgl|"
    r"vol|vs)\.$",
    re.I,
)
_LINE = re.compile(r"[^\n]+")
_WORD_GAP = re.compile(r"\s+")


def lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Lines that are not blank, with their indentation."""
    for match in _LINE.finditer(text, start, end):
        if not match[0].isspace():
            yield match.span()


def sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Sentences of prose in the languages that end them with a mark. Ends of lines end one too."""
    begin = start
    for match in _END.finditer(text, start, end):
        if match.end() >= end:
            break
        mark = match[0]
        if "\n" not in mark and not _ends(text, begin, match.start(), match.end(), mark):
            continue
        stop = match.start() + len(mark.rstrip())
        if stop > begin:
            yield begin, stop
        begin = match.end()
    if text[begin:end].strip():
        yield begin, end


def _ends(text: str, begin: int, at: int, following: int, mark: str) -> bool:
    if mark[0] in "。！？":
        return True
    if text[following].islower():
        return False
    return mark[0] != "." or not _ABBREVIATION.search(text[max(begin, at - 12) : at + 1])


def pieces(
    text: str, span: Span, limit: int, max_chars: int, measure: Callable[[str], int]
) -> Iterator[Span]:
    """A span cut at spaces, or else inside words, so that no piece measures more than `limit`."""
    pending = [span]
    while pending:
        start, end = pending.pop()
        fits = end - start <= max_chars and measure(text[start:end]) <= limit
        if fits or end - start == 1:  # a character that is more tokens than fit cannot be cut
            yield start, end
        else:
            left, right = _halve(text, start, end, max_chars)
            pending += [span for span in (right, left) if text[span[0] : span[1]].strip()]


def _halve(text: str, start: int, end: int, max_chars: int) -> tuple[Span, Span]:
    """Two halves, or the first `max_chars` of what is far longer and the rest."""
    middle = start + min((end - start) // 2 or 1, max_chars)
    low = max(start, middle - max_chars // 4)
    gaps = [m for m in _WORD_GAP.finditer(text, low, min(end, middle + 1)) if m.start() > start]
    if gaps and gaps[-1].end() < end:
        return (start, gaps[-1].start()), (gaps[-1].end(), end)
    while start + 1 < middle and unicodedata.combining(text[middle]):
        middle -= 1
    return (start, middle), (middle, end)

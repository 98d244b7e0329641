"""PDF, by PDFium: lines with their place and size, joined to paragraphs, page by page.

A PDF has no paragraphs and no headings, only characters at places. A line begins a paragraph when
the gap above it is larger than the page's usual one or its size changes; it is a heading when the
document's outline names it or its font is clearly larger than most of the document's. Running
headers and footers (the same words at the top or bottom of most pages) are left out.

Not noticed: text that is drawn invisibly, because every recognised scan has its text that way.
"""

from __future__ import annotations

import ctypes
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.limits import UnreadableFile

_HEADING_SIZE = 1.15
"""Times the body's font size. Code inside a line differs less."""
_MAX_HEADING_CHARS = 200
_PARAGRAPH_GAP = 1.35
"""Times the usual distance between lines of a page."""
_MAX_OUTLINE = 10_000
_MIN_PAGES_WITH_MARGINS = 4
_MARGIN_LINES = 2
_HYPHENS = "\x02\ufffe\u00ad"
"""What PDFium puts where a word was cut at the end of a line."""
_ITEM = re.compile(r"([•‣▪●◦–—*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S")


@dataclass(slots=True)
class _Line:
    text: str
    size: float
    baseline: float
    """Points above the bottom of the page."""


def read(data: bytes, out: DocumentBuilder) -> None:
    """Headings, paragraphs and list items. Raises UnreadableFile: locked, damaged, too long."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise _cannot_open(error) from None
    out.num_pages = len(document)
    if out.num_pages > out.limits.max_pages:
        raise UnreadableFile(
            "invalid_file",
            f"The file has {out.num_pages:,} pages; at most {out.limits.max_pages:,} are read. "
            "Split it.",
        )
    out.title = _title(document)
    outline = _outline(document)
    pages = [_read_page(document, index, out) for index in range(out.num_pages)]
    document.close()
    body_size = _body_size(pages)
    heading_sizes = _heading_sizes(pages, body_size)
    for index, lines in enumerate(_without_margins(pages, body_size)):
        out.page = index + 1
        for paragraph in _paragraphs(lines):
            _emit(paragraph, outline.get(index, {}), heading_sizes, out)


def _cannot_open(error: pypdfium2.PdfiumError) -> UnreadableFile:
    if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
        return UnreadableFile(
            "invalid_file", "The pdf is protected by a password. Remove it and upload again."
        )
    return UnreadableFile("invalid_file", "The pdf is damaged: it could not be opened.")


def _title(document: pypdfium2.PdfDocument) -> str | None:
    title = document.get_metadata_value("Title").strip()
    is_name = re.search(
        r"\.(docx?|pdf|tex|dvi|indd|qxd|pptx?|xlsx?)$|^(untitled|microsoft )", title, re.I
    )
    return None if is_name or len(title) < 3 else title


def _outline(document: pypdfium2.PdfDocument) -> dict[int, dict[str, int]]:
    """Page index → title without spaces → level, from 1."""
    found: dict[int, dict[str, int]] = {}
    try:
        for number, mark in enumerate(document.get_toc(max_depth=10)):
            if number >= _MAX_OUTLINE:
                break
            target = mark.get_dest()
            page = None if target is None else target.get_index()
            if page is not None:
                found.setdefault(page, {})[_squeeze(mark.get_title())] = mark.level + 1
    except (pypdfium2.PdfiumError, ValueError):
        pass  # an outline is a help; the text is what counts
    return found


def _squeeze(text: str) -> str:
    return "".join(text.split()).casefold()


def _read_page(document: pypdfium2.PdfDocument, index: int, out: DocumentBuilder) -> list[_Line]:
    try:
        page = document[index]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        out.note(f"Page {index + 1} is damaged and was left out.")
        return []
    try:
        return list(_lines(text_page))
    finally:
        text_page.close()
        page.close()


def _lines(text_page: pypdfium2.PdfTextPage) -> Iterator[_Line]:
    """Lines of one page, in PDFium's order, which follows the content of the file."""
    num_chars = text_page.count_chars()
    if num_chars <= 0:
        return
    text = text_page.get_text_range()
    x, y = ctypes.c_double(), ctypes.c_double()
    start = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            # Indices drift apart where PDFium leaves out characters; a neighbour does as well.
            first = min(start + len(line) - len(line.lstrip()), num_chars - 1)
            middle = min(first + len(stripped) // 2, num_chars - 1)  # the first may be a bullet
            is_placed = pdfium.FPDFText_GetCharOrigin(text_page, middle, x, y)
            size = _drawn_size(text_page, middle)
            yield _Line(stripped, size, y.value if is_placed else 0.0)
        start += len(line) + 1


def _drawn_size(text_page: pypdfium2.PdfTextPage, char: int) -> float:
    """The font size as drawn: many files use size 1 and a matrix."""
    size = pdfium.FPDFText_GetFontSize(text_page, char)
    matrix = pdfium.FS_MATRIX()
    if pdfium.FPDFText_GetMatrix(text_page, char, matrix):
        size *= abs(matrix.d) or abs(matrix.b) or 1.0
    return round(size, 1)


def _without_margins(pages: Sequence[list[_Line]], body_size: float) -> list[list[_Line]]:
    """Pages without the lines, numbers aside, that begin or end more than half of them."""
    kept = [list(lines) for lines in pages]
    if len(pages) < _MIN_PAGES_WITH_MARGINS:
        return kept
    for end in (0, -1) * _MARGIN_LINES:
        outermost = [
            _margin_key(lines[end])
            for lines in kept
            if len(lines) > 1 and lines[end].size <= body_size * _HEADING_SIZE
        ]
        key, count = Counter(outermost).most_common(1)[0] if outermost else ("", 0)
        if count > len(pages) / 2:
            for lines in kept:
                if len(lines) > 1 and _margin_key(lines[end]) == key:
                    del lines[end]
    return kept


def _margin_key(line: _Line) -> str:
    return re.sub(r"\d+", "#", line.text)


def _body_size(pages: Sequence[Sequence[_Line]]) -> float:
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[line.size] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _heading_sizes(pages: Sequence[Sequence[_Line]], body_size: float) -> dict[float, int]:
    """Font size → level: the largest is 1. Beyond six there is no sense in telling them apart."""
    sizes = {
        line.size for lines in pages for line in lines if line.size > body_size * _HEADING_SIZE
    }
    return {size: min(level, 6) for level, size in enumerate(sorted(sizes, reverse=True), 1)}


def _paragraphs(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    gaps = sorted(
        above.baseline - below.baseline
        for above, below in itertools.pairwise(lines)
        if above.size == below.size and above.baseline - below.baseline > 1
    )
    limit = gaps[(len(gaps) - 1) // 2] * _PARAGRAPH_GAP if gaps else 0.0
    paragraph: list[_Line] = []
    for line in lines:
        if paragraph:
            previous = paragraph[-1]
            gap = previous.baseline - line.baseline
            starts = (
                (limit and (gap > limit or gap < -limit))  # below: or in the next column
                or not 1 / _HEADING_SIZE < line.size / (previous.size or 1) < _HEADING_SIZE
                or _ITEM.match(line.text)
            )
            if starts:
                yield paragraph
                paragraph = []
        paragraph.append(line)
    if paragraph:
        yield paragraph


def _emit(
    lines: Sequence[_Line],
    outline: dict[str, int],
    heading_sizes: dict[float, int],
    out: DocumentBuilder,
) -> None:
    if len(lines) > 1 and (level := outline.get(_squeeze(lines[0].text))):
        out.add("heading", lines[0].text, level)
        lines = lines[1:]
    text = _join(line.text for line in lines)
    level = outline.get(_squeeze(text))
    if level is None and len(text) <= _MAX_HEADING_CHARS:
        level = heading_sizes.get(lines[0].size)
    if level is not None:
        out.add("heading", text, level)
    else:
        out.add("list_item" if _ITEM.match(text) else "paragraph", text)


def _join(lines: Iterator[str]) -> str:
    """One line; a word that was cut at the end of a line is whole again."""
    joined = ""
    for line in lines:
        if joined and joined[-1] in _HYPHENS:
            joined = joined[:-1] + line
        else:
            joined = f"{joined} {line}" if joined else line
    return joined

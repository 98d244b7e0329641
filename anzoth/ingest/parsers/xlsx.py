"""Workbooks: a sheet is a heading and a table; a cell is what it shows, of a formula its result.

Rows are read one at a time and empty cells cost nothing, so a lonely cell in the last row of a
sheet is no problem. Dates, times and percentages are written as such; other number formats are not
applied, because the stored value is what a question asks for.

Left out: hidden sheets, charts, comments, macros.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree  # type: ignore[attr-defined]  # compiled, untyped

from anzoth.ingest.archive import Archive
from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.parsers.csv import is_header

_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_R_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_MAX_COLUMNS = 16_384
_MAX_GAP = 8
_DATES = {*range(14, 18), 22, *range(27, 32), 34, 35, 36, *range(50, 59)}
_TIMES = {18, 19, 20, 21, 32, 33, 45, 46, 47}
_PERCENTS = {9, 10}
_NOT_CODE = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_DAY_ZERO = {False: datetime.datetime(1899, 12, 30), True: datetime.datetime(1904, 1, 1)}
_MAX_DAYS = 2_958_465


@dataclass(slots=True, frozen=True)
class _Book:
    strings: list[str]
    formats: list[str]
    """Of each cell style: date, time, percent or nothing."""
    is_1904: bool


def read(data: bytes, out: DocumentBuilder) -> None:
    """Sheets in the order of their tabs."""
    archive = Archive(data, out.limits)
    main = archive.main_part()
    root = archive.xml(main)
    links = archive.relationships(main)
    parts = {link.kind: link.target for link in links.values()}
    out.title = archive.title()
    properties = root.find(f"{_S}workbookPr")
    book = _Book(
        strings=list(_strings(archive, parts.get("sharedStrings"))),
        formats=list(_formats(archive, parts.get("styles"))),
        is_1904=properties is not None and properties.get("date1904") in ("1", "true"),
    )
    for sheet in root.iter(f"{_S}sheet"):
        link = links.get(sheet.get(_R_ID, ""))
        if link is None or link.kind != "worksheet":
            continue
        if sheet.get("state", "visible") != "visible":
            out.note("Hidden sheets were left out.")
            continue
        _sheet(archive, link.target, sheet.get("name", ""), book, out)


def _sheet(archive: Archive, part: str, name: str, book: _Book, out: DocumentBuilder) -> None:
    is_first = True
    for row in archive.xml_elements(part, f"{_S}row"):
        cells = _cells(row, book)
        if not any(cells):
            continue
        if is_first:
            out.add("heading", name, 1)
        out.add_row(cells, is_header=is_first and is_header(cells))
        is_first = False


def _cells(row: etree._Element, book: _Book) -> list[str]:
    """Texts by column; a gap that is wider than a table's is narrowed."""
    cells: list[str] = []
    following = 0
    for cell in row.iterchildren(f"{_S}c"):
        column = _column(cell.get("r"), following)
        text = _shown(cell, book)
        if text and column < _MAX_COLUMNS:
            cells += [""] * min(column - following, _MAX_GAP)
            cells.append(text)
            following = column + 1
    return cells


def _column(reference: str | None, following: int) -> int:
    """`C7` is 2. Writers may leave the reference out: the cell then follows the one before it."""
    letters = (reference or "").rstrip("0123456789")
    if not letters or len(letters) > 3 or not letters.isascii() or not letters.isalpha():
        return following
    column = 0
    for letter in letters.upper():
        column = column * 26 + ord(letter) - ord("A") + 1
    return max(column - 1, following)


def _shown(cell: etree._Element, book: _Book) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _rich_text(cell.find(f"{_S}is"))
    value = cell.findtext(f"{_S}v") or ""
    if kind == "s":
        index = int(value) if value.isdecimal() else -1
        return book.strings[index] if 0 <= index < len(book.strings) else ""
    if kind == "b":
        return "TRUE" if value == "1" else "FALSE"
    if kind != "n" or not value:
        return value
    style = cell.get("s", "")
    index = int(style) if style.isdecimal() else 0
    shape = book.formats[index] if index < len(book.formats) else ""
    return _number(value, shape, book.is_1904)


def _number(value: str, shape: str, is_1904: bool) -> str:
    try:
        number = float(value)
    except ValueError:
        return value
    if shape == "percent":
        return f"{number * 100:.10g}%"
    if shape and 0 <= number <= _MAX_DAYS:
        moment = _DAY_ZERO[is_1904] + datetime.timedelta(seconds=round(number * 86_400))
        if shape == "time" or number < 1:
            return moment.strftime("%H:%M:%S" if moment.second else "%H:%M")
        if moment.time() == datetime.time():
            return moment.date().isoformat()
        return moment.isoformat(" ", "seconds")
    return f"{number:.15g}" if abs(number) < 1e15 else value


def _strings(archive: Archive, name: str | None) -> Iterator[str]:
    if name is not None and name in archive.names:
        for item in archive.xml_elements(name, f"{_S}si"):
            yield _rich_text(item)


def _rich_text(item: etree._Element | None) -> str:
    """Without the readings (`rPh`) that stand above Japanese words."""
    if item is None:
        return ""
    texts = [item.findtext(f"{_S}t") or ""]
    texts += [run.findtext(f"{_S}t") or "" for run in item.iterchildren(f"{_S}r")]
    return "".join(texts)


def _formats(archive: Archive, name: str | None) -> Iterator[str]:
    if name is None or name not in archive.names:
        return
    root = archive.xml(name)
    codes = {
        item.get("numFmtId", ""): item.get("formatCode", "") for item in root.iter(f"{_S}numFmt")
    }
    styles = root.find(f"{_S}cellXfs")
    for style in () if styles is None else styles:
        number = style.get("numFmtId", "0")
        yield _format(number, codes.get(number))


def _format(number: str, code: str | None) -> str:
    if code is None:
        index = int(number) if number.isdecimal() else 0
        known = ((_DATES, "date"), (_TIMES, "time"), (_PERCENTS, "percent"))
        return next((shape for numbers, shape in known if index in numbers), "")
    letters = _NOT_CODE.sub("", code).lower().split(";")[0]
    if "%" in letters:
        return "percent"
    if "general" in letters:
        return ""
    if "y" in letters or "d" in letters:
        return "date"
    if "h" in letters or "s" in letters:
        return "time"
    return "date" if "mmm" in letters else ""

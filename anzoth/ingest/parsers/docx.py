"""Word documents: paragraphs, headings, lists, tables, footnotes.

Read from the XML itself, because what libraries offer as a paragraph's text leaves out insertions,
content controls and text boxes, and cannot tell hidden runs from visible ones.

Left out: hidden and deleted text, white text outside tables, comments, headers and footers, macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree  # type: ignore[attr-defined]  # compiled, untyped

from anzoth.ingest.archive import Archive
from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.parsers.csv import is_header

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING = re.compile(r"heading (\d)", re.I)
_OFF = ("0", "false", "off")
_MAX_STYLES_DEEP = 20
_DROPPED = {
    _FALLBACK,  # the same text again, for readers that know no text boxes
    *(f"{_W}{name}" for name in ("del", "moveFrom", "instrText", "delText", "pPr", "rPr")),
}


@dataclass(slots=True)
class _Style:
    level: int | None = None
    is_list: bool = False
    is_hidden: bool = False


@dataclass(slots=True)
class _Reader:
    out: DocumentBuilder
    styles: dict[str, _Style]
    notes: dict[str, tuple[int, etree._Element]] = field(default_factory=dict)
    """By kind and id: number, and where it stands."""
    is_in_table: bool = False
    first_page: int | None = None
    """Of the text that is being read: a page may end inside of it."""

    def body(self, parent: etree._Element) -> None:
        for child in parent:
            match _name(child):
                case "p":
                    self._paragraph(child)
                case "tbl":
                    self._table(child)
                case "sdt" | "sdtContent" | "customXml" | "ins" | "moveTo" | "smartTag":
                    self.body(child)

    def _paragraph(self, paragraph: etree._Element) -> None:
        self.first_page = None
        text = "".join(self._text(paragraph)).strip()
        page, self.out.page = self.out.page, self.first_page or self.out.page
        self._add(paragraph, text)
        self.out.page = page
        for box in _boxes(paragraph):
            self.body(box)

    def _add(self, paragraph: etree._Element, text: str) -> None:
        properties = paragraph.find(f"{_W}pPr")
        style = self.styles.get(_value(properties, "pStyle") or "", _Style())
        level = _outline(properties) or style.level
        if level is not None:
            self.out.add("heading", text, level)
        elif style.is_list or _is_numbered(properties):
            self.out.add("list_item", text)
        else:
            self.out.add("paragraph", text)

    def _table(self, table: etree._Element) -> None:
        for number, row in enumerate(_rows(table)):
            self.is_in_table = True
            cells = [self._joined(cell) for cell in _cells(row)]
            self.is_in_table = False
            properties = row.find(f"{_W}trPr")
            is_marked = properties is not None and _is_on(properties.find(f"{_W}tblHeader"))
            self.out.add_row(cells, is_header=number == 0 and (is_marked or is_header(cells)))

    def _joined(self, parent: etree._Element) -> str:
        """All paragraphs of a cell or a note, on one line."""
        return " ".join("".join(self._text(p)) for p in _paragraphs(parent)).strip()

    def _text(self, paragraph: etree._Element) -> Iterator[str]:
        """What is visible of a paragraph, in order, without its text boxes."""
        style = self.styles.get(_value(paragraph.find(f"{_W}pPr"), "pStyle") or "", _Style())
        pending = [iter(paragraph)]
        while pending:
            element = next(pending[-1], None)
            if element is None:
                pending.pop()
            elif element.tag == f"{_W}r":
                yield from self._run(element, style)
            elif element.tag not in _DROPPED:
                pending.append(iter(element))

    def _run(self, run: etree._Element, style: _Style) -> Iterator[str]:
        properties = run.find(f"{_W}rPr")
        is_hidden = self._is_hidden(properties, style)
        for child in run:
            match _name(child):
                case "t":
                    if is_hidden:
                        self.out.hide(child.text or "")
                    else:
                        self.first_page = self.first_page or self.out.page
                        yield child.text or ""
                case "tab":
                    yield "\t"
                case "br" | "cr":
                    yield "\n"
                case "noBreakHyphen":
                    yield "-"
                case "lastRenderedPageBreak":
                    self.out.page = (self.out.page or 1) + 1
                case "footnoteReference" | "endnoteReference":
                    yield self._note_mark(child)

    def _note_mark(self, reference: etree._Element) -> str:
        note = self.notes.get(f"{_name(reference)[:3]}{reference.get(f'{_W}id')}")
        return "" if note is None else f" [{note[0]}]"

    def _is_hidden(self, properties: etree._Element | None, style: _Style) -> bool:
        if properties is None:
            return style.is_hidden
        vanish = properties.find(f"{_W}vanish")
        if vanish is None:
            vanish = properties.find(f"{_W}specVanish")
        if vanish is not None:
            return _is_on(vanish)
        if self.styles.get(_value(properties, "rStyle") or "", style).is_hidden:
            return True
        color = (_value(properties, "color") or "").upper()
        has_ground = any(properties.find(f"{_W}{tag}") is not None for tag in ("shd", "highlight"))
        return color == "FFFFFF" and not has_ground and not self.is_in_table

    def foot(self) -> None:
        for number, note in self.notes.values():
            if text := self._joined(note):
                self.out.add("paragraph", f"[{number}] {text}")


def read(data: bytes, out: DocumentBuilder) -> None:
    """Blocks in the order of the document, footnotes and endnotes behind it."""
    archive = Archive(data, out.limits)
    main = archive.main_part()
    parts = {link.kind: link.target for link in archive.relationships(main).values()}
    root = archive.xml(main)
    out.title = archive.title()
    if any(name.endswith("vbaProject.bin") for name in archive.names):
        out.note("The macros in the file were left out.")
    has_pages = next(root.iter(f"{_W}lastRenderedPageBreak"), None) is not None
    out.page = 1 if has_pages else None
    reader = _Reader(out, _styles(archive, parts.get("styles")))
    for kind in ("footnotes", "endnotes"):
        for key, note in _notes(archive, parts.get(kind), kind[:3]):
            reader.notes[key] = (len(reader.notes) + 1, note)
    for body in root.iter(f"{_W}body"):
        reader.body(body)
    reader.foot()


def _styles(archive: Archive, name: str | None) -> dict[str, _Style]:
    if name is None or name not in archive.names:
        return {}
    elements = {e.get(f"{_W}styleId", ""): e for e in archive.xml(name).iter(f"{_W}style")}
    return {key: _style(element, elements) for key, element in elements.items()}


def _style(element: etree._Element, elements: dict[str, etree._Element]) -> _Style:
    """A style and what it inherits. Styles may refer to each other in a circle."""
    style = _Style()
    current: etree._Element | None = element
    for _ in range(_MAX_STYLES_DEEP):
        if current is None:
            break
        if style.level is None:
            named = _HEADING.match(_value(current, "name") or "")
            style.level = (
                int(named[1])
                if named
                else 1
                if (_value(current, "name") or "").lower() == "title"
                else _outline(current.find(f"{_W}pPr"))
            )
        style.is_hidden |= _is_on(current.find(f"{_W}rPr/{_W}vanish"))
        style.is_list |= _is_numbered(current.find(f"{_W}pPr"))
        current = elements.get(_value(current, "basedOn") or "")
    return style


def _notes(archive: Archive, name: str | None, prefix: str) -> Iterator[tuple[str, etree._Element]]:
    if name is not None and name in archive.names:
        for note in archive.xml(name):
            if note.get(f"{_W}type") in (None, "normal"):
                yield f"{prefix}{note.get(f'{_W}id')}", note


def _paragraphs(parent: etree._Element) -> Iterator[etree._Element]:
    """Also those of tables and text boxes inside, each once."""
    pending = [iter(parent)]
    while pending:
        element = next(pending[-1], None)
        if element is None:
            pending.pop()
        elif element.tag != _FALLBACK:
            if element.tag == f"{_W}p":
                yield element
            pending.append(iter(element))


def _rows(table: etree._Element) -> Iterator[etree._Element]:
    for child in table:
        if _name(child) == "tr":
            yield child
        elif _name(child) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _rows(child)


def _cells(row: etree._Element) -> Iterator[etree._Element]:
    for child in row:
        if _name(child) == "tc":
            yield child
        elif _name(child) in ("sdt", "sdtContent", "customXml"):
            yield from _cells(child)


def _boxes(paragraph: etree._Element) -> Iterator[etree._Element]:
    """Text boxes of a paragraph, each once."""
    for box in paragraph.iter(f"{_W}txbxContent"):
        is_inner = any(
            ancestor.tag in (_FALLBACK, f"{_W}txbxContent")
            for ancestor in _ancestors(box, paragraph)
        )
        if not is_inner:
            yield box


def _ancestors(element: etree._Element, until: etree._Element) -> Iterator[etree._Element]:
    parent = element.getparent()
    while parent is not None and parent is not until:
        yield parent
        parent = parent.getparent()


def _name(element: etree._Element) -> str:
    tag = element.tag
    return tag.removeprefix(_W) if isinstance(tag, str) and tag.startswith(_W) else ""


def _value(parent: etree._Element | None, name: str) -> str | None:
    found = None if parent is None else parent.find(f"{_W}{name}")
    return None if found is None else found.get(f"{_W}val")


def _is_on(element: etree._Element | None) -> bool:
    return element is not None and element.get(f"{_W}val", "1") not in _OFF


def _is_numbered(properties: etree._Element | None) -> bool:
    """Bullets are numbering too."""
    return properties is not None and properties.find(f"{_W}numPr") is not None


def _outline(properties: etree._Element | None) -> int | None:
    value = _value(properties, "outlineLvl")
    return int(value) + 1 if value in tuple("012345678") else None

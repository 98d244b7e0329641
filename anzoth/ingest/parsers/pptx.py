"""Presentations: a slide is a page; its title is a heading, then its text, tables and notes.

Left out: hidden slides, hidden shapes, and text of masters and layouts.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree  # type: ignore[attr-defined]  # compiled, untyped

from anzoth.ingest.archive import Archive
from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.limits import UnreadableFile
from anzoth.ingest.parsers.csv import is_header

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TITLES = ("title", "ctrTitle")
_MARGINS = ("dt", "ftr", "sldNum", "hdr", "sldImg")


def read(data: bytes, out: DocumentBuilder) -> None:
    """Slides in the order in which they are shown."""
    archive = Archive(data, out.limits)
    main = archive.main_part()
    parts = archive.relationships(main)
    out.title = archive.title()
    if out.title == "PowerPoint Presentation":
        out.title = None
    slides = [
        parts[key].target
        for entry in archive.xml(main).iter(f"{_P}sldId")
        if (key := entry.get(_R_ID)) in parts
    ]
    out.num_pages = len(slides)
    if len(slides) > out.limits.max_pages:
        raise UnreadableFile(
            "invalid_file",
            f"The file has {len(slides):,} slides; at most {out.limits.max_pages:,} are read.",
        )
    for number, name in enumerate(slides, 1):
        out.page = number
        _slide(archive, name, out)


def _slide(archive: Archive, name: str, out: DocumentBuilder) -> None:
    root = archive.xml(name)
    if root.get("show") in ("0", "false"):
        out.note("Hidden slides were left out.")
        return
    shapes = list(_shapes(root, out))
    for shape in shapes:
        if _placeholder(shape) in _TITLES:
            out.add("heading", " ".join(_paragraph(p) for p in shape.iter(f"{_A}p")), 1)
    for shape in shapes:
        if _placeholder(shape) not in _TITLES:
            _shape(shape, out)
    for link in archive.relationships(name).values():
        if link.kind == "notesSlide" and link.target in archive.names:
            _notes(archive.xml(link.target), out)


def _shapes(root: etree._Element, out: DocumentBuilder) -> Iterator[etree._Element]:
    """Shapes and frames, also those in groups, that are shown."""
    pending = [iter(root)]
    while pending:
        element = next(pending[-1], None)
        if element is None:
            pending.pop()
        elif element.tag == _FALLBACK:
            continue
        elif _is_hidden(element):
            out.hide("".join(t.text or "" for t in element.iter(f"{_A}t")))
        elif element.tag in (f"{_P}sp", f"{_P}graphicFrame", f"{_P}cxnSp"):
            yield element
        else:
            pending.append(iter(element))


def _is_hidden(element: etree._Element) -> bool:
    for child in element:
        for properties in child.iterchildren(f"{_P}cNvPr"):
            return properties.get("hidden") in ("1", "true")
        break
    return False


def _placeholder(shape: etree._Element) -> str | None:
    """Its kind; None: an ordinary shape."""
    found = shape.find(f"{_P}nvSpPr/{_P}nvPr/{_P}ph")
    return None if found is None else found.get("type", "body")


def _shape(shape: etree._Element, out: DocumentBuilder) -> None:
    kind = _placeholder(shape)
    if kind in _MARGINS:
        return
    for table in shape.iter(f"{_A}tbl"):
        for number, row in enumerate(table.iterchildren(f"{_A}tr")):
            cells = [
                " ".join(_paragraph(p) for p in cell.iter(f"{_A}p"))
                for cell in row.iterchildren(f"{_A}tc")
            ]
            out.add_row(cells, is_header=number == 0 and is_header(cells))
    body = shape.find(f"{_P}txBody")
    for paragraph in () if body is None else body.iterchildren(f"{_A}p"):
        is_item = kind in ("body", "obj") or _has_bullet(paragraph)
        out.add("list_item" if is_item else "paragraph", _paragraph(paragraph))


def _has_bullet(paragraph: etree._Element) -> bool:
    properties = paragraph.find(f"{_A}pPr")
    return properties is not None and any(
        properties.find(f"{_A}{name}") is not None for name in ("buChar", "buAutoNum")
    )


def _paragraph(paragraph: etree._Element) -> str:
    pieces: list[str] = []
    for element in paragraph.iter(f"{_A}t", f"{_A}br", f"{_A}tab"):
        pieces.append(element.text or "" if element.tag == f"{_A}t" else "\n")
    return "".join(pieces)


def _notes(root: etree._Element, out: DocumentBuilder) -> None:
    for shape in root.iter(f"{_P}sp"):
        if _placeholder(shape) not in _MARGINS:
            for paragraph in shape.iter(f"{_A}p"):
                out.add("paragraph", _paragraph(paragraph))

"""HTML, parsed as browsers do, without what a browser does not show.

Left out: scripts, styles, comments, navigation, form fields, elements that are hidden by an
attribute, by their own style or by a rule of a style sheet in the page for a tag, class or id, and
text that is white on no background of its own, transparent or far outside the page. Other style
sheets are not loaded and selectors are not computed: what hides text by those is not noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lxml import etree, html  # type: ignore[attr-defined]  # compiled, untyped

from anzoth.ingest.document import BlockKind, DocumentBuilder
from anzoth.ingest.limits import UnreadableFile
from anzoth.ingest.parsers.csv import is_header

_NEVER_SHOWN = {
    "script", "style", "noscript", "template", "head", "iframe", "object", "embed", "svg",
    "canvas", "audio", "video", "select", "datalist", "input", "textarea", "button", "nav",
    "link", "meta", "title", "map", "area", "dialog",
}  # fmt: skip
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup",
    "hr", "html", "legend", "main", "menu", "ol", "p", "pre", "section", "summary", "table",
    "tbody", "tfoot", "thead", "ul",
}  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(hidden|collapse)|font-size\s*:\s*0(\.0*)?(px|pt|em|rem|%)?"
    r"\s*(;|!|$)|opacity\s*:\s*0?(\.0+)?\s*(;|!|$)|color\s*:\s*(transparent|rgba\([^)]*,\s*0\s*\))"
    r"|(left|top|text-indent)\s*:\s*-\d{3,}|clip\s*:\s*rect\(\s*0|clip-path\s*:\s*inset\(\s*(50|100)%",
    re.I,
)
_WHITE = re.compile(
    r"(?<![\w-])color\s*:\s*(white|#fff(fff)?\b|rgb\(\s*255,\s*255,\s*255\s*\))", re.I
)
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_MEDIA = re.compile(r"@[a-z-]+[^{};]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", re.I)
_SIMPLE = re.compile(r"[.#]?[\w-]+$")
_SPACE = re.compile(r"[ \t\n\r\f]+")


def read(text: str, out: DocumentBuilder) -> None:
    """A whole page. Raises UnreadableFile when it is nested too deeply to be read."""
    root = _parse(text)
    if root is None:
        return
    if out.title is None:
        out.title = root.findtext(".//title")
    _Walk(out, _hiding_rules(root)).run(root)


def read_fragment(text: str, out: DocumentBuilder) -> None:
    """A piece of HTML inside another document, which keeps its own title."""
    root = _parse(text)
    if root is not None:
        _Walk(out, _hiding_rules(root)).run(root)


def _parse(text: str) -> html.HtmlElement | None:
    text = text.replace("\x00", "")
    parser = html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True
    )
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing but comments
        return None
    except etree.XMLSyntaxError:  # it forgives every fault but a lack of memory
        raise MemoryError from None
    if any("depth" in entry.message for entry in parser.error_log):
        raise UnreadableFile("invalid_file", "The HTML is nested too deeply to be read.")
    return root


def _hiding_rules(root: html.HtmlElement) -> frozenset[str]:
    """Tags, `.classes` and `#ids` that a style sheet of the page hides on every screen."""
    found: set[str] = set()
    for style in root.iter("style"):
        for selectors, declarations in _RULE.findall(_MEDIA.sub("", style.text or "")):
            if _HIDING_STYLE.search(declarations):
                names = (selector.strip() for selector in selectors.split(","))
                found.update(name for name in names if _SIMPLE.match(name))
    return frozenset(found)


@dataclass(slots=True)
class _Walk:
    """Text of inline elements gathers until a block begins or ends."""

    out: DocumentBuilder
    hiding: frozenset[str]
    inline: list[str] = field(default_factory=list)
    kind: BlockKind = "paragraph"
    level: int | None = None
    num_pre: int = 0
    num_items: int = 0
    cells: list[str] | None = None
    """Of the table row that is being read."""
    header_cells: int = 0
    is_first_row: bool = False
    layout_tables: int = 0

    def run(self, root: html.HtmlElement) -> None:
        walk = etree.iterwalk(root, events=("start", "end"))
        skipped = None
        for event, element in walk:
            if event == "start":
                if element is not root and self._is_hidden(element):
                    walk.skip_subtree()
                    skipped = element
                    continue
                self._start(element)
                self._text(element.text)
            else:
                if element is skipped:
                    skipped = None
                else:
                    self._end(element)
                if element is not root:
                    self._text(element.tail)
        self._flush()

    def _is_hidden(self, element: html.HtmlElement) -> bool:
        if element.tag in _NEVER_SHOWN:
            return True
        style = element.get("style") or ""
        is_hidden = (
            element.get("hidden") is not None
            or (element.get("aria-hidden") or "").lower() == "true"
            or (bool(style) and bool(_HIDING_STYLE.search(style)))
            or (bool(self.hiding) and not self.hiding.isdisjoint(_names(element)))
            or (bool(style) and bool(_WHITE.search(style)) and not _has_background(element))
        )
        if is_hidden:
            self.out.hide("".join(element.itertext()))
        return is_hidden

    def _text(self, text: str | None) -> None:
        if text:
            self.inline.append(text if self.num_pre else _SPACE.sub(" ", text))

    def _start(self, element: html.HtmlElement) -> None:
        tag = element.tag
        if tag == "br":
            self.inline.append("\n")
        elif tag == "table":
            self._flush()
            if _is_layout(element):
                self.layout_tables += 1
                element.set("data-layout", "1")
            else:
                self.is_first_row = True
        elif self.layout_tables and tag in ("tr", "td", "th"):
            self._flush()
        elif tag == "tr":
            self._flush()
            self.cells, self.header_cells = [], 0
        elif tag in ("td", "th") and self.cells is not None:
            self.inline.clear()
            self.header_cells += tag == "th"
        elif self.cells is not None:
            if tag in _BLOCKS or tag in _HEADINGS or tag == "li":
                self.inline.append(" ")
        elif tag in _HEADINGS:
            self._flush()
            self.kind, self.level = "heading", _HEADINGS[tag]
        elif tag == "li":
            self._flush()
            self.num_items += 1
            self.kind = "list_item"
        elif tag == "pre":
            self._flush()
            self.num_pre += 1
            self.kind = "code"
        elif tag in _BLOCKS:
            self._flush()

    def _end(self, element: html.HtmlElement) -> None:
        tag = element.tag
        if tag == "table":
            self._flush()
            if element.get("data-layout") == "1":
                self.layout_tables -= 1
        elif self.layout_tables and tag in ("tr", "td", "th"):
            self._flush()
        elif tag in ("td", "th") and self.cells is not None:
            self.cells.append("".join(self.inline))
            self.inline.clear()
        elif tag == "tr" and self.cells is not None:
            self._end_row(self.cells)
        elif self.cells is not None:
            if tag in _BLOCKS or tag in _HEADINGS or tag == "li":
                self.inline.append(" ")
        elif tag in _HEADINGS or tag in _BLOCKS or tag == "li":
            self._flush()
            self.num_pre -= tag == "pre" and self.num_pre > 0
            self.num_items -= tag == "li" and self.num_items > 0
            self.kind, self.level = "paragraph", None

    def _end_row(self, cells: list[str]) -> None:
        self.cells = None
        self.inline.clear()
        names_columns = self.is_first_row and (self.header_cells == len(cells) or is_header(cells))
        self.is_first_row = False
        self.out.add_row(cells, is_header=names_columns)

    def _flush(self) -> None:
        text = "".join(self.inline)
        self.inline.clear()
        if self.kind == "code":
            self.out.add("code", text)
            return
        lines = (line.strip(" ") for line in text.split("\n"))
        self.out.add(self.kind, "\n".join(line for line in lines if line), self.level)


def _names(element: html.HtmlElement) -> list[str]:
    classes = (element.get("class") or "").split()
    return [str(element.tag), f"#{element.get('id')}", *(f".{name}" for name in classes)]


def _has_background(element: html.HtmlElement) -> bool:
    ancestor: html.HtmlElement | None = element
    while ancestor is not None:
        if "background" in (ancestor.get("style") or "").lower() or ancestor.get("bgcolor"):
            return True
        ancestor = ancestor.getparent()
    return False


def _is_layout(table: html.HtmlElement) -> bool:
    """A table that holds tables or headings arranges a page; its cells are no data."""
    return next(table.iter("h1", "h2", "h3"), None) is not None or (
        next((inner for inner in table.iter("table") if inner is not table), None) is not None
    )

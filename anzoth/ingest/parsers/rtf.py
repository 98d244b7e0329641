"""Rich Text Format: a state machine over its control words.

Kept: paragraphs, table rows, headings by outline level, footnotes. Left out: hidden text (`\\v`),
deleted text, headers and footers, pictures, and every destination that is marked as ignorable.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field, replace

from anzoth.ingest.document import DocumentBuilder
from anzoth.ingest.limits import UnreadableFile

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})?[ ]?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+"
    rb"|([^\\{}\r\n]+)"
)
_MAX_DEPTH = 5_000
_SKIPPED = {
    "fonttbl", "colortbl", "stylesheet", "info", "pict", "header", "headerf", "headerl",
    "headerr", "footer", "footerf", "footerl", "footerr", "object", "fldinst", "themedata",
    "datastore", "latentstyles", "listtable", "listoverridetable", "rsidtbl", "generator",
    "xmlnstbl", "filetbl", "revtbl", "private", "annotation", "atnid", "atnauthor", "bkmkstart",
    "bkmkend", "pntext", "shpinst", "sp", "nonshppict", "mmathPr", "tc", "xe",
}  # fmt: skip
_CHARACTERS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "bullet": "•", "lquote": "‘",
    "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": " ", "enspace": " ", "~": " ",
    "_": "-", "{": "{", "}": "}", "\\": "\\",
}  # fmt: skip
_CODE_PAGES = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5",
    161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257",
    204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
_FONT = re.compile(rb"\\f(\d{1,5})[^{};]*?\\fcharset(\d{1,3})")


@dataclass(slots=True)
class _Group:
    """What `{` saves and `}` restores."""

    is_skipped: bool = False
    is_hidden: bool = False
    num_fallback: int = 1
    """Characters that stand for a Unicode character in readers that know none."""
    encoding: str = "cp1252"
    outline: int | None = None


def read(data: bytes, out: DocumentBuilder) -> None:
    """One block per paragraph, one row per table row."""
    _Reader(out, _fonts(data)).read(data)


def _fonts(data: bytes) -> dict[int, str]:
    """Code page by font number."""
    return {
        int(number): _CODE_PAGES[int(charset)]
        for number, charset in _FONT.findall(data[: 1 << 20])
        if int(charset) in _CODE_PAGES
    }


@dataclass(slots=True)
class _Reader:
    out: DocumentBuilder
    fonts: dict[int, str]
    group: _Group = field(default_factory=_Group)
    stack: list[_Group] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    """Bytes of a code page that are not decoded yet: two of them may be one character."""
    num_skipped: int = 0
    is_at_start: bool = False
    """Of a group: `\\*` there makes the group ignorable."""

    def read(self, data: bytes) -> None:
        end = 0
        while match := _TOKEN.match(data, end):
            end = match.end()
            word, number, byte, symbol, brace, text = match.groups()
            if byte is None and text is None:
                self._decode()
            if brace:
                if brace == b"{":
                    self._push()
                elif not self._pop():
                    break
            elif word is not None:
                if word == b"bin":
                    end += max(int(number or 0), 0)
                else:
                    self._word(word.decode(), int(number) if number else None)
                self.is_at_start = False
            elif byte is not None:
                self._bytes(bytes([int(byte, 16)]))
            elif symbol is not None:
                self._symbol(symbol.decode("latin-1"))
            elif text is not None:
                self._bytes(text)
        self._decode()
        self._paragraph()

    def _push(self) -> None:
        if len(self.stack) >= _MAX_DEPTH:
            raise UnreadableFile("invalid_file", "The RTF is nested too deeply to be read.")
        self.stack.append(self.group)
        self.group = replace(self.group)
        self.is_at_start = True
        self.num_skipped = 0

    def _pop(self) -> bool:
        """Whether the document goes on."""
        if not self.stack:
            return False
        self.group = self.stack.pop()
        self.num_skipped = 0
        return bool(self.stack)

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            self.group.is_skipped = True
        elif symbol in _CHARACTERS:
            self._text(_CHARACTERS[symbol])
        elif symbol in "\r\n":
            self._paragraph()

    def _bytes(self, content: bytes) -> None:
        skipped = min(self.num_skipped, len(content))
        self.num_skipped -= skipped
        self.raw += content[skipped:]

    def _decode(self) -> None:
        if self.raw:
            text = self.raw.decode(self.group.encoding, "replace")
            self.raw.clear()
            self._text(text)

    def _text(self, text: str) -> None:
        if self.group.is_skipped:
            return
        if self.group.is_hidden:
            self.out.hide(text)
        else:
            self.pieces.append(text)

    def _word(self, word: str, number: int | None) -> None:
        group = self.group
        if word in _SKIPPED:
            group.is_skipped = True
        elif group.is_skipped:
            return
        elif word in _CHARACTERS:
            self._text(_CHARACTERS[word])
        elif word in ("par", "sect", "page"):
            self._paragraph()
        elif word in ("cell", "nestcell"):
            self.cells.append("".join(self.pieces))
            self.pieces.clear()
        elif word in ("row", "nestrow"):
            self.out.add_row(self.cells)
            self.cells.clear()
        elif word in ("v", "deleted"):
            group.is_hidden = number != 0
        elif word == "plain":
            group.is_hidden = False
        elif word == "u" and number is not None:
            self._text(chr(number % 0x10000))
            self.num_skipped = group.num_fallback
        elif word == "uc":
            group.num_fallback = min(max(number or 0, 0), 10)
        elif word == "f":
            group.encoding = self.fonts.get(number or 0, group.encoding)
        elif word == "ansicpg":
            group.encoding = _code_page(number)
        elif word == "outlinelevel":
            group.outline = number
        elif word == "pard":
            group.outline = None

    def _paragraph(self) -> None:
        if self.cells:  # inside a table cell
            self.pieces.append("\n")
            return
        text = "".join(self.pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self.pieces.clear()
        level = self.group.outline
        if level is not None and 0 <= level < 9 and len(text) < 300:
            self.out.add("heading", text, level + 1)
        else:
            self.out.add("paragraph", text)


def _code_page(number: int | None) -> str:
    try:
        return codecs.lookup(f"cp{number}").name
    except LookupError:
        return "cp1252"

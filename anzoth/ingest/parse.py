"""Which parser reads a file, and what does a caller see when it fails?

Runs in the calling process: for untrusted files that is a child (see `anzoth.ingest.host`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anzoth.ingest import kinds
from anzoth.ingest.document import Document, DocumentBuilder
from anzoth.ingest.limits import Limits, UnreadableFile
from anzoth.ingest.parsers import code, csv, docx, html, json, markdown, pdf, pptx, rtf, text, xlsx


@dataclass(slots=True, frozen=True)
class Parser:
    """How one kind is read: from its bytes, or from its decoded text."""

    from_bytes: Callable[[bytes, DocumentBuilder], None] | None = None
    from_text: Callable[[str, DocumentBuilder], None] | None = None


PARSERS: dict[str, Parser] = {
    "pdf": Parser(from_bytes=pdf.read),
    "docx": Parser(from_bytes=docx.read),
    "pptx": Parser(from_bytes=pptx.read),
    "xlsx": Parser(from_bytes=xlsx.read),
    "rtf": Parser(from_bytes=rtf.read),
    "csv": Parser(from_text=csv.read),
    "html": Parser(from_text=html.read),
    "md": Parser(from_text=markdown.read),
    "json": Parser(from_text=json.read),
    "code": Parser(from_text=code.read),
    "txt": Parser(from_text=text.read),
}
"""One line per kind; `kinds.detect` names them."""


def parse(data: bytes, name: str, limits: Limits | None = None) -> Document:
    """The document in a file. `name` is its file name, of which only the extension may matter.

    Raises UnreadableFile: empty, damaged, locked, not supported, too large.
    """
    limits = limits or Limits()
    if len(data) > limits.max_file_bytes:
        raise UnreadableFile(
            "invalid_file", f"The file is larger than {limits.max_file_bytes >> 20} MB."
        )
    detected = kinds.detect(data, name, limits)
    parser = PARSERS[detected.kind]
    out = DocumentBuilder(limits)
    try:
        if parser.from_bytes is not None:
            parser.from_bytes(data, out)
        elif parser.from_text is not None and detected.text is not None:
            parser.from_text(detected.text, out)
    except RecursionError:
        raise UnreadableFile("invalid_file", "The file is nested too deeply to be read.") from None
    return out.build(detected.kind)

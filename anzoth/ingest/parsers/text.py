"""Plain text: paragraphs between empty lines.

Does not know: encodings (see `anzoth.ingest.decode`).
"""

from __future__ import annotations

from anzoth.ingest.document import DocumentBuilder


def read(text: str, out: DocumentBuilder) -> None:
    """One paragraph per run of lines that are not blank."""
    out.add_paragraphs(text.replace("\r\n", "\n").replace("\r", "\n"))

"""Source code and configuration: text whose lines and indentation are kept.

A unit begins at a line without indentation behind an empty one, which is where definitions begin
in nearly every language; nothing is parsed.
"""

from __future__ import annotations

from anzoth.ingest.document import DocumentBuilder

_CLOSING = ("}", ")", "]", "end", "</")


def read(text: str, out: DocumentBuilder) -> None:
    """One code block per unit."""
    unit: list[str] = []
    blank = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = line.rstrip()
        if blank and line and not line[0].isspace() and not line.startswith(_CLOSING):
            out.add("code", "\n".join(unit))
            unit = []
        blank = not line
        unit.append(line)
    out.add("code", "\n".join(unit))

"""What kind of document is a file?

The content decides: signatures, members of a zip archive, markup at the beginning. The name only
tells apart what is all plain text (csv, markdown, source code); a wrong extension changes nothing
else. What is neither known nor text is refused.

Does not know: how a kind is read (see `anzoth.ingest.parsers`).
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import NamedTuple

from anzoth.ingest.archive import Archive
from anzoth.ingest.decode import NotText, decode
from anzoth.ingest.extensions import EXTENSIONS
from anzoth.ingest.limits import Limits, UnreadableFile

_HEAD_BYTES = 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OFFICE_PARTS = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
}  # fmt: skip
_OFFICE_FOLDERS = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}

_HTML = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.I | re.S)
_TAG = re.compile(r"<[a-z!/][^>]*>", re.I)


class Detected(NamedTuple):
    """A kind, and the text if the file is plain text."""

    kind: str
    text: str | None


def detect(data: bytes, name: str, limits: Limits) -> Detected:
    """The kind of a file. Raises UnreadableFile for what is empty, locked or not supported."""
    if not data.strip(b"\x00 \t\r\n"):
        raise UnreadableFile("invalid_file", "The file is empty.")
    if _is_pdf(data, name):
        return Detected("pdf", None)
    if data.startswith(b"PK\x03\x04"):
        return Detected(_kind_of_archive(data, limits), None)
    if data.startswith(_OLE):
        raise _ole_error(data)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:5] == b"{\\rtf":
        return Detected("rtf", None)
    if len(data) > 4 * limits.max_text_chars:
        raise UnreadableFile(
            "invalid_file",
            f"A text file of {len(data):,} bytes is more than the "
            f"{limits.max_text_chars:,} characters that are read. Split it.",
        )
    try:
        text = decode(data)
    except NotText:
        raise UnreadableFile("unsupported_file", _unsupported(name)) from None
    return Detected(_kind_of_text(text, name), text)


def _is_pdf(data: bytes, name: str) -> bool:
    """Readers accept rubbish before the signature; a text may speak of it."""
    head = data[:_HEAD_BYTES]
    is_named = name.lower().endswith(".pdf")
    return head.lstrip().startswith(b"%PDF-") or (is_named and b"%PDF-" in head)


def _kind_of_archive(data: bytes, limits: Limits) -> str:
    archive = Archive(data, limits)
    names = archive.names
    for part, kind in _OFFICE_PARTS.items():
        if part in names:
            return kind
    if "[Content_Types].xml" in names:
        for folder, kind in _OFFICE_FOLDERS.items():
            if any(name.startswith(folder) and name.endswith(".xml") for name in names):
                return kind
    if "mimetype" in names:
        raise UnreadableFile(
            "unsupported_file",
            "OpenDocument and EPUB files are not read. Save it as docx, xlsx, pptx or pdf.",
        )
    raise UnreadableFile(
        "unsupported_file", "Archives are not unpacked. Upload the files in it one by one."
    )


def _ole_error(data: bytes) -> UnreadableFile:
    if "EncryptedPackage".encode("utf-16-le") in data:
        return UnreadableFile(
            "invalid_file", "The file is protected by a password. Remove it and upload again."
        )
    return UnreadableFile(
        "unsupported_file",
        "Old Office files (doc, xls, ppt) are not read. Save it as docx, xlsx, pptx or pdf.",
    )


def _kind_of_text(text: str, name: str) -> str:
    path = PurePath(name.lower())
    extension = path.suffix.removeprefix(".") or path.name
    named = EXTENSIONS.get(extension, "txt")
    head = text[: 4 * _HEAD_BYTES].lstrip("\ufeff")
    if _HTML.match(head):
        return "html"
    if named == "html" and not _TAG.search(text):
        return "txt"
    if named == "txt" and head.lstrip()[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]"):
        return "json"  # what is none after all is read as text
    return named


def _unsupported(name: str) -> str:
    extension = PurePath(name).suffix.lower()
    what = (
        f"Files like this one ({extension})" if re.fullmatch(r"\.\w{1,8}", extension) else "Files"
    )
    if what == "Files":
        what = "Binary files of this kind"
    return (
        f"{what} are not supported. Supported are pdf, docx, pptx, xlsx, csv, html, markdown, "
        "text, rtf, json and source code."
    )

"""Which characters do the bytes of a text file stand for?

Does not know: what kind of text it is.
"""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

_SAMPLE_BYTES = 64 << 10
"""Guessing reads this much from the beginning, the middle and the end."""
_MAX_BROKEN = 1 / 500
"""Share of broken sequences up to which damaged UTF-8 is still UTF-8."""
_MAX_CONTROL = 1 / 100

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


_DECLARATION = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})")


class NotText(Exception):
    """These bytes are no text in any encoding that is known here."""


def decode(data: bytes) -> str:
    """The text. Single broken characters become U+FFFD. Raises NotText."""
    text = _decode(data)
    sample = text[:_SAMPLE_BYTES]
    num_control = sum(c < " " and c not in "\t\n\r\x0b\x0c\x1b" for c in sample)
    if num_control > len(sample) * _MAX_CONTROL:
        raise NotText
    return text


def _decode(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace").removeprefix("\ufeff")
    if wide := _wide_encoding(data):
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if b"\x00" in data[:_SAMPLE_BYTES]:
        raise NotText
    if (declared := _declared(data)) is not None:
        return declared
    text = data.decode("utf-8", "replace")
    num_broken = text.count("\ufffd")
    if num_broken <= len(text) * _MAX_BROKEN and not text.replace("\ufffd", "").isascii():
        return text
    best = from_bytes(_sample(data), threshold=0.2).best()
    if best is None:
        raise NotText
    return data.decode(best.encoding, "replace")


def _declared(data: bytes) -> str | None:
    """Decoded as HTML or XML says that it is encoded, if that is so."""
    match = _DECLARATION.search(data, 0, 2048)
    try:
        return None if match is None else data.decode(match[1].decode())
    except (LookupError, ValueError):  # no such encoding, or it is another
        return None


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of Western text is zero."""
    head = data[:4096]
    if len(head) < 4 or len(data) % 2:
        return None
    zeros = [head[start::2].count(0) * 2 / len(head) for start in (0, 1)]
    if zeros[1] > 0.4 and zeros[0] < 0.05:
        return "utf-16-le"
    if zeros[0] > 0.4 and zeros[1] < 0.05:
        return "utf-16-be"
    return None


def _sample(data: bytes) -> bytes:
    if len(data) <= 3 * _SAMPLE_BYTES:
        return data
    middle = len(data) // 2
    return b"\n".join(
        (data[:_SAMPLE_BYTES], data[middle : middle + _SAMPLE_BYTES], data[-_SAMPLE_BYTES:])
    )

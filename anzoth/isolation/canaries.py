"""Texts that nobody writes by chance, and where they stand.

Two kinds, each with one mark that is in all of its texts: what documents and conversations say,
which is written nowhere in clear; and names that the database holds as they are (of keys, aliases,
projects), which other tenants must not see and no log holds. Beside them secrets.

A text counts as found when its mark stands somewhere raw, as hexadecimal digits, in base64 at any
alignment, or in UTF-16. What is compressed is not seen.

Does not know: where is looked.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

_MARK_BYTES = 12
_BLOCK_BYTES = 4 << 20


@dataclass(slots=True, frozen=True)
class Canaries:
    """Those of one tenant."""

    document: str = field(default_factory=lambda: secrets.token_hex(_MARK_BYTES))
    label: str = field(default_factory=lambda: secrets.token_hex(_MARK_BYTES))

    def text(self, what: str, num_words: int = 0) -> str:
        """About `what`; with `num_words` more, each of its own (a long prompt, for instance)."""
        words = " ".join(secrets.token_hex(2) for _ in range(num_words))
        return f"The {what} says {self.document} to nobody else. {words}".strip()


class Needles:
    """What is looked for: marks and secrets, by the name that a finding has."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._forms = {name: tuple(_forms(text.encode())) for name, text in wanted.items()}
        self._longest = max(len(form) for forms in self._forms.values() for form in forms)

    def within(self, data: bytes) -> list[str]:
        """Names of what stands in `data`."""
        return [name for name, forms in self._forms.items() if any(f in data for f in forms)]

    def within_file(self, file: IO[bytes]) -> set[str]:
        """The same for a file of any size."""
        found: set[str] = set()
        kept = b""
        while block := file.read(_BLOCK_BYTES):
            data = kept + block
            found.update(self.within(data))
            kept = data[-self._longest :]
        return found


def _forms(text: bytes) -> Iterator[bytes]:
    yield text
    yield text.hex().encode()
    yield text.hex().upper().encode()
    yield text.decode().encode("utf-16-le")
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + text)
        digits = whole[-(-8 * shift // 6) : 8 * (shift + len(text)) // 6]
        yield digits  # only those that depend on nothing but the text
        yield digits.translate(bytes.maketrans(b"+/", b"-_"))

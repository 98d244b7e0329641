"""How much may one file cost, and how is a file refused?

Does not know: kinds of documents, processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ErrorCode = Literal["invalid_file", "unsupported_file", "server_error"]
"""OpenAI's, of a file in a vector store (`last_error.code`)."""


class UnreadableFile(Exception):
    """This file cannot be read. The message is one or two sentences for whoever uploaded it."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message


@dataclass(slots=True, frozen=True)
class Limits:
    """What one file may cost. The parsers keep the first group, the kernel the second."""

    max_file_bytes: int = 512 << 20
    """OpenAI's."""
    max_text_chars: int = 20_000_000
    """About OpenAI's five million tokens."""
    max_blocks: int = 1_000_000
    max_pages: int = 5_000
    max_members: int = 20_000
    """Of an archive (docx, pptx and xlsx are zip archives)."""
    max_part_bytes: int = 256 << 20
    """Of one member that is read, inflated."""
    max_inflated_bytes: int = 512 << 20
    """Of all members that are read."""
    max_ratio: int = 300
    """Inflated to deflated, of a member above a megabyte. XML of real documents stays below 100."""

    memory_bytes: int = 1 << 30
    """Beside the file itself."""
    cpu_s: int = 120
    wall_s: float = 300.0
    max_answer_bytes: int = 160 << 20

"""What is a chunk, and by which rules is a document cut into chunks?

A chunk is a span of the document's text: what is cited is exactly what stands there. What is
indexed has a context in front (title, headings, a table's header), which is kept apart.

Does not know: how the cuts are chosen (see `anzoth.ingest.chunker`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from anzoth.ingest.document import Document


@dataclass(slots=True, frozen=True)
class Structural:
    """Cuts where the document's structure does; tokens are counted by the embedder's tokenizer."""

    max_tokens: int = 300
    """Of what is indexed, context included. No more than the embedder reads."""
    overlap: float = 0.15
    """Of `max_tokens`, repeated where a paragraph or a piece of code had to be cut."""
    parent_tokens: int = 1_200
    """Of the section around a chunk that a model is given."""

    def __post_init__(self) -> None:
        if self.max_tokens < 16 or not 0 <= self.overlap <= 0.5:
            raise ValueError("max_tokens must be at least 16 and overlap at most one half")
        if self.parent_tokens < self.max_tokens:
            raise ValueError("parent_tokens must not be smaller than max_tokens")


@dataclass(slots=True, frozen=True)
class Static:
    """OpenAI's static strategy: windows over the whole text. Without context in front."""

    max_chunk_size_tokens: int = 800
    chunk_overlap_tokens: int = 400

    def __post_init__(self) -> None:
        if not 100 <= self.max_chunk_size_tokens <= 4096:
            raise ValueError("max_chunk_size_tokens must be from 100 to 4096")
        if not 0 <= self.chunk_overlap_tokens <= self.max_chunk_size_tokens // 2:
            raise ValueError("chunk_overlap_tokens must be at most half of max_chunk_size_tokens")


Rules = Structural | Static


@dataclass(slots=True, frozen=True)
class Chunk:
    """A span of a document's text, `start` to `end`, in characters."""

    id: str
    """Of what is indexed, and the how manieth of its like in the file this is: nothing else. A
    later version of the file keeps the ids of chunks that say the same."""
    start: int
    end: int
    page: int | None
    """Of its first character."""
    last_page: int | None
    headings: tuple[str, ...]
    """Above its first character, outermost first."""
    context: str
    """To be indexed in front of the text; not part of what is cited."""
    num_tokens: int
    """Of `indexed`."""
    sha256: str
    """Of the cited text."""
    parent_start: int
    parent_end: int
    """The section, or part of one, that a model is given instead of the chunk."""
    duplicate_of: int | None = None
    """Position of the first chunk of the file with the same text."""

    def text(self, document: Document) -> str:
        """What is cited."""
        return document.text[self.start : self.end]

    def indexed(self, document: Document) -> str:
        """What is embedded and searched."""
        return indexed_text(self.context, self.text(document))

    def parent(self, document: Document) -> str:
        return document.text[self.parent_start : self.parent_end]


def indexed_text(context: str, text: str) -> str:
    return f"{context}\n\n{text}" if context else text


def chunk_id(indexed: str, occurrence: int) -> str:
    """32 hexadecimal digits. `occurrence` counts from 0."""
    return hashlib.sha256(f"{indexed}\x00{occurrence}".encode()).hexdigest()[:32]

"""In which form does a chunk stand in the database?

Its words and its vector are sealed with the tenant's key, each for its place: store and number. The
digest beside them tells chunks that say the same from others, within the tenant and without saying
what they say: it is keyed.

Does not know: how chunks are made (`anzoth.ingest`), statements, the index.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import orjson

from anzoth.gateway.tenant_crypt import Label, TenantCipher
from anzoth.ingest.chunks import Chunk, indexed_text
from anzoth.ingest.document import Document

DIGEST_BYTES = 16
_CONTENT, _VECTOR = "chunk.content", "chunk.vector"


@dataclass(slots=True, frozen=True)
class ChunkContent:
    """What is kept of a chunk: the span `start` to `end` of its document's canonical text, in
    characters, and what stands there."""

    text: str = field(repr=False)
    """What is cited."""
    context: str = field(repr=False)
    """Indexed in front of it; not part of what is cited."""
    start: int
    end: int
    parent_start: int
    parent_end: int
    """The section around it: whole chunks of the same file, with white space between them."""
    num_tokens: int
    """Of `indexed`, by the embedder's tokenizer."""
    page: int | None
    last_page: int | None
    headings: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, chunk: Chunk, document: Document) -> ChunkContent:
        return cls(
            chunk.text(document),
            chunk.context,
            chunk.start,
            chunk.end,
            chunk.parent_start,
            chunk.parent_end,
            chunk.num_tokens,
            chunk.page,
            chunk.last_page,
            chunk.headings,
        )

    @property
    def indexed(self) -> str:
        """What is embedded and searched."""
        return indexed_text(self.context, self.text)

    def behind(self, position: int) -> str:
        """What it adds to a text that has come as far as `position`. What lies between them is
        white space."""
        return "\n" * (self.start - position) + self.text[max(0, position - self.start) :]


class ChunkCodec:
    """Of one store of one tenant."""

    __slots__ = ("_cipher", "_digest_key", "_store_id")

    def __init__(self, cipher: TenantCipher, store_id: str) -> None:
        self._cipher = cipher
        self._store_id = store_id
        self._digest_key = cipher.subkey("chunk.digest")

    def digest(self, indexed: str) -> bytes:
        """16 bytes: the same for the same words in any store of the tenant."""
        mac = hmac.digest(self._digest_key, indexed.encode(), hashlib.sha256)
        return mac[:DIGEST_BYTES]

    def seal_content(self, number: int, content: ChunkContent) -> bytes:
        return self._cipher.seal(orjson.dumps(content), self._label(_CONTENT, number))

    def open_content(self, number: int, sealed: bytes) -> ChunkContent:
        """Raises CannotOpen."""
        said = orjson.loads(self._cipher.open(sealed, self._label(_CONTENT, number)))
        return ChunkContent(**{**said, "headings": tuple(said["headings"])})

    def seal_vector(self, number: int, vector: bytes) -> bytes:
        """`vector`: float32, little-endian."""
        return self._cipher.seal(vector, self._label(_VECTOR, number))

    def open_vector(self, number: int, sealed: bytes) -> bytes:
        """Raises CannotOpen."""
        return self._cipher.open(sealed, self._label(_VECTOR, number))

    def _label(self, kind: str, number: int) -> Label:
        return Label(kind, self._store_id, piece=number)

"""What does a document say from one character to another?

Documents are kept as chunks, which may overlap; between two of them stood white space and nothing
else. So a span is put together from the chunks that it touches, and is as long as it was.

Does not know: why a span is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from anzoth.db.pool import Connection
from anzoth.db.store import chunk_rows
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec, ChunkContent
from anzoth.gateway.tenant_crypt import TenantCipher

_PROBES = 32
"""Chunks looked at in each step of finding where a span begins: files have 50,000 at most, so
that there are three steps."""
_PAGE_CHUNKS = 64


Contents = Callable[[Sequence[int]], Awaitable[list[tuple[int, ChunkContent]]]]
"""Chunks by their positions, in order, with these."""


class Span(NamedTuple):
    """Characters `start` to `end` of a document's canonical text."""

    store_id: str
    file_id: str
    start: int
    end: int


class Part(NamedTuple):
    """What a document says within a span."""

    text: str
    is_last: bool
    """The document ends here."""


async def read(connection: Connection, cipher: TenantCipher, project_id: UUID, span: Span) -> str:
    """As long as the span. '': there is no such file. Raises CannotOpen."""
    touched = await _touched(connection, cipher, project_id, span)
    return "" if touched is None else put_together(touched.contents, span.start, span.end)


async def read_part(
    connection: Connection, cipher: TenantCipher, project_id: UUID, span: Span
) -> Part | None:
    """No longer than the document. None: there is no such file, or it ends before the span.
    Raises CannotOpen."""
    touched = await _touched(connection, cipher, project_id, span)
    if touched is None or not (touched.contents or touched.has_more):
        return None
    end = span.end if touched.has_more else touched.contents[-1].end
    return Part(put_together(touched.contents, span.start, end), is_last=not touched.has_more)


class _Touched(NamedTuple):
    contents: list[ChunkContent]
    """Of the chunks, in order."""
    has_more: bool
    """The document goes on behind the span."""


async def _touched(
    connection: Connection, cipher: TenantCipher, project_id: UUID, span: Span
) -> _Touched | None:
    """None: there is no such file."""
    tenant_id = cipher.tenant.id
    of = (tenant_id, span.store_id, span.file_id)
    last = await chunk_rows.last_position(
        connection, tenant_id, project_id, span.store_id, span.file_id
    )
    if last is None:
        return None
    codec = ChunkCodec(cipher, span.store_id)

    async def contents(positions: Sequence[int]) -> list[tuple[int, ChunkContent]]:
        rows = await chunk_rows.chunks_at(connection, *of, positions)
        return [(row.position, codec.open_content(row.number, row.content)) for row in rows]

    low = await _first_touched(contents, last, span.start)
    touched: list[ChunkContent] = []
    has_more = False
    while low <= last:
        page = await contents(range(low, min(low + _PAGE_CHUNKS, last + 1)))
        touched += [each for _, each in page if span.start < each.end and each.start < span.end]
        has_more = bool(page) and page[-1][1].end > span.end
        if not page or has_more:
            break
        low += _PAGE_CHUNKS
    return _Touched(touched, has_more)


async def _first_touched(contents: Contents, last: int, start: int) -> int:
    """The position of the first chunk that ends behind `start`, or one of the 32 before it. Both
    ends of chunks rise with their positions."""
    low, high = 0, last + 1  # it stands in [low, high), or nowhere
    while high - low > _PROBES:
        step = -(-(high - low) // _PROBES)
        probed = await contents(range(low + step - 1, high, step))
        at = bisect_right([content.end for _, content in probed], start)
        before: int = probed[at - 1][0] if at else low - 1
        high = probed[at][0] + 1 if at < len(probed) else high
        low = before + 1
    return low


def put_together(contents: Iterable[ChunkContent], start: int, end: int) -> str:
    """The text from `start` to `end`. `contents`: in order; others than those in it do no harm."""
    pieces: list[str] = []
    at = start
    for content in contents:
        pieces.append(content.behind(at))
        at = max(at, content.end)
    return "".join(pieces)[: end - start].ljust(end - start, "\n")

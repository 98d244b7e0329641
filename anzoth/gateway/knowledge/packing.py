"""Which of the chunks that were found does the model get to read, as which passages?

    best first     chunks are taken as long as there is room; one document gets no more than half of
                   it while others want some
    sections       then, best first again, the section around a chunk stands in its place, if there
                   is room; several chunks of one section are one passage anyway
    no repetition  a text that was taken is not taken again; where passages overlap, the later one
                   begins behind the earlier one
    stable order   by document and position, never by score: the same chunks make the same prompt,
                   whose beginning the prefix cache then knows

Everything is counted in tokens of the model that will read it. What was left out says why.

Does not know: how passages are laid out, tokenizers, where texts come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from anzoth.gateway.knowledge.found import FoundChunk
from anzoth.gateway.knowledge.spans import Span
from anzoth.text.passages import Passage

MAX_SECTIONS = 10
"""Whose text is asked for: those of the best chunks."""
MAX_TITLE = 300
GAP = "\n…\n"
"""Between pieces of one section that do not touch."""

Reason = Literal["duplicate", "document_share", "no_room"]
Cost = Callable[[Passage], int]
"""The tokens that a passage takes in the prompt."""


@dataclass(slots=True, frozen=True)
class Piece:
    """`text` is what stands from `start` to `end` in the document's canonical text."""

    start: int
    end: int
    text: str = field(repr=False)


@dataclass(slots=True, frozen=True)
class PackedPassage:
    """What the model reads as one, from one section of one document."""

    store_id: str
    file_id: str
    filename: str = field(repr=False)
    title: str = field(repr=False)
    pieces: tuple[Piece, ...]
    score: float
    """Of its best chunk."""
    pages: tuple[tuple[int, int, int], ...] = ()
    """From where to where in the document a page is known: that on which the span begins."""

    @property
    def text(self) -> str:
        return GAP.join(piece.text for piece in self.pieces)

    @property
    def passage(self) -> Passage:
        return Passage(self.text, self.title)

    @property
    def start(self) -> int:
        return self.pieces[0].start

    @property
    def end(self) -> int:
        return self.pieces[-1].end

    def page_at(self, offset: int) -> int | None:
        """Of a character of the document."""
        for start, end, page in self.pages:
            if start <= offset < end:
                return page
        return None


@dataclass(slots=True, frozen=True)
class Dropped:
    """A chunk that the model does not get to read."""

    chunk: FoundChunk
    reason: Reason


@dataclass(slots=True, frozen=True)
class Packed:
    """The passages of one prompt, in their order, and what became of the other chunks."""

    passages: tuple[PackedPassage, ...] = ()
    dropped: tuple[Dropped, ...] = ()

    @property
    def file_ids(self) -> tuple[str, ...]:
        """Whose text is in the prompt."""
        return tuple(sorted({passage.file_id for passage in self.passages}))


def sections(chunks: Sequence[FoundChunk]) -> list[Span]:
    """Those around the best chunks that are more than the chunk itself, each once."""
    spans = [_section(chunk) for chunk in chunks if _is_part(chunk)]
    return list(dict.fromkeys(spans))[:MAX_SECTIONS]


def pack(
    chunks: Sequence[FoundChunk], texts: Mapping[Span, str], cost: Cost, budget_tokens: int
) -> Packed:
    """At most `budget_tokens` of `chunks` (best first). `texts`: of `sections`, where known.

    O(chunks · cost). The costs of the passages sum up to no more than the budget.
    """
    room = _Room(cost, budget_tokens, len({_document(chunk) for chunk in chunks}) > 1)
    dropped: list[Dropped] = []
    postponed: list[FoundChunk] = []
    seen: set[str] = set()
    for chunk in chunks:
        text = " ".join(chunk.content.text.split())
        if text in seen:
            dropped.append(Dropped(chunk, "duplicate"))
        elif room.try_take(chunk):
            seen.add(text)
        elif room.try_take(chunk, beyond_share=True, only_look=True):
            postponed.append(chunk)
            seen.add(text)
        else:
            dropped.append(Dropped(chunk, "no_room"))
    for chunk in postponed:
        if not room.try_take(chunk, beyond_share=True):
            dropped.append(Dropped(chunk, "document_share"))
    for group in list(room.groups.values()):
        if (text := texts.get(group.span)) is not None:
            room.try_widen(group, text)
    passages = _without_overlaps(group.packed() for group in room.groups.values())
    return Packed(
        tuple(passages),
        tuple(drop for drop in dropped if not _is_read(drop.chunk, passages)),
    )


# --- taking ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """The chunks of one section that were taken, best first, or the section as a whole."""

    span: Span
    chunks: tuple[FoundChunk, ...] = ()
    whole: str | None = None
    num_tokens: int = 0

    def packed(self) -> PackedPassage:
        best = self.chunks[0]
        in_order = sorted(self.chunks, key=lambda chunk: chunk.content.start)
        first = in_order[0].content
        title = " ".join((first.context or best.filename).split())[:MAX_TITLE]
        pieces = _pieces(in_order)
        if self.whole is not None:
            pieces = (Piece(self.span.start, self.span.end, self.whole),)
        pages = [(chunk.content, chunk.content.page) for chunk in in_order]
        return PackedPassage(
            best.store_id,
            best.file_id,
            best.filename,
            title,
            pieces,
            best.score,
            tuple((at.start, at.end, page) for at, page in pages if page is not None),
        )


class _Room:
    """The budget, and what it was spent on."""

    def __init__(self, cost: Cost, budget_tokens: int, has_several: bool) -> None:
        self.groups: dict[Span, _Group] = {}
        self._cost = cost
        self._left = budget_tokens
        self._share = budget_tokens // 2 if has_several else budget_tokens
        self._used: dict[tuple[str, str], int] = {}

    def try_take(
        self, chunk: FoundChunk, *, beyond_share: bool = False, only_look: bool = False
    ) -> bool:
        span = _section(chunk)
        group = self.groups.get(span) or _Group(span)
        grown = _Group(span, (*group.chunks, chunk))
        return self._try_spend(group, grown, beyond_share=beyond_share, only_look=only_look)

    def try_widen(self, group: _Group, text: str) -> bool:
        return self._try_spend(group, _Group(group.span, group.chunks, text))

    def _try_spend(
        self, before: _Group, after: _Group, *, beyond_share: bool = False, only_look: bool = False
    ) -> bool:
        after.num_tokens = self._cost(after.packed().passage)
        document, more = after.span[:2], after.num_tokens - before.num_tokens
        used = self._used.get(document, 0) + more
        if more > self._left or (used > self._share and not beyond_share):
            return False
        if not only_look:
            self._left -= more
            self._used[document] = used
            self.groups[after.span] = after
        return True


def _pieces(chunks: Sequence[FoundChunk]) -> tuple[Piece, ...]:
    """Of chunks in their order: those that touch are one."""
    pieces: list[Piece] = []
    last_position = -1
    for chunk in chunks:
        at = chunk.content
        if pieces and (at.start <= pieces[-1].end or chunk.position == last_position + 1):
            before = pieces.pop()
            # What stands between two chunks is white space.
            text = before.text + "\n" * (at.start - before.end)
            if at.end > before.end:
                text += at.text[max(0, before.end - at.start) :]
            pieces.append(Piece(before.start, max(before.end, at.end), text))
        else:
            pieces.append(Piece(at.start, at.end, at.text))
        last_position = chunk.position
    return tuple(pieces)


# --- laying out -----------------------------------------------------------------------------------


def _without_overlaps(passages: Iterable[PackedPassage]) -> list[PackedPassage]:
    """In their order, each without what stands in an earlier one."""
    kept: list[PackedPassage] = []
    ends: dict[tuple[str, str], int] = {}
    for passage in sorted(passages, key=lambda p: (p.file_id, p.store_id, p.start, p.end)):
        document = (passage.store_id, passage.file_id)
        read = ends.get(document, 0)
        pieces = tuple(_behind(piece, read) for piece in passage.pieces if piece.end > read)
        if pieces:
            kept.append(replace(passage, pieces=pieces))
            ends[document] = pieces[-1].end
    return kept


def _behind(piece: Piece, read: int) -> Piece:
    return Piece(max(piece.start, read), piece.end, piece.text[max(0, read - piece.start) :])


def _is_read(chunk: FoundChunk, passages: Sequence[PackedPassage]) -> bool:
    """In a section that was taken as a whole, for example."""
    return any(
        piece.start <= chunk.content.start and chunk.content.end <= piece.end
        for passage in passages
        if (passage.store_id, passage.file_id) == _document(chunk)
        for piece in passage.pieces
    )


def _document(chunk: FoundChunk) -> tuple[str, str]:
    return chunk.store_id, chunk.file_id


def _section(chunk: FoundChunk) -> Span:
    at = chunk.content
    return Span(chunk.store_id, chunk.file_id, at.parent_start, at.parent_end)


def _is_part(chunk: FoundChunk) -> bool:
    at = chunk.content
    return (at.parent_start, at.parent_end) != (at.start, at.end)

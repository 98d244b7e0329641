"""How does a sparse segment lie in memory and in its file? Both are the same bytes.

    header            see _HEADER
    lengths           uint32[documents]      terms of each document, repeated ones counted
    term starts       uint32[terms + 1]      byte offsets into `terms`
    posting starts    uint32[terms + 1]      offsets into `impacts` and `frequencies`
    id starts         uint32[terms + 1]      offsets into `ids`, in words of 4 bytes
    terms             bytes                  UTF-8, ascending, so that bisection finds one
    ids               uint32 words           of each term: below LONG documents their ids, packed;
                                             else a roaring bitmap in its portable format
    impacts           uint8[postings]        see bm25.py
    frequencies       uint8, 16 or 32[postings]   as wide as the largest needs

Little-endian; each part is padded to 8 bytes. Terms are kept in full rather than as hashes: the
file is encrypted where it lies on disk, bisection is asked for a term once and then remembered, and
two terms can never become one. Parts are views of the file's bytes, so opening costs no more than
checking the offsets; a posting is checked when it is first read.

Does not know: queries, scores, or encryption.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from anzoth.index.bm25 import impacts, norms

VERSION = 1
"""One more whenever bytes change their meaning; k1 and b, which impacts depend on, belong to it."""
LONG = 64
"""Documents. Below, a bitmap object takes 200 to 250 bytes beside some 2 a posting (measured
2026-11-22, pyroaring 1.2), so the ids lie packed."""
MAX_OFFSET = 2**32 - 1

_HEADER = struct.Struct("<8sII6Q")
"""Magic, version, bytes of a frequency; documents, tokens, terms, postings, term bytes, words."""
_MAGIC = b"ANZSPARS"


class DamagedSegment(ValueError):
    """The bytes of this sparse segment are damaged."""


@dataclass(slots=True, frozen=True, eq=False)
class Parts:
    """The views of one segment's bytes."""

    data: memoryview = field(repr=False)
    num_tokens: int
    lengths: NDArray[np.uint32] = field(repr=False)
    term_starts: NDArray[np.uint32] = field(repr=False)
    posting_starts: NDArray[np.uint32] = field(repr=False)
    id_starts: NDArray[np.uint32] = field(repr=False)
    terms: memoryview = field(repr=False)
    ids: NDArray[np.uint32] = field(repr=False)
    impacts: NDArray[np.uint8] = field(repr=False)
    frequencies: NDArray[np.unsignedinteger] = field(repr=False)

    @property
    def num_documents(self) -> int:
        return len(self.lengths)

    @property
    def average_length(self) -> float:
        """1 where there is nothing to average."""
        return self.num_tokens / self.num_documents if self.num_tokens else 1.0

    def __len__(self) -> int:
        """How many terms there are. With `__getitem__`, all that `bisect` asks for."""
        return len(self.term_starts) - 1

    def __getitem__(self, term: int) -> bytes:
        starts = self.term_starts
        return bytes(self.terms[starts[term] : starts[term + 1]])

    def span(self, term: int) -> slice:
        """Where its postings lie."""
        return slice(int(self.posting_starts[term]), int(self.posting_starts[term + 1]))

    def read_ids(self, term: int) -> NDArray[np.uint32]:
        """The documents with a term, ascending. Raises DamagedSegment."""
        span = self.span(term)
        ids = self.ids[self.id_starts[term] : self.id_starts[term + 1]]
        if span.stop - span.start >= LONG:
            try:
                bitmap = BitMap.deserialize(ids.tobytes())
            except ValueError:
                raise DamagedSegment(f"the ids of term {term} cannot be read") from None
            ids = np.frombuffer(bitmap.to_array(), np.uint32)
        if len(ids) != span.stop - span.start or not _ascends(ids) or ids[-1] >= len(self.lengths):
            raise DamagedSegment(f"the ids of term {term} are not those of its documents")
        return ids


@dataclass(slots=True, frozen=True, eq=False)
class Postings:
    """All postings of a segment that is to be made, by term and then by document."""

    terms: Sequence[bytes] = field(repr=False)
    """Ascending, each with one posting at least."""
    starts: NDArray[np.int64] = field(repr=False)
    """Where each term's begin, and where the last one's end."""
    ids: NDArray[np.uint32] = field(repr=False)
    frequencies: NDArray[np.int64] = field(repr=False)
    lengths: NDArray[np.int64] = field(repr=False)
    """Of all documents."""


def pack(postings: Postings) -> bytes:
    """The bytes of a segment. Raises ValueError: it is too large for 32-bit offsets."""
    lengths = postings.lengths.astype(np.uint32)
    num_tokens = int(postings.lengths.sum())
    average_length = num_tokens / len(lengths) if num_tokens else 1.0
    tf = postings.frequencies.astype(np.min_scalar_type(postings.frequencies.max(initial=1)))
    id_starts, ids = _pack_ids(postings.starts, postings.ids)
    terms = b"".join(postings.terms)
    term_starts = np.cumsum([0, *map(len, postings.terms)])
    if max(len(lengths), len(terms), len(tf), len(ids), num_tokens) > MAX_OFFSET:
        raise ValueError("the documents are too many for one sparse segment")
    header = _HEADER.pack(
        *(_MAGIC, VERSION, tf.itemsize, len(lengths), num_tokens),
        *(len(postings.terms), len(tf), len(terms), len(ids)),
    )
    parts = [
        header,
        lengths.astype("<u4"),
        *(starts.astype("<u4") for starts in (term_starts, postings.starts, id_starts)),
        terms,
        ids.astype("<u4"),
        impacts(tf, norms(lengths, average_length)[postings.ids]),
        tf.astype(tf.dtype.newbyteorder("<")),
    ]
    return b"".join(_padded(part if isinstance(part, bytes) else part.tobytes()) for part in parts)


def unpack(data: memoryview) -> Parts:
    """Raises DamagedSegment. Costs a few passes over the offsets; reads no posting."""
    if len(data) < _HEADER.size:
        raise DamagedSegment("a sparse segment is cut short")
    magic, version, width, *sizes = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, VERSION) or width not in (1, 2, 4):
        raise DamagedSegment("not a sparse segment of a version that can be read")
    documents, tokens, num_terms, num_postings, term_bytes, words = sizes
    if max(sizes) > MAX_OFFSET:
        raise DamagedSegment("a sparse segment's header is damaged")
    offset = _after(_HEADER.size)
    views: list[NDArray[np.unsignedinteger]] = []
    offsets = num_terms + 1
    for count, size in (
        *((documents, 4), (offsets, 4), (offsets, 4), (offsets, 4)),
        *((term_bytes, 1), (words, 4), (num_postings, 1), (num_postings, width)),
    ):
        if offset + count * size > len(data):
            raise DamagedSegment("a sparse segment is cut short")
        views.append(np.frombuffer(data, f"<u{size}", count, offset))
        offset = _after(offset + count * size)
    if offset != len(data):
        raise DamagedSegment("a sparse segment is longer than it says")
    lengths, term_starts, posting_starts, id_starts, _, ids, saturations, frequencies = views
    if int(lengths.sum(dtype=np.uint64)) != tokens:
        raise DamagedSegment("the lengths of documents are not those of their terms")
    _check_starts("terms", term_starts, term_bytes, 0)
    _check_starts("postings", posting_starts, num_postings, 1)
    _check_starts("ids", id_starts, words, 1)
    return Parts(
        *(data, tokens, lengths, term_starts, posting_starts, id_starts),
        *(views[4].data, ids, saturations, frequencies),
    )


def read_all(parts: Parts) -> Postings:
    """The postings that were packed. Raises DamagedSegment."""
    ids = [parts.read_ids(term) for term in range(len(parts))]
    return Postings(
        [parts[term] for term in range(len(parts))],
        parts.posting_starts.astype(np.int64),
        np.concatenate(ids) if ids else np.empty(0, np.uint32),
        parts.frequencies.astype(np.int64),
        parts.lengths.astype(np.int64),
    )


def _pack_ids(
    starts: NDArray[np.int64], ids: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Where each term's words begin and end, and the words."""
    counts = np.diff(starts)
    bitmaps: dict[int, bytes] = {}
    words = counts.copy()
    for term in np.flatnonzero(counts >= LONG).tolist():
        bitmap = BitMap(array("I", ids[starts[term] : starts[term + 1]].tobytes()))
        bitmap.run_optimize()
        bitmaps[term] = serialized = _padded(bitmap.serialize(), 4)
        words[term] = len(serialized) // 4
    ends = np.cumsum(words)
    word_starts = np.concatenate(([0], ends))
    packed = np.empty(int(word_starts[-1]), np.uint32)
    is_short = np.repeat(counts < LONG, counts)
    moved = np.repeat(word_starts[:-1] - starts[:-1], counts)
    packed[(np.arange(len(ids)) + moved)[is_short]] = ids[is_short]
    for term, serialized in bitmaps.items():
        packed[word_starts[term] : word_starts[term + 1]] = np.frombuffer(serialized, "<u4")
    return word_starts, packed


def _check_starts(what: str, starts: NDArray[np.unsignedinteger], end: int, least: int) -> None:
    if starts[0] != 0 or starts[-1] != end or (np.diff(starts.astype(np.int64)) < least).any():
        raise DamagedSegment(f"the offsets of {what} in a sparse segment are damaged")


def _ascends(ids: NDArray[np.uint32]) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def _after(offset: int) -> int:
    return -(-offset // 8) * 8


def _padded(data: bytes, multiple: int = 8) -> bytes:
    return data + bytes(-len(data) % multiple)

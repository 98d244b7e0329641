"""Which documents have the words of a query, and how well do they answer to them?

A segment is made once, of all its documents, and never changes. Its documents are numbered from 0:
rows. What it is asked for is exact BM25 (bm25.py says how, and proves it). A collection of several
segments adds up their `Statistics` of a query and passes them to each, and then scores of one
segment compare with those of another; what was deleted counts in them until segments are merged, as
in Lucene.

Does not know: how text becomes terms, where bytes are kept, which collection it belongs to.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from anzoth.index import compiled
from anzoth.index.bm25 import Hits, Posting, Query, Scorer, impacts, norms
from anzoth.index.compiled import address
from anzoth.index.sparse_format import DamagedSegment, Parts, Postings, pack, read_all, unpack

__all__ = ["DamagedSegment", "SparseSegment", "Statistics"]

MAX_REMEMBERED_BYTES = 32 << 20
"""Of one segment's postings, ready to be searched; then all are forgotten."""
_ENTRY_BYTES = 1000
"""What a short one takes."""


@dataclass(slots=True, frozen=True)
class Statistics:
    """What BM25 must know about a collection to weigh the terms of one query."""

    num_documents: int
    num_tokens: int
    frequencies: Mapping[str, int] = field(repr=False)
    """Of each term of the query, the documents that have it."""

    def __add__(self, other: Statistics) -> Statistics:
        """Those of both together."""
        theirs = other.frequencies
        return Statistics(
            self.num_documents + other.num_documents,
            self.num_tokens + other.num_tokens,
            {
                term: self.frequencies.get(term, 0) + theirs.get(term, 0)
                for term in [*self.frequencies, *theirs]
            },
        )

    @property
    def average_length(self) -> float:
        """1 where there is nothing to average."""
        return self.num_tokens / self.num_documents if self.num_tokens else 1.0

    def idf(self, term: str) -> float:
        """Above 0, and largest for a term that one document has.

        A term that none has weighs no more: in a store of one document it would otherwise outweigh
        four that are there.
        """
        return _idf(self.num_documents, max(1, self.frequencies.get(term, 0)))


class SparseSegment:
    """BM25 over documents that do not change. Threads may share it."""

    def __init__(self, parts: Parts, *, use_compiled: bool = True) -> None:
        """Made by `build`, `merge` or `from_bytes`."""
        self._parts = parts
        self._scorer = Scorer(parts.lengths, compiled.load() if use_compiled else None)
        self._postings: dict[str, Posting | None] = {}
        self._remembered_bytes = 0

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]]) -> SparseSegment:
        """Of the terms of each row. Raises ValueError: more than 2³² postings or tokens."""
        vocabulary: defaultdict[str, int] = defaultdict(count().__next__)
        lengths: list[int] = []
        numbers: list[NDArray[np.uint32]] = []
        for terms in documents:
            numbers.append(np.fromiter(map(vocabulary.__getitem__, terms), np.uint32, len(terms)))
            lengths.append(len(terms))
        encoded = [_encoded(term) for term in vocabulary]
        rows = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
        tokens = np.concatenate(numbers) if numbers else np.empty(0, np.uint32)
        return cls._of(encoded, tokens, rows, None, np.array(lengths, np.int64))

    @classmethod
    def merge(cls, sources: Sequence[tuple[SparseSegment, BitMap | None]]) -> SparseSegment:
        """One segment of several ones' live documents (None: all), rows in their order.

        Equal to building it anew of the same terms. Raises DamagedSegment, ValueError.
        """
        vocabulary: defaultdict[bytes, int] = defaultdict(count().__next__)
        tokens, rows, frequencies, lengths = [], [], [], []
        num_rows = 0
        for segment, live in sources:
            postings = read_all(segment._parts)
            is_live = _mask(len(segment), live)
            numbers = np.array([vocabulary[term] for term in postings.terms], np.uint32)
            keep = is_live[postings.ids]
            new_rows = num_rows + np.cumsum(is_live, dtype=np.uint64) - 1
            tokens.append(np.repeat(numbers, np.diff(postings.starts))[keep])
            rows.append(new_rows[postings.ids[keep]])
            frequencies.append(postings.frequencies[keep])
            lengths.append(postings.lengths[is_live])
            num_rows += int(is_live.sum())
        if not sources:
            return cls.build(())
        parts = (np.concatenate(arrays) for arrays in (tokens, rows, frequencies, lengths))
        return cls._of(list(vocabulary), *parts)

    @classmethod
    def _of(
        cls,
        vocabulary: list[bytes],
        tokens: NDArray[np.uint32],
        rows: NDArray[np.uint64],
        frequencies: NDArray[np.int64] | None,
        lengths: NDArray[np.int64],
    ) -> SparseSegment:
        """Of the number of a term and its row, in any order: distinct pairs with how often they
        occur, or else (None) every occurrence."""
        order = sorted(range(len(vocabulary)), key=vocabulary.__getitem__)
        rank = np.empty(len(order), np.uint64)
        rank[order] = np.arange(len(order), dtype=np.uint64)
        keys = rank[tokens] << np.uint64(32) | rows
        if frequencies is None:
            keys.sort()
            (firsts,) = np.nonzero(np.diff(keys, prepend=~np.uint64(0)))
            frequencies = np.diff(firsts, append=len(keys))
            keys = keys[firsts]
        else:
            by_key = np.argsort(keys)
            keys, frequencies = keys[by_key], frequencies[by_key]
        present, starts = np.unique(keys >> np.uint64(32), return_index=True)
        postings = Postings(
            [vocabulary[order[term]] for term in present.tolist()],
            np.append(starts, len(keys)),
            keys.astype(np.uint32),
            frequencies,
            lengths,
        )
        return cls.from_bytes(memoryview(pack(postings)))

    @classmethod
    def from_bytes(cls, data: memoryview) -> SparseSegment:
        """Raises DamagedSegment. `data` must not change: the segment is a view of it.

        Cheap: postings are read, and checked, when a query first has their term.
        """
        if np.frombuffer(data, np.uint8).ctypes.data % 8:
            data = memoryview(bytes(data))  # numbers must lie where the processor wants them
        return cls(unpack(data))

    def to_bytes(self) -> bytes:
        return bytes(self._parts.data)

    def __len__(self) -> int:
        """How many documents there are."""
        return self._parts.num_documents

    @property
    def nbytes(self) -> int:
        """What it holds in memory, about."""
        return self._parts.data.nbytes + self._remembered_bytes + 6 * len(self)

    @property
    def place(self) -> tuple[int, int]:
        """Where the lengths of its documents lie, and the bytes of a frequency."""
        return address(self._parts.lengths), self._parts.frequencies.itemsize

    def statistics(self, terms: Iterable[str]) -> Statistics:
        """Of this segment, for a query's terms. Raises DamagedSegment."""
        frequencies = {
            term: len(posting.ids) if (posting := self._posting(term)) else 0 for term in terms
        }
        return Statistics(len(self), self._parts.num_tokens, frequencies)

    def query(self, terms: Sequence[str], statistics: Statistics | None = None) -> Query:
        """What these terms are here. A repeated term counts as often as it is repeated.

        `statistics`: the collection's, for these terms; None: this segment's.
        Raises DamagedSegment.
        """
        postings: list[Posting] = []
        weights: list[float] = []
        ceiling = 0.0
        counts = dict.fromkeys(terms, 1)
        if len(counts) < len(terms):  # rarely, and counting takes longer than looking up
            counts = Counter(terms)
        for term, repeated in counts.items():
            posting = self._posting(term)
            if statistics is not None:
                idf = statistics.idf(term)
            else:
                idf = posting.idf if posting is not None else _idf(len(self), 1)
            ceiling += repeated * idf
            if posting is not None:
                postings.append(posting)
                weights.append(repeated * idf)
        own = self._parts.average_length
        average = own if statistics is None else statistics.average_length
        return Query(postings, weights, average, ceiling, min(1.0, own / average))

    def search(self, query: Query, k: int, allow: BitMap | None = None) -> Hits:
        """The best k of the rows in `allow` (None: all) that have any of the query's terms.

        Rows, and their scores rounded to float32: exactly those of scoring every row by the formula
        of bm25.py, best first, ties by row. `query`: of this segment.
        """
        if k < 1 or not query.postings or (allow is not None and not allow):
            return np.empty(0, np.uint32), np.empty(0, np.float32)
        return self._scorer.top_k(query, k, self._rows(allow))

    def scores(self, query: Query, rows: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Of given rows, in any order: what `search` gives them; 0 where no term is.

        Raises IndexError: a row that is not there.
        """
        if len(rows) and int(rows.max()) >= len(self):
            raise IndexError(f"row {rows.max()} of {len(self)}")
        rows = np.ascontiguousarray(rows, np.uint32)
        if (rows[1:] > rows[:-1]).all():
            return self._scorer.scores(query, rows).astype(np.float32)
        ascending, inverse = np.unique(rows, return_inverse=True)
        return self._scorer.scores(query, ascending).astype(np.float32)[inverse]

    def check_integrity(self) -> None:
        """Reads everything. Raises DamagedSegment: what was not built so."""
        parts = self._parts
        postings = read_all(parts)
        if any(a >= b for a, b in pairwise(postings.terms)):
            raise DamagedSegment("the terms of a sparse segment do not ascend")
        lengths = np.bincount(postings.ids, postings.frequencies, len(self))
        if (parts.frequencies == 0).any() or (lengths != parts.lengths).any():
            raise DamagedSegment("the lengths of documents are not those of their terms")
        norm = norms(parts.lengths, parts.average_length)[postings.ids]
        if (impacts(parts.frequencies, norm) != parts.impacts).any():
            raise DamagedSegment("the impacts of a sparse segment are not those of its frequencies")

    def _rows(self, allow: BitMap | None) -> NDArray[np.uint32] | None:
        if allow is None:
            return None
        rows = np.frombuffer(allow.to_array(), np.uint32)
        # A collection's bitmap may speak of rows that came after this segment.
        return rows if int(rows[-1]) < len(self) else rows[: np.searchsorted(rows, len(self))]

    def _posting(self, term: str) -> Posting | None:
        """None: no document has the term."""
        try:
            return self._postings[term]
        except KeyError:
            posting = self._read(term)
        size = _ENTRY_BYTES + (posting.ids.nbytes if posting else 0)
        if self._remembered_bytes + size > MAX_REMEMBERED_BYTES:
            self._postings, self._remembered_bytes = {}, 0
        self._postings[term] = posting
        self._remembered_bytes += size
        return posting

    def _read(self, term: str) -> Posting | None:
        parts, encoded = self._parts, _encoded(term)
        at = bisect_left(parts, encoded)
        if at == len(parts) or parts[at] != encoded:
            return None
        span, ids = parts.span(at), parts.read_ids(at)
        saturations, frequencies = parts.impacts[span], parts.frequencies[span]
        return Posting(
            ids,
            saturations,
            frequencies,
            _idf(len(self), len(ids)),
            compiled.packed(ids, saturations, frequencies),
        )


def _idf(num_documents: int, frequency: int) -> float:
    return math.log(1 + (num_documents - frequency + 0.5) / (frequency + 0.5))


def _encoded(term: str) -> bytes:
    # JSON can bring half of a surrogate pair; as a term it is as good as any.
    return term.encode("utf-8", "surrogatepass")


def _mask(num_documents: int, live: BitMap | None) -> NDArray[np.bool_]:
    mask = np.full(num_documents, live is None)
    if live is not None:
        rows = np.frombuffer(live.to_array(), np.uint32)
        mask[rows[rows < num_documents]] = True
    return mask

"""Is a segment's answer that of scoring every document, whatever is asked for?

The oracle keeps dictionaries and computes in Python's floats, one document after the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from anzoth.index import bm25, compiled, sparse
from anzoth.index.sparse import SparseSegment, Statistics

K1, B = 1.5, 0.75
KERNELS = [
    "numpy",
    pytest.param(
        "compiled",
        marks=pytest.mark.skipif(compiled.load() is None, reason="the kernel was not compiled"),
    ),
]
Documents = Sequence[Sequence[str]]


def opened(documents: Documents, kernel: str) -> SparseSegment:
    segment = SparseSegment.build(documents)
    segment.check_integrity()
    return SparseSegment(segment._parts, use_compiled=kernel == "compiled")


def oracle_scores(
    documents: Documents, terms: Sequence[str], statistics: Statistics | None = None
) -> list[float]:
    """BM25, Lucene's variant, of every document."""
    num, tokens = len(documents), sum(map(len, documents))
    frequencies = Counter(term for document in documents for term in set(document))
    if statistics is not None:
        num, tokens = statistics.num_documents, statistics.num_tokens
        frequencies = Counter(statistics.frequencies)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term, repeated in Counter(terms).items():
            if tf := counts[term]:
                df = frequencies[term]
                idf = math.log(1 + (num - df + 0.5) / (df + 0.5))
                norm = K1 * ((1 - B) + B * (len(document) / (tokens / num)))
                score += repeated * idf * (tf / (tf + norm))
        scores.append(score)
    return scores


def oracle(
    documents: Documents,
    terms: Sequence[str],
    k: int,
    allow: BitMap | None = None,
    statistics: Statistics | None = None,
) -> list[tuple[int, float]]:
    scores = np.array(oracle_scores(documents, terms, statistics)).astype(np.float32).tolist()
    hits = [
        (row, score)
        for row, score in enumerate(scores)
        if score > 0 and (allow is None or row in allow)
    ]
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]


def pairs(hits: bm25.Hits) -> list[tuple[int, float]]:
    rows, scores = hits
    assert (rows.dtype, scores.dtype) == (np.uint32, np.float32)
    return list(zip(rows.tolist(), scores.tolist(), strict=True))


def random_documents(seed: int, num: int, vocabulary: int, length: int) -> list[list[str]]:
    """Words after Zipf, in documents of very different lengths."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocabulary + 1)
    words = rng.choice(vocabulary, (num, length), p=weights / weights.sum())
    lengths = rng.integers(0, length + 1, num)
    return [
        [f"w{word}" for word in row[:end]] for row, end in zip(words.tolist(), lengths, strict=True)
    ]


words = st.sampled_from(["a", "b", "c", "d", "é", "\ud800", ""])
small_documents = st.lists(st.lists(words, max_size=12), max_size=12)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=60)
@given(
    documents=small_documents,
    terms=st.lists(words, max_size=6),
    k=st.integers(0, 15),
    allow=st.none() | st.sets(st.integers(0, 15)).map(BitMap),
    others=st.none() | small_documents.filter(any),
)
def test_a_search_equals_scoring_every_document(
    kernel: str,
    documents: Documents,
    terms: list[str],
    k: int,
    allow: BitMap | None,
    others: Documents | None,
) -> None:
    segment = opened(documents, kernel)
    statistics = None
    if others is not None:
        statistics = segment.statistics(terms) + SparseSegment.build(others).statistics(terms)
    hits = pairs(segment.search(segment.query(terms, statistics), k, allow))
    assert hits == oracle(documents, terms, k, allow, statistics)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 3),
    query=st.integers(0, 2**32),
    num_terms=st.integers(1, 12),
    k=st.sampled_from([1, 3, 10, 100, 5000]),
    one_in=st.sampled_from([None, 1, 2, 10, 40]),
    longer=st.sampled_from([None, 0.2, 1.0, 5.0]),
)
def test_bounds_leave_nobody_out(
    kernel: str,
    seed: int,
    query: int,
    num_terms: int,
    k: int,
    one_in: int | None,
    longer: float | None,
) -> None:
    """Enough documents for blocks, bitmaps and pruning, with other average lengths than its own."""
    documents, segments = _large(seed)
    segment = segments[kernel]
    rng = np.random.default_rng(query)
    terms = [f"w{word}" for word in rng.integers(0, rng.choice([20, 400]), num_terms)]
    allow = None
    if one_in is not None:
        allow = BitMap(np.flatnonzero(rng.integers(0, one_in, len(documents)) == 0).tolist())
    statistics = None
    if longer is not None:
        own = segment.statistics(terms)
        statistics = Statistics(
            own.num_documents * 2,
            int(own.num_tokens * 2 * longer),
            {term: 2 * df for term, df in own.frequencies.items()},
        )
    hits = pairs(segment.search(segment.query(terms, statistics), k, allow))
    assert hits == oracle(documents, terms, k, allow, statistics)
    scale = 5000.0 / num_terms
    sums = segment._scorer._sums(segment.query(terms, statistics), scale)[: len(documents)]
    assert (sums >= np.array(oracle_scores(documents, terms, statistics)) * scale).all()


_made: dict[int, tuple[list[list[str]], dict[str, SparseSegment]]] = {}


def _large(seed: int) -> tuple[list[list[str]], dict[str, SparseSegment]]:
    if seed not in _made:
        documents = random_documents(seed, 1500, 400, 40)
        _made[seed] = documents, {name: opened(documents, name) for name in ("numpy", "compiled")}
    return _made[seed]


@pytest.mark.parametrize("kernel", KERNELS)
def test_documents_that_are_all_alike_come_in_the_order_of_rows(kernel: str) -> None:
    segment = opened([["same", "words"]] * 1000, kernel)
    rows, scores = segment.search(segment.query(["same"]), 20)
    assert rows.tolist() == list(range(20))
    assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_query_of_too_many_terms_is_exact_too(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bm25, "MOST_TERMS_PRUNED", 5)
    documents = [[f"w{row}", f"w{row + 1}"] for row in range(50)]
    terms = [f"w{number}" for number in range(50)]
    segment = opened(documents, kernel)
    assert pairs(segment.search(segment.query(terms), 5)) == oracle(documents, terms, 5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("most", [200, 300, 70_000])
def test_frequencies_of_any_size_are_kept(kernel: str, most: int) -> None:
    documents = [["a"] * most, ["a", "b"], ["b"] * 3]
    segment = opened(documents, kernel)
    assert pairs(segment.search(segment.query(["a", "b"]), 3)) == oracle(documents, ["a", "b"], 3)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=60)
@given(
    documents=small_documents.filter(len),
    terms=st.lists(words, max_size=5),
    picks=st.lists(st.integers(0, 1000), max_size=8),
)
def test_scores_of_given_rows_are_those_of_a_search(
    kernel: str, documents: Documents, terms: list[str], picks: list[int]
) -> None:
    rows = [pick % len(documents) for pick in picks]
    expected = np.array(oracle_scores(documents, terms)).astype(np.float32)[rows]
    segment = opened(documents, kernel)
    scores = segment.scores(segment.query(terms), np.array(rows, np.uint32))
    assert scores.tolist() == expected.tolist()


def test_a_row_that_is_not_there_is_refused() -> None:
    segment = SparseSegment.build([["a"]])
    with pytest.raises(IndexError):
        segment.scores(segment.query(["a"]), np.array([1], np.uint32))


@pytest.mark.slow
@given(
    parts=st.lists(
        st.tuples(small_documents, st.none() | st.sets(st.integers(0, 12)).map(BitMap)), max_size=4
    )
)
@settings(deadline=None, max_examples=60)
def test_merging_equals_building_of_what_lives(
    parts: list[tuple[Documents, BitMap | None]],
) -> None:
    merged = SparseSegment.merge([(SparseSegment.build(docs), live) for docs, live in parts])
    living = [
        document
        for documents, live in parts
        for row, document in enumerate(documents)
        if live is None or row in live
    ]
    assert merged.to_bytes() == SparseSegment.build(living).to_bytes()


def test_segments_with_common_statistics_score_like_one() -> None:
    documents = random_documents(5, 300, 60, 30)
    whole = SparseSegment.build(documents)
    halves = [SparseSegment.build(documents[:90]), SparseSegment.build(documents[90:])]
    terms = ["w0", "w7", "w21", "w7", "nowhere"]
    statistics = halves[0].statistics(terms) + halves[1].statistics(terms)
    assert statistics == whole.statistics(terms)
    found = [
        (row + offset, score)
        for half, offset in zip(halves, (0, 90), strict=True)
        for row, score in pairs(half.search(half.query(terms, statistics), 10))
    ]
    found.sort(key=lambda hit: (-hit[1], hit[0]))
    assert found[:10] == pairs(whole.search(whole.query(terms), 10))
    ceiling = halves[0].query(terms, statistics).ceiling
    assert ceiling == sum(map(statistics.idf, terms)) == whole.query(terms).ceiling
    assert found[0][1] < ceiling


def test_a_word_that_is_nowhere_counts_as_much_as_one_that_is_somewhere_once() -> None:
    segment, terms = SparseSegment.build([["pump", "valve", "water"]]), ["pump", "weight"]
    for statistics in (None, segment.statistics(terms)):
        asked = segment.query(terms, statistics)
        assert asked.ceiling == pytest.approx(2 * segment.query(["pump"]).ceiling)


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_that_share_a_segment_get_their_own_answers(kernel: str) -> None:
    documents = random_documents(7, 2000, 100, 30)
    segment = opened(documents, kernel)
    queries = [[f"w{number % 100}", f"w{number * 7 % 100}"] for number in range(200)]
    allow = BitMap(range(0, 2000, 3))
    expected = [pairs(segment.search(segment.query(terms), 5, allow)) for terms in queries]
    shared = SparseSegment(segment._parts, use_compiled=kernel == "compiled")
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda terms: pairs(shared.search(shared.query(terms), 5, allow)), queries * 3)
        )
    assert found == expected * 3


def test_forgetting_postings_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = random_documents(6, 300, 100, 30)
    segment = SparseSegment.build(documents)
    queries = [[f"w{number}", f"w{number * 7 % 100}"] for number in range(30)]
    expected = [pairs(segment.search(segment.query(terms), 5)) for terms in queries]
    monkeypatch.setattr(sparse, "MAX_REMEMBERED_BYTES", 3000)
    segment = SparseSegment.from_bytes(memoryview(segment.to_bytes()))
    assert [pairs(segment.search(segment.query(terms), 5)) for terms in queries] == expected
    assert segment._remembered_bytes <= 3000

"""Searching by codes against looking at every vector."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from anzoth.index import coded
from anzoth.index.coded import CodedVectors, Codes, turned
from anzoth.index.compiled import load_dense
from anzoth.index.dense import FlatVectors, Floats, unit_vectors

pytestmark = pytest.mark.skipif(
    load_dense() is None, reason="this processor has no kernel for codes"
)


def built(matrix: Floats) -> CodedVectors:
    kernel = load_dense()
    assert kernel is not None
    return CodedVectors.build(matrix, kernel)


def even(count: int, seed: int, dimensions: int) -> Floats:
    rng = np.random.default_rng(seed)
    return unit_vectors(rng.standard_normal((count, dimensions)), dimensions)


def stretched(count: int, seed: int, dimensions: int) -> Floats:
    """Some coordinates vary much more than others, and all lie about a point that is not 0."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, dimensions)) * np.arange(1, dimensions + 1) ** -0.5
    return unit_vectors(values + 0.3, dimensions)


def in_crowds(count: int, seed: int, dimensions: int) -> Floats:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, dimensions))
    values = centres[rng.integers(0, 60, count)]
    return unit_vectors(values + 0.6 * rng.standard_normal((count, dimensions)), dimensions)


Make = Callable[[int, int, int], Floats]
DATA: list[Make] = [even, stretched, in_crowds]


@pytest.mark.parametrize("dimensions", [1, 24, 64, 384, 1000])
def test_turning_keeps_inner_products_and_mixes_all_coordinates(dimensions: int) -> None:
    vectors = even(9, 1, dimensions)
    both = turned(vectors)
    assert both.shape == (9, -(-dimensions // 64) * 64)
    np.testing.assert_allclose(both @ both.T, vectors @ vectors.T, atol=1e-5)
    axis = turned(np.eye(dimensions, dtype=np.float32)[:1])[0]
    assert np.abs(axis).max() < 6 / np.sqrt(len(axis))


def test_an_estimate_is_what_its_formula_says() -> None:
    matrix, query = stretched(1003, 2, 100), stretched(1, 3, 100)[0]
    centre = matrix.mean(axis=0)
    rest = matrix - centre
    signs = np.where(turned(rest) > 0, 1, -1) / np.sqrt(128)
    alignments = (turned(rest) * signs).sum(axis=1) / np.linalg.norm(rest, axis=1)
    lengths = np.linalg.norm(rest, axis=1)
    parts = lengths / alignments * (signs @ turned(query - centre))
    expected = parts + matrix @ centre + query @ centre - centre @ centre
    # Tables of the kernel have six bits.
    np.testing.assert_allclose(built(matrix).estimates(query), expected, atol=0.01)


@pytest.mark.parametrize("make", DATA)
def test_errors_of_estimates_are_as_large_as_they_are_said_to_be(make: Make) -> None:
    matrix = make(3000, 4, 128)
    vectors = built(matrix)
    codes = vectors.codes
    errors = []
    for query in make(20, 5, 128):
        reach = np.linalg.norm(query - codes.centre) * codes.spread * codes.factors[: len(matrix)]
        errors.append((vectors.estimates(query) - matrix @ query) / reach)
    assert abs(np.mean(errors)) < 0.1
    assert 0.7 < np.std(errors) < 1.03
    assert np.mean(np.abs(errors) > coded.MARGIN) < 0.055


@pytest.fixture
def never_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, so few rows would all be looked at."""
    monkeypatch.setattr(CodedVectors, "exact_is_cheaper", lambda *_: False)


@pytest.mark.slow
@pytest.mark.usefixtures("never_exact")
@pytest.mark.parametrize("make", DATA)
@pytest.mark.parametrize(("k", "aim"), [(1, 0.97), (10, 0.98), (64, 0.97)])
@pytest.mark.parametrize("share", [None, 0.5, 0.03])
def test_next_to_none_is_missed_whatever_the_vectors_and_the_filter(
    make: Make, k: int, aim: float, share: float | None
) -> None:
    matrix = make(3000, 6, 100)
    vectors, flat = built(matrix), FlatVectors(matrix)
    allow = None
    if share is not None:
        chosen = np.random.default_rng(7).permutation(len(matrix))[: int(share * len(matrix))]
        allow = BitMap(chosen.tolist())
    hits = 0
    for query in make(80, 8, 100):
        found, truth = vectors.search(query, k, allow), flat.search(query, k, allow)
        assert len(found.rows) == k
        assert not found.exact
        assert allow is None or BitMap(found.rows.tolist()) <= allow
        assert found.scores.tolist() == flat.scores(query, found.rows).tolist()
        assert (np.diff(found.scores) <= 0).all()
        hits += len(np.intersect1d(found.rows, truth.rows))
    assert hits >= aim * 80 * k


few_values = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)


@settings(deadline=None)
@given(
    st.lists(few_values, min_size=1, max_size=90),
    few_values,
    st.integers(1, 100),
    st.none() | st.sets(st.integers(0, 89), min_size=1),
)
def test_with_an_endless_margin_the_answer_is_exact_ties_included(
    values: list[list[int]], asked: list[int], k: int, allowed: set[int] | None
) -> None:
    matrix, query = unit_vectors(values, 3), unit_vectors([asked], 3)[0]
    vectors, flat = built(matrix), FlatVectors(matrix)
    allow = None if allowed is None else BitMap(row for row in allowed if row < len(matrix))
    if allow is not None and not allow:
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CodedVectors, "exact_is_cheaper", lambda *_: False)
        patched.setattr(coded, "MARGIN", 1e6)
        patched.setattr(coded, "LONG_MARGIN", 1e6)
        patched.setattr(coded, "ROUNDING", 1e6)  # a query at the centre has no margin
        found = vectors.search(query, k, allow)
    truth = flat.search(query, k, allow)
    assert found.rows.tolist() == truth.rows.tolist()
    assert found.scores.tolist() == truth.scores.tolist()


@pytest.mark.usefixtures("never_exact")
def test_of_equal_vectors_the_first_are_found() -> None:
    matrix = np.repeat(even(1, 9, 40), 1000, axis=0)
    found = built(matrix).search(matrix[0], 12)
    assert found.rows.tolist() == list(range(12))
    assert found.scores == pytest.approx(1)


def test_where_few_rows_are_allowed_all_are_looked_at() -> None:
    matrix = even(20_000, 10, 64)
    vectors, flat = built(matrix), FlatVectors(matrix)
    for allow in (BitMap(), BitMap([7]), BitMap(range(0, 20_000, 200))):
        found, truth = vectors.search(matrix[3], 5, allow), flat.search(matrix[3], 5, allow)
        assert found.exact
        assert found.rows.tolist() == truth.rows.tolist()
    assert vectors.search(matrix[3], 15_000).exact
    assert not vectors.search(matrix[3], 5, BitMap(range(9000))).exact


def test_a_row_that_is_not_there_is_refused() -> None:
    vectors = built(even(2000, 11, 16))
    with pytest.raises(IndexError):
        vectors.search(vectors.matrix[0], 5, BitMap(range(1, 2001)))
    with pytest.raises(IndexError):
        vectors.scores(vectors.matrix[0], np.array([2000], np.uint32))


def test_codes_are_read_as_they_were_written_and_those_of_other_rows_are_refused() -> None:
    codes = Codes.of(even(100, 12, 70))
    sections = list(map(memoryview, codes.sections()))
    again = Codes.from_sections(sections, codes.spread, 100, 70)
    assert again.sections() == codes.sections()
    for num_rows, dimensions in ((129, 70), (96, 70), (100, 71), (100, 200)):
        with pytest.raises(ValueError, match=r"other rows|reshape"):
            Codes.from_sections(sections, codes.spread, num_rows, dimensions)


@pytest.mark.slow
@pytest.mark.usefixtures("never_exact")
def test_threads_that_search_at_once_find_what_one_finds() -> None:
    vectors, queries = built(even(5000, 13, 64)), even(40, 14, 64)
    alone = [vectors.search(query, 10).rows.tolist() for query in queries]
    answers: list[list[list[int]]] = []

    def search() -> None:
        answers.append([vectors.search(query, 10).rows.tolist() for query in queries])

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [alone] * 4

"""Vectors: exact search against the plainest one there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from anzoth.index import dense
from anzoth.index.dense import BadVector, FlatVectors, best, unit_vectors

DIMENSIONS = 24


def random_units(count: int, seed: int, dimensions: int = DIMENSIONS) -> dense.Floats:
    rng = np.random.default_rng(seed)
    return unit_vectors(rng.standard_normal((count, dimensions)), dimensions)


def plainly(matrix: dense.Floats, query: dense.Floats, k: int, allowed: list[int]) -> list[int]:
    return sorted(allowed, key=lambda row: (-float(matrix[row] @ query), row))[:k]


@given(st.lists(st.integers(-3, 3), max_size=700), st.integers(0, 40))
def test_the_best_are_those_of_a_stable_sort(values: list[int], k: int) -> None:
    scores = np.array(values, np.float32)
    assert best(scores, k).tolist() == np.argsort(-scores, kind="stable")[:k].tolist()


@pytest.mark.parametrize("shape", ["all equal", "one differs", "rising", "falling"])
def test_the_best_of_many_equal_scores_are_the_first(shape: str) -> None:
    scores = np.zeros(5003, np.float32)
    if shape == "one differs":
        scores[5001] = 1
    elif shape != "all equal":
        scores[:] = np.arange(5003) if shape == "rising" else -np.arange(5003)
    assert best(scores, 10).tolist() == np.argsort(-scores, kind="stable")[:10].tolist()


@pytest.mark.parametrize("use_compiled", [False, True])
@pytest.mark.parametrize("num_allowed", [None, 0, 1, 30, 1500, 3000])
def test_flat_search_is_exact_whatever_is_allowed(
    num_allowed: int | None, use_compiled: bool
) -> None:
    matrix = random_units(3000, seed=1)
    query = random_units(1, seed=2)[0]
    allowed = list(range(3000))
    if num_allowed is not None:
        allowed = np.random.default_rng(3).permutation(3000)[:num_allowed].tolist()
    vectors = FlatVectors(matrix, use_compiled=use_compiled)
    found = vectors.search(query, 20, None if num_allowed is None else BitMap(allowed))
    assert found.exact
    assert found.rows.tolist() == plainly(matrix, query, 20, allowed)
    np.testing.assert_allclose(found.scores, matrix[found.rows] @ query, atol=1e-6)


@pytest.mark.parametrize("use_compiled", [False, True])
@pytest.mark.parametrize("dimensions", [DIMENSIONS, 1, 67])
def test_scores_keep_the_order_of_the_rows_and_refuse_a_row_that_is_not_there(
    dimensions: int, use_compiled: bool
) -> None:
    matrix = random_units(1300, seed=4, dimensions=dimensions)
    rows = np.random.default_rng(5).integers(0, 1300, 1234).astype(np.uint32)
    flat = FlatVectors(matrix, use_compiled=use_compiled)
    np.testing.assert_allclose(flat.scores(matrix[7], rows), matrix[rows] @ matrix[7], atol=1e-6)
    with pytest.raises(IndexError):
        flat.scores(matrix[7], np.array([1300], np.uint32))


def test_vectors_are_scaled_to_length_one_whatever_their_size() -> None:
    given_vectors = np.array([[3e18, 4e18], [3e-18, 4e-18], [-1, 0]], np.float32)
    units = unit_vectors(given_vectors, 2)
    np.testing.assert_allclose(units, [[0.6, 0.8], [0.6, 0.8], [-1, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 0], [float("nan"), 0]], "vector 1 is not finite"),
        ([[float("inf"), 0]], "vector 0 is not finite"),
        ([[1, 0], [0, 0]], "vector 1 is zero"),
        ([[1, 0, 0]], "2 dimensions"),
        ([1, 0], "2 dimensions"),
        ([[1], [1, 0]], "of one length"),
        ([["a", "b"]], "numbers"),
    ],
)
def test_what_is_no_vector_is_refused(values: list[object], message: str) -> None:
    with pytest.raises(BadVector, match=message):
        unit_vectors(values, 2)  # pyright: ignore[reportArgumentType]  # wrong on purpose

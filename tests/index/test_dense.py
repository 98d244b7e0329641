"""Vectors: exact search against the plainest one there is, the graph against exact search."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from anzoth.index import dense
from anzoth.index.dense import BadVector, FlatVectors, GraphVectors, best, unit_vectors

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


@pytest.mark.parametrize("num_allowed", [None, 0, 1, 30, 1500, 3000])
def test_flat_search_is_exact_whatever_is_allowed(num_allowed: int | None) -> None:
    matrix = random_units(3000, seed=1)
    query = random_units(1, seed=2)[0]
    allowed = list(range(3000))
    if num_allowed is not None:
        allowed = np.random.default_rng(3).permutation(3000)[:num_allowed].tolist()
    found = FlatVectors(matrix).search(query, 20, None if num_allowed is None else BitMap(allowed))
    assert found.exact
    assert found.rows.tolist() == plainly(matrix, query, 20, allowed)
    np.testing.assert_allclose(found.scores, matrix[found.rows] @ query, atol=1e-6)


def test_scores_keep_the_order_of_the_rows_and_refuse_a_row_that_is_not_there() -> None:
    matrix = random_units(1300, seed=4)
    rows = np.random.default_rng(5).integers(0, 1300, 1234).astype(np.uint32)
    flat = FlatVectors(matrix)
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


@pytest.fixture(scope="module")
def graph() -> GraphVectors:
    pytest.importorskip("hnswlib")
    rng = np.random.default_rng(6)
    centres = rng.standard_normal((60, DIMENSIONS))
    points = centres[rng.integers(0, 60, 4000)] + 0.7 * rng.standard_normal((4000, DIMENSIONS))
    return GraphVectors.build(FlatVectors(unit_vectors(points, DIMENSIONS)))


@pytest.fixture
def never_exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without this, so small a graph would be left aside."""
    with monkeypatch.context() as patched:
        patched.setattr(GraphVectors, "exact_is_cheaper", lambda *_: False)
        yield


def recall(graph: GraphVectors, allow: BitMap | None, k: int = 10) -> float:
    flat = FlatVectors(graph.matrix)
    hits = 0
    for query in random_units(60, seed=7):
        found, truth = graph.search(query, k, allow), flat.search(query, k, allow)
        assert not found.exact
        assert (np.diff(found.scores) <= 0).all()
        np.testing.assert_allclose(found.scores, graph.matrix[found.rows] @ query, atol=1e-6)
        assert allow is None or BitMap(found.rows.tolist()) <= allow
        hits += len(np.intersect1d(found.rows, truth.rows))
    return hits / (60 * k)


@pytest.mark.slow
@pytest.mark.usefixtures("never_exact")
@pytest.mark.parametrize("share", [None, 0.95, 0.5, 0.1])
def test_the_graph_reaches_its_recall_under_any_filter(
    graph: GraphVectors, share: float | None
) -> None:
    allow = None
    if share is not None:
        chosen = np.random.default_rng(8).permutation(4000)[: int(4000 * share)]
        allow = BitMap(chosen.tolist())
    assert recall(graph, allow) >= 0.98
    assert graph.sampled_recall >= dense.RECALL_AIM


@pytest.mark.slow
@pytest.mark.usefixtures("never_exact")
def test_more_than_the_graph_can_reach_is_answered_exactly(graph: GraphVectors) -> None:
    query = graph.matrix[0]
    flat = FlatVectors(graph.matrix)
    few = BitMap(range(0, 4000, 500))
    for k, allow in [(graph.ef + 1, None), (4000, None), (9000, None), (10, few), (10, BitMap())]:
        found, truth = graph.search(query, k, allow), flat.search(query, k, allow)
        assert found.exact
        assert found.rows.tolist() == truth.rows.tolist()


@pytest.mark.slow
def test_few_allowed_rows_are_looked_at_one_by_one(graph: GraphVectors) -> None:
    found = graph.search(graph.matrix[3], 10, BitMap(range(2000)))
    assert found.exact
    assert found.rows[0] == 3


def test_the_graph_is_used_where_walking_it_is_cheaper() -> None:
    """The rule alone, at sizes that a test does not build."""
    graph = GraphVectors.__new__(GraphVectors)
    graph._flat, graph.ef = FlatVectors(np.zeros((100_000, 1), np.float32)), 128
    decided = {n: graph.exact_is_cheaper(n) for n in (100, 10_000, 12_000, 50_000, 100_000)}
    assert decided == {100: True, 10_000: True, 12_000: True, 50_000: False, 100_000: False}


@pytest.mark.slow
@pytest.mark.usefixtures("never_exact")
def test_threads_that_search_at_once_find_what_one_finds(graph: GraphVectors) -> None:
    queries = random_units(40, seed=9)
    alone = [graph.search(query, 10).rows.tolist() for query in queries]
    answers: list[list[list[int]]] = []

    def search() -> None:
        answers.append([graph.search(query, 10).rows.tolist() for query in queries])

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [alone] * 4


def test_without_hnswlib_every_search_is_exact_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hnswlib", None)
    monkeypatch.setattr(dense, "GRAPH_FROM", 100)
    dense.load_hnswlib.cache_clear()
    try:
        for seed in (1, 2):
            assert isinstance(dense.build_vectors(random_units(200, seed)), FlatVectors)
        assert len([record for record in caplog.records if "hnswlib" in record.message]) == 1
    finally:
        dense.load_hnswlib.cache_clear()


@pytest.mark.slow
def test_a_graph_is_built_from_its_threshold_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hnswlib")
    monkeypatch.setattr(dense, "GRAPH_FROM", 300)
    monkeypatch.setattr(dense, "EXACT_ROWS", 0)
    monkeypatch.setattr(dense, "ROWS_PER_EF", 0)
    assert isinstance(dense.build_vectors(random_units(299, seed=1)), FlatVectors)
    assert isinstance(dense.build_vectors(random_units(300, seed=1)), GraphVectors)

"""A graph over vectors against exact search."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from pyroaring import BitMap

from anzoth.index import graph as graphs
from anzoth.index.dense import FlatVectors, Floats, unit_vectors
from anzoth.index.graph import GraphVectors

DIMENSIONS = 24


def random_units(count: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return unit_vectors(rng.standard_normal((count, DIMENSIONS)), DIMENSIONS)


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
    assert graph.sampled_recall >= graphs.RECALL_AIM


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


def test_without_hnswlib_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    graphs.load_hnswlib.cache_clear()
    try:
        assert [graphs.load_hnswlib() for _ in range(2)] == [None, None]
        assert len([record for record in caplog.records if "hnswlib" in record.message]) == 1
    finally:
        graphs.load_hnswlib.cache_clear()

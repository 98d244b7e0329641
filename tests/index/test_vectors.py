"""Which form a segment's vectors take."""

from __future__ import annotations

import numpy as np
import pytest

from anzoth.index import vectors
from anzoth.index.coded import CodedVectors
from anzoth.index.compiled import load_dense
from anzoth.index.dense import FlatVectors, Floats, Vectors, unit_vectors
from anzoth.index.graph import GraphVectors


def random_units(count: int) -> Floats:
    return unit_vectors(np.random.default_rng(count).standard_normal((count, 8)), 8)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "FLAT_TO", 300)
    monkeypatch.setattr(vectors, "CODED_TO", 400)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_rows", "without", "form"),
    [
        (299, "", FlatVectors),
        (300, "", CodedVectors),
        (400, "", CodedVectors),
        (401, "", GraphVectors),
        (401, "hnswlib", CodedVectors),
        (300, "kernel", GraphVectors),
        (401, "kernel, hnswlib", FlatVectors),
    ],
)
def test_the_form_follows_from_the_number_of_rows_and_from_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, num_rows: int, without: str, form: type[Vectors]
) -> None:
    if load_dense() is None and "kernel" not in without:
        pytest.skip("this processor has no kernel for codes")
    if "hnswlib" not in without:
        pytest.importorskip("hnswlib")
    monkeypatch.setattr(GraphVectors, "exact_is_cheaper", lambda *_: False)
    if "kernel" in without:
        monkeypatch.setattr(vectors, "load_dense", lambda: None)
    if "hnswlib" in without:
        monkeypatch.setattr(vectors, "load_hnswlib", lambda: None)
    assert type(vectors.build_vectors(random_units(num_rows))) is form


@pytest.mark.slow
def test_vectors_stay_flat_where_a_graph_would_be_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hnswlib")
    monkeypatch.setattr(vectors, "load_dense", lambda: None)
    assert type(vectors.build_vectors(random_units(401))) is FlatVectors

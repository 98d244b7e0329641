"""A collection against a dictionary, whatever happens to both in whatever order."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from anzoth.index import collection as collection_module
from anzoth.index import vectors
from anzoth.index.bm25 import K1, B
from anzoth.index.coded import CodedVectors
from anzoth.index.collection import BadChunks, Collection, CollectionFull
from anzoth.index.dense import BadVector, Floats, unit_vectors
from anzoth.index.filters import BadAttributes, parse_filter
from anzoth.index.fusion import Convex, Rrf
from anzoth.index.graph import GraphVectors
from anzoth.index.search import Hit
from anzoth.index.segment import Segment
from anzoth.index.snapshot import Owner, open_collection, save_collection

DIMENSIONS = 8
WORDS = ["wing", "flow", "shock", "heat", "layer", "jet"]


# Four halves: of length one, and inner products are exact in any order of adding up.
def halves(positions: list[int], signs: int) -> list[float]:
    vector = [0.0] * DIMENSIONS
    for bit, position in enumerate(positions):
        vector[position] = 0.5 if signs >> bit & 1 else -0.5
    return vector


VECTORS = st.builds(
    halves, st.permutations(range(DIMENSIONS)).map(lambda p: p[:4]), st.integers(0, 15)
)
CHUNKS = st.lists(
    st.tuples(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), VECTORS), max_size=4
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["year", "lang"]), st.sampled_from([1, 2, "de", "en", True]), max_size=2
)
FILES = st.integers(1, 6)
FILTERS = st.sampled_from(
    [
        None,
        {"type": "eq", "key": "year", "value": 1},
        {"type": "ne", "key": "lang", "value": "de"},
        {"type": "gte", "key": "year", "value": 2},
    ]
)


def allows(chosen: dict[str, Any] | None, attributes: dict[str, Any]) -> bool:
    """Of the filters above. (`True` is no number here, though Python says that it is 1.)"""
    if chosen is None:
        return True
    value = attributes.get(chosen["key"])
    return {
        "eq": value == 1 and value is not True,
        "ne": value != "de",
        "gte": value == 2,
    }[chosen["type"]]


class Model(RuleBasedStateMachine):
    """Files in the order in which they came, with chunks (number, text, vector) and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[int, tuple[list[tuple[int, str, list[float]]], dict[str, Any]]] = {}
        self.next_number = 0
        self.patches = mock.patch.object(collection_module, "DELTA_CHUNKS", 8)

    @initialize()
    def begin(self) -> None:
        self.patches.start()
        self.collection = Collection(DIMENSIONS, "plain")

    def teardown(self) -> None:
        self.patches.stop()

    # --- what can happen ----------------------------------------------------------------------

    @rule(file=FILES, chunks=CHUNKS, attributes=ATTRIBUTES, twice=st.booleans())
    def put(
        self, file: int, chunks: list[Any], attributes: dict[str, Any], twice: bool = False
    ) -> None:
        numbered = [(self.next_number + i, *chunk) for i, chunk in enumerate(chunks)]
        self.next_number += len(chunks)
        for _ in range(1 + twice):
            self.collection.put(
                file,
                [number for number, _, _ in numbered],
                [text for _, text, _ in numbered],
                [vector for _, _, vector in numbered],
                attributes,
            )
        self.files.pop(file, None)
        if numbered:
            self.files[file] = (numbered, attributes)

    @rule(file=FILES)
    def delete(self, file: int) -> None:
        assert self.collection.delete(file) is (file in self.files)
        assert self.collection.delete(file) is False
        self.files.pop(file, None)

    @rule(file=FILES, attributes=ATTRIBUTES)
    def set_attributes(self, file: int, attributes: dict[str, Any]) -> None:
        assert self.collection.set_attributes(file, attributes) is (file in self.files)
        if file in self.files:
            self.files[file] = (self.files[file][0], attributes)

    @rule()
    def merge(self) -> None:
        self.collection.merge()
        assert len(self.collection.state.parts) == bool(self.files)
        assert self.collection.state.num_rows == self.collection.num_chunks

    @rule()
    def save_and_open(self) -> None:
        owner = Owner("tenant", "store", bytes(32))
        with tempfile.TemporaryDirectory() as folder:
            save_collection(self.collection, Path(folder), owner, 1)
            self.collection = open_collection(Path(folder), owner, 1)

    @rule(put=FILES, chunks=CHUNKS, deleted=FILES, renamed=FILES, attributes=ATTRIBUTES)
    def write_while_merging(
        self, put: int, chunks: list[Any], deleted: int, renamed: int, attributes: dict[str, Any]
    ) -> None:
        build = Segment.merge

        def merge(*args: Any) -> Segment:
            with mock.patch.object(Segment, "merge", build):
                self.put(put, chunks, {})
                self.delete(deleted)
                self.set_attributes(renamed, attributes)
                self.check()
            return build(*args)

        with mock.patch.object(Segment, "merge", merge):
            self.collection.merge()

    # --- what must be true --------------------------------------------------------------------

    def allowed(self, chosen: dict[str, Any] | None) -> list[tuple[int, str, list[float], int]]:
        return [
            (*chunk, file)
            for file, (chunks, attributes) in self.files.items()
            if allows(chosen, attributes)
            for chunk in chunks
        ]

    @rule(vector=VECTORS, k=st.integers(1, 30), chosen=FILTERS)
    def search_by_vector(self, vector: list[float], k: int, chosen: dict[str, Any] | None) -> None:
        filters = parse_filter(chosen) if chosen else None
        answer = self.collection.search(vector, None, k, filters, Rrf())
        expected = [
            (number, file, float(np.dot(vector, theirs)))
            for number, _, theirs, file in self.allowed(chosen)
        ]
        expected.sort(key=lambda each: -each[2])  # equal ones stay in the order in which they came
        assert [(h.number, h.file, h.dense_score) for h in answer.hits] == expected[:k]
        assert answer.exact
        assert answer.trace.num_allowed == len(expected)

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), chosen=FILTERS)
    def search_by_words(self, words: list[str], chosen: dict[str, Any] | None) -> None:
        filters = parse_filter(chosen) if chosen else None
        hits = self.collection.search(None, " ".join(words), 40, filters, Rrf()).hits
        statistics = None
        for part in self.collection.state.parts:
            own = part.segment.sparse.statistics(words)
            statistics = own if statistics is None else statistics + own
        expected: dict[int, float] = {}
        for number, text, _, _ in self.allowed(chosen):
            counts = Counter(text.split())
            if statistics is not None and any(word in counts for word in words):
                length = 1 - B + B * counts.total() / statistics.average_length
                expected[number] = sum(
                    statistics.idf(word) * counts[word] / (counts[word] + K1 * length)
                    for word in words
                )
        assert {hit.number: hit.sparse_score for hit in hits} == pytest.approx(expected, rel=1e-5)
        assert len(hits) == len(expected)
        scores = [hit.sparse_score or 0.0 for hit in hits]
        assert scores == sorted(scores, reverse=True)

    @rule(
        vector=VECTORS,
        words=st.lists(st.sampled_from(WORDS), max_size=3),
        chosen=FILTERS,
        fusion=st.sampled_from(["calibrated", Rrf(), Convex(0.3)]),
    )
    def search_by_both(
        self, vector: list[float], words: list[str], chosen: dict[str, Any] | None, fusion: Any
    ) -> None:
        filters = parse_filter(chosen) if chosen else None
        hits = self.collection.search(vector, " ".join(words), 7, filters, fusion).hits
        numbers = [hit.number for hit in hits]
        allowed = {number: (file, theirs) for number, _, theirs, file in self.allowed(chosen)}
        assert len(set(numbers)) == len(numbers) == min(7, len(allowed))
        for hit in hits:
            file, theirs = allowed[hit.number]
            assert hit.file == file
            assert hit.dense_score == float(np.dot(vector, theirs))
            assert 0 <= hit.score <= 1
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @invariant()
    def check(self) -> None:
        self.collection.check_integrity()
        assert sorted(self.collection.files) == sorted(self.files)
        assert self.collection.num_chunks == sum(len(chunks) for chunks, _ in self.files.values())
        for file, (_, attributes) in self.files.items():
            assert self.collection.attributes(file) == attributes


TestModel = pytest.mark.slow(Model.TestCase)
TestModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# --- single properties --------------------------------------------------------------------------


def units(count: int, seed: int) -> Floats:
    return unit_vectors(
        np.random.default_rng(seed).standard_normal((count, DIMENSIONS)), DIMENSIONS
    )


def filled(num_files: int, chunks_each: int, **options: Any) -> Collection:
    made = Collection(DIMENSIONS, "plain", **options)
    for file in range(num_files):
        numbers = range(file * chunks_each, (file + 1) * chunks_each)
        made.put(file, numbers, ["wing"] * chunks_each, units(chunks_each, file), {"file": file})
    return made


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"numbers": [1, 1]}, BadChunks),
        ({"numbers": [1]}, BadChunks),
        ({"numbers": [90, 3]}, BadChunks),  # 3 is a chunk of file 1
        ({"vectors": [[1.0] * DIMENSIONS, [0.0] * DIMENSIONS]}, BadVector),
        ({"vectors": [[1.0], [1.0]]}, BadVector),
        ({"attributes": {"a": None}}, BadAttributes),
        (
            {"numbers": range(90, 99), "texts": ["x"] * 9, "vectors": units(9, 1)},
            CollectionFull,
        ),
        (
            {"numbers": range(90, 111), "texts": ["x"] * 21, "vectors": units(21, 1)},
            CollectionFull,
        ),
    ],
)
def test_a_refused_write_changes_nothing(change: dict[str, Any], error: type[Exception]) -> None:
    made = filled(6, 2, max_chunks=20)
    before = made.state
    given = {"numbers": [90, 91], "texts": ["a", "b"], "vectors": units(2, 9), **change}
    with pytest.raises(error):
        made.put(0, **given)
    assert made.state is before


def test_room_that_the_deleted_take_comes_back_with_a_merge() -> None:
    made = filled(5, 4, max_chunks=20)
    made.delete(1)
    made.delete(2)
    with pytest.raises(CollectionFull, match="8 are deleted"):
        made.put(9, range(50, 54), ["x"] * 4, units(4, 9))
    made.merge()
    made.put(9, range(50, 54), ["x"] * 4, units(4, 9))
    made.put(8, range(60, 64), ["x"] * 4, units(4, 8))
    assert made.num_chunks == 20


def test_many_small_files_make_few_parts() -> None:
    made = filled(200, 3)
    assert len(made.state.parts) <= 10
    assert made.num_chunks == 600


def test_a_search_that_began_keeps_what_it_saw() -> None:
    made = filled(3, 4)
    before = made.state
    made.delete(1)
    made.merge()
    assert [len(part.live) for part in before.parts] != []
    assert sum(len(part.live) for part in before.parts) == 12
    assert made.num_chunks == 8


def test_a_merge_is_due_when_much_is_new_or_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_module, "DELTA_CHUNKS", 50)
    made = filled(40, 4)
    assert made.merge_due
    made.merge()
    assert not made.merge_due
    for file in range(9):
        made.delete(file)
    assert made.merge_due


def test_a_merge_changes_no_answer_where_nothing_was_deleted() -> None:
    made = filled(30, 5)
    query = units(1, 77)[0]
    filters = parse_filter({"type": "lt", "key": "file", "value": 20})
    before = made.search(query, "wing", 20, filters)
    made.merge()
    after = made.search(query, "wing", 20, filters)
    assert [hit.number for hit in after.hits] == [hit.number for hit in before.hits]
    np.testing.assert_allclose(
        [hit.score for hit in after.hits], [hit.score for hit in before.hits], rtol=1e-5
    )


def test_nothing_is_found_in_an_empty_collection() -> None:
    made = Collection(DIMENSIONS)
    made.merge()
    answer = made.search(units(1, 1)[0], "anything", 5)
    assert (answer.hits, answer.exact, made.num_chunks) == ([], True, 0)
    with pytest.raises(ValueError, match="vector or a text"):
        made.search(None, None)
    with pytest.raises(BadVector):
        made.search([0.0] * DIMENSIONS)


@pytest.mark.slow
@pytest.mark.parametrize("form", [CodedVectors, GraphVectors])
def test_no_deleted_chunk_comes_out_of_codes_or_a_graph(
    monkeypatch: pytest.MonkeyPatch, form: type[CodedVectors | GraphVectors]
) -> None:
    monkeypatch.setattr(vectors, "FLAT_TO", 500)
    monkeypatch.setattr(form, "exact_is_cheaper", lambda *_: False)
    if form is GraphVectors:
        pytest.importorskip("hnswlib")
        monkeypatch.setattr(vectors, "load_dense", lambda: None)
    elif vectors.load_dense() is None:
        pytest.skip("this processor has no kernel for codes")
    made = filled(300, 5)
    made.merge()
    assert isinstance(made.state.parts[0].segment.vectors, form)
    for file in range(0, 300, 6):
        made.delete(file)
    made.put(999, [9000], ["wing"], units(1, 999))
    hits: list[list[Hit]] = []
    for query in units(40, 5):
        answer = made.search(query, None, 10, fusion=Rrf())
        assert not answer.exact
        hits.append(answer.hits)
        assert all(hit.file % 6 or hit.file == 999 for hit in answer.hits)
    live = np.concatenate([part.segment.numbers[list(part.live)] for part in made.state.parts])
    matrix = np.concatenate(
        [part.segment.vectors.matrix[list(part.live)] for part in made.state.parts]
    )
    found = sum(
        len({hit.number for hit in own} & set(live[np.argsort(-(matrix @ query))[:10]].tolist()))
        for query, own in zip(units(40, 5), hits, strict=True)
    )
    assert found >= 0.98 * 400


@pytest.mark.slow
def test_threads_that_search_while_others_write_never_see_half_a_file() -> None:
    made = filled(20, 4)
    wrong: list[object] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            hits = made.search(None, "wing", 500, fusion=Rrf()).hits
            numbers = [hit.number for hit in hits]
            files = Counter(hit.file for hit in hits)
            if len(set(numbers)) < len(numbers) or set(files.values()) - {4}:
                wrong.append(files)

    searching = [threading.Thread(target=search) for _ in range(2)]
    for thread in searching:
        thread.start()
    for turn in range(60):
        file = turn % 20
        first = 1000 + 4 * turn
        made.put(file, range(first, first + 4), ["wing"] * 4, units(4, turn))
        if turn % 9 == 0:
            made.merge()
        if turn % 7 == 0:
            made.delete((file + 3) % 20)
    stop.set()
    for thread in searching:
        thread.join()
    assert not wrong

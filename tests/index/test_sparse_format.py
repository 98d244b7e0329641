"""Are damaged bytes of a segment refused, or at least harmless?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from anzoth.index.sparse import DamagedSegment, SparseSegment
from anzoth.index.sparse_format import LONG

DOCUMENTS = [["all", f"w{row}", *["some"] * (row % 3)] for row in range(3 * LONG)]
DATA = SparseSegment.build(DOCUMENTS).to_bytes()


def use(data: bytes) -> None:
    """Everything that reads a posting. Raises DamagedSegment, nothing else."""
    segment = SparseSegment.from_bytes(memoryview(data))
    terms = ["all", "some", "w1", "w100", "not there"]
    rows, scores = segment.search(segment.query(terms), 10)
    assert len(rows) == len(scores) <= 10
    segment.search(segment.query(terms), 10, BitMap([1, 5, 70]))
    segment.check_integrity()


def test_what_was_written_is_read() -> None:
    use(DATA)
    assert SparseSegment.from_bytes(memoryview(DATA)).to_bytes() == DATA


def test_bytes_at_an_odd_address_are_read() -> None:
    use_from = memoryview(b"x" + DATA)[1:]
    segment = SparseSegment.from_bytes(use_from)
    segment.check_integrity()
    assert segment.search(segment.query(["w5"]), 1)[0].tolist() == [5]


@pytest.mark.parametrize("length", [0, 7, 63, 64, 1000, len(DATA) - 8, len(DATA) - 1])
def test_cut_bytes_are_refused(length: int) -> None:
    with pytest.raises(DamagedSegment):
        SparseSegment.from_bytes(memoryview(DATA[:length]))


def test_more_bytes_are_refused() -> None:
    with pytest.raises(DamagedSegment):
        SparseSegment.from_bytes(memoryview(DATA + bytes(8)))


@pytest.mark.parametrize(("at", "what"), [(0, b"X"), (8, b"\x02"), (12, b"\x03")])
def test_another_format_is_refused(at: int, what: bytes) -> None:
    with pytest.raises(DamagedSegment, match="version"):
        use(DATA[:at] + what + DATA[at + 1 :])


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255)), max_size=4))
@settings(deadline=None, max_examples=200)
def test_any_damage_is_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    data = bytearray(DATA)
    for at, value in changes:
        data[at] = value
    try:
        use(bytes(data))
    except DamagedSegment:
        assert bytes(data) != DATA


@pytest.mark.parametrize("ids", [[5, 5], [6, 5], [5, len(DOCUMENTS)]])
def test_ids_that_do_not_ascend_or_point_nowhere_are_refused(ids: list[int]) -> None:
    """They would be written through, in the compiled kernel."""
    data = SparseSegment.build([["a"] if row in (5, 6) else [] for row in range(len(DOCUMENTS))])
    parts = data._parts
    at = bytes(data.to_bytes()).rindex(parts.ids.tobytes())
    raw = bytearray(data.to_bytes())
    raw[at : at + 8] = np.array(ids, "<u4").tobytes()
    segment = SparseSegment.from_bytes(memoryview(bytes(raw)))
    with pytest.raises(DamagedSegment):
        segment.search(segment.query(["a"]), 2)


def test_an_empty_segment_is_one() -> None:
    for documents in ([], [[]], [[], []]):
        segment = SparseSegment.build(documents)
        again = SparseSegment.from_bytes(memoryview(segment.to_bytes()))
        again.check_integrity()
        assert len(again) == len(documents)
        assert len(again.search(again.query(["a"]), 5)[0]) == 0
        assert SparseSegment.merge([(again, None)]).to_bytes() == segment.to_bytes()

"""The same events come out however the bytes are cut; what is too long does not come out at all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anzoth.gateway.sse_reader import MAX_EVENT_BYTES, EventReader, EventStreamError

STREAM = b': hi\n\ndata: a\r\ndata:b\r\n\r\nevent: x\nid: 1\ndata: {"c": 1}\r\rdata:\n\ndata: lost'
EVENTS = [b"a\nb", b'{"c": 1}', b""]


def read(pieces: list[bytes]) -> list[bytes]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.push(piece)]


@example([14, 14])  # an empty piece in the midst of a CRLF
@given(st.lists(st.integers(0, len(STREAM))))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    assert read([STREAM[a:b] for a, b in itertools.pairwise(ends)]) == EVENTS


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes_give_events_or_an_error(pieces: list[bytes]) -> None:
    assert all(b"\r" not in event for event in read(pieces))


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 1000, b"data: x\n" * 100])
def test_an_event_that_does_not_end_is_given_up(piece: bytes) -> None:
    reader = EventReader()
    for _ in range(MAX_EVENT_BYTES // len(piece)):
        assert reader.push(piece) == []
    with pytest.raises(EventStreamError):
        reader.push(piece * (MAX_EVENT_BYTES // len(piece)))


def test_any_number_of_keep_alives_may_pass() -> None:
    reader = EventReader()
    for _ in range(200):
        assert reader.push(b": keep-alive\n" * 1000) == []
    assert reader.push(b"data: x\n\n") == [b"x"]

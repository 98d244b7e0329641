"""The end of a body: our framing against h11's, and the bounds that h11 does not have."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.errors import BadRequest
from anzoth.http.framing import FREE_OVERHEAD_BYTES, MAX_CHUNK_LINE_BYTES, Chunked, FixedLength


def h11_body(wire: bytes) -> tuple[bytes, bytes] | None:
    """What h11 decodes, and what it leaves; None if it refuses or waits for more."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + wire)
    body = b""
    try:
        while True:
            event = server.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body, server.trailing_data[0]
            elif event is h11.NEED_DATA:
                return None
    except h11.RemoteProtocolError:
        return None


def feed(framing: Chunked, wire: bytes, cuts: list[int]) -> int:
    """Bytes taken when `wire` arrives in pieces."""
    taken, start = 0, 0
    for end in [*sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]:
        piece = wire[start:end]
        step = framing.take(piece)
        taken += step
        if step < len(piece):
            break
        start = end
    return taken


_CHUNKED_LOOKALIKES = st.lists(
    st.sampled_from(
        [
            b"3",
            b"0",
            b"1",
            b"a",
            b"00",
            b"\r\n",
            b"\n",
            b"\r",
            b"abc",
            b";",
            b"x=y",
            b" ",
            b"A: b",
            b":",
        ]
    ),
    max_size=24,
).map(b"".join)


@given(_CHUNKED_LOOKALIKES, st.lists(st.integers(0, 100), max_size=4))
def test_what_our_framing_accepts_h11_ends_at_the_same_byte(wire: bytes, cuts: list[int]) -> None:
    framing = Chunked()
    try:
        taken = feed(framing, wire, cuts)
    except BadRequest:
        return
    decoded = h11_body(wire)
    if framing.is_complete:
        assert decoded is not None
        assert decoded[1] == wire[taken:]
    else:
        assert decoded is None


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=12),
    st.binary(max_size=40),
    st.lists(st.integers(0, 5000), max_size=6),
)
def test_valid_chunks_end_where_they_should_wherever_they_are_cut(
    chunks: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    framing = Chunked()
    assert feed(framing, wire + rest, cuts) == len(wire)
    assert framing.is_complete
    assert h11_body(wire + rest) == (b"".join(chunks), rest)


def test_one_byte_chunks_end_when_their_overhead_is_spent() -> None:
    framing = Chunked()
    one = b"1\r\nx\r\n"
    allowed = FREE_OVERHEAD_BYTES // 5
    framing.take(one * allowed)
    with pytest.raises(BadRequest, match="too small"):
        framing.take(one * allowed)


def test_chunks_of_64_bytes_may_go_on_for_ever() -> None:
    framing = Chunked()
    one = b"40\r\n" + b"x" * 64 + b"\r\n"
    for _ in range(20):
        assert framing.take(one * 1000) == len(one) * 1000


def test_long_extensions_are_overhead_too() -> None:
    framing = Chunked()
    with pytest.raises(BadRequest, match="too small"):
        framing.take((b"1;" + b"e" * 200 + b"\r\nx\r\n") * 200)


def test_a_chunk_line_without_an_end_is_not_collected() -> None:
    framing = Chunked()
    for _ in range(MAX_CHUNK_LINE_BYTES):
        framing.take(b"0")
    with pytest.raises(BadRequest, match="too long"):
        framing.take(b"0")


def test_fixed_length_takes_exactly_its_bytes() -> None:
    framing = FixedLength(5)
    assert framing.take(b"abc") == 3
    assert not framing.is_complete
    assert framing.take(b"defg") == 2
    assert framing.is_complete
    assert framing.take(b"g") == 0

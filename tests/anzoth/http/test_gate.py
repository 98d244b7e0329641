"""The gate alone: what it keeps, what it refuses before a head is complete, where heads end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.config import HttpConfig
from anzoth.errors import AnzothError, BadRequest, HeadersTooLarge, UriTooLong
from anzoth.http.gate import HeadGate

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def new_gate(**limits: int) -> HeadGate:
    return HeadGate(HttpConfig(**limits))  # type: ignore[arg-type]  # only whole numbers here


def test_a_head_is_handed_over_when_its_blank_line_arrived() -> None:
    gate = new_gate()
    for at in range(len(HEAD) - 1):
        gate.feed(HEAD[at : at + 1])
        assert gate.try_take() is None
    gate.feed(HEAD[-1:])
    assert gate.try_take() == HEAD
    assert not gate


def test_bytes_behind_a_head_stay() -> None:
    gate = new_gate()
    gate.feed(HEAD + HEAD + b"\0rest")
    assert gate.try_take() == HEAD
    assert gate.try_take() == HEAD
    assert gate.take_rest() == b"\0rest"
    assert not gate


@pytest.mark.parametrize(
    ("incomplete", "error"),
    [
        (b"\x16\x03\x01", BadRequest),
        (b"GET / HTTP/1.1\n", BadRequest),
        (b"GET / HTTP/1.1\rH", BadRequest),
        (b"GET / HTTP/1.1\r\nA: \0", BadRequest),
        (b"\xff", BadRequest),
        (b"GET /" + b"a" * 9000, UriTooLong),
        (b"G" * 9000, HeadersTooLarge),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 6000, HeadersTooLarge),
    ],
)
def test_what_can_never_become_a_head_is_refused_at_once(
    incomplete: bytes, error: type[AnzothError]
) -> None:
    gate = new_gate()
    gate.feed(incomplete)
    with pytest.raises(error):
        gate.try_take()


def test_a_cr_at_the_end_of_a_read_may_still_get_its_lf() -> None:
    gate = new_gate()
    gate.feed(b"GET / HTTP/1.1\r")
    assert gate.try_take() is None
    gate.feed(b"\nHost: x\r\n\r")
    assert gate.try_take() is None
    gate.feed(b"\n")
    assert gate.try_take() == HEAD


def test_a_cr_at_the_end_of_a_read_is_not_forgotten() -> None:
    gate = new_gate()
    gate.feed(b"GET / HTTP/1.1\r")
    assert gate.try_take() is None
    gate.feed(b"Host: x\r\n")
    with pytest.raises(BadRequest):
        gate.try_take()


def test_the_buffer_never_holds_more_than_the_limit_and_one_read() -> None:
    gate = new_gate(max_head_bytes=1000, max_target_bytes=100)
    gate.feed(b"GET / HTTP/1.1\r\nA: ")
    while len(gate) < 1000:
        assert gate.try_take() is None
        gate.feed(b"a" * 50)
    with pytest.raises(HeadersTooLarge):
        gate.try_take()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_a_verdict_does_not_depend_on_how_the_bytes_were_cut(data: bytes, cuts: list[int]) -> None:
    """Cut bytes may be refused earlier, and an early refusal is final; a head is the same head."""

    def verdict(pieces: list[bytes]) -> bytes | type[AnzothError] | None:
        gate = new_gate()
        taken = None
        for piece in pieces:
            gate.feed(piece)
            try:
                taken = taken or gate.try_take()
            except AnzothError as error:
                return type(error)
        return taken

    data = b"GET /" + data.replace(b"\x7f", b"\r\n") + b"\r\n\r\n"
    ends = sorted({cut % len(data) for cut in cuts} | {len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert verdict(pieces) == verdict([data])

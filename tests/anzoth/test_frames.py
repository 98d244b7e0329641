"""Does every message survive the wire, however the bytes are cut, and nothing else get through?"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.frames import (
    PROTOCOL,
    Abort,
    Admitted,
    Decoder,
    Embed,
    Embedded,
    Failed,
    FrameError,
    Hello,
    Purge,
    Purged,
    Refused,
    Row,
    SamplingParams,
    Stats,
    Step,
    Submit,
    encode,
    pack_token_ids,
    unpack_token_ids,
)

HELLO = Hello(PROTOCOL, "m", 2048, 1000, (1, 2), 64, 16, "bfloat16", "cpu", "f")
STATS = Stats(1, 2, 3, 4, 5, 6, 7, 0.25, 9, 0.5)
MESSAGES = [
    HELLO,
    Admitted(7),
    Refused(7, "capacity", "full", 250),
    Step(STATS, ()),
    Step(
        STATS, (Row(1, 0, 42, None, -0.5, [(42, -0.5)], 16), Row(1, 1, None, "abort", *[None] * 3))
    ),
    Submit(9, "ab", "t", 2, 10, SamplingParams(logit_bias=((5, -1.0),), stop_token_ids=(3,))),
    Submit(10, "ab", "t", 1, 10, SamplingParams(grammar='{"grammars": ["é"]}')),
    Submit(12, "ab", "t", 1, 10, SamplingParams(), ("document", "é")),
    Abort(9),
    Abort(9, 1),
    Purge(3, ("ab", "cd")),
    Purge(4, ("ab",), ("document",)),
    Purge(5, (), ()),
    Purged(3, 40, 2),
    Embed(11, "t", (3, 1), 8),
    Embed(12, "t", (3, 1), None, (2, 0)),
    Embed(13, "t", (3, 1), background=True),
    Embedded(11, (1, 0)),
    Failed(11),
    dataclasses.replace(HELLO, dimensions=384),
]


def normal(message):
    """JSON has no tuples inside rows."""
    if isinstance(message, Step):
        rows = [
            row._replace(top_logprobs=[tuple(t) for t in row.top_logprobs or ()])
            for row in message.rows
        ]
        return Step(message.stats, tuple(rows))
    return message


@given(cuts=st.lists(st.integers(1, 40), max_size=60), payload=st.binary(max_size=50))
def test_messages_survive_any_cut_of_the_stream(cuts: list[int], payload: bytes) -> None:
    wire = b"".join(encode(message, payload) for message in MESSAGES)
    decoder = Decoder()
    received = []
    for cut in cuts:
        received += decoder.feed(wire[:cut])
        wire = wire[cut:]
    received += decoder.feed(wire)
    assert [normal(m) for m, _ in received] == [normal(m) for m in MESSAGES]
    assert {p for _, p in received} == {payload}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_messages_or_a_frame_error(noise: bytes) -> None:
    try:
        for message, _ in Decoder().feed(noise):
            assert type(message) in {type(m) for m in MESSAGES}
    except FrameError:
        pass


@given(st.text(max_size=60))
def test_arbitrary_headers_are_messages_or_a_frame_error(text: str) -> None:
    header = text.encode()
    frame = len(header).to_bytes(4, "little") + bytes(4) + header
    with pytest.raises(FrameError):
        list(Decoder().feed(frame))


def test_another_protocol_is_refused() -> None:
    wire = encode(HELLO).replace(b'"protocol":%d' % PROTOCOL, b'"protocol":%d' % (PROTOCOL + 1))
    with pytest.raises(FrameError, match="protocol"):
        list(Decoder().feed(wire))


def test_a_frame_larger_than_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="too large"):
        list(Decoder().feed(b"\xff" * 8))


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_token_ids_survive(token_ids: list[int]) -> None:
    assert unpack_token_ids(pack_token_ids(token_ids)) == token_ids


def test_a_broken_payload_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        unpack_token_ids(b"12345")


def test_what_a_client_wrote_and_secrets_are_not_in_a_repr() -> None:
    submit = Submit(1, "secret salt", "t", 1, 10, SamplingParams(grammar="private schema"))
    assert "private" not in repr(submit)
    assert "secret" not in repr(submit)

"""What gateway and retriever say arrives as it was said; anything else is no message."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.framing import FrameError, frame
from anzoth.index_frames import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_QUERY_BYTES,
    PROTOCOL,
    Advance,
    Behind,
    Chunks,
    Close,
    Decoder,
    Delete,
    Done,
    Forget,
    Fusion,
    Hello,
    HitRow,
    Hits,
    Message,
    Open,
    Put,
    Refused,
    Saved,
    Search,
    SetAttributes,
    Stats,
    encode,
    pack_chunks,
    unpack_chunks,
)

ROW = HitRow(1, 2, 0.5, 1, 0.25, None, None)
MESSAGES: list[Message] = [
    Hello(PROTOCOL, 1 << 30),
    Done(1, 0),
    Behind(1, 4, 5),
    Refused(1, "late", "why"),
    Hits(1, 3, (ROW, ROW), True, {"dense_ms": 0.5}),
    Saved("a", "s", 2, 3),
    Stats(*range(8)),
    Open(1, "a", "s", 384, "english", 3),
    Put(1, "a", "s", 2, 3, 0, {"a": 1, "b": True, "c": "d", "e": 1.0}),
    Delete(1, "a", "s", 2, 3),
    SetAttributes(1, "a", "s", 2, 3, {}),
    Advance(1, "a", "s", 2, 3, 4),
    Search(1, "a", "s", 2, 10),
    Search(1, "a", "s", 2, 10, "canary", {"key": "canary"}, Fusion("rrf", 1.0, 2.0), 50),
    Close("a", "s"),
    Forget(1, "a"),
    Forget(1, "a", "s"),
]


def decoded(data: bytes) -> list[tuple[Message, bytes]]:
    return list(Decoder().feed(data))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    assert decoded(encode(message, b"xyz")) == [(message, b"xyz")]
    assert "canary" not in repr(message)


def test_messages_arrive_however_their_bytes_are_cut() -> None:
    data = b"".join(encode(message, b"payload") for message in MESSAGES)
    decoder = Decoder()
    found = [m for at in range(len(data)) for m, _ in decoder.feed(data[at : at + 1])]
    assert found == MESSAGES


WRONG: list[tuple[str, Any]] = [
    *itertools.product(
        ("request", "file", "seq", "k", "head", "num_chunks", "timeout_ms"),
        (-1, 1.0, True, "1", 2**63, [1]),
    ),
    *itertools.product(("tenant", "store"), ("", "..", "a/b", "a b", "é", "x" * 129, None, 1)),
    *itertools.product(("text",), (1, "x" * (MAX_QUERY_BYTES + 1))),
    *itertools.product(("filters", "attributes"), ([], "x")),
    *itertools.product(
        ("fusion",), (None, {"method": "sum"}, {"dense_weight": "1"}, {"more": 1}, [])
    ),
    ("k", 0),
    ("k", 1001),
    ("num_chunks", 50_001),
    ("unknown", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_field_out_of_its_bounds_makes_it_no_message(name: str, value: object) -> None:
    for message in MESSAGES:
        header = orjson.loads(encode(message)[8:])
        if name in header or name == "unknown":
            header[name] = value
            with pytest.raises(FrameError) as caught:
                decoded(frame(orjson.dumps(header), b""))
            assert "canary" not in str(caught.value)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(FrameError, match=f"protocol {PROTOCOL + 1}"):
        decoded(encode(Hello(PROTOCOL + 1, 1)))


def test_a_frame_that_is_too_large_is_refused_before_it_has_come() -> None:
    for header, payload in ((MAX_HEADER_BYTES + 1, 0), (0, MAX_PAYLOAD_BYTES + 1)):
        with pytest.raises(FrameError, match="too large"):
            decoded(header.to_bytes(4, "little") + payload.to_bytes(4, "little"))


NUMBERS = st.integers(-9, 9) | st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(message=st.sampled_from(MESSAGES), field=st.integers(0, 20), value=JSON)
def test_no_header_raises_anything_but_a_frame_error(
    message: Message, field: int, value: object
) -> None:
    header = orjson.loads(encode(message)[8:])
    header[list(header)[field % len(header)]] = value
    try:
        decoded(frame(orjson.dumps(header), b""))
    except FrameError:
        pass


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_but_a_frame_error(data: bytes) -> None:
    try:
        decoded(data)
        decoded(frame(data, b""))
    except FrameError:
        pass


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), st.text(max_size=9)), max_size=5),
    st.integers(1, 4),
)
def test_chunks_arrive_as_they_were_sent(chunks: list[tuple[int, str]], dimensions: int) -> None:
    vectors = bytes(range(4 * dimensions)) * len(chunks)
    sent = Chunks([number for number, _ in chunks], [text for _, text in chunks], vectors)
    assert unpack_chunks(pack_chunks(sent), len(chunks), dimensions) == sent


@given(st.binary(max_size=200), st.integers(0, 6), st.integers(1, 4))
def test_no_payload_raises_anything_but_a_frame_error(
    payload: bytes, num_chunks: int, dimensions: int
) -> None:
    try:
        found = unpack_chunks(payload, num_chunks, dimensions)
    except FrameError:
        return
    assert len(found.vectors) == 4 * num_chunks * dimensions
    assert len(found.numbers) == len(found.texts) == num_chunks

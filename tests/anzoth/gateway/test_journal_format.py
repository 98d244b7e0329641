"""Is what was written read again, and is nothing read that was not written?"""

from __future__ import annotations

import dataclasses
import random

import orjson
import pytest
from usage_journal import WRITER, intent, row, settle

from anzoth.db.store.usage_rows import UsageRow
from anzoth.gateway.journal_format import (
    HEADER_BYTES,
    Kind,
    NotASegment,
    decode_header,
    decode_row,
    encode_frame,
    encode_header,
    encode_settlement,
    is_torn,
    read_frames,
    row_of_json,
)
from anzoth.gateway.ledger import traced


def test_a_row_comes_back_as_it_was() -> None:
    written = row("r", completion_tokens=2**62, ttft_ms=3)
    assert decode_row(encode_settlement(written, 5)) == written
    assert {field.name for field in dataclasses.fields(UsageRow)} == set(
        orjson.loads(encode_settlement(written, 5))["row"]
    )


def test_a_trace_comes_back_and_makes_only_its_own_row_longer() -> None:
    plain = row("r")
    written = traced(plain, '{"stores":["vs_1"]}')
    assert decode_row(encode_settlement(written, 5)) == written
    assert decode_row(encode_settlement(written, 5)) != plain
    assert b"retrieval" not in encode_settlement(traced(plain, None), 5)


def test_rows_of_older_and_newer_versions_can_be_read() -> None:
    values = orjson.loads(encode_settlement(row("r", ttft_ms=3), 5))["row"]
    for name in ("ttft_ms", "end_user", "cached_tokens", "streamed"):
        del values[name]
    found = row_of_json({**values, "of_the_future": 1})
    assert found == row("r", ttft_ms=None, end_user=None, cached_tokens=0, streamed=False)


def test_a_header_is_read_and_nothing_else_is_one() -> None:
    header = encode_header(WRITER, 9)
    assert len(header) == HEADER_BYTES
    assert decode_header(header + b"more") == (WRITER, 9)
    for at in range(len(header)):
        damaged = header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :]
        with pytest.raises(NotASegment):
            decode_header(damaged)
        with pytest.raises(NotASegment):
            decode_header(header[:at])


def test_cut_at_every_byte_exactly_the_whole_frames_are_read() -> None:
    written = [
        intent(1, "a"),
        settle(1, "a"),
        encode_frame(Kind.PROGRESS, 0, b"[]"),
        intent(2, "b"),
    ]
    data, ends = b"".join(written), [0]
    for frame in written:
        ends.append(ends[-1] + len(frame))
    for cut in range(len(data) + 1):
        frames, end = read_frames(data[:cut])
        assert [frame.end for frame in frames] == [e for e in ends[1:] if e <= cut]
        assert end == max(e for e in ends if e <= cut)
        assert is_torn(data[end:cut])
    # Where the file was made longer before the bytes came, zeros stand in their place.
    frames, end = read_frames(data + bytes(64))
    assert end == len(data)
    assert is_torn(bytes(64))


def test_a_flipped_bit_ends_what_is_valid_wherever_it_is() -> None:
    written = [intent(1, "a"), settle(1, "a"), intent(2, "b")]
    data = b"".join(written)
    first, second = len(written[0]), len(written[0]) + len(written[1])
    chosen = random.Random(1)
    for at in range(first, second):
        damaged = bytearray(data)
        damaged[at] ^= 1 << chosen.randrange(8)
        _, end = read_frames(bytes(damaged))
        assert end == first, at


def test_damage_is_not_taken_for_a_torn_end() -> None:
    data = bytearray(settle(1, "a") + settle(2, "b"))
    data[40] ^= 1
    assert not is_torn(bytes(data))

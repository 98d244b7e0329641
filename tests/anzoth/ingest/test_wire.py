from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.ingest import wire
from anzoth.ingest.chunker import chunk
from anzoth.ingest.chunks import Static, Structural
from anzoth.ingest.limits import Limits, UnreadableFile
from anzoth.ingest.parse import parse

DOCUMENT = parse(b"# Title\n\nA sentence. Another.\n\n- item\n", "a.md")
CHUNKS = tuple(chunk(DOCUMENT, Structural(40), lambda text: len(text.split())))
ANSWER = b"".join(wire.encode_answer(wire.Parsed(DOCUMENT, CHUNKS)))


@pytest.mark.parametrize("rules", [None, Structural(100), Static()])
def test_a_job_arrives_as_it_was_sent(rules: Structural | Static | None) -> None:
    job = wire.Job("Größe.pdf", Limits(cpu_s=3), rules, "name", "title")
    frame = wire.encode_job(job, 7)
    num_header, num_payload = wire.LENGTHS.unpack_from(frame)
    assert num_payload == 7
    assert len(frame) == wire.LENGTHS.size + num_header
    assert wire.decode_job(frame[wire.LENGTHS.size :]) == job


def test_an_answer_arrives_as_it_was_sent() -> None:
    blocks = wire.Parsed(DOCUMENT, ())
    assert wire.decode_answer(b"".join(wire.encode_answer(blocks))) == blocks
    received = wire.decode_answer(ANSWER)
    assert received.chunks == CHUNKS
    assert received.document.text == DOCUMENT.text


def test_an_error_arrives_as_it_was_sent() -> None:
    frame = b"".join(wire.encode_error(UnreadableFile("invalid_file", "Broken."), "x.py:1"))
    with pytest.raises(UnreadableFile, match=r"Broken\.") as caught:
        wire.decode_answer(frame)
    assert caught.value.code == "invalid_file"


@given(st.integers(0, len(ANSWER) - 1), st.integers(0, 255))
@settings(deadline=None)  # the machine may be busy
def test_a_damaged_answer_is_refused_or_within_its_text(at: int, value: int) -> None:
    damaged = bytearray(ANSWER)
    damaged[at] = value
    try:
        parsed = wire.decode_answer(bytes(damaged))
    except wire.WireError:
        return
    for made in parsed.chunks:
        assert 0 <= made.start < made.end <= len(parsed.document.text)
        assert 0 <= made.parent_start < made.parent_end <= len(parsed.document.text)


@pytest.mark.parametrize("change", [{"num_text_bytes": 10**12}, {"notes": [1]}, {"kind": None}])
def test_an_answer_of_other_types_is_refused(change: dict[str, object]) -> None:
    num_header, num_payload = wire.LENGTHS.unpack_from(ANSWER)
    start = wire.LENGTHS.size
    fields = orjson.loads(ANSWER[start : start + num_header])
    header = orjson.dumps({**fields, **change})
    frame = wire.LENGTHS.pack(len(header), num_payload) + header + ANSWER[start + num_header :]
    with pytest.raises(wire.WireError):
        wire.decode_answer(frame)

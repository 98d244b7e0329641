"""Multipart bodies: what clients send is read, however it is cut; the ambiguous is refused."""

from __future__ import annotations

import random
import tracemalloc
from email.parser import BytesParser
from email.policy import HTTP
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.errors import AnzothError, BadRequest, UnsupportedMediaType
from anzoth.http.multipart import (
    MAX_HEADER_BYTES,
    MAX_PARTS,
    Event,
    MultipartParser,
    PartBegin,
    PartEnd,
    boundary_of,
)

BOUNDARY = b"----b0undary"
HEAD = b'Content-Disposition: form-data; name="file"; filename="a.txt"'


def part(content: bytes, head: bytes = HEAD) -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def body_of(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def read(data: bytes, cuts: list[int] | None = None) -> list[tuple[PartBegin, bytes]]:
    """The parts of a whole body that comes in the pieces between `cuts`."""
    parser = MultipartParser(BOUNDARY)
    events: list[Event] = []
    ends: list[int] = [0, *(cuts or []), len(data)]
    for start, end in pairwise(ends):
        events += parser.feed(data[start:end])
    parser.finish()
    parts: list[tuple[PartBegin, bytes]] = []
    begun: PartBegin | None = None
    content = b""
    for event in events:
        if isinstance(event, PartBegin):
            assert begun is None
            begun, content = event, b""
        elif isinstance(event, PartEnd):
            assert begun is not None
            parts.append((begun, content))
            begun = None
        else:
            assert event, "an empty piece says nothing"
            content += event
    assert begun is None
    return parts


def outcome(data: bytes, cuts: list[int] | None = None) -> object:
    try:
        return read(data, cuts)
    except BadRequest as error:
        return error.message


def test_fields_and_files_are_told_apart() -> None:
    data = body_of(
        part(b"assistants", b'Content-Disposition: form-data; name="purpose"'),
        part(b"\x00\r\n--nearly", HEAD + b"\r\nContent-Type: text/plain"),
        part(b""),
    )
    assert read(data) == [
        (PartBegin("purpose", None, None), b"assistants"),
        (PartBegin("file", "a.txt", "text/plain"), b"\x00\r\n--nearly"),
        (PartBegin("file", "a.txt", None), b""),
    ]


@pytest.mark.parametrize(
    "name", ["a b.pdf", 'quo"te', "naïve 🙂.txt", "back\\slash", "100%.txt", "a;b=c", "'x'"]
)
def test_names_come_as_the_sdk_s_client_writes_them(name: str) -> None:
    request = httpx2.Request("POST", "http://x", files={"file": (name, b"content")})
    parser = MultipartParser(boundary_of(request.headers["content-type"]))
    begin = parser.feed(request.read())[0]
    parser.finish()
    assert isinstance(begin, PartBegin)
    assert begin.filename == name


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b'filename="a%22b%0D%0a.txt"', 'a"b\r\n.txt'),  # browsers
        (rb'filename="a\"b\\c\d"', 'a"b\\c\\d'),  # curl
        (b"filename=plain.txt", "plain.txt"),
        (b"filename*=utf-8''na%C3%AFve%20.txt", "naïve .txt"),  # aiohttp
        (b"filename=\"first\"; filename*=utf-8''second", "first"),
        (b'filename=""', ""),
    ],
)
def test_names_come_as_other_clients_write_them(parameters: bytes, name: str) -> None:
    ((begin, _),) = read(
        body_of(part(b"x", b"Content-Disposition: form-data; name=f; " + parameters))
    )
    assert begin.filename == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends before"),
        (b"preamble\r\n" + body_of(part(b"x")), "does not begin"),
        (b"\r\n" + body_of(part(b"x")), "does not begin"),
        (body_of(part(b"x"))[:-4], "ends before"),
        (part(b"x"), "ends before"),
        (body_of(part(b"x")) + b"epilogue", "follows its last"),
        (
            body_of(part(b"x")).replace(BOUNDARY + b"\r\n", BOUNDARY + b" \r\n"),
            "follows a boundary",
        ),
        (
            body_of(part(b"x")).replace(BOUNDARY + b"\r\n", BOUNDARY + b"X\r\n"),
            "follows a boundary",
        ),
        (body_of(part(b"x", b"X: y")), "does not say which field"),
        (body_of(b"--" + BOUNDARY + b"\r\n\r\nx\r\n"), "malformed"),
        (body_of(part(b"x", HEAD + b"\r\n" + HEAD)), "twice"),
        (body_of(part(b"x", HEAD + b"\r\n folded: x")), "malformed"),
        (body_of(part(b"x", HEAD + b"; filename=b")), "does not say which field"),
        (
            body_of(part(b"x", HEAD.replace(b"form-data", b"attachment"))),
            "does not say which field",
        ),
        (body_of(part(b"x", HEAD.replace(b'name="file"', b'name="file'))), "which field"),
        (body_of(part(b"x", HEAD + b"\r\nContent-Transfer-Encoding: base64")), "encoded"),
        (body_of(part(b"x", b'Content-Disposition: form-data; name="\xff"')), "UTF-8"),
        (body_of(part(b"x", b"Content-Disposition: form-data; name=f; filename*=x''%ff")), "UTF-8"),
        (body_of(part(b"x", HEAD + b"\r\nX: " + b"y" * MAX_HEADER_BYTES)), "more than 4096 bytes"),
        (body_of(*[part(b"")] * (MAX_PARTS + 1)), "more than 64 parts"),
        (body_of(part(b"x")).replace(b"\r\n", b"\n"), "follows a boundary"),
    ],
)
def test_what_is_ambiguous_or_cut_off_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        read(data)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
    ],
)
def test_the_boundary_is_what_the_content_type_says(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        (None, UnsupportedMediaType),
        ("application/json", UnsupportedMediaType),
        ("multipart/form-data", BadRequest),
        ("multipart/form-data; boundary=", BadRequest),
        ("multipart/form-data; boundary=a; boundary=b", BadRequest),
        ("multipart/form-data; boundary=" + "a" * 71, BadRequest),
        ('multipart/form-data; boundary="a "', BadRequest),
        ("multipart/form-data; boundary=é", BadRequest),
    ],
)
def test_without_one_boundary_there_is_no_reading(
    content_type: str | None, error: type[AnzothError]
) -> None:
    with pytest.raises(error):
        boundary_of(content_type)


_PIECES = st.lists(
    st.sampled_from(
        [b"\r\n--" + BOUNDARY, b"--" + BOUNDARY, b"--", b"\r\n", b"\r", b"\n", b"-", BOUNDARY[:5]]
        + [HEAD, b"\r\n\r\n", b'Content-Disposition: form-data; name="p"', b"x" * 30, b"\xff\x00"]
    ),
    max_size=24,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(_PIECES, _PIECES.map(lambda inner: body_of(part(inner)))), seed=st.integers())
def test_how_a_body_is_cut_changes_nothing(data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(len(data)), min(len(data), rng.randrange(12))))
    assert outcome(data, cuts) == outcome(data)
    assert outcome(data, list(range(1, len(data)))) == outcome(data)


_CONTENT = st.lists(st.sampled_from([b"\r\n--", b"\r", b"-", b"x", b"\r\n", b"\x00\xff"])).map(
    b"".join
)


@settings(max_examples=150, deadline=None)
@given(contents=st.lists(_CONTENT, min_size=1, max_size=4))
def test_contents_come_back_as_they_were_and_as_another_parser_reads_them(
    contents: list[bytes],
) -> None:
    data = body_of(*(part(content) for content in contents))
    assert [content for _, content in read(data)] == contents
    head = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n\r\n"
    if all(b"\r" not in content for content in contents):  # which the other one normalises
        message = BytesParser(policy=HTTP).parsebytes(head + data)
        others = [other.get_payload(decode=True) for other in message.iter_parts()]  # type: ignore[attr-defined]
        assert others == contents


def test_a_large_content_is_not_kept() -> None:
    parser = MultipartParser(BOUNDARY)
    parser.feed(part(b"")[:-2])
    piece = b"\r\n--" * 4096
    tracemalloc.start()
    num_bytes = 0
    for _ in range(200):
        num_bytes += sum(len(event) for event in parser.feed(piece) if isinstance(event, bytes))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_bytes >= 200 * len(piece) - len(BOUNDARY) - 4
    assert peak < 10 * len(piece)

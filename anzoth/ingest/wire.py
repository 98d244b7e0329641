"""What do the gateway and a process that reads one file say to each other?

    frame    = u32 header length | u64 payload length | header | payload        (little-endian)
    request  : header = one JSON object, payload = the file
    answer   : header = one JSON object, payload = the text in UTF-8, then JSON of blocks or chunks

The reader of an answer trusts nothing in it: whoever wrote it may have been taken over by the file
that it read. Such an answer can lie about its own file and about nothing else.

Does not know: sockets, processes.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar

import orjson

from anzoth.ingest.chunks import Chunk, Rules, Static, Structural
from anzoth.ingest.document import Block, Document
from anzoth.ingest.limits import Limits, UnreadableFile

LENGTHS = struct.Struct("<IQ")
DEADLINE = struct.Struct("<d")
"""Seconds: what comes with the two sockets of a file."""
ENDED = struct.Struct("<i?")
"""How a process ended: its wait status, and whether its deadline had passed."""
_MAX_HEADER_BYTES = 1 << 20
_BLOCK_KINDS = frozenset({"heading", "paragraph", "list_item", "table_header", "table_row", "code"})
_CODES = ("invalid_file", "unsupported_file", "server_error")
_MAX_MESSAGE_CHARS = 1_000

_BLOCK = attrgetter(*(field.name for field in fields(Block)))
_CHUNK = attrgetter(*(field.name for field in fields(Chunk)))
_T = TypeVar("_T")


class WireError(Exception):
    """The peer sent something that is no frame, or whose fields contradict each other."""


@dataclass(slots=True, frozen=True)
class Job:
    """What is to be done with one file."""

    name: str
    """Its file name."""
    limits: Limits
    chunking: Rules | None = None
    """None: the blocks are wanted instead of chunks."""
    tokenizer: str | None = None
    """Which of the process's tokenizers counts. None only without chunking."""
    title: str | None = None
    """Stands in for a title that the document lacks."""


@dataclass(slots=True, frozen=True)
class Parsed:
    """A document and its chunks. With chunking, the document comes without its blocks."""

    document: Document
    chunks: tuple[Chunk, ...]


def encode_job(job: Job, num_payload_bytes: int) -> bytes:
    """The beginning of a frame; the file follows."""
    rules = job.chunking
    header = orjson.dumps(
        {
            "name": job.name,
            "limits": asdict(job.limits),
            "static": isinstance(rules, Static),
            "rules": None if rules is None else asdict(rules),
            "tokenizer": job.tokenizer,
            "title": job.title,
        }
    )
    return LENGTHS.pack(len(header), num_payload_bytes) + header


def decode_job(header: bytes) -> Job:
    said = orjson.loads(header)
    rules = said["rules"]
    make = Static if said["static"] else Structural
    return Job(
        said["name"],
        Limits(**said["limits"]),
        None if rules is None else make(**rules),
        said["tokenizer"],
        said["title"],
    )


def encode_answer(parsed: Parsed) -> list[bytes]:
    """A whole frame, in pieces."""
    document = parsed.document
    text = document.text.encode()
    spans: list[tuple[object, ...]]
    if parsed.chunks:
        spans = [_CHUNK(made) for made in parsed.chunks]
    else:
        spans = [_BLOCK(block) for block in document.blocks]
    packed = orjson.dumps(spans)
    header = orjson.dumps(
        {
            "kind": document.kind,
            "title": document.title,
            "num_pages": document.num_pages,
            "notes": document.notes,
            "num_text_bytes": len(text),
            "chunked": bool(parsed.chunks),
        }
    )
    return [LENGTHS.pack(len(header), len(text) + len(packed)) + header, text, packed]


def encode_error(error: UnreadableFile, detail: str = "") -> list[bytes]:
    """`detail` is for the log of the peer: where in the program, never what in the file."""
    header = orjson.dumps({"error": error.code, "message": error.message, "detail": detail})
    return [LENGTHS.pack(len(header), 0) + header]


def decode_answer(frame: bytes) -> Parsed:
    """Raises UnreadableFile if that is the answer, and WireError if it is none."""
    if len(frame) < LENGTHS.size:
        raise WireError("the answer has no beginning")
    num_header, num_payload = LENGTHS.unpack_from(frame)
    start = LENGTHS.size + num_header
    if num_header > _MAX_HEADER_BYTES or len(frame) != start + num_payload:
        raise WireError("the answer has another length than it says")
    try:
        said = orjson.loads(frame[LENGTHS.size : start])
        if "error" in said:
            raise _unreadable(said)
        middle = start + said["num_text_bytes"]
        text = frame[start:middle].decode()
        rows = orjson.loads(frame[middle:])
        chunks = tuple(_chunk(row, len(text)) for row in rows) if said["chunked"] else ()
        blocks = () if said["chunked"] else tuple(_block(row, len(text)) for row in rows)
        document = Document(
            _typed(said["kind"], str),
            text,
            blocks,
            _optional(said["title"], str),
            _optional(said["num_pages"], int),
            tuple(_typed(note, str) for note in said["notes"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise WireError(f"the answer is broken: {type(error).__name__}") from None
    return Parsed(document, chunks)


def _unreadable(said: dict[str, Any]) -> UnreadableFile:  # Any: JSON, checked here
    code, message = said["error"], _typed(said["message"], str)
    if code not in _CODES:
        raise ValueError("unknown code")
    error = UnreadableFile(code, message[:_MAX_MESSAGE_CHARS])
    error.add_note(_typed(said["detail"], str)[:_MAX_MESSAGE_CHARS])
    return error


def _block(row: list[Any], length: int) -> Block:  # Any: JSON, checked here
    kind, start, end, page, level = row
    _check_span(start, end, length)
    if kind not in _BLOCK_KINDS:
        raise ValueError("unknown kind of block")
    return Block(kind, start, end, _optional(page, int), _optional(level, int))


def _chunk(row: list[Any], length: int) -> Chunk:  # Any: JSON, checked here
    (chunk_id, start, end, page, last_page, headings, *rest) = row
    context, num_tokens, sha256, parent_start, parent_end, duplicate_of = rest
    made = Chunk(
        chunk_id,
        start,
        end,
        page,
        last_page,
        tuple(_typed(name, str) for name in headings),
        context,
        num_tokens,
        sha256,
        parent_start,
        parent_end,
        duplicate_of,
    )
    _check_span(made.start, made.end, length)
    _check_span(made.parent_start, made.parent_end, length)
    for text in (made.id, made.context, made.sha256):
        _typed(text, str)
    _typed(made.num_tokens, int)
    for number in (made.page, made.last_page, made.duplicate_of):
        _optional(number, int)
    if len(made.id) != 32 or len(made.sha256) != 64:
        raise ValueError("not a digest")
    return made


def _check_span(start: object, end: object, length: int) -> None:
    if not 0 <= _typed(start, int) < _typed(end, int) <= length:
        raise ValueError("a span outside of the text")


def _typed(value: object, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise TypeError(f"not {kind.__name__}")
    return value


def _optional(value: object, kind: type[_T]) -> _T | None:
    return None if value is None else _typed(value, kind)

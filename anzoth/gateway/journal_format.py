"""What stands in a file of the usage journal, and where does its valid part end?

A segment is a header and frames, appended and never changed:

    header  magic 8 · version u32 · writer 16 · number u64 · CRC u32      of what stands before it
    frame   length u32 · CRC u32 · entry u64 · kind u8 · payload          length: of the payload

The CRC (CRC-32 as in zlib) of a frame covers everything but itself. All numbers are little-endian,
all payloads JSON:

    INTENT    {"row", "slot", "max_completion_tokens"}   a request that the engine will be asked
    PROGRESS  [[entry, prompt, cached, completion, delivered], …]      of several requests, entry 0
    SETTLE    {"row", "delivered"}                       how one ended; entry 0: it had no intent

A row is a `UsageRow` or a `TracedRow` by the names of its fields, so a field that is added to it
needs no change here, and what an older version wrote can be read: a field that is missing takes its
default, else None where it may be that, else zero. There is no prompt and no secret in it;
`end_user` and `metadata` are the customer's words.

Does not know: files, or when anything is written.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import struct
import types
import typing
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from anzoth.db.store.usage_rows import TracedRow, UsageRow

_MAGIC = b"anzoth-j"
_VERSION = 1
_HEADER = struct.Struct("<8sI16sQ")
_CRC = struct.Struct("<I")
_SIZES = struct.Struct("<II")
_FIELDS = struct.Struct("<QB")
HEADER_BYTES = _HEADER.size + _CRC.size
_FRAME_BYTES = _SIZES.size + _FIELDS.size


class Kind(enum.IntEnum):
    """What a frame says."""

    INTENT = 1
    PROGRESS = 2
    SETTLE = 3


_KINDS = frozenset(Kind)


class NotASegment(Exception):
    """The file does not begin like a segment of this version."""


@dataclass(slots=True, frozen=True)
class Frame:
    """One frame; `end` is the offset behind it."""

    kind: Kind
    entry: int
    payload: bytes = dataclasses.field(repr=False)
    end: int


@dataclass(slots=True, frozen=True, order=True)
class Position:
    """A place in the journal, between two frames."""

    segment: int
    offset: int


def encode_header(writer: uuid.UUID, number: int) -> bytes:
    head = _HEADER.pack(_MAGIC, _VERSION, writer.bytes, number)
    return head + _CRC.pack(zlib.crc32(head))


def decode_header(data: bytes) -> tuple[uuid.UUID, int]:
    """Writer and number. Raises NotASegment."""
    head = data[: _HEADER.size]
    if len(data) < HEADER_BYTES or data[_HEADER.size : HEADER_BYTES] != _CRC.pack(zlib.crc32(head)):
        raise NotASegment("its header is damaged")
    magic, version, writer, number = _HEADER.unpack(head)
    if magic != _MAGIC or version != _VERSION:
        raise NotASegment(f"its header says version {version}; expected {_VERSION}")
    return uuid.UUID(bytes=writer), number


def encode_frame(kind: Kind, entry: int, payload: bytes) -> bytes:
    fields = _FIELDS.pack(entry, kind)
    return _SIZES.pack(len(payload), _crc(len(payload), fields, payload)) + fields + payload


def read_frames(data: bytes, offset: int = 0, base: int = 0) -> tuple[list[Frame], int]:
    """The frames from `offset` on, and where the first thing begins that is no whole, valid frame.

    Offsets are `base` more than positions in `data`.
    """
    frames: list[Frame] = []
    at, end = offset - base, len(data)
    while at + _FRAME_BYTES <= end:
        length, crc = _SIZES.unpack_from(data, at)
        begin = at + _FRAME_BYTES
        if begin + length > end:
            break
        payload = data[begin : begin + length]
        fields = data[at + _SIZES.size : begin]
        entry, kind = _FIELDS.unpack(fields)
        if crc != _crc(length, fields, payload) or kind not in _KINDS:
            break
        at = begin + length
        frames.append(Frame(Kind(kind), entry, payload, at + base))
    return frames, at + base


def is_torn(rest: bytes) -> bool:
    """Whether what follows the valid part is what an interrupted append leaves: the beginning of
    one frame, or nothing but zeros. Anything else was damaged later."""
    if len(rest) < _FRAME_BYTES or not any(rest):
        return True
    length, _ = _SIZES.unpack_from(rest)
    return rest[_FRAME_BYTES - 1] in _KINDS and _FRAME_BYTES + length > len(rest)


def _crc(length: int, fields: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(fields, length))


# --- payloads ----------------------------------------------------------------------------------


def encode_intent(row: UsageRow, slot: int, max_completion_tokens: int) -> bytes:
    return orjson.dumps(
        {"row": row, "slot": slot, "max_completion_tokens": max_completion_tokens}, default=_text
    )


def encode_settlement(row: UsageRow, delivered_tokens: int) -> bytes:
    return orjson.dumps({"row": row, "delivered": delivered_tokens}, default=_text)


def _text(value: object) -> str:
    """The database driver's UUIDs are a class of their own, which orjson does not know."""
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError


def decode_row(payload: bytes) -> UsageRow:
    """The row of an INTENT or a SETTLE."""
    return row_of_json(orjson.loads(payload)["row"])


def row_of_json(values: Mapping[str, Any]) -> UsageRow:  # JSON
    kind = TracedRow if "retrieval" in values else UsageRow
    fields: dict[str, Any] = {  # of all the types that a row has
        name: read(values[name]) if name in values else missing
        for name, read, missing in _readers(kind)
    }
    return kind(**fields)


@functools.cache
def _readers(kind: type[UsageRow]) -> list[_Reader]:
    hints = typing.get_type_hints(kind)
    return [_reader(field, hints[field.name]) for field in dataclasses.fields(kind)]


_ZEROS: Mapping[object, object] = {int: 0, bool: False, str: ""}
_Reader = tuple[str, Callable[[Any], Any], object]  # JSON


def _reader(field: dataclasses.Field[Any], hint: Any) -> _Reader:  # types of any field
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(option for option in options if option is not type(None))
    missing = field.default
    if missing is dataclasses.MISSING:
        missing = None if type(None) in options else _ZEROS.get(kind)
    if typing.get_origin(kind) is tuple:
        kind = tuple
    read: Callable[[Any], Any] = {
        tuple: tuple,
        uuid.UUID: uuid.UUID,
        datetime: datetime.fromisoformat,
    }.get(kind, lambda value: value)
    return field.name, lambda value: None if value is None else read(value), missing

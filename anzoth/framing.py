"""How are messages told apart in the bytes of a Unix socket between two of our processes?

    frame   = u32 header length | u32 payload length | header | payload      (little-endian)
    header  = one JSON object: {"t": message name, …the fields of the message}
    payload = raw bytes that are not worth writing as JSON: token ids, vectors, texts

Does not know: which messages there are (`frames`, `index_frames`), sockets. Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import orjson

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_LENGTHS = struct.Struct("<II")

M = TypeVar("M")


class FrameError(Exception):
    """The peer sent bytes that are not a frame of this protocol; the connection must be closed."""


def frame(header: bytes, payload: bytes) -> bytes:
    """One frame, ready for a socket."""
    return _LENGTHS.pack(len(header), len(payload)) + header + payload


def header(name: str, message: DataclassInstance, tuples: Iterable[str] = ()) -> bytes:
    """A message as JSON. `tuples`: its fields that are lists of named tuples."""
    fields = {"t": name, **{f.name: getattr(message, f.name) for f in dataclasses.fields(message)}}
    for field in tuples:  # orjson writes dataclasses itself, but no subclasses of tuple
        fields[field] = list(map(tuple, fields[field]))
    return orjson.dumps(fields)


class FrameDecoder(Generic[M]):
    """Turns a byte stream into messages. Raises FrameError on anything that is not a frame."""

    __slots__ = ("_buffer", "_max_header_bytes", "_max_payload_bytes", "_read_header")

    def __init__(
        self, read_header: Callable[[bytes], M], max_header_bytes: int, max_payload_bytes: int
    ) -> None:
        self._buffer = bytearray()
        self._read_header = read_header
        self._max_header_bytes = max_header_bytes
        self._max_payload_bytes = max_payload_bytes

    def feed(self, data: bytes) -> Iterator[tuple[M, bytes]]:
        """Adds `data` and yields each message that is now complete, with its payload."""
        self._buffer += data
        while len(self._buffer) >= _LENGTHS.size:
            header_length, payload_length = _LENGTHS.unpack_from(self._buffer)
            if header_length > self._max_header_bytes or payload_length > self._max_payload_bytes:
                raise FrameError(f"frame of {header_length} + {payload_length} bytes is too large")
            start = _LENGTHS.size
            end = start + header_length + payload_length
            if len(self._buffer) < end:
                return
            header = bytes(self._buffer[start : start + header_length])
            payload = bytes(self._buffer[start + header_length : end])
            del self._buffer[:end]
            yield self._read_header(header), payload

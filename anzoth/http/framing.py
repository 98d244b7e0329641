"""Where does a request body end on the wire, and does its framing stay within bounds?

A framing follows the bytes of one body without decoding them (h11 does that). It answers how many
of the bytes at hand belong to this body, so that h11 never sees a byte of the next request, and it
refuses what h11 lets pass: endless chunk extensions and trailers, megabytes of one-byte chunks (h11
alone spends 0.8 s of the event loop on 1 MB of them), control characters, sloppy white space.

Does not know: how many body bytes a route accepts (`body`), or time.
"""

from __future__ import annotations

import re
from typing import Literal, Protocol

from anzoth.errors import BadRequest

MAX_CHUNK_LINE_BYTES = 256
MAX_TRAILER_BYTES = 4096
MAX_TRAILER_FIELDS = 20
FREE_OVERHEAD_BYTES = 16 * 1024
"""Framing bytes that any body may spend; beyond them it may spend 1 per 8 body bytes.

One-byte chunks thus end after some 3,400 (about 20 ms of CPU), chunks of 64 bytes never.
"""
_OVERHEAD_SHARE = 8

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER_LINE = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class Framing(Protocol):
    """The end of one body."""

    @property
    def is_complete(self) -> bool: ...

    def take(self, data: bytes) -> int:
        """How many bytes at the beginning of `data` belong to the body. Raises BadRequest."""
        ...


class FixedLength:
    """A body of Content-Length bytes."""

    __slots__ = ("remaining_bytes",)

    def __init__(self, length_bytes: int) -> None:
        self.remaining_bytes = length_bytes

    @property
    def is_complete(self) -> bool:
        return self.remaining_bytes == 0

    def take(self, data: bytes) -> int:
        taken = min(self.remaining_bytes, len(data))
        self.remaining_bytes -= taken
        return taken


class Chunked:
    """A body in chunks (RFC 9112 §7.1).

    size [;extension] CRLF  data  CRLF   …   0 CRLF  (name: value CRLF)*  CRLF
    `-------- line ------'        `end'              `---- trailer lines ----'
    """

    __slots__ = (
        "_body_bytes",
        "_chunk_bytes",
        "_line",
        "_num_trailer_lines",
        "_overhead_bytes",
        "_place",
        "_trailer_bytes",
    )

    def __init__(self) -> None:
        self._place: Literal["line", "data", "end", "trailer", "complete"] = "line"
        self._line = b""
        """The beginning of a line whose end has not arrived."""
        self._chunk_bytes = 0
        """Data bytes that are still to come in this chunk."""
        self._body_bytes = 0
        self._overhead_bytes = 0
        self._trailer_bytes = 0
        self._num_trailer_lines = 0

    @property
    def is_complete(self) -> bool:
        return self._place == "complete"

    def take(self, data: bytes) -> int:
        position, end = 0, len(data)
        while position < end and self._place != "complete":
            if self._place == "data":
                step = min(self._chunk_bytes, end - position)
                position += step
                self._chunk_bytes -= step
                self._body_bytes += step
                if self._chunk_bytes == 0:
                    self._place = "end"
                continue
            line_end = data.find(b"\n", position) + 1 or end
            line = self._line + data[position:line_end]
            position = line_end
            if len(line) > (
                MAX_TRAILER_BYTES if self._place == "trailer" else MAX_CHUNK_LINE_BYTES
            ):
                raise BadRequest("A line of the chunked request body is too long.")
            if line.endswith(b"\n"):
                self._line = b""
                self._take_line(line)
            else:
                self._line = line
        return position

    def _take_line(self, line: bytes) -> None:
        if self._place == "trailer":
            self._take_trailer(line)
            return
        self._overhead_bytes += len(line)
        if self._overhead_bytes > FREE_OVERHEAD_BYTES + self._body_bytes // _OVERHEAD_SHARE:
            raise BadRequest("The chunks of the request body are too small for their framing.")
        if self._place == "end":
            if line != b"\r\n":
                raise BadRequest("A chunk of the request body is longer than its size says.")
            self._place = "line"
            return
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("The request body has a malformed chunk size.")
        self._chunk_bytes = int(match[1], 16)
        self._place = "data" if self._chunk_bytes else "trailer"

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._place = "complete"
            return
        self._trailer_bytes += len(line)
        self._num_trailer_lines += 1
        if self._trailer_bytes > MAX_TRAILER_BYTES or self._num_trailer_lines > MAX_TRAILER_FIELDS:
            raise BadRequest("The trailer of the request body is too large.")
        if _TRAILER_LINE.fullmatch(line) is None:
            raise BadRequest("The request body has a malformed trailer.")

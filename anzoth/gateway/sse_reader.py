"""Which events does a stream of server-sent events hold, however its bytes are cut?

Bytes come from another server and are not trusted: an event has a size limit, and what is not
UTF-8 is an error. Line ends are LF, CRLF or CR; comments and every field but `data` are skipped, as
the WHATWG's rules for event streams say.

Does not know: JSON, HTTP, or who sends.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 1 << 20


class EventStreamError(Exception):
    """These bytes are no event stream that this server takes."""


class EventReader:
    """Turns pieces of a body into the data of its events."""

    __slots__ = ("_data", "_line", "_num_bytes", "_skip_lf")

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._num_bytes = 0
        self._skip_lf = False

    def push(self, piece: bytes) -> list[bytes]:
        """The data of each event that is complete now. Raises EventStreamError."""
        if not piece:
            return []
        events: list[bytes] = []
        if self._skip_lf:
            piece = piece.removeprefix(b"\n")
        # A CR at the very end may be half of a CRLF.
        self._skip_lf = piece.endswith(b"\r")
        *lines, rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._check(len(line))
            self._end_line(bytes(self._line) + line, events)
            self._line.clear()
        self._check(len(rest))
        self._line += rest
        return events

    def _check(self, num_more: int) -> None:
        if self._num_bytes + len(self._line) + num_more > MAX_EVENT_BYTES:
            raise EventStreamError(f"an event is longer than {MAX_EVENT_BYTES} bytes")

    def _end_line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data = []
            self._num_bytes = 0
            return
        self._num_bytes += len(line)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        if line.startswith(b":"):
            self._num_bytes -= len(line)  # keep-alives may be many

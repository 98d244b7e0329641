"""Are these raw bytes a request head that we dare to show to a parser?

h11 limits only *incomplete* heads: fed in one read it accepts a head of any size, any number of
fields, bare LF as a line ending, folded lines and control characters. Each of those is a way to
exhaust us or to make us and a proxy in front of us read two different requests from one stream of
bytes (RFC 9112 §11.2). So nothing reaches h11 before it passed here, as one complete head.

All checks use `bytes.find`, `count` and `translate`: about 2 µs for a 550-byte head, where one
regular expression over the same bytes takes 12.

Does not know: what the fields mean (`head`), or anything about bodies (`framing`).
"""

from __future__ import annotations

from anzoth.config import HttpConfig
from anzoth.errors import BadRequest, HeadersTooLarge, UriTooLong

_ALLOWED = bytes(byte for byte in range(256) if byte >= 0x20 and byte != 0x7F) + b"\t\r\n"
"""Everything but the control characters. CR and LF are counted separately."""

_REQUEST_LINE_BESIDES_TARGET_BYTES = 64
"""Room for method, version and two spaces when a request line has no end yet."""


class HeadGate:
    """Collects the bytes of one head after the other; hands over each complete, well-formed one.

    Bytes behind a head stay in the buffer: they belong to its body or to a later request, and
    `take_rest` gives them out. Memory: the owner stops feeding while a request is being answered.
    """

    __slots__ = ("_buffer", "_checked", "_config", "_may_skip_blank_line")

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._buffer = bytearray()
        self._checked = 0
        """The buffer's first `_checked` bytes hold no end of a head and no forbidden byte."""
        self._may_skip_blank_line = True

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take_rest(self) -> bytes:
        """All bytes that are buffered, which are the gate's no more."""
        rest = bytes(self._buffer)
        self.clear()
        return rest

    def clear(self) -> None:
        self._buffer.clear()
        self._checked = 0

    def try_take(self) -> bytes | None:
        """The next head including its blank line, or None while it is incomplete.

        Raises BadRequest, HeadersTooLarge or UriTooLong; the connection is of no use afterwards.
        """
        buffer = self._buffer
        if self._may_skip_blank_line and buffer.startswith(b"\r\n"):
            # RFC 9112 §2.2: ignore one empty line before a request (old clients end bodies so).
            del buffer[:2]
            self._may_skip_blank_line = False
            self._checked = 0
        end = buffer.find(b"\r\n\r\n", max(0, self._checked - 3))
        if end < 0:
            self._check_incomplete()
            return None
        end += 4
        if end > self._config.max_head_bytes:
            raise self._too_large()
        head = bytes(buffer[:end])
        del buffer[:end]
        self._checked = 0
        self._may_skip_blank_line = True
        self._check_complete(head)
        return head

    def _check_complete(self, head: bytes) -> None:
        num_lines = head.count(b"\r\n")
        if head.translate(None, _ALLOWED):
            raise BadRequest("The request head contains control characters.")
        if head.count(b"\r") != num_lines or head.count(b"\n") != num_lines:
            raise BadRequest("Lines of the request head must end with CR LF.")
        if b"\r\n " in head or b"\r\n\t" in head:
            raise BadRequest("Folded header lines are not supported.")
        if num_lines - 2 > self._config.max_header_fields:
            limit = self._config.max_header_fields
            raise HeadersTooLarge(f"The request has more than {limit} header fields.")
        request_line = head[: head.find(b"\r\n")].split(b" ")
        if len(request_line) == 3 and len(request_line[1]) > self._config.max_target_bytes:
            raise self._too_long()
        self._check_content_length(head)

    @staticmethod
    def _check_content_length(head: bytes) -> None:
        """Refuses what h11 forgives: it folds equal lengths, wherever they stand, into one."""
        lower = head.lower()
        name = b"\r\ncontent-length:"
        start = lower.find(name)
        if start < 0:
            return
        value_start = start + len(name)
        value = lower[value_start : lower.find(b"\r\n", value_start)]
        if b"," in value or lower.find(name, value_start) >= 0:
            raise BadRequest("The request has more than one Content-Length.")

    def _check_incomplete(self) -> None:
        """Refuses at once what can never become a head, instead of waiting for the deadline."""
        buffer, size = self._buffer, len(self._buffer)
        if size >= self._config.max_head_bytes:
            raise self._too_large()
        if self._checked == 0 and size and not buffer[:1].isalpha() and buffer != b"\r":
            raise BadRequest("The request does not begin with a method.")
        start = self._checked
        if start and buffer[start - 1] == 0x0D:
            start -= 1
        fresh = buffer[start:]
        if fresh.translate(None, _ALLOWED):
            raise BadRequest("The request head contains control characters.")
        num_lines = fresh.count(b"\r\n")
        # A CR in last place may still get its LF.
        if fresh.count(b"\n") != num_lines or fresh.count(b"\r", 0, -1) != num_lines:
            raise BadRequest("Lines of the request head must end with CR LF.")
        self._checked = size
        longest = self._config.max_target_bytes + _REQUEST_LINE_BESIDES_TARGET_BYTES
        if size > longest and buffer.find(b"\r\n", 0, longest) < 0:
            raise self._too_large()

    def _too_large(self) -> HeadersTooLarge | UriTooLong:
        """Names the part that is too large: the request target has a status of its own."""
        longest = self._config.max_target_bytes + _REQUEST_LINE_BESIDES_TARGET_BYTES
        if self._buffer.find(b"\r\n", 0, longest) < 0 and self._buffer.find(b" ", 0, 64) >= 0:
            return self._too_long()
        limit = self._config.max_head_bytes
        return HeadersTooLarge(f"The request head is larger than {limit} bytes.")

    def _too_long(self) -> UriTooLong:
        limit = self._config.max_target_bytes
        return UriTooLong(f"The request target is longer than {limit} bytes.")

"""Which parts does a multipart/form-data body have?

    parser = MultipartParser(boundary_of(content_type))
    for event in parser.feed(some_bytes): …        # PartBegin, bytes, …, PartEnd, PartBegin, …
    parser.finish()                                # there is nothing more: is the body whole?

RFC 7578, read strictly: what two readers could understand differently is refused (a preamble, bytes
behind the boundary, a part that is named twice or not at all, an encoded one). Names are read as
browsers and the SDKs write them: UTF-8, with %22, %0D and %0A for what a quoted string cannot hold,
or with backslashes. Nothing is kept but a part's header and as much of the content as may be the
beginning of a delimiter.

Does not know: which fields there should be, where the content goes, or how large it may be.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from urllib.parse import unquote

from anzoth.errors import BadRequest, UnsupportedMediaType

MAX_PARTS = 64
MAX_HEADER_BYTES = 4096
"""Of all header fields of one part together."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(
    rf";[ \t]*(?P<name>{_TOKEN})=(?:(?P<token>{_TOKEN})|\"(?P<quoted>(?:\\[\\\"]|[^\"])*)\")[ \t]*"
)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]", re.ASCII)
_FIELD = re.compile(rf"(?P<name>{_TOKEN}):[ \t]*(?P<value>[^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_QUOTED_PAIR = re.compile(r"\\([\\\"])")
_ESCAPES = re.compile("%(22|0D|0A)", re.IGNORECASE)
_PLAIN_ENCODINGS = frozenset({"7bit", "8bit", "binary"})


@dataclass(slots=True, frozen=True)
class PartBegin:
    """The header of a part. Its content follows."""

    name: str
    filename: str | None
    """None: it is a field, not a file."""
    content_type: str | None


@dataclass(slots=True, frozen=True)
class PartEnd:
    """The part is whole."""


Event = PartBegin | PartEnd | bytes


class _State(enum.Enum):
    START = "before the first delimiter"
    DELIMITER = "behind a delimiter: another part, or the end"
    HEADER = "in the header of a part"
    CONTENT = "in the content of a part"
    END = "behind the last delimiter"


def boundary_of(content_type: str | None) -> bytes:
    """Raises UnsupportedMediaType for another type, and BadRequest."""
    kind, semicolon, rest = (content_type or "").partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise UnsupportedMediaType("The request body must be multipart/form-data.")
    parameters = _parameters(semicolon + rest)
    boundary = None if parameters is None else parameters.get("boundary")
    if boundary is None or _BOUNDARY.fullmatch(boundary) is None:
        raise BadRequest("The Content-Type header of your request has no valid boundary.")
    return boundary.encode("ascii")


class MultipartParser:
    """One body. `feed` it what comes; the joined events do not depend on how that was cut."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter has no line before it whose end would belong to it.
        self._buffer = bytearray(b"\r\n")
        self._state = _State.START
        self._num_parts = 0

    def feed(self, data: bytes) -> list[Event]:
        """Raises BadRequest; nothing may be fed after that."""
        self._buffer += data
        events: list[Event] = []
        steps = {
            _State.START: self._start,
            _State.DELIMITER: self._behind_delimiter,
            _State.HEADER: self._header,
            _State.CONTENT: self._content,
            _State.END: self._end,
        }
        while True:
            state = self._state
            steps[state](events)
            if self._state is state:
                return events

    def finish(self) -> None:
        """Raises BadRequest unless the body was whole."""
        if self._state is not _State.END:
            raise _malformed("it ends before its last boundary")

    def _start(self, events: list[Event]) -> None:
        if not self._delimiter.startswith(self._buffer[: len(self._delimiter)]):
            raise _malformed("it does not begin with its boundary")
        if len(self._buffer) >= len(self._delimiter):
            self._pass(len(self._delimiter), _State.DELIMITER)

    def _behind_delimiter(self, events: list[Event]) -> None:
        if len(self._buffer) < 2:
            return
        if self._buffer.startswith(b"--"):
            self._pass(2, _State.END)
        elif self._buffer.startswith(b"\r\n"):
            self._num_parts += 1
            if self._num_parts > MAX_PARTS:
                raise _malformed(f"it has more than {MAX_PARTS} parts")
            self._state = _State.HEADER  # which an empty line ends: this line's end may begin it
        else:
            raise _malformed("something follows a boundary in its line")

    def _header(self, events: list[Event]) -> None:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES + 4)
        if end >= 0:
            events.append(_part(bytes(self._buffer[2:end])))
            self._pass(end + 4, _State.CONTENT)
        elif len(self._buffer) >= MAX_HEADER_BYTES + 4:
            raise _malformed(f"a part's header has more than {MAX_HEADER_BYTES} bytes")

    def _content(self, events: list[Event]) -> None:
        found = self._buffer.find(self._delimiter)
        # Without one: all but what may be the beginning of one.
        end = found if found >= 0 else self._possible_delimiter()
        if end:
            events.append(bytes(memoryview(self._buffer)[:end]))
        if found >= 0:
            events.append(PartEnd())
            self._pass(found + len(self._delimiter), _State.DELIMITER)
        else:
            del self._buffer[:end]

    def _possible_delimiter(self) -> int:
        """Where the buffer's end may be the beginning of a delimiter, which has one CR only."""
        at = self._buffer.rfind(b"\r", max(0, len(self._buffer) - len(self._delimiter) + 1))
        is_possible = at >= 0 and self._delimiter.startswith(self._buffer[at:])
        return at if is_possible else len(self._buffer)

    def _end(self, events: list[Event]) -> None:
        if not b"\r\n".startswith(self._buffer):
            raise _malformed("something follows its last boundary")

    def _pass(self, num_bytes: int, state: _State) -> None:
        del self._buffer[:num_bytes]
        self._state = state


def _part(header: bytes) -> PartBegin:
    """Raises BadRequest."""
    try:
        lines = header.decode().split("\r\n")
    except UnicodeDecodeError:
        raise _malformed("a part's header is not UTF-8") from None
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise _malformed("a part's header is malformed")
        name = match["name"].lower()
        if name in fields:
            raise _malformed("a part's header has a field twice")
        fields[name] = match["value"]
    if fields.get("content-transfer-encoding", "binary").lower() not in _PLAIN_ENCODINGS:
        raise _malformed("a part is encoded, which RFC 7578 forbids")
    kind, semicolon, rest = fields.get("content-disposition", "").partition(";")
    parameters = _parameters(semicolon + rest)
    if kind.strip().lower() != "form-data" or parameters is None or "name" not in parameters:
        raise _malformed("a part does not say which field it is")
    return PartBegin(
        _unescaped(parameters["name"]), _filename(parameters), fields.get("content-type")
    )


def _filename(parameters: dict[str, str]) -> str | None:
    """Raises BadRequest. Some clients write names that are not ASCII as RFC 5987 has it."""
    plain, extended = parameters.get("filename"), parameters.get("filename*")
    if plain is not None or extended is None:
        return None if plain is None else _unescaped(plain)
    charset, _, rest = extended.partition("'")
    try:
        if charset.lower() != "utf-8":
            raise ValueError
        return unquote(rest.partition("'")[2], errors="strict")
    except ValueError:  # includes UnicodeDecodeError
        raise _malformed("a part's filename* is not UTF-8") from None


def _parameters(text: str) -> dict[str, str] | None:
    """What follows the first word of a header's value; None: it is malformed."""
    parameters: dict[str, str] = {}
    at, text = 0, text.rstrip(" \t")
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None or match["name"].lower() in parameters:
            return None
        quoted = match["quoted"]
        value = match["token"] if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        parameters[match["name"].lower()] = value
        at = match.end()
    return parameters


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(lambda match: chr(int(match[1], 16)), text)


def _malformed(reason: str) -> BadRequest:
    """`reason` never quotes the body."""
    return BadRequest(f"The multipart body of your request is malformed: {reason}.")

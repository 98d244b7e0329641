"""How does a form with a file in it come in?

The file goes where it belongs while it comes (`Incoming`), fields are collected; in whatever order
they stand. Fields that nobody asked for are ignored, as in JSON bodies; a second file is refused.

Does not know: what the fields mean, or how a multipart body is written (see `http.multipart`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from anzoth.api.fields import wrong_value
from anzoth.errors import InvalidValue, MissingParameter
from anzoth.http.messages import Request
from anzoth.http.multipart import MultipartParser, PartBegin, PartEnd, boundary_of

MAX_FIELD_BYTES = 4096
_MAX_FORM_BYTES = 256 * 1024
"""Of all that is not the file."""
_USUAL_FORM_BYTES = 1024
"""The same of an ordinary form, at most."""
_TIMEOUT_S = 3300.0
"""How long is waited for the client in all: what is not whole within an hour is given up."""
_MAX_NAME_CHARACTERS = 255


class Incoming(Protocol):
    """Where the file goes."""

    async def write(self, data: bytes) -> None: ...


@dataclass(slots=True)
class Form:
    """What came beside the file's content."""

    texts: dict[str, str] = field(default_factory=dict, repr=False)
    filename: str | None = field(default=None, repr=False)
    has_file: bool = False


def announced_bytes(request: Request) -> int:
    """How long the file is at least, if its sender is right; 0 where it does not say."""
    return max(0, int(request.headers.get("content-length") or 0) - _USUAL_FORM_BYTES)


async def receive(
    request: Request, file_field: str, names: Collection[str], max_bytes: int, incoming: Incoming
) -> Form:
    """`names`: the fields that are collected. `max_bytes`: of the file.

    Raises UnsupportedMediaType, BadRequest, MissingParameter, PayloadTooLarge, RequestTimeout,
    ClientDisconnected, and what `incoming` raises.
    """
    parser = MultipartParser(boundary_of(request.headers.get("content-type")))
    reader = _Reader(file_field, names, incoming)
    async for data in request.stream_body(max_bytes + _MAX_FORM_BYTES, _TIMEOUT_S):
        for event in parser.feed(data):
            if isinstance(event, PartBegin):
                reader.begin(event)
            elif isinstance(event, PartEnd):
                reader.end()
            else:
                await reader.take(event)
    parser.finish()
    if not reader.form.has_file:
        raise MissingParameter(f"Missing required parameter: '{file_field}'.", param=file_field)
    return reader.form


class _Reader:
    def __init__(self, file_field: str, names: Collection[str], incoming: Incoming) -> None:
        self.form = Form()
        self._file_field = file_field
        self._names = names
        self._incoming = incoming
        self._name = ""
        self._text = bytearray()

    def begin(self, part: PartBegin) -> None:
        self._name = part.name
        if part.name == self._file_field:
            if self.form.has_file:
                raise InvalidValue(f"'{part.name}' must be given once.", param=part.name)
            self.form.has_file = True
            self.form.filename = part.filename
        elif part.filename is not None:
            raise InvalidValue(f"The form can hold one file, in the field '{self._file_field}'.")
        elif part.name in self.form.texts:
            raise InvalidValue(f"'{part.name}' must be given once.", param=part.name)

    async def take(self, data: bytes) -> None:
        if self._name == self._file_field:
            await self._incoming.write(data)
        elif self._name in self._names:
            self._text += data
            if len(self._text) > MAX_FIELD_BYTES:
                raise wrong_value(self._name, f"at most {MAX_FIELD_BYTES} bytes")

    def end(self) -> None:
        if self._name in self._names:
            try:
                self.form.texts[self._name] = self._text.decode()
            except UnicodeDecodeError:
                raise wrong_value(self._name, "UTF-8") from None
            self._text.clear()


def base_name(value: Any, param: str) -> str:
    """The last part of a file's name, which is all that RFC 7578 §4.2 lets a receiver use.

    Raises InvalidValue.
    """
    if not isinstance(value, str):
        raise wrong_value(param, "a file name")
    name = value.replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if c.isprintable()).strip().encode("utf-8", "replace").decode()
    if name.strip(".") == "":
        raise wrong_value(param, "the name of a file")
    if len(name) > _MAX_NAME_CHARACTERS:
        raise wrong_value(param, f"a name of at most {_MAX_NAME_CHARACTERS} characters", len(name))
    return name

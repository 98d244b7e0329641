"""How does the input file of a batch become requests?

    {"custom_id": "any text, once", "method": "POST", "url": "/v1/chat/completions", "body": {…}}

One JSON object in each line. It is read twice: to be checked as a whole before anything is asked,
and again, piece by piece, while it is worked on; no more than a piece of it is ever in memory.

Does not know: what is in a body, or what becomes of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

MAX_CUSTOM_ID = 512
MAX_LINE_BYTES = (8 << 20) + (64 << 10)
"""Longer than any body that is accepted over HTTP."""
MAX_ERRORS = 100
"""Of an input that is told what is wrong with it."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class InputLine:
    """One request."""

    number: int
    """From 1."""
    custom_id: str = field(repr=False)
    body: dict[str, Any] = field(repr=False)  # JSON


class BadInput(Exception):
    """Something is wrong with the input. The message quotes nothing of it."""

    def __init__(
        self, code: str, message: str, line: int | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.shown = {"code": code, "line": line, "message": message, "param": param}
        """As OpenAI shows it."""


async def read_lines(
    pieces: AsyncIterator[bytes], read: Callable[[int, bytes], T | None]
) -> AsyncIterator[list[T]]:
    """What `read` makes of each line and its number, for each piece; None is left out, and so are
    empty lines. It is called in another thread. Raises BadInput for a line that never ends."""
    rest, number = b"", 0

    def cut(data: bytes, *, is_last: bool) -> list[T]:
        nonlocal rest, number
        *lines, rest = (rest + data).split(b"\n")
        if is_last:
            lines.append(rest)
        made: list[T] = []
        for text in lines:
            number += 1
            text = text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text
            if len(text) > MAX_LINE_BYTES:
                raise _too_long(number)
            if text.strip() and (one := read(number, text)) is not None:
                made.append(one)
        if len(rest) > MAX_LINE_BYTES:
            raise _too_long(number + 1)
        return made

    async for piece in pieces:
        yield await asyncio.to_thread(cut, piece, is_last=False)
    yield await asyncio.to_thread(cut, b"", is_last=True)


def _too_long(number: int) -> BadInput:
    return BadInput("line_too_long", f"This line is longer than {MAX_LINE_BYTES} bytes.", number)


def parse_line(number: int, text: bytes, endpoint: str) -> InputLine:
    """Raises BadInput."""
    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadInput("invalid_json_line", "This line is not valid JSON.", number) from None
    if not isinstance(line, dict):
        raise BadInput("invalid_json_line", "This line is not a JSON object.", number)
    for name in ("custom_id", "method", "url", "body"):
        if line.get(name) is None:
            message = f"Missing required parameter: '{name}'."
            raise BadInput("missing_required_parameter", message, number, name)
    custom_id, body = line["custom_id"], line["body"]
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        message = f"'custom_id' must be a text of 1 to {MAX_CUSTOM_ID} characters."
        raise BadInput("invalid_custom_id", message, number, "custom_id")
    if line["method"] != "POST":
        raise BadInput("invalid_method", "'method' must be 'POST'.", number, "method")
    if line["url"] != endpoint:
        message = f"'url' must be the endpoint of the batch: {endpoint}."
        raise BadInput("mismatched_url", message, number, "url")
    if not isinstance(body, dict):
        raise BadInput("invalid_body", "'body' must be an object.", number, "body")
    return InputLine(number, custom_id, body)


class InputCheck:
    """Of a whole input: `see` each line, then `finish`."""

    def __init__(self, endpoint: str, max_requests: int) -> None:
        self._endpoint = endpoint
        self._max_requests = max_requests
        self._custom_ids: set[bytes] = set()
        self._errors: list[dict[str, Any]] = []
        self.num_requests = 0

    def see(self, number: int, text: bytes) -> None:
        self.num_requests += 1
        if self.num_requests > self._max_requests:
            message = f"A batch may have at most {self._max_requests} requests."
            raise BadInput("too_many_requests", message)
        try:
            line = parse_line(number, text, self._endpoint)
            digest = hashlib.blake2b(line.custom_id.encode(), digest_size=16).digest()
            if digest in self._custom_ids:
                message = "Another line before has the same 'custom_id'."
                raise BadInput("duplicate_custom_id", message, number, "custom_id")
            self._custom_ids.add(digest)
        except BadInput as error:
            self._errors.append(error.shown)
            if len(self._errors) == MAX_ERRORS:
                raise

    def finish(self, reason: BadInput | None) -> list[dict[str, Any]]:
        """All that is wrong, as OpenAI shows it. `reason`: why it was not read to its end."""
        errors = list(self._errors)
        if reason is not None and reason.shown not in errors:
            errors.append(reason.shown)
        if not errors and not self.num_requests:
            errors.append(BadInput("empty_file", "The input file holds no request.").shown)
        return errors

"""Which tool call is this JSON, and where does the JSON of a call end?

A call is valid JSON with the name of a tool that was offered and an object of arguments. The
arguments are the model's own characters, not JSON written anew, so no number loses digits.

Does not know: how a model marks its calls (see `tool_calls`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NoReturn

SPACE = " \t\r\n"
SPACES = re.compile(f"[{SPACE}]*")
_BETWEEN = re.compile(f"[{SPACE},:]*")
_OUTSIDE_STRING = {"{": re.compile(r'["{}]'), "[": re.compile(r'["\[\]]')}
_INSIDE_STRING = re.compile(r'["\\]')


@dataclass(slots=True, frozen=True)
class ToolCall:
    """The model wants this function called."""

    name: str
    arguments: str
    """A JSON object, as the model wrote it."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # Python reads NaN and Infinity; no other JSON reader does


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def read_call(text: str, names: Collection[str]) -> ToolCall | None:
    """The call that this JSON object is, if it is one."""
    try:
        call = _DECODER.decode(text)
        written = _members(text)
    except (ValueError, RecursionError):
        return None
    name = call.get("name")
    if not isinstance(name, str) or name not in names:
        return None
    if written.keys() == {"name"}:  # of a tool that takes no arguments
        return ToolCall(name, "{}")
    # Models of either family sometimes use the other's word.
    found = [key for key in ("arguments", "parameters") if isinstance(call.get(key), dict)]
    return ToolCall(name, written[found[0]]) if len(found) == 1 else None


def named_call(name: str, arguments: str, names: Collection[str]) -> ToolCall | None:
    """The call of `name` with these arguments, if they are a JSON object and it was offered."""
    try:
        is_object = isinstance(_DECODER.decode(arguments), dict)
    except (ValueError, RecursionError):
        return None
    return ToolCall(name, arguments) if is_object and name in names else None


def read_calls(text: str, names: Collection[str]) -> list[ToolCall]:
    """The calls in this JSON array; none unless each of its elements is one."""
    try:
        elements = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return []
    calls: list[ToolCall] = []
    position = first_not(_BETWEEN, text, text.index("[") + 1)
    for element in elements:
        _, end = _DECODER.raw_decode(text, position)
        call = read_call(text[position:end], names) if isinstance(element, dict) else None
        if call is None:
            return []
        calls.append(call)
        position = first_not(_BETWEEN, text, end)
    return calls


def _members(text: str) -> dict[str, str]:
    """The members of a valid JSON object, each value as it is written."""
    members: dict[str, str] = {}
    position = first_not(_BETWEEN, text, text.index("{") + 1)
    while text[position] != "}":
        key, end = _DECODER.raw_decode(text, position)
        start = first_not(_BETWEEN, text, end)
        _, end = _DECODER.raw_decode(text, start)
        members[key] = text[start:end]
        position = first_not(_BETWEEN, text, end)
    return members


def first_not(skipped: re.Pattern[str], text: str, position: int) -> int:
    match = skipped.match(text, position)
    return match.end() if match is not None else position


class JsonEnd:
    """Finds where a JSON value ends in a text that grows; each character is looked at once."""

    __slots__ = ("_depth", "_end", "_in_string", "_opening", "_position")

    def __init__(self, start: int, opening: Literal["{", "["] = "{") -> None:
        """`start`: where its opening bracket is. In valid JSON, counting one kind is enough."""
        self._opening = opening
        self._position = start
        self._end: int | None = None
        self._depth = 0
        self._in_string = False

    def find(self, text: str) -> int | None:
        """One past its closing bracket. None: not there yet."""
        while self._end is None:
            marks = _INSIDE_STRING if self._in_string else _OUTSIDE_STRING[self._opening]
            mark = marks.search(text, self._position)
            if mark is None:
                self._position = max(self._position, len(text))
                return None
            self._position = mark.end()
            if mark[0] == "\\":
                self._position += 1  # the character after it may not be there yet
            elif mark[0] == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if mark[0] == self._opening else -1
                if self._depth == 0:
                    self._end = self._position
        return self._end

"""Where in a model's text are tool calls, and what do they ask for?

A model writes its calls as JSON in its text, and each family marks them in its own way. Which way
shows in the chat template, because that has to write earlier calls as the model would:

    hermes        <tool_call>{"name": …, "arguments": {…}}</tool_call>, anywhere, any number
    llama3_json   {"name": …, "parameters": {…}} as the whole text; several with ; between

A call is given out when it is complete: valid JSON, the name of a tool that was offered, an object
of arguments. Everything else is ordinary text, down to the last character: a broken call, because
half of it must not look like a call that nobody made, and a call of a tool that was not offered,
because whoever dispatches by name may rely on the names that were given. The arguments are the
model's own characters, not JSON written anew, so no number loses digits on the way.

How the text is cut into pieces makes no difference to what is found in it.

Does not know: tokens, the API's shapes, or whether arguments follow a schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NoReturn, Protocol

_SPACE = " \t\r\n"
_SPACES = re.compile(f"[{_SPACE}]*")
_BETWEEN_MEMBERS = re.compile(f"[{_SPACE},:]*")
_OUTSIDE_STRING = re.compile(r'["{}]')
_INSIDE_STRING = re.compile(r'["\\]')


@dataclass(slots=True, frozen=True)
class ToolCall:
    """The model wants this function called."""

    name: str
    arguments: str
    """A JSON object, as the model wrote it."""


Event = str | ToolCall


class ToolCallParser(Protocol):
    """Reads one text, a piece at a time."""

    def push(self, text: str) -> list[Event]:
        """Text and calls that are certain by now, in order. No text is empty."""
        ...

    def flush(self) -> list[Event]:
        """The text is over: what was held back is decided."""
        ...


# --- one call -------------------------------------------------------------------------------------


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # Python reads NaN and Infinity; no other JSON reader does


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _read_call(text: str, names: Collection[str]) -> ToolCall | None:
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


def _members(text: str) -> dict[str, str]:
    """The members of a valid JSON object, each value as it is written."""
    members: dict[str, str] = {}
    position = _first_not(_BETWEEN_MEMBERS, text, text.index("{") + 1)
    while text[position] != "}":
        key, end = _DECODER.raw_decode(text, position)
        start = _first_not(_BETWEEN_MEMBERS, text, end)
        _, end = _DECODER.raw_decode(text, start)
        members[key] = text[start:end]
        position = _first_not(_BETWEEN_MEMBERS, text, end)
    return members


def _first_not(skipped: re.Pattern[str], text: str, position: int) -> int:
    match = skipped.match(text, position)
    return match.end() if match is not None else position


class _ObjectEnd:
    """Finds where a JSON object ends in a text that grows; each character is looked at once."""

    __slots__ = ("_depth", "_end", "_in_string", "_position")

    def __init__(self, start: int) -> None:
        """`start`: where its opening brace is."""
        self._position = start
        self._end: int | None = None
        self._depth = 0
        self._in_string = False

    def find(self, text: str) -> int | None:
        """One past its closing brace. None: not there yet."""
        while self._end is None:
            marks = _INSIDE_STRING if self._in_string else _OUTSIDE_STRING
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
                self._depth += 1 if mark[0] == "{" else -1
                if self._depth == 0:
                    self._end = self._position
        return self._end


# --- hermes ---------------------------------------------------------------------------------------

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class HermesParser:
    """Calls between tags. White space around a call is layout; the closing tag may be missing.

    Only where the JSON object ends can the tag close the call: a tag in a string of the arguments
    is a part of that string.
    """

    __slots__ = ("_after_call", "_has_text", "_held", "_is_call", "_names", "_object", "_space")

    def __init__(self, names: Collection[str]) -> None:
        """`names`: of the tools that were offered."""
        self._names = names
        self._held = ""
        self._is_call = False
        """Whether `_held` begins with an opening tag that was not decided."""
        self._object: _ObjectEnd | None = None
        self._space = ""
        """White space that may turn out to stand before a call."""
        self._after_call = False
        self._has_text = False

    def push(self, text: str) -> list[Event]:
        return self._read(text, is_over=False)

    def flush(self) -> list[Event]:
        events = self._read("", is_over=True)
        if self._space and not self._after_call:
            events.append(self._space)
        self._space = ""
        return events

    def _read(self, text: str, *, is_over: bool) -> list[Event]:
        self._held += text
        events: list[Event] = []
        while self._held:
            step = self._call_step if self._is_call else self._text_step
            if not step(events, is_over):
                break
        return events

    def _text_step(self, events: list[Event], is_over: bool) -> bool:
        """Gives the text up to the next opening tag. False: more is needed."""
        start = self._held.find(_OPEN)
        self._is_call = start >= 0
        if start < 0:
            start = len(self._held) - (0 if is_over else _num_undecided(self._held))
        self._give(events, start)
        return self._is_call

    def _call_step(self, events: list[Event], is_over: bool) -> bool:
        """Decides whether the tag in front begins a call. False: more is needed."""
        held = self._held
        start = _first_not(_SPACES, held, len(_OPEN))
        if start < len(held) and held[start] != "{":
            return self._not_a_call(events, len(_OPEN))
        if start < len(held) and self._object is None:
            self._object = _ObjectEnd(start)
        end = self._object.find(held) if self._object is not None else None
        if end is None:
            return self._not_a_call(events, len(held)) if is_over else False
        after = _first_not(_SPACES, held, end)
        rest = held[after:]
        if rest.startswith(_CLOSE):
            after += len(_CLOSE)
        elif not rest.startswith(_OPEN):
            if not (_CLOSE.startswith(rest) or _OPEN.startswith(rest)):
                return self._not_a_call(events, end)
            if not is_over:
                return False
            if _CLOSE.startswith(rest):
                after = len(held)
        call = _read_call(held[start:end], self._names)
        if call is None:
            return self._not_a_call(events, end)
        events.append(call)
        self._space, self._after_call = (self._space if self._has_text else ""), True
        self._restart(after)
        return True

    def _not_a_call(self, events: list[Event], end: int) -> bool:
        self._give(events, end)
        self._restart(0)
        return True

    def _restart(self, after: int) -> None:
        self._held = self._held[after:]
        self._is_call, self._object = False, None

    def _give(self, events: list[Event], end: int) -> None:
        """The first `end` characters held are text: given out, but for white space at their end."""
        text, self._held = self._space + self._held[:end], self._held[end:]
        given = text.rstrip(_SPACE)
        self._space = text[len(given) :]
        if self._after_call and not self._has_text:
            given = given.lstrip(_SPACE)
        if given:
            events.append(given)
            self._has_text, self._after_call = True, False


def _num_undecided(text: str) -> int:
    """The length of the longest end of `text` that begins an opening tag."""
    for length in range(min(len(_OPEN) - 1, len(text)), 0, -1):
        if text.endswith(_OPEN[:length]):
            return length
    return 0


# --- llama3_json ----------------------------------------------------------------------------------


class WholeJsonParser:
    """The whole text is calls, or none of it is: a text that begins like one is held to its end.

    The token that some of these models write in front (<|python_tag|>) is a special one, and so
    never part of the text.
    """

    __slots__ = ("_held", "_may_be_calls", "_names")

    def __init__(self, names: Collection[str]) -> None:
        """`names`: of the tools that were offered."""
        self._names = names
        self._held: list[str] = []
        self._may_be_calls: bool | None = None
        """None: there was only white space so far."""

    def push(self, text: str) -> list[Event]:
        self._held.append(text)
        if self._may_be_calls is None and (begin := text.lstrip(_SPACE)[:1]):
            self._may_be_calls = begin == "{"
        return self._take_text() if self._may_be_calls is False else []

    def flush(self) -> list[Event]:
        calls = self._calls("".join(self._held))
        return [*calls] if calls else self._take_text()

    def _take_text(self) -> list[Event]:
        text, self._held = "".join(self._held), []
        return [text] if text else []

    def _calls(self, text: str) -> list[ToolCall]:
        """All of them; none if any of the text is something else."""
        calls: list[ToolCall] = []
        position = _first_not(_SPACES, text, 0)
        while position < len(text):
            end = _ObjectEnd(position).find(text) if text[position] == "{" else None
            call = _read_call(text[position:end], self._names) if end is not None else None
            if end is None or call is None:
                return []
            calls.append(call)
            position = _first_not(_SPACES, text, end)
            if text.startswith(";", position):
                position = _first_not(_SPACES, text, position + 1)
        return calls


# --- the table ------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class ToolCallFormat:
    """How one family of models writes its calls."""

    name: str
    evidence: tuple[str, ...]
    """What a chat template of this family contains, all of it."""
    parser: Callable[[Collection[str]], ToolCallParser]
    markers: frozenset[str] = frozenset()
    """Tokens that belong to the text even where a checkpoint lists them as special ones."""


# The first that fits is taken. Mistral's [TOOL_CALLS] is not here: its templates insist on call ids
# of nine characters, which this server would have to make, and check, for that family alone.
FORMATS = (
    ToolCallFormat(
        "hermes", (_OPEN, '"arguments"'), HermesParser, markers=frozenset({_OPEN, _CLOSE})
    ),
    ToolCallFormat("llama3_json", ("<|start_header_id|>", '"parameters"'), WholeJsonParser),
)


def format_of(chat_template: str) -> ToolCallFormat | None:
    """How a model with this template writes its calls. None: in no way that is known here."""
    source = chat_template.replace('\\"', '"')  # as it reads inside a string of the template
    for known in FORMATS:
        if all(part in source for part in known.evidence):
            return known
    return None

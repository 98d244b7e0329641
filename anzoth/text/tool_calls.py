"""Where in a model's text are tool calls, and what do they ask for?

A model writes its calls as JSON in its text, and each family marks them in its own way. Which way
shows in the chat template, because that has to write earlier calls as the model would:

    hermes         <tool_call>{"name": …, "arguments": {…}}</tool_call>, anywhere, any number
    mistral        [TOOL_CALLS]name[ARGS]{…}, anywhere, any number
    mistral_array  [TOOL_CALLS] [{"name": …, "arguments": {…}}, …]
    llama3_json    {"name": …, "parameters": {…}} as the whole text; several with ; between

A call is given out when it is complete: valid JSON, the name of a tool that was offered, an object
of arguments. Everything else is ordinary text, down to the last character: a broken call, because
half of it must not look like a call that nobody made, and a call of a tool that was not offered,
because whoever dispatches by name may rely on the names that were given.

How the text is cut into pieces makes no difference to what is found in it.

Does not know: tokens, the API's shapes, or whether arguments follow a schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from anzoth.text.call_json import (
    SPACE,
    SPACES,
    JsonEnd,
    ToolCall,
    first_not,
    named_call,
    read_call,
    read_calls,
)
from anzoth.text.marks import num_undecided

Event = str | ToolCall


class ToolCallParser(Protocol):
    """Reads one text, a piece at a time."""

    def push(self, text: str) -> list[Event]:
        """Text and calls that are certain by now, in order. No text is empty."""
        ...

    def flush(self) -> list[Event]:
        """The text is over: what was held back is decided."""
        ...


# --- calls behind a mark --------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Decided:
    """What the first `end` characters of a held text are: these calls; without any, text."""

    end: int
    calls: Sequence[ToolCall] = ()


class MarkedReader(Protocol):
    """Reads what follows one mark."""

    def read(self, held: str, *, is_over: bool) -> Decided | None:
        """`held` begins with the mark and only grows. None: more is needed, which must not be the
        answer when the text `is_over`.
        """
        ...


class MarkedParser:
    """Calls behind a mark, anywhere in the text. White space around a call is layout."""

    __slots__ = ("_after_call", "_has_text", "_held", "_make_reader", "_mark", "_reader", "_space")

    def __init__(self, mark: str, make_reader: Callable[[], MarkedReader]) -> None:
        self._mark = mark
        self._make_reader = make_reader
        self._held = ""
        self._reader: MarkedReader | None = None
        """Of the mark that `_held` begins with, if that was not decided."""
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
            if self._reader is None:
                self._read_text(events, is_over)
            if self._reader is None:
                break
            decided = self._reader.read(self._held, is_over=is_over)
            if decided is None:
                break
            self._decide(events, decided)
        return events

    def _read_text(self, events: list[Event], is_over: bool) -> None:
        """Gives the text up to the next mark."""
        start = self._held.find(self._mark)
        if start >= 0:
            self._reader = self._make_reader()
        else:
            start = len(self._held) - (0 if is_over else num_undecided(self._held, self._mark))
        self._give(events, start)

    def _decide(self, events: list[Event], decided: Decided) -> None:
        self._reader = None
        if not decided.calls:
            self._give(events, decided.end)
            return
        events.extend(decided.calls)
        self._space, self._after_call = (self._space if self._has_text else ""), True
        self._held = self._held[decided.end :]

    def _give(self, events: list[Event], end: int) -> None:
        """The first `end` characters held are text: given out, but for white space at their end."""
        text, self._held = self._space + self._held[:end], self._held[end:]
        given = text.rstrip(SPACE)
        self._space = text[len(given) :]
        if self._after_call and not self._has_text:
            given = given.lstrip(SPACE)
        if given:
            events.append(given)
            self._has_text, self._after_call = True, False


# --- hermes ---------------------------------------------------------------------------------------

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class HermesReader:
    """A call between tags; the closing one may be missing.

    Only where the JSON object ends can the tag close the call: a tag in a string of the arguments
    is a part of that string.
    """

    __slots__ = ("_names", "_object")

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._object: JsonEnd | None = None

    def read(self, held: str, *, is_over: bool) -> Decided | None:
        start = first_not(SPACES, held, len(_OPEN))
        if start < len(held) and held[start] != "{":
            return Decided(len(_OPEN))
        if start < len(held) and self._object is None:
            self._object = JsonEnd(start)
        end = self._object.find(held) if self._object is not None else None
        if end is None:
            return Decided(len(held)) if is_over else None
        after = first_not(SPACES, held, end)
        rest = held[after:]
        if rest.startswith(_CLOSE):
            after += len(_CLOSE)
        elif not rest.startswith(_OPEN):
            if not (_CLOSE.startswith(rest) or _OPEN.startswith(rest)):
                return Decided(end)
            if not is_over:
                return None
            if _CLOSE.startswith(rest):
                after = len(held)
        call = read_call(held[start:end], self._names)
        return Decided(end) if call is None else Decided(after, (call,))


# --- mistral --------------------------------------------------------------------------------------

_CALLS, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_NAME = re.compile(rf"([a-zA-Z0-9_-]{{1,64}})(?:{re.escape(_ID)}[a-zA-Z0-9]{{1,64}})?")
_ARRAY = re.compile(rf"\[[{SPACE}]*")


class MistralReader:
    """One call under its name, or an array of calls. An id that the model gives is its own."""

    __slots__ = ("_json", "_names")

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._json: JsonEnd | None = None

    def read(self, held: str, *, is_over: bool) -> Decided | None:
        start = first_not(SPACES, held, len(_CALLS))
        decided: Decided | None = None
        if start < len(held):
            decided = self._array(held, start) if held[start] == "[" else self._named(held, start)
        return Decided(len(held)) if decided is None and is_over else decided

    def _array(self, held: str, start: int) -> Decided | None:
        first = first_not(_ARRAY, held, start)
        if first < len(held) and held[first] != "{":
            return Decided(len(_CALLS))
        if self._json is None:
            self._json = JsonEnd(start, "[")
        end = self._json.find(held)
        return None if end is None else Decided(end, read_calls(held[start:end], self._names))

    def _named(self, held: str, start: int) -> Decided | None:
        name = _NAME.match(held, start)
        if name is None:
            return Decided(len(_CALLS))
        rest = held[name.end() : name.end() + len(_ID) + 1]
        if not rest.startswith(_ARGS):
            is_begun = _ARGS.startswith(rest) or _ID.startswith(rest)
            return None if is_begun else Decided(len(_CALLS))
        begin = first_not(SPACES, held, name.end() + len(_ARGS))
        if begin == len(held):
            return None
        if held[begin] != "{":
            return Decided(begin)
        if self._json is None:
            self._json = JsonEnd(begin)
        end = self._json.find(held)
        if end is None:
            return None
        call = named_call(name[1], held[begin:end], self._names)
        return Decided(end) if call is None else Decided(end, (call,))


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
        if self._may_be_calls is None and (begin := text.lstrip(SPACE)[:1]):
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
        position = first_not(SPACES, text, 0)
        while position < len(text):
            end = JsonEnd(position).find(text) if text[position] == "{" else None
            call = read_call(text[position:end], self._names) if end is not None else None
            if end is None or call is None:
                return []
            calls.append(call)
            position = first_not(SPACES, text, end)
            if text.startswith(";", position):
                position = first_not(SPACES, text, position + 1)
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
    has_short_ids: bool = False
    """Whether its templates insist on call ids of nine letters and digits."""


# The first that fits is taken.
FORMATS = (
    ToolCallFormat(
        "hermes",
        (_OPEN, '"arguments"'),
        lambda names: MarkedParser(_OPEN, lambda: HermesReader(names)),
        markers=frozenset({_OPEN, _CLOSE}),
    ),
    ToolCallFormat(
        "mistral",
        (_CALLS, _ARGS),
        lambda names: MarkedParser(_CALLS, lambda: MistralReader(names)),
        markers=frozenset({_CALLS, _ARGS, _ID}),
        has_short_ids=True,
    ),
    ToolCallFormat(
        "mistral_array",
        (_CALLS,),
        lambda names: MarkedParser(_CALLS, lambda: MistralReader(names)),
        markers=frozenset({_CALLS}),
        has_short_ids=True,
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

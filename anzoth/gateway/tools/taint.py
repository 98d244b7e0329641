"""Does this call need approval because of what the model has read?

Passages of documents and results of tools are written by whoever can get text in front of the
model; instructions in them are followed now and then, and no filter of words prevents that. So not
the text is judged but the call, and only where it could do harm: of tools that do not say that they
only read.

    any       (by default) once the model has read anything untrusted, such a call needs approval
    values    (a server may be relaxed to it) such a call needs approval if its arguments hold a
              value of the untrusted text that neither the user nor the operator wrote, or more
              than can be looked for

A value is a word of four characters, a number of three digits or two characters of a script without
spaces, or more; case, punctuation, spaces and Unicode's variants of letters make no difference, and
a whole argument is looked for across words, too. Names of properties that the approved schema
declares are no values.

What `any` does not prevent: calls of tools that read. What they are asked for goes to their server,
so a document can make a model tell one tool what it knows from another. A server that should not
learn what the others say belongs into other conversations, or needs approval `always`. Nor does it
know whether a tool that says it only reads tells the truth; an admin approved it as such.

What neither sees: results that are not in the conversation any more. A client of chats gets none,
so it cannot send them again with the answers that were made of them.

What `values` does not see, besides: which tool is called and whether, choices that are no values
(true or false, short words and numbers), and a value that the model was talked into writing
differently: translated, encoded, spelled out, computed, in parts. It stops what copies; it is not a
proof. Where that is not enough, leave it at `any`.

Does not know: who approves, or what of a request is whose.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from anzoth.gateway.tools.grants import GrantedTool

RULE = "tool.taint"

_MIN_WORD = 4
_MIN_WITH_DIGIT = 3
_MIN_WHOLE = 6
"""Of a value that is looked for across the bounds of words."""
_MAX_WORK = 1 << 26
"""Characters of texts that are gone through for the values of one call: some tenths of a second.
Whoever sends both can make it hours."""
_PIECE_WORK = 32
"""What a character of a value costs for each text in which its words are looked up."""

_WORD = re.compile(r"[^\W_]+")
_ADDRESS = re.compile(r"(?<![^\W_])[^\W_]++(?:[.@][^\W_]++)+")
"""Such as x.io, which has no word of any length. It goes back over nothing: texts are hostile."""
_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts that write no spaces between words, or whose words carry their particles."""
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]{{2,}}")


class Untrusted:
    """What a conversation holds that nobody vouches for. One for all rounds of a request."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """`trusted`: what the user and the operator wrote."""
        self._trusted = [_Text(text) for text in trusted]
        self._texts: list[_Text] = []

    def add(self, text: str) -> None:
        """A passage or a result, which the model reads from its next turn on."""
        self._texts.append(_Text(text))

    def snapshot(self) -> Untrusted:
        """What there is now: what is added later, it does not hold."""
        copy = Untrusted()
        copy._trusted, copy._texts = self._trusted, self._texts.copy()
        return copy

    def rule(self, tool: GrantedTool, arguments: Mapping[str, Any]) -> str | None:
        """Which rule makes this call need approval; None: none. For `values` it takes time linear
        in the texts, the first time, and bounded beyond that."""
        if not self._texts or tool.tool.definition.is_read_only:
            return None
        if tool.tool.server.taint == "any":
            return RULE
        declared = frozenset(_names(tool.tool.definition.input_schema))
        texts = (*self._trusted, *self._texts)
        num_characters, left = sum(len(text.text) for text in texts), _MAX_WORK
        for value in _values(arguments, declared):
            left -= _PIECE_WORK * len(value) * len(texts)
            if len(_folded(value)) >= _MIN_WHOLE:
                left -= num_characters
            if left < 0 or self._is_copied(value):
                return RULE
        return None

    def _is_copied(self, value: str) -> bool:
        """Whether it, or a word of it, is of the untrusted text alone."""
        whole = _squashed(value)
        if len(whole) >= _MIN_WHOLE and self._is_theirs(partial(_holds, whole)):
            return True
        for chunk in _folded(value).split():
            if any(_has_piece(_squashed(chunk), text) for text in self._trusted):
                continue  # the user wrote it, maybe with other punctuation
            if any(self._is_theirs(partial(_has_piece, piece)) for piece in _pieces(chunk)):
                return True
        return False

    def _is_theirs(self, is_in: partial[bool]) -> bool:
        return any(map(is_in, self._texts)) and not any(map(is_in, self._trusted))


@dataclass(slots=True)
class _Text:
    """One text; what it is made of is found when it is first asked for."""

    text: str = field(repr=False)
    _pieces: frozenset[str] | None = field(default=None, repr=False)
    _squashed: str | None = field(default=None, repr=False)

    @property
    def pieces(self) -> frozenset[str]:
        if self._pieces is None:
            self._pieces = frozenset(_pieces(_folded(self.text)))
        return self._pieces

    @property
    def squashed(self) -> str:
        if self._squashed is None:
            self._squashed = _squashed(self.text)
        return self._squashed


def _holds(whole: str, text: _Text) -> bool:
    return whole in text.squashed


def _has_piece(piece: str, text: _Text) -> bool:
    return piece in text.pieces


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _squashed(text: str) -> str:
    """Letters and digits only."""
    return "".join(_WORD.findall(_folded(text)))


def _pieces(folded: str) -> Iterator[str]:
    """What stands for itself: words, what stands between spaces, addresses, numbers in any way of
    writing them, and pairs of characters where there are no spaces."""
    for chunk in folded.split():
        words = _WORD.findall(chunk)
        yield from filter(_is_telling, words)
        if len(words) > 1 and _is_telling(whole := "".join(words)):
            yield whole
    yield from (address for address in _ADDRESS.findall(folded) if len(address) >= _MIN_WORD)
    for number in _NUMBER.findall(folded):
        whole, _, fraction = number.replace(",", ".").rpartition(".")
        digits = whole.replace(".", "") + fraction  # whether 1,200 is a thousand or one, who knows
        yield from filter(_is_telling, {digits, digits.rstrip("0")} if whole else {digits})
    for run in _UNSPACED_RUN.findall(folded):
        yield from map("".join, pairwise(run))


def _is_telling(piece: str) -> bool:
    """Whether it is in two places by no coincidence."""
    if len(piece) >= _MIN_WORD:
        return True
    return len(piece) >= _MIN_WITH_DIGIT and any(map(str.isdigit, piece))


def _values(value: Any, declared: frozenset[str]) -> Iterator[str]:
    """The texts and numbers of arguments, and the names that the schema does not know."""
    left = [value]
    while left:
        match left.pop():
            case bool():
                pass
            case str() as text:
                yield text
            case int() | float() as number:
                yield str(number)
            case list() as items:
                left.extend(items)
            case Mapping() as fields:
                left.extend(fields.values())
                yield from fields.keys() - declared


def _names(schema: Any) -> Iterator[str]:
    """All names in it, of keywords as of properties."""
    left = [schema]
    while left:
        match left.pop():
            case list() as items:
                left.extend(items)
            case Mapping() as fields:
                yield from fields
                left.extend(fields.values())

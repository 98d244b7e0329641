"""What text does each new token add, when a character may be spread over several tokens?

A token's bytes (see `pieces`) go through one incremental UTF-8 decoder: bytes that begin a
character wait for the rest of it (at most three do), and bytes that can no longer become one turn
into U+FFFD at once. So a piece is never half a character, the cost per token does not grow with the
text, and the pieces joined are the same for every way of cutting the stream.

Does not know: stop strings, or which token ends a text.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from anzoth.text.pieces import TokenPieces

_UTF8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one growing list of token ids."""

    __slots__ = ("_pieces", "_spaces_to_drop", "_utf8")

    def __init__(self, pieces: TokenPieces, *, starts_text: bool) -> None:
        """`starts_text`: False when the tokens continue a text, whose word space must stay."""
        self._pieces = pieces
        self._spaces_to_drop = pieces.num_leading_spaces_dropped if starts_text else 0
        self._utf8 = _UTF8("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes, possibly none."""
        text = self._utf8.decode(self._pieces.rendered(token_id))
        return self._without_leading_spaces(text) if self._spaces_to_drop and text else text

    def flush(self) -> str:
        """The end: U+FFFD for a character that never came whole, else nothing."""
        return self._utf8.decode(b"", final=True)

    def _without_leading_spaces(self, text: str) -> str:
        stripped = text.lstrip(" ")
        num_dropped = min(len(text) - len(stripped), self._spaces_to_drop)
        self._spaces_to_drop = 0 if stripped else self._spaces_to_drop - num_dropped
        return text[num_dropped:]


def detokenize(pieces: TokenPieces, token_ids: Iterable[int], *, starts_text: bool = True) -> str:
    """The text of all the tokens, by the same path that streams take."""
    detokenizer = Detokenizer(pieces, starts_text=starts_text)
    return "".join([detokenizer.push(token_id) for token_id in token_ids]) + detokenizer.flush()

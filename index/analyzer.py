"""Which terms does a text have, for documents and for queries alike?

`english` lowers case, takes words of two and more characters, drops the stop words of Lucene and
stems: the analysis behind the figures that BM25 is usually quoted with. `plain` serves any script:
compatibility forms are made one (NFKC), case is folded, nothing is dropped. Where a script puts no
spaces between words, overlapping pairs of characters stand for them.

Does not know: documents, weights, or which words are rare.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain, pairwise
from typing import Protocol

import Stemmer

MAX_TERM_CHARACTERS = 64
"""Longer words are cut: encoded data must not fill a vocabulary with what nobody will type."""
MAX_REMEMBERED_STEMS = 100_000

# Lucene's, as in its StopAnalyzer.
STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is"),
        *("it", "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there"),
        *("these", "they", "this", "to", "was", "will", "with"),
    )
)


# What only asks: the answer need not have it, and a store that happens not to have it at all is no
# worse for that. Written in capitals it is a name (WHO).
QUESTION_WORDS = frozenset(
    (
        *("what", "who", "whom", "whose", "which", "when", "where", "why", "how", "do", "does"),
        *("did", "can", "could", "should", "would", "shall", "am", "were", "been", "has", "have"),
        *("had", "having", "me", "my", "mine", "we", "our", "ours", "you", "your", "yours", "he"),
        *("him", "his", "she", "her", "hers", "them", "theirs", "its", "those", "please", "tell"),
        *("much", "many", "any", "some", "about", "get"),
    )
)


class Analyzer(Protocol):
    """Makes terms of a text; the same text always has the same terms. Safe to share by threads."""

    @property
    def name(self) -> str:
        """Kept with an index: a query must be analysed as its documents were."""
        ...

    def terms(self, text: str) -> list[str]:
        """In the order of the text, repeated as often as they occur."""
        ...

    def query_terms(self, text: str) -> list[str]:
        """Those of a question to look for: without words that only ask, if there are others."""
        ...


def analyzer(name: str) -> Analyzer:
    """The analyzer of this name. Raises KeyError."""
    return _ANALYZERS[name]()


class _Stems(dict[str, str]):
    """Word -> stem, or "" for a stop word; forgets everything when it is full.

    A dictionary, because a lookup that hits then runs no Python at all.
    """

    def __init__(self) -> None:
        super().__init__()
        # Its own cache would be a second one. It holds the GIL, so threads may share it.
        self._stem: Callable[[str], str] = Stemmer.Stemmer("english", 0).stemWord

    def __missing__(self, word: str) -> str:
        if len(word) > MAX_TERM_CHARACTERS:
            return self._stem(word[:MAX_TERM_CHARACTERS])
        if len(self) >= MAX_REMEMBERED_STEMS:
            self.clear()
        stem = self[word] = "" if word in STOP_WORDS else self._stem(word)
        return stem


class _English:
    """bm25s's defaults with its Snowball stemmer, term for term."""

    name = "english"
    _find_words = re.compile(r"\b\w\w+\b").findall

    def __init__(self) -> None:
        self._stems = _Stems()

    def terms(self, text: str) -> list[str]:
        return self._terms(self._find_words(text.lower()))

    def query_terms(self, text: str) -> list[str]:
        words = self._find_words(text)
        asked = [word for word in words if word.isupper() or word.lower() not in QUESTION_WORDS]
        return self._terms(map(str.lower, asked)) or self.terms(text)

    def _terms(self, words: Iterable[str]) -> list[str]:
        return list(filter(None, map(self._stems.__getitem__, words)))


class _Plain:
    """Unicode words, after UAX #29 but for two things: no dictionary divides Thai and its like,
    and a point between letters divides, so that `example` finds `example.com`."""

    name = "plain"

    def __init__(self) -> None:
        self._words = re.compile(_word_pattern())
        self._unspaced = re.compile(f"([{_UNSPACED}]{_marks()}*)")
        self._has_unspaced = re.compile(f"[{_UNSPACED}]").search

    def terms(self, text: str) -> list[str]:
        # Folding may undo the normal form (ŉ, ͅ), so that comes last.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        text = text.translate(_ONE_SPELLING)
        words = self._words.findall(text)
        if self._has_unspaced(text):
            words = [term for word in words for term in self._divided(word)]
        return [word[:MAX_TERM_CHARACTERS] for word in words]

    def query_terms(self, text: str) -> list[str]:
        return self.terms(text)

    def _divided(self, word: str) -> Iterator[str]:
        """Runs of unspaced script as pairs of characters (one, where it stands alone)."""
        run: list[str] = []
        # Splitting at a group: what is between matches, match, between, …
        for position, piece in enumerate(self._unspaced.split(word)):
            if position % 2:
                run.append(piece)
            elif piece:
                yield from _pairs(run)
                run = []
                yield piece
        yield from _pairs(run)


def _pairs(run: list[str]) -> list[str]:
    if len(run) == 1:
        return run
    return [first + second for first, second in pairwise(run)]


# Han, Kana, Hangul (its particles hang on the words), Thai, Lao, Myanmar, Khmer.
_UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff"
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"
    "\u1000-\u102a\u103f\u1050-\u1055\u1780-\u17b3"
)


# Invisible characters inside words (soft hyphen, joiners), and the two apostrophes.
_ONE_SPELLING = {**dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)), 0x2019: "'"}


@cache
def _marks() -> str:
    """A character class of combining marks, which Python's \\w leaves out: vowels, in India."""
    ranges: list[tuple[int, int]] = []
    # Between and behind these stand no marks, and asking for every character takes a second.
    for code in chain(range(0x300, 0x1F000), range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M":
            first = ranges.pop()[0] if ranges and ranges[-1][1] == code - 1 else code
            ranges.append((first, code))
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]"


def _word_pattern() -> str:
    # An apostrophe between letters stays inside a word, and a point or comma between digits.
    part = f"(?:\\w|{_marks()})"
    return f"\\w{part}*(?:(?:(?<=\\d)[.,](?=\\d)|(?<=[^\\W\\d_])'(?=[^\\W\\d_])){part}+)*"


@cache
def _english() -> Analyzer:
    return _English()


@cache
def _plain() -> Analyzer:
    return _Plain()


_ANALYZERS: dict[str, Callable[[], Analyzer]] = {"english": _english, "plain": _plain}

"""Does an answer's `[2]` really say what stands in the second passage, and where does it stand?

A mark is for what stands before it in its sentence, back to the mark before; the last one of a
sentence is for the rest behind it, too; one that has nothing before it is for the sentence before,
unless that has its own, or else for what follows. Of that claim

    each number, code and name, and each quotation of three words or more, must stand in the passage
    enough of the words must, by letters (`ENOUGH`): a word counts by as much of its beginning as a
    word of the passage shares, so that inflections count

or in the passages together, where several are cited for one claim. What is found is a matter of
words, so it proves no claim: "is not" is supported by "is". It shows what surely has no support.

The quotation is the sentence of the passage that supports most of the claim.

Does not know: how passages came to be there, or the API's shapes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from anzoth.gateway.knowledge.packing import PackedPassage

ENOUGH = 0.6
"""Of a claim's letters, in words that the passage has. Of 300 titles of Cranfield .79 have that in
their own abstract, .02 in that of another paper on aerodynamics (test_citations_cranfield.py)."""
MAX_QUOTE = 600
_OWN_PART = ENOUGH / 2
"""Of each passage, where several are cited for one claim."""
_MOST_CAPITALS = 0.2
"""Above this part of a passage's words, its language writes more than names with capitals."""
_MIN_CONTENT, _MIN_STEM, _STEM_PART = 3, 4, 0.6
_MAX_FRAME = 4
"""Words in "According to [1], …"."""

_MARK = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_BREAK = re.compile(r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+|(?<=[\u3002\uff01\uff1f])\s*|\s*\n\s*")
_WORD = re.compile(r"\w+(?:[.,:'\u2019/\-]\w+)*")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]{2,}")
"""Scripts without spaces between words: their pairs of characters stand for words."""
_THOUSANDS = re.compile("(?<=\\d)[,\u202f\u00a0'\u2019](?=\\d{3}(?!\\d))")
_QUOTATION = re.compile(
    '"([^"]+)"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c]+)\u201c|\u00ab([^\u00bb]+)\u00bb'
)
_APART = re.compile(r"[\s\-\u2010-\u2015]+")
_BETWEEN_DIGITS = re.compile(r"(?<=\d) (?=\d)")


@dataclass(slots=True, frozen=True)
class Citation:
    """One mark of an answer and the passage that it names."""

    number: int
    start_index: int
    """Of the mark, in the answer; `end_index` is behind it."""
    end_index: int
    passage: PackedPassage
    start: int
    """Of the quotation, in characters of the document; of the passage where nothing is quoted."""
    end: int
    quote: str | None = field(repr=False)
    """None: nothing in the passage has a word of the claim."""
    page: int | None
    score: float
    """0 to 1: which part of the claim's letters has support in this passage."""
    verified: bool


@dataclass(slots=True, frozen=True)
class UnknownMark:
    """One that names no passage."""

    number: int
    start_index: int
    end_index: int


class Evidence:
    """The passages of one prompt, ready to be compared: milliseconds for a few thousand tokens."""

    __slots__ = ("_sources",)

    def __init__(self, passages: Sequence[PackedPassage]) -> None:
        self._sources = [_Source(passage) for passage in passages]

    def citations(self, answer: str) -> list[Citation | UnknownMark]:
        """Of every mark, in order."""
        found: list[Citation | UnknownMark] = []
        for group in _groups(answer):
            claim = _Claim(group.claim)
            known = {m.number for m in group.marks if 1 <= m.number <= len(self._sources)}
            cited = [self._sources[number - 1] for number in sorted(known)]
            has_support = claim.is_supported(cited)
            for mark in group.marks:
                if mark.number not in known:
                    found.append(mark)
                    continue
                source = self._sources[mark.number - 1]
                found.append(source.cited(mark, claim, has_support=has_support))
        return found


# --- the answer -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """Marks side by side, and what they are for."""

    marks: list[UnknownMark]
    start: int
    end: int
    claim: str = ""


def _groups(answer: str) -> list[_Group]:
    groups: list[_Group] = []
    for match in _MARK.finditer(answer):
        numbers = (int(number) for number in re.split("[,;]", match[1]))
        marks = [UnknownMark(number, match.start(), match.end()) for number in numbers]
        if groups and not answer[groups[-1].end : match.start()].strip(" ,;"):
            groups[-1].marks += marks
            groups[-1].end = match.end()
        else:
            groups.append(_Group(marks, match.start(), match.end()))
    spans = list(_sentences(answer))
    for index, group in enumerate(groups):
        begin, end = next(span for span in spans if group.start < span[1])
        before = groups[index - 1].end if index else 0
        after = groups[index + 1].start if index + 1 < len(groups) else len(answer)
        in_front = answer[max(begin, before) : group.start]
        behind = answer[group.end : min(end, after)]
        if behind.startswith(",") and 0 < len(_WORD.findall(in_front)) <= _MAX_FRAME:
            group.claim = behind
            continue
        if _WORD.search(in_front):
            group.claim = in_front + (behind if after >= end else "")
            continue
        at = spans.index((begin, end))
        previous = spans[at - 1] if at else (0, 0)
        has_own = index > 0 and before > previous[0]
        if not has_own and at and "\n" not in answer[previous[1] - 1 : group.start]:
            group.claim = answer[previous[0] : previous[1]]
        else:
            group.claim = behind
    return groups


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """From where to where each is; together they are the text."""
    begin = 0
    for match in _BREAK.finditer(text):
        if match.end() > begin:
            yield begin, match.end()
            begin = match.end()
    if begin < len(text) or not text:
        yield begin, len(text)


# --- words ----------------------------------------------------------------------------------------


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", _THOUSANDS.sub("", text))


def _words(normal: str) -> Iterator[str]:
    for word in _WORD.findall(normal.casefold()):
        unspaced = _UNSPACED.findall(word)
        if unspaced:
            yield from (run[at : at + 2] for run in unspaced for at in range(len(run) - 1))
        else:
            yield word


def _squeezed(normal: str) -> str:
    """Without what is written between words now in one way, now in another (5 km, 5-km, 5km)."""
    spaced = _APART.sub(" ", normal.casefold())
    return _BETWEEN_DIGITS.sub("\0", spaced).replace(" ", "")


class _Claim:
    """What a part of an answer says."""

    __slots__ = ("_codes", "_content", "_names", "_quotations", "words")

    def __init__(self, text: str) -> None:
        normal = _normal(text)
        words = list(_words(normal))
        codes = [word for word in words if any(map(str.isdigit, word))]
        plain = [word for word in words if word not in codes]
        self._content = [w for w in plain if len(w) >= _MIN_CONTENT or _UNSPACED.fullmatch(w)]
        if not self._content:
            self._content = plain
        self.words = [*self._content, *codes]
        """Those that count."""
        self._codes = [_squeezed(code) for code in codes]
        self._names = set(_names(normal))
        spans = (next(filter(None, match)) for match in _QUOTATION.findall(normal))
        self._quotations = {_squeezed(span) for span in spans if len(_WORD.findall(span)) >= 3}

    def is_supported(self, sources: Sequence[_Source]) -> bool:
        """By all of them together."""
        if not sources:
            return False
        for said in (*self._codes, *self._quotations):
            if not any(source.words.says(said) for source in sources):
                return False
        if not any(source.has_capitals for source in sources):
            for name in self._names:
                if not any(name in source.words.known for source in sources):
                    return False
        return self.support([source.words for source in sources]) >= ENOUGH

    def support(self, texts: Sequence[_Words]) -> float:
        """Which part of its letters and digits has support in at least one of them."""
        total = sum(map(len, (*self._content, *self._codes)))
        if not total:
            return 0.0
        shared = sum(max(text.shared(word) for text in texts) for word in self._content)
        shared += sum(len(code) for code in self._codes if any(text.says(code) for text in texts))
        return shared / total


def _names(normal: str) -> Iterator[str]:
    """Words with a capital inside a sentence, or of capitals alone."""
    for begin, end in _sentences(normal):
        for index, word in enumerate(_WORD.findall(normal[begin:end])):
            if not word.isalpha() and not re.fullmatch(r"[^\W\d]+['\u2019]s", word):
                continue
            is_name = word[0].isupper() and (index or (len(word) > 1 and word.isupper()))
            if is_name and len(word) > 1:
                yield re.sub("['\u2019]s$", "", word.casefold())


class _Words:
    """Those of a text, and how they begin."""

    __slots__ = ("_squeezed", "_stems", "known")

    def __init__(self, normal: str) -> None:
        self._squeezed = _squeezed(normal)
        self.known = set(_words(normal))
        self.known |= {word[:-2] for word in self.known if word.endswith(("'s", "\u2019s"))}
        self._stems = {
            word[:length] for word in self.known for length in range(_MIN_STEM, len(word))
        }

    def shared(self, word: str) -> int:
        """How many letters of it: all, or of its beginning if that is most of it."""
        if word in self.known:
            return len(word)
        for length in range(len(word), max(_MIN_STEM, int(len(word) * _STEM_PART)) - 1, -1):
            if word[:length] in self._stems or word[:length] in self.known:
                return length
        return 0

    def says(self, squeezed: str) -> bool:
        """Numbers in it are whole numbers there."""
        front = r"(?<!\d)(?<!\d[.,:])" if squeezed[:1].isdigit() else ""
        end = r"(?!\d|[.,:]\d)" if squeezed[-1:].isdigit() else ""
        return re.search(front + re.escape(squeezed) + end, self._squeezed) is not None


# --- passages -------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class _Sentence:
    """One that may be quoted."""

    start: int
    """In characters of the document."""
    text: str = field(repr=False)
    words: str = field(repr=False)
    """With a space in front of each."""


class _Source:
    """One passage."""

    __slots__ = ("_passage", "_sentences", "has_capitals", "words")

    def __init__(self, passage: PackedPassage) -> None:
        self._passage = passage
        text = _normal(passage.text)
        self.words = _Words(f"{_normal(passage.title)}\n{text}")
        inside = [
            word[0].isupper()
            for begin, end in _sentences(text)
            for word in _WORD.findall(text[begin:end])[1:]
            if word.isalpha()
        ]
        self.has_capitals = sum(inside) > _MOST_CAPITALS * len(inside)
        self._sentences = [
            _Sentence(
                piece.start + begin,
                piece.text[begin:end],
                " ".join(["", *_words(_normal(piece.text[begin:end]))]),
            )
            for piece in passage.pieces
            for begin, end in _quotable(piece.text)
        ]

    def cited(self, mark: UnknownMark, claim: _Claim, *, has_support: bool) -> Citation:
        score = claim.support([self.words])
        start, end, quote = self._passage.start, self._passage.end, None
        beginnings = [f" {word[: self.words.shared(word)]}" for word in claim.words]
        beginnings = [beginning for beginning in beginnings if beginning != " "]
        most = 0
        for sentence in self._sentences:
            shares = sum(len(found) for found in beginnings if found in sentence.words)
            if shares > most:
                most, start, quote = shares, sentence.start, sentence.text
                end = start + len(quote)
        return Citation(
            number=mark.number,
            start_index=mark.start_index,
            end_index=mark.end_index,
            passage=self._passage,
            start=start,
            end=end,
            quote=quote,
            page=self._passage.page_at(start),
            score=round(score, 3),
            verified=has_support and score >= _OWN_PART,
        )


def _quotable(text: str) -> Iterator[tuple[int, int]]:
    """Sentences, without white space around; one that is very long in parts."""
    for begin, end in _sentences(text):
        while begin < end:
            cut = end
            if end - begin > MAX_QUOTE:
                space = text.rfind(" ", begin + 1, begin + MAX_QUOTE)
                cut = space if space > begin else begin + MAX_QUOTE
            part = text[begin:cut]
            if part.strip():
                leading = len(part) - len(part.lstrip())
                yield begin + leading, begin + len(part.rstrip())
            begin = cut

"""Where is a document cut into chunks?

    atoms    h1 p p p h2 p | p p p | h2 li li          a section begins a chunk, unless what
    chunks   [1      ] [2  ] [3  ] [4      ]           stands before it is tiny

A chunk takes atoms while they fit. It ends where the next section begins; inside a section at the
best cut of its second half, and among equally good ones at the one that the text itself ranks
highest. So cuts depend on what stands near them: after a change the cuts of the next section, and
soon those of the same one, are where they were, and their chunks keep their ids.

Does not know: kinds of files, which model counts the tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from anzoth.ingest.atoms import Atom, Atomizer, Count, Cut, Measure
from anzoth.ingest.chunks import Chunk, Rules, Static, Structural, chunk_id, indexed_text
from anzoth.ingest.document import Document
from anzoth.ingest.parents import with_parents

_TINY_SHARE = 6
"""A sixth of a chunk is too small to stand alone before a new section."""


def chunk(document: Document, rules: Rules, count: Count, title: str | None = None) -> list[Chunk]:
    """The chunks of a document, in order; every character that is not white space is in one.

    `count` gives the tokens of a text; `title` (a file name without its extension, say) stands in
    where the document has none. Deterministic. O(tokens) calls of `count` with short texts.
    """
    title = document.title or title
    measure = Measure(count)
    if isinstance(rules, Static):
        atomizer = Atomizer(
            document, title, rules.max_chunk_size_tokens, measure, has_context=False, is_fine=True
        )
        packer = _Packer(atomizer, list(atomizer.atoms()), rules.chunk_overlap_tokens)
        runs = packer.windows()
    else:
        atomizer = Atomizer(
            document, title, rules.max_tokens, measure, has_context=True, is_fine=False
        )
        overlap_tokens = int(rules.overlap * rules.max_tokens)
        packer = _Packer(atomizer, list(atomizer.atoms()), overlap_tokens)
        runs = packer.sections()
    chunks = _number([packer.chunk(run) for run in runs], document)
    if isinstance(rules, Structural):
        return with_parents(chunks, document, rules.parent_tokens)
    return chunks


@dataclass(slots=True)
class _Run:
    """Atoms `first` to `last` (half-open) with the context in front of them."""

    first: int
    last: int
    context: str


@dataclass(slots=True)
class _Packer:
    atomizer: Atomizer
    atoms: Sequence[Atom]
    overlap_tokens: int

    # --- the structural strategy

    def sections(self) -> list[_Run]:
        runs: list[_Run] = []
        done = 0
        while done < len(self.atoms):
            first = self._overlap_start(runs[-1].first, done) if runs else 0
            run = self._run(first, done)
            if run is None:
                run = self._run(done, done)
            assert run is not None
            runs.append(run)
            done = run.last
        return runs

    def _overlap_start(self, previous_first: int, done: int) -> int:
        """Where the next chunk begins: earlier than `done` if that is inside a block."""
        first, total = done, 0
        while self.atoms[first].cut in (Cut.SENTENCES, Cut.WORDS) and first - 1 > previous_first:
            total += self.atoms[first - 1].num_tokens
            if total > self.overlap_tokens:
                break
            first -= 1
        return first

    def _run(self, first: int, done: int) -> _Run | None:
        """The chunk that begins at `first` and ends behind `done`. None: there is none."""
        atom = self.atoms[first]
        context, context_tokens = self.atomizer.context(atom.headings, atom.table_header)
        budget = self.atomizer.max_tokens - context_tokens
        sizes = [0]
        """Tokens of the atoms from `first` to `first + n`."""
        tiny = budget // _TINY_SHARE
        last = first
        while last < len(self.atoms):
            following = self.atoms[last]
            if last > first and following.cut is Cut.SECTIONS and sizes[-1] >= tiny:
                break
            if sizes[-1] + following.num_tokens > budget:
                last = self._best_cut(first, done, sizes, tiny)
                break
            sizes.append(sizes[-1] + following.num_tokens)
            last += 1
        return self._fit(first, done, last, context)

    def _best_cut(self, first: int, done: int, sizes: Sequence[int], tiny: int) -> int:
        half = sizes[-1] / 2
        furthest = first + len(sizes) - 1
        candidates = range(max(first, done) + 1, furthest + 1)
        late = [c for c in candidates if sizes[c - first] >= half] or candidates
        if not late:
            return furthest if furthest > done else done
        return max(late, key=lambda c: (not self._leaves_crumbs(c, tiny), self._quality(c), c))

    def _quality(self, position: int) -> tuple[Cut, int]:
        atom = self.atoms[position]
        return atom.cut, atom.rank

    def _leaves_crumbs(self, position: int, tiny: int) -> bool:
        """Whether so little of the section is left behind a cut that it would stand alone."""
        total = 0
        for number in range(position, len(self.atoms)):
            if self.atoms[number].cut is Cut.SECTIONS:
                break
            total += self.atoms[number].num_tokens
            if total >= tiny:
                return False
        return total < tiny

    def _fit(self, first: int, done: int, last: int, context: str) -> _Run | None:
        """Tokens of joined texts are not the sum of theirs: what does not fit is left out."""
        while last > done:
            run = _Run(first, last, context)
            if self._num_tokens(run) <= self.atomizer.max_tokens:
                return run
            last -= 1
        return _Run(done, done + 1, "") if first == done else None

    # --- OpenAI's static strategy

    def windows(self) -> list[_Run]:
        runs: list[_Run] = []
        done = 0
        while done < len(self.atoms):
            first, total = done, 0
            while runs and first - 1 > runs[-1].first:
                total += self.atoms[first - 1].num_tokens
                if total > self.overlap_tokens:
                    break
                first -= 1
            run = self._fill(first, done) or self._fill(done, done)
            assert run is not None
            runs.append(run)
            done = run.last
        return runs

    def _fill(self, first: int, done: int) -> _Run | None:
        total, last = 0, first
        while last < len(self.atoms):
            total += self.atoms[last].num_tokens
            if total > self.atomizer.max_tokens:
                break
            last += 1
        return self._fit(first, done, last, "")

    # --- both

    def _num_tokens(self, run: _Run) -> int:
        return self.atomizer.measure(indexed_text(run.context, self._text(run)))

    def _text(self, run: _Run) -> str:
        return self.atomizer.document.text[
            self.atoms[run.first].start : self.atoms[run.last - 1].end
        ]

    def chunk(self, run: _Run) -> Chunk:
        first, last = self.atoms[run.first], self.atoms[run.last - 1]
        text = self._text(run)
        return Chunk(
            id="",
            start=first.start,
            end=last.end,
            page=first.page,
            last_page=last.page,
            headings=first.headings,
            context=run.context,
            num_tokens=self.atomizer.measure.count(indexed_text(run.context, text)),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            parent_start=first.start,
            parent_end=last.end,
        )


def _number(chunks: Sequence[Chunk], document: Document) -> list[Chunk]:
    """Ids, and which chunk says what an earlier one said."""
    first_of: dict[str, int] = {}
    occurrences: dict[str, int] = {}
    numbered: list[Chunk] = []
    for position, made in enumerate(chunks):
        indexed = made.indexed(document)
        occurrence = occurrences.get(indexed, 0)
        occurrences[indexed] = occurrence + 1
        earlier = first_of.setdefault(made.sha256, position)
        numbered.append(
            replace(
                made,
                id=chunk_id(indexed, occurrence),
                duplicate_of=None if earlier == position else earlier,
            )
        )
    return numbered

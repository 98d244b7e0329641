from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from anzoth.ingest.chunker import chunk
from anzoth.ingest.chunks import Chunk, Rules, Static, Structural
from anzoth.ingest.document import Document, DocumentBuilder

WORDS = [
    *("museum", "ticket", "opening", "hours", "visitor", "entry", "garden", "winter", "summer"),
    *("price", "child", "adult", "group", "guide", "tour", "floor", "painting", "river", "bridge"),
]


Written = tuple[str, str, int | None]
"""Kind, text and level of a block."""


def words(text: str) -> int:
    """Tokens of a simple tokenizer: words and marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def sentence(random_source: random.Random) -> str:
    count = random_source.randint(4, 14)
    return " ".join(random_source.choices(WORDS, k=count)).capitalize() + "."


def article(seed: int, num_sections: int, num_paragraphs: int) -> list[Written]:
    source = random.Random(seed)
    blocks: list[Written] = []
    for section in range(num_sections):
        blocks.append(("heading", f"Section {section} {source.choice(WORDS)}", 1 + section % 3))
        for _ in range(num_paragraphs):
            text = " ".join(sentence(source) for _ in range(source.randint(1, 8)))
            blocks.append(("paragraph", text, None))
    return blocks


def build(blocks: Sequence[Written], title: str | None = "Guide") -> Document:
    out = DocumentBuilder()
    out.title = title
    for kind, text, level in blocks:
        out.add(kind, text, level)  # type: ignore[arg-type]  # the kinds above are block kinds
    return out.build("txt")


block = st.one_of(
    st.tuples(st.just("heading"), st.text(min_size=1, max_size=30), st.integers(1, 4)),
    st.tuples(
        st.sampled_from(["paragraph", "list_item", "table_header", "table_row", "code"]),
        st.text(alphabet="ab .\n漢é!\t", min_size=1, max_size=400)
        | st.integers(1, 60).map(lambda n: "One sentence here. " * n)
        | st.integers(1, 3000).map(lambda n: "x" * n),
        st.none(),
    ),
)
documents = (
    st.lists(block, min_size=1, max_size=25)
    .filter(lambda blocks: any(text.strip() and text.isprintable() for _, text, _ in blocks))
    .map(build)
)
rules = st.one_of(
    st.builds(Structural, st.integers(16, 120), st.floats(0, 0.5), st.integers(120, 400)),
    st.builds(Static, st.integers(100, 300), st.integers(0, 50)),
)


def assert_sound(document: Document, chunks: list[Chunk], rules: Rules, max_tokens: int) -> None:
    covered = 0
    for made in chunks:
        assert not document.text[covered : made.start].strip()  # nothing is left out
        assert made.start < made.end
        assert made.end > covered  # and each says something new
        covered = made.end
        assert made.sha256 == hashlib.sha256(made.text(document).encode()).hexdigest()
        assert made.num_tokens == words(made.indexed(document))
        assert made.num_tokens <= max_tokens or made.end - made.start == 1
        assert made.parent_start <= made.start < made.end <= made.parent_end
    assert not document.text[covered:].strip()
    assert [made.start for made in chunks] == sorted(made.start for made in chunks)
    assert len({made.id for made in chunks}) == len(chunks)


@pytest.mark.slow
@given(documents, rules)
@settings(deadline=None)  # the machine may be busy
def test_chunks_cover_all_text_within_their_bounds(document: Document, rules: Rules) -> None:
    is_static = isinstance(rules, Static)
    max_tokens = rules.max_chunk_size_tokens if is_static else rules.max_tokens
    chunks = chunk(document, rules, words)
    assert_sound(document, chunks, rules, max_tokens)
    assert chunk(document, rules, words) == chunks
    if isinstance(rules, Structural):
        for made in chunks:
            parent_tokens = words(made.parent(document))
            assert parent_tokens <= rules.parent_tokens or made.parent(document) == made.text(
                document
            )
    else:
        for before, after in pairwise(chunks):
            shared = document.text[after.start : before.end] if after.start < before.end else ""
            assert words(shared) <= rules.chunk_overlap_tokens


def test_a_section_begins_a_chunk_and_its_headings_are_its_context() -> None:
    document = build(article(1, 6, 5))
    chunks = chunk(document, Structural(100), words)
    starts = {made.start for made in chunks}
    assert {b.start for b in document.blocks if b.kind == "heading"} <= starts
    inner = next(made for made in chunks if len(made.headings) == 3)
    assert inner.context == " > ".join(("Guide", *inner.headings))
    assert inner.indexed(document) == f"{inner.context}\n\n{inner.text(document)}"


def test_no_heading_ends_a_chunk() -> None:
    document = build(article(2, 30, 1))
    for made in chunk(document, Structural(60), words):
        last = next(b for b in reversed(document.blocks) if b.start < made.end)
        assert last.kind != "heading"


def test_a_paragraph_that_fits_is_never_cut() -> None:
    document = build(article(3, 4, 9))
    ends = {b.end for b in document.blocks}
    assert all(made.end in ends for made in chunk(document, Structural(150), words))


def test_a_long_paragraph_is_cut_between_sentences_with_overlap() -> None:
    source = random.Random(4)
    text = " ".join(sentence(source) for _ in range(60))
    document = build([("paragraph", text, None)])
    chunks = chunk(document, Structural(100, overlap=0.15), words)
    assert len(chunks) > 5
    for before, after in pairwise(chunks):
        assert before.text(document).endswith(".")
        assert after.start < before.end
        assert words(document.text[after.start : before.end]) <= 15


def test_abbreviations_and_numbers_end_no_sentence() -> None:
    text = "Dr. Smith paid 3.50 EUR, e.g. for Mr. Jones. " * 30
    document = build([("paragraph", text, None)])
    for made in chunk(document, Structural(60), words):
        assert made.text(document).startswith("Dr. Smith")
        assert made.text(document).endswith("Mr. Jones.")


def test_a_table_is_cut_by_rows_and_its_header_stays_with_each_part() -> None:
    rows = [("table_row", f"Customer {n} | {n}.50 EUR", None) for n in range(100)]
    document = build([("table_header", "Customer | Fee", None), *rows])
    chunks = chunk(document, Structural(80), words)
    assert len(chunks) > 5
    assert chunks[0].text(document).startswith("Customer | Fee\nCustomer 0")
    for before, after in pairwise(chunks):
        assert after.context == "Guide\nCustomer | Fee"
        assert after.text(document).startswith("Customer")
        assert before.end < after.start  # rows are whole: nothing is repeated


def test_code_is_cut_by_lines() -> None:
    lines = "\n".join(f"    value_{n} = compute({n})" for n in range(100))
    document = build([("code", "def f():\n" + lines, None)])
    for made in chunk(document, Structural(60), words):
        assert all(line in document.text.split("\n") for line in made.text(document).split("\n"))


def test_a_word_of_any_length_is_cut() -> None:
    document = build([("paragraph", "x" * 100_000, None)])
    chunks = chunk(document, Structural(300), lambda text: 1)  # as word pieces count it
    assert max(made.end - made.start for made in chunks) <= 12 * 300


def changed(seed: int, at: int) -> tuple[list[Chunk], list[Chunk]]:
    blocks = article(seed, 12, 12)
    edited = [*blocks[:at], ("paragraph", "A new sentence stands here.", None), *blocks[at:]]
    before, after = (chunk(build(b), Structural(100), words) for b in (blocks, edited))
    return before, after


@pytest.mark.parametrize("at", [1, 40, 77, 150])
def test_a_change_in_one_section_changes_only_chunks_of_that_section(at: int) -> None:
    before, after = changed(7, at)
    known = {made.id for made in before}
    new = [made for made in after if made.id not in known]
    assert len({made.headings[-1:] for made in new}) <= 2  # the section's heading and its text
    assert 1 <= len(new) <= 8


def test_without_sections_chunks_soon_are_the_same_again_after_a_change() -> None:
    blocks = [b for b in article(8, 40, 10) if b[0] != "heading"]
    edited = [("paragraph", "A new sentence stands here.", None), *blocks]
    before, after = (chunk(build(b), Structural(100), words) for b in (blocks, edited))
    known = {made.id for made in before}
    assert len(before) > 100
    assert sum(made.id not in known for made in after) <= 12


def test_ids_do_not_depend_on_where_a_chunk_stands() -> None:
    blocks = article(9, 5, 4)
    first, second = build(blocks), build(article(10, 3, 3) + blocks)
    ids = {made.id for made in chunk(first, Structural(100), words)}
    assert len(ids & {made.id for made in chunk(second, Structural(100), words)}) >= len(ids) - 1


def test_exact_duplicates_are_found_and_have_ids_of_their_own() -> None:
    source = random.Random(11)
    text = " ".join(sentence(source) for _ in range(8))
    same = [("heading", "Terms", 1), ("paragraph", text, None)]
    document = build([*same, ("heading", "Other", 1), ("paragraph", text[:-20] + ".", None), *same])
    first, other, again = chunk(document, Structural(120), words)
    assert (first.duplicate_of, other.duplicate_of, again.duplicate_of) == (None, None, 0)
    assert again.sha256 == first.sha256
    assert again.id != first.id


def test_the_parent_of_a_short_document_is_all_of_it() -> None:
    document = build(article(12, 3, 4))
    chunks = chunk(document, Structural(60, parent_tokens=100_000), words)
    assert {(made.parent_start, made.parent_end) for made in chunks} == {(0, len(document.text))}


def test_the_parent_is_the_largest_section_that_fits() -> None:
    source = random.Random(16)
    part = " ".join(sentence(source) for _ in range(9))
    blocks: list[Written] = []
    for chapter in range(4):  # a chapter of three parts fits into a parent, two chapters do not
        blocks.append(("heading", f"Chapter {chapter}", 1))
        for number in range(3):
            blocks += [("heading", f"Part {number}", 2), ("paragraph", part + str(number), None)]
    document = build(blocks)
    chunks = chunk(document, Structural(100, parent_tokens=500), words)
    chapters = [block.start for block in document.blocks if block.level == 1]
    assert sorted({made.parent_start for made in chunks}) == chapters
    tight = chunk(document, Structural(100, parent_tokens=150), words)
    parts = {block.start for block in document.blocks if block.level == 2}
    assert {made.parent_start for made in tight} <= parts | set(chapters)
    assert len({made.parent_start for made in tight}) == 12


def test_the_title_is_in_the_context_once() -> None:
    document = build([("heading", "Guide", 1), ("paragraph", "Text. " * 90, None)])
    contexts = [made.context for made in chunk(document, Structural(60), words)]
    assert contexts[0] == "Guide"
    assert set(contexts[1:]) == {"Guide"}
    untitled = build([("paragraph", "Text.", None)], title=None)
    assert chunk(untitled, Structural(60), words, title="notes")[0].context == "notes"


@pytest.mark.parametrize("size", [99, 5000])
def test_the_static_strategy_has_openais_bounds(size: int) -> None:
    with pytest.raises(ValueError, match="100 to 4096"):
        Static(size, 0)
    with pytest.raises(ValueError, match="half"):
        Static(100, 51)


def test_static_windows_overlap_as_asked() -> None:
    source = random.Random(13)
    document = build([("paragraph", " ".join(sentence(source) for _ in range(300)), None)])
    chunks = chunk(document, Static(200, 100), words)
    for before, after in pairwise(chunks):
        assert 80 <= words(document.text[after.start : before.end]) <= 100
    assert all(made.context == "" for made in chunks)
    assert all(170 <= made.num_tokens <= 200 for made in chunks[:-1])


def test_a_byte_tokenizer_whose_counts_do_not_add_up_is_within_bounds() -> None:
    tokenizer = Tokenizer(
        models.BPE(vocab={"a": 0, "aa": 1, "aaaa": 2}, merges=[("a", "a"), ("aa", "aa")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    document = build([("paragraph", "aaa\naaaaa\na" * 500, None)], title=None)
    for made in chunk(document, Structural(32), lambda text: len(tokenizer.encode(text).ids)):
        assert made.num_tokens <= 32


def test_the_module_has_no_hidden_state(tmp_path: Path) -> None:
    document = build(article(14, 4, 4))
    first = chunk(document, Structural(100), words)
    chunk(build(article(15, 4, 4)), Static(), words)
    assert chunk(document, Structural(100), words) == first

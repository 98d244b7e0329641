"""Which terms are made of a text?"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.index.analyzer import MAX_REMEMBERED_STEMS, MAX_TERM_CHARACTERS, analyzer


def test_english_terms_are_those_of_the_reference_figures() -> None:
    text = "The Flows of AIR over a wing's tip, at Mach 2.5 — studied, studying; x_1 naïve 漢字!"
    # bm25s.tokenize(text, stopwords="en", stemmer=Stemmer.Stemmer("english"))
    assert analyzer("english").terms(text) == [
        *("flow", "air", "over", "wing", "tip", "mach", "studi", "studi", "x_1", "naïv", "漢字")
    ]


@pytest.mark.slow
def test_english_is_bm25s_on_any_text() -> None:
    bm25s = pytest.importorskip("bm25s", reason="only an oracle: pip install bm25s")
    import Stemmer

    @given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
    def check(texts: list[str]) -> None:
        expected = bm25s.tokenize(
            texts,
            stopwords="en",
            stemmer=Stemmer.Stemmer("english"),
            return_ids=False,
            show_progress=False,
        )
        assert [analyzer("english").terms(text) for text in texts] == expected

    check()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("STRASSE Straße ﬁne Ⅳ", ["strasse", "strasse", "fine", "iv"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Don’t pay 1,000.50 at example.com", ["don't", "pay", "1,000.50", "at", "example", "com"]),
        ("東京都に", ["東京", "京都", "都に"]),
        ("iPhone東京 猫", ["iphone", "東京", "猫"]),
        ("한국어", ["한국", "국어"]),
        ("ไทย", ["ไท", "ทย"]),
        ("co\u00adop", ["coop"]),
        ("...", []),
        ("", []),
    ],
)
def test_plain_takes_words_of_any_script(text: str, terms: list[str]) -> None:
    assert analyzer("plain").terms(text) == terms


@given(st.text(max_size=80))
def test_plain_does_not_care_how_characters_are_composed(text: str) -> None:
    plain = analyzer("plain")
    assert plain.terms(unicodedata.normalize("NFD", text)) == plain.terms(text)


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("What is the code of the store room?", ["code", "store", "room"]),
        ("How do I get my badge", ["badg"]),
        ("What does the WHO say about IT?", ["who", "say"]),
        ("Who are you?", ["who", "you"]),
        ("", []),
    ],
)
def test_english_does_not_look_for_words_that_only_ask(question: str, terms: list[str]) -> None:
    assert analyzer("english").query_terms(question) == terms


@pytest.mark.parametrize("name", ["english", "plain"])
def test_a_giant_word_is_cut(name: str) -> None:
    (term,) = analyzer(name).terms("x7" * 5000)
    assert len(term) == MAX_TERM_CHARACTERS


@pytest.mark.slow
def test_forgetting_stems_changes_no_term() -> None:
    english = analyzer("english")
    text = "the running dogs"
    before = english.terms(text)
    english.terms(" ".join(f"word{number}" for number in range(MAX_REMEMBERED_STEMS + 10)))
    assert english.terms(text) == before == ["run", "dog"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError):
        analyzer("klingon")

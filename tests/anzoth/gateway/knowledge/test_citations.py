"""Citations: what a mark is for, what counts as support, and offsets that are exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway.knowledge.citations import (
    ENOUGH,
    MAX_QUOTE,
    Citation,
    Evidence,
    UnknownMark,
)
from anzoth.gateway.knowledge.packing import PackedPassage, Piece

PUMP = (
    "The X200 pump runs on water at 3.5 bar.\nIt was designed by Ada Keller in 2019. "
    "The warranty lasts 24 months, and service costs 1,250 euros a year."
)
FAN = "The fan moves air with a motor of 40 W. Operators clean its filters every week."


def passage(text: str, start: int = 100, title: str = "", page: int | None = 7) -> PackedPassage:
    piece = Piece(start, start + len(text), text)
    pages = () if page is None else ((piece.start, piece.end, page),)
    return PackedPassage("vs_1", f"file-{start}", "a.txt", title, (piece,), 0.5, pages)


EVIDENCE = Evidence([passage(PUMP), passage(FAN, 900)])


def cited(answer: str, evidence: Evidence = EVIDENCE) -> list[Citation]:
    return [made for made in evidence.citations(answer) if isinstance(made, Citation)]


def verified(answer: str, evidence: Evidence = EVIDENCE) -> list[bool]:
    return [citation.verified for citation in cited(answer, evidence)]


def test_a_citation_quotes_the_sentence_and_says_where_it_stands() -> None:
    answer = "It was designed by Ada Keller in 2019 [1]."
    (citation,) = cited(answer)
    assert citation.quote == "It was designed by Ada Keller in 2019."
    assert PUMP[citation.start - 100 : citation.end - 100] == citation.quote
    assert answer[citation.start_index : citation.end_index] == "[1]"
    assert (citation.page, citation.score, citation.verified) == (7, 1.0, True)
    assert citation.passage.file_id == "file-100"


@pytest.mark.parametrize(
    "answer",
    [
        "The pump runs on water [1].",
        "The X200 pump runs at 3.5 bar. [1]",
        "[1] The pump runs on water.",
        "According to [1], the pump runs on water.",
        "Service costs 1250 euros yearly [1].",
        "Its warranty is 24 months long, servicing costs 1,250 euros [1].",
        "- warranty lasts 24 months [1]\n- fan motor: 40W [2]",
        "The pump runs on water [1] and the fan moves air [2].",
        "The fan has a 40-W motor [2].",
        "Water runs the pump and a motor moves the air [1][2].",
        "Water runs the pump and a motor moves the air [1, 2].",
        'It says: "The fan moves air with a motor of 40 W" [2].',
    ],
)
def test_what_the_passage_says_is_verified(answer: str) -> None:
    assert all(verified(answer))
    assert verified(answer)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("The X300 pump runs on water [1].", "a code"),
        ("The X20 pump runs on water [1].", "the beginning of a code"),
        ("The pump runs on water at 5 bar [1].", "a number that is a part of another"),
        ("The pump runs on water at 13.5 bar [1].", "a number"),
        ("It was designed by Ada Miller in 2019 [1].", "a name"),
        ("Service costs 1,250,000 euros a year [1].", "a number in thousands"),
        ("The pump runs on water [2].", "the wrong passage"),
        ("Employees receive generous holidays [1].", "other words"),
        ('It says "runs on salty water mostly" of the pump [1].', "a quotation"),
        ("The pump runs on water [1] and Berlin is nice.", "the rest of the sentence"),
        ("[1]", "nothing"),
        ("The API of the pump runs on water [1].", "a word of capitals"),
    ],
)
def test_what_the_passage_does_not_say_is_not(answer: str, why: str) -> None:
    assert not any(verified(answer)), why
    assert cited(answer)


def test_each_mark_is_for_its_own_part_of_a_sentence() -> None:
    assert verified("The pump runs on water [2] and the fan moves air [2].") == [False, True]
    assert verified("The fan moves air. [2] The fan moves air [1].") == [True, False]
    assert verified("The pump runs on water.\n[2] The fan moves air.") == [True]
    assert verified("[1] The pump runs on water. [2] The fan moves air.") == [True, True]


def test_marks_that_name_no_passage_are_reported() -> None:
    answer = "The pump runs on water [1, 7]. Air [0]. In [2024] x[12]"
    made = EVIDENCE.citations(answer)
    unknown = [mark for mark in made if isinstance(mark, UnknownMark)]
    assert [(mark.number, answer[mark.start_index : mark.end_index]) for mark in unknown] == [
        (7, "[1, 7]"),
        (0, "[0]"),
        (12, "[12]"),
    ]
    assert [citation.number for citation in cited(answer)] == [1]
    assert Evidence([]).citations("Nothing [1].") == [UnknownMark(1, 8, 11)]


def test_languages_that_write_nouns_with_capitals_are_not_names_all_over() -> None:
    german = "Die Pumpe läuft mit Wasser. Der Filter braucht jede Woche eine Reinigung."
    evidence = Evidence([passage(german)])
    assert verified("Laut Handbuch läuft die Pumpe mit Wasser [1].", evidence) == [True]
    assert verified("Die Pumpe läuft mit 12 Litern Wasser [1].", evidence) == [False]


def test_scripts_without_spaces_are_compared_by_pairs() -> None:
    evidence = Evidence([passage("ポンプは水で動きます。保証は24か月です。")])
    assert verified("ポンプは水で動く [1]。", evidence) == [True]
    assert verified("犬は公園で走る [1]。", evidence) == [False]
    (citation,) = cited("保証は24か月です [1]", evidence)
    assert citation.quote == "保証は24か月です。"


def test_the_title_supports_but_is_not_quoted() -> None:
    evidence = Evidence([passage("It runs on water.", title="Manual of the Zeta 9")])
    (citation,) = cited("The Zeta 9 runs on water [1].", evidence)
    assert (citation.verified, citation.quote) == (True, "It runs on water.")


def test_a_mark_within_a_passage_is_text() -> None:
    evidence = Evidence([passage("As shown in [2], pumps leak."), passage(FAN, 900)])
    (citation,) = cited("Pumps leak [1].", evidence)
    assert citation.verified
    assert citation.quote == "As shown in [2], pumps leak."
    assert verified("As shown in [2], pumps leak.", evidence) == [False]


def test_quotations_are_bounded_and_without_a_word_in_common_there_is_none() -> None:
    evidence = Evidence([passage("alpha " * 300 + "omega")])
    (citation,) = cited("It ends with omega [1].", evidence)
    assert citation.quote is not None
    assert citation.quote.endswith("omega")
    assert len(citation.quote) <= MAX_QUOTE
    (citation,) = cited("Bananas [1].", evidence)
    assert (citation.quote, citation.start, citation.end) == (None, 100, 100 + 300 * 6 + 5)
    assert citation.score == 0 < ENOUGH


WORDS = [
    "pump",
    "X200",
    "[1]",
    "[2]",
    "[3]",
    ".",
    "\n",
    " ",
    "water ",
    "24",
    '"',
    "Ada",
    "水水",
    ", ",
]


@given(st.lists(st.sampled_from(WORDS), max_size=20).map("".join))
def test_every_mark_is_in_the_list_once_and_every_offset_is_exact(answer: str) -> None:
    made = EVIDENCE.citations(answer)
    places = [(mark.start_index, mark.end_index) for mark in made]
    assert places == sorted(places)
    assert len(places) == answer.count("[")
    for mark in made:
        assert answer[mark.start_index : mark.end_index] == f"[{mark.number}]"
        if isinstance(mark, Citation):
            assert 0 <= mark.score <= 1
            text, begin = (PUMP, 100) if mark.number == 1 else (FAN, 900)
            if mark.quote is not None:
                assert text[mark.start - begin : mark.end - begin] == mark.quote
        else:
            assert mark.number == 3


def test_no_quotation_is_in_a_repr() -> None:
    assert "water" not in repr(cited("The pump runs on water [1]."))

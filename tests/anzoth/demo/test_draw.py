"""Values keep to their side of the split, and enough of them are on each."""

from __future__ import annotations

import random

import pytest

from anzoth.demo.draw import CITIES, COLORS, FIRST_NAMES, NOUNS, Draw, Phrasings, is_held_out

MAKERS = [
    *(Draw.word, Draw.name, Draw.city, Draw.color, Draw.amount, Draw.date, Draw.iso_date),
    *(Draw.year, Draw.time, Draw.code, Draw.email),
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_value_is_on_the_side_that_was_asked_for(make, held_out: bool) -> None:
    draw = Draw(random.Random(1), held_out_values=held_out)
    values = [make(draw) for _ in range(200)]
    assert all(is_held_out(value) is held_out for value in values)
    assert len(set(values)) > 1


@pytest.mark.parametrize("held_out", [False, True])
def test_the_parts_of_a_value_are_on_its_side(held_out: bool) -> None:
    draw = Draw(random.Random(2), held_out_values=held_out)
    for _ in range(200):
        parts = [*draw.person().split(), *draw.phrase().split(), str(draw.number())]
        assert all(is_held_out(part) is held_out for part in parts)


def test_case_does_not_decide_the_side() -> None:
    assert all(is_held_out(word) == is_held_out(word.upper()) for word in NOUNS)


@pytest.mark.parametrize("words", [FIRST_NAMES, CITIES, COLORS, NOUNS])
def test_both_sides_have_a_share_of_every_list(words: tuple[str, ...]) -> None:
    assert len(set(words)) == len(words)
    assert 0 < sum(map(is_held_out, words)) < len(words) / 2


def test_a_side_without_values_is_an_error_and_no_endless_search() -> None:
    draw = Draw(random.Random(0), held_out_values=not is_held_out("alone"))
    with pytest.raises(ValueError, match="other side"):
        draw.one_of(("alone",))


def test_phrasings_come_from_one_list_only() -> None:
    phrasings = Phrasings(train=("a", "b"), held_out=("c",))
    for held_out, expected in ((False, {"a", "b"}), (True, {"c"})):
        draw = Draw(random.Random(0), held_out_phrasings=held_out)
        assert {draw.phrasing(phrasings) for _ in range(50)} == expected


def test_a_seed_names_its_values() -> None:
    def values() -> list[str]:
        draw = Draw(random.Random(7))
        return [draw.person() for _ in range(20)]

    assert values() == values()

"""Made-up words get the endings that real ones of their spelling have."""

from __future__ import annotations

import pytest

from anzoth.demo.wording import camel_case, capitalized, enumerated, plural


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lamp", "lamps"),
        ("box", "boxes"),
        ("bus", "buses"),
        ("batch", "batches"),
        ("dish", "dishes"),
        ("city", "cities"),
        ("key", "keys"),
        ("test bench", "test benches"),
        ("publish", "publishes"),
        ("verify", "verifies"),
    ],
)
def test_a_plural_ends_as_the_spelling_asks(word: str, expected: str) -> None:
    assert plural(word) == expected


def test_only_the_first_letter_is_capitalized() -> None:
    assert capitalized("is it AG or Ltd") == "Is it AG or Ltd"
    assert capitalized("") == ""
    assert capitalized("4 AM") == "4 AM"


def test_the_last_of_several_parts_follows_an_and() -> None:
    assert enumerated(["a"]) == "a"
    assert enumerated(["a", "b"]) == "a and b"
    assert enumerated(["a", "b", "c"]) == "a, b and c"


def test_camel_case_keeps_the_first_word_and_joins_the_others() -> None:
    assert camel_case("get_current_weather") == "getCurrentWeather"
    assert camel_case("weather") == "weather"

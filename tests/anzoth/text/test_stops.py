"""Stop strings: held back while undecided, never shown, independent of how text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.text.stops import StopMatcher


def run(stops: list[str], parts: list[str]) -> tuple[str, str | None, int]:
    """The text given out, the stop string, and after how many parts it was found."""
    matcher = StopMatcher(stops)
    given_out = ""
    for index, part in enumerate(parts):
        given_out += matcher.push(part)
        if matcher.matched is not None:
            return given_out, matcher.matched, index + 1
    return given_out + matcher.flush(), None, len(parts)


def expected(stops: list[str], text: str) -> tuple[str, str | None]:
    """The definition, character by character."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(
    stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4),
    parts=st.lists(st.text("abcd", max_size=4), max_size=12),
)
def test_any_cut_gives_what_the_definition_says(stops: list[str], parts: list[str]) -> None:
    text, matched, _ = run(stops, parts)
    assert (text, matched) == expected(stops, "".join(parts))


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4),
    parts=st.lists(st.text("abc", max_size=3), max_size=10),
)
def test_no_more_is_held_back_than_could_still_become_a_stop_string(
    stops: list[str], parts: list[str]
) -> None:
    matcher = StopMatcher(stops)
    seen = ""
    given_out = ""
    for part in parts:
        seen += part
        given_out += matcher.push(part)
        if matcher.matched is not None:
            return
        held = seen[len(given_out) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_text_passes_untouched_without_stop_strings() -> None:
    assert run([], ["a", "", "b"]) == ("ab", None, 3)


def test_a_stop_string_over_several_parts_is_found_and_not_shown() -> None:
    assert run(["END"], ["say E", "N", "D more"]) == ("say ", "END", 3)


def test_a_false_start_is_given_out_when_it_is_decided() -> None:
    matcher = StopMatcher(["END"])
    assert [matcher.push("E"), matcher.push("N"), matcher.push("T")] == ["", "", "ENT"]


@pytest.mark.parametrize("parts", [["abcd"], ["a", "b", "c", "d"], ["ab", "cd"]])
def test_the_first_complete_stop_string_wins_however_the_text_is_cut(parts: list[str]) -> None:
    assert run(["abcd", "bc"], parts)[:2] == ("a", "bc")


def test_nothing_comes_after_a_match() -> None:
    matcher = StopMatcher(["x"])
    assert matcher.push("ax") == "a"
    assert matcher.push("more") == ""
    assert matcher.flush() == ""

"""The end of a text that may begin a mark, and no more than that, is undecided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anzoth.text.marks import num_undecided


@given(st.text("ab<", max_size=8), st.text("ab<", min_size=1, max_size=4))
def test_only_an_end_that_more_text_could_complete_is_undecided(text: str, mark: str) -> None:
    undecided = num_undecided(text, mark)
    assert undecided < len(mark)
    assert mark.startswith(text[len(text) - undecided :])
    for longer in range(undecided + 1, min(len(mark), len(text) + 1)):
        assert not mark.startswith(text[len(text) - longer :])

"""How much of the end of a text may be the beginning of a mark, when more is to come?

Does not know: what the marks mean.
"""

from __future__ import annotations


def num_undecided(text: str, mark: str) -> int:
    """The length of the longest end of `text` that begins `mark`, and is not all of it."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0

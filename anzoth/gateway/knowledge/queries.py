"""What is looked for in knowledge bases, for a conversation?

The user's last message. Where it cannot stand alone, the user's message before it stands in front:
when it has fewer than four words, begins as if it went on ("and …", "what about …"), or speaks of
"it", "they" and the like. Always the same for the same conversation, and no model is asked. Of a
message that is very long, its beginning and its end are looked for, each by itself: that is where
a question stands.

Does not know: who searches, or what the words mean: those that refer back are English ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_CHARACTERS = 2000
"""More than an embedding model reads of a query."""
_MIN_WORDS = 4
_GOES_ON = re.compile(r"\W*(?:and|but|or|also|then|so|why|what about|how about)\b", re.IGNORECASE)
_REFERS = re.compile(
    r"\b(?:it|its|they|them|their|theirs|this|these|those|he|him|his|she|her|hers)\b", re.IGNORECASE
)


def queries(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One, or the two ends of it; none when the user has said nothing."""
    said = [message["content"].strip() for message in messages if message["role"] == "user"]
    if not said or not said[-1]:
        return ()
    last = said[-1]
    if len(said) > 1 and said[-2] and _needs_context(last):
        last = f"{said[-2][-MAX_CHARACTERS // 2 :]}\n{last}"
    if len(last) <= MAX_CHARACTERS:
        return (last,)
    half = MAX_CHARACTERS // 2
    return last[:half], last[-half:]


def _needs_context(text: str) -> bool:
    return (
        len(text.split()) < _MIN_WORDS
        or _GOES_ON.match(text) is not None
        or _REFERS.search(text) is not None
    )

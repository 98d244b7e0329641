"""How are words and lists of words written in English, and names in the styles of programmers?

For words that no table can hold, because they are made up: endings follow the spelling alone, so
irregular words come out wrong.

Does not know: what the words mean, or which lesson says them.
"""

from __future__ import annotations

from collections.abc import Sequence


def plural(word: str) -> str:
    """`box` -> `boxes`. Of a verb: its third person."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


def capitalized(text: str) -> str:
    """With a capital at its beginning; unlike `str.capitalize`, the rest stays as it is."""
    return text[:1].upper() + text[1:]


def enumerated(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def camel_case(name: str) -> str:
    """`get_weather` -> `getWeather`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)

"""How do people type? Case, punctuation, words around the question, a typing error now and then.

What people say in the lessons goes through here; what the model answers is always clean.

Does not know: what the text means, or which words of it have to be copied.
"""

# ruff: noqa: E501  (two long patterns)

from __future__ import annotations

import itertools
import random
import string

from anzoth.demo.topic import expand

_OPENERS = "[hi|hello|hey|hi there|good morning|hey anzoth|ok|okay|so|well|and|now|one question|quick question|sorry|excuse me|one more thing|thanks|great|alright|another question|please tell me|tell me|hmm|um|actually|also|then]"
_CLOSERS = "[please|thanks|thank you|pls|again|exactly|now|in anzoth|with anzoth|here|then|actually|for me|today|quickly|in detail|really|anyway]"
_SMALL = frozenset(
    ("a", "an", "the", "is", "are", "do", "does", "to", "in", "of", "for", "my", "this", "it", "me")
)
_FILLERS = ("just", "actually", "simply", "really", "then", "exactly", "please", "again", "also")
_NEIGHBOURS = {
    a: b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in itertools.pairwise(row)
}


def untidy(text: str, rng: random.Random) -> str:
    """`text` as people type it: case, punctuation, words around it, a typing error now and then."""
    if rng.random() < 0.22:
        text = f"{expand(_OPENERS, rng)}{rng.choice((', ', ' ', '! ', '. '))}{text}"
    if rng.random() < 0.12:
        text = f"{text} {expand(_CLOSERS, rng)}"
    if rng.random() < 0.15:
        text = _reword(text, rng)
    text += rng.choice(("", "", "?", "?", ".", "!", "??", " ?")) if text[-1].isalnum() else ""
    style = rng.random()
    if style < 0.45:
        text = text.lower()
    elif style < 0.47:
        text = text.upper()
    elif style < 0.8:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.2:
        text = _mistype(text, rng)
    return text


def _reword(text: str, rng: random.Random) -> str:
    """A small word left out, or one put in that changes nothing."""
    words = text.split(" ")
    small = [i for i, word in enumerate(words) if word.lower() in _SMALL]
    if small and len(words) > 3 and rng.random() < 0.5:
        del words[rng.choice(small)]
    elif len(words) > 2:
        words.insert(rng.randrange(1, len(words)), rng.choice(_FILLERS))
    return " ".join(words)


def _mistype(text: str, rng: random.Random) -> str:
    """One or two letters dropped, doubled, swapped or hit one key to the right."""
    for _ in range(rng.choice((1, 1, 2))):
        letters = [i for i, character in enumerate(text) if character in string.ascii_letters]
        if len(letters) < 5:
            return text
        at = rng.choice(letters[:-1])
        here, there = text[at], text[at + 1]
        replacement = rng.choice(
            (there, here + here + there, there + here, _NEIGHBOURS.get(here.lower(), here) + there)
        )
        text = text[:at] + replacement + text[at + 2 :]
    return text

"""Which conversations is the bundled model trained on? Also: `python -m anzoth.demo.generate`.

Every conversation is a pure function of its random generator, so a seed names the whole training
text and nothing has to be stored. What people say is made untidy on purpose (case, punctuation,
typing errors, greetings in front); what the model answers is always clean.

Does not know: tokens. A conversation is a list of turns.
"""

# ruff: noqa: E501  (two long patterns)

from __future__ import annotations

import argparse
import itertools
import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console

from anzoth.demo import lessons_recall
from anzoth.demo.lessons_api import CALLING
from anzoth.demo.lessons_errors import ERRORS
from anzoth.demo.lessons_keys import KEYS
from anzoth.demo.lessons_models import MODELS
from anzoth.demo.lessons_recall import SLOTS, VALUES, Slot
from anzoth.demo.lessons_self import ITSELF, MANNERS
from anzoth.demo.lessons_serving import ANZOTH, OPERATING
from anzoth.demo.lessons_unknown import UNKNOWN, WORLD
from anzoth.demo.topic import CARRIERS, WORDS, Topic, expand, table

TOPICS = table(CALLING, KEYS, ERRORS, ANZOTH, MODELS, OPERATING, ITSELF, MANNERS, UNKNOWN)
_KNOWN = tuple(topic for topic in TOPICS.values() if topic not in UNKNOWN and topic.opens)
WORDING = {**WORDS, **WORLD}
_VALUE = "<value>"
_OPENERS = "[hi|hello|hey|hi there|good morning|hey anzoth|ok|okay|so|well|and|now|one question|quick question|sorry|excuse me|one more thing|thanks|great|alright|another question|please tell me|tell me|hmm|um|actually|also|then]"
_CLOSERS = "[please|thanks|thank you|pls|again|exactly|now|in anzoth|with anzoth|here|then|actually|for me|today|quickly|in detail|really|anyway]"
_SMALL = frozenset(
    ("a", "an", "the", "is", "are", "do", "does", "to", "in", "of", "for", "my", "this", "it", "me")
)
_FILLERS = ("just", "actually", "simply", "really", "then", "exactly", "please", "again", "also")
_NEIGHBOURS = {
    a: b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in itertools.pairwise(row)
}


@dataclass(slots=True, frozen=True)
class Turn:
    """One message. Of an assistant's turn the evaluation wants to know what it is about."""

    role: str
    content: str
    topic: str | None = None
    key: str = ""
    """What every right answer in this place contains."""


@dataclass(slots=True, frozen=True)
class Mix:
    """How often each kind of exchange is drawn (weights, not probabilities)."""

    known: float = 50
    follow: float = 22
    unknown: float = 20
    tell: float = 7
    ask: float = 7
    echo: float = 4


STANDARD = Mix()
# Copying is taught first and nearly alone: among everything else it is slow to emerge.
COPYING = Mix(known=6, follow=0, unknown=4, tell=20, ask=20, echo=50)


@dataclass(slots=True)
class _State:
    """What has been said so far, as far as it matters for what may come next."""

    told: dict[str, str] = field(default_factory=dict)
    topic: Topic | None = None


def conversation(rng: random.Random, mix: Mix = STANDARD) -> list[Turn]:
    """One conversation: sometimes a system message, then one to some forty exchanges."""
    turns: list[Turn] = []
    if rng.random() < 0.2:
        turns.append(Turn("system", expand(rng.choice(lessons_recall.SYSTEM), rng, VALUES)))
    state = _State()
    for _ in range(_num_exchanges(rng)):
        kind = _draw(rng, state, mix)
        turns += _EXCHANGES[kind](rng, state)
    return turns


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


def _num_exchanges(rng: random.Random) -> int:
    """Mostly short; a few long enough to fill the context, so that far positions are trained."""
    draw = rng.random()
    if draw < 0.003:
        return rng.randint(16, 34)
    if draw < 0.02:
        return rng.randint(6, 14)
    return rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4))


def _draw(rng: random.Random, state: _State, mix: Mix) -> str:
    weights = {
        "known": mix.known,
        "follow": mix.follow if state.topic and state.topic.follows else 0.0,
        "unknown": mix.unknown,
        "tell": mix.tell,
        # Asking back is likelier once there is something to ask for.
        "ask": mix.ask * 3 if state.told else mix.ask / 3,
        "echo": mix.echo,
    }
    return rng.choices(list(weights), list(weights.values()))[0]


def _say(topic: Topic, asked: str, rng: random.Random, state: _State) -> list[Turn]:
    state.topic = topic
    answer = Turn("assistant", rng.choice(topic.answers), topic.name, topic.key)
    return [Turn("user", untidy(asked, rng)), answer]


def _question(topic: Topic, rng: random.Random) -> str:
    pattern = rng.choice(topic.asks)
    if topic.about and rng.random() < 0.3:
        pattern = rng.choice(CARRIERS).replace("{about}", topic.about)
    return expand(pattern, rng, WORDING)


def _known(rng: random.Random, state: _State) -> list[Turn]:
    topic = rng.choice(_KNOWN)
    return _say(topic, _question(topic, rng), rng, state)


def _unknown(rng: random.Random, state: _State) -> list[Turn]:
    topic = rng.choices(UNKNOWN, (6, 2, 2, 1))[0]
    return _say(topic, _question(topic, rng), rng, state)


def _follow(rng: random.Random, state: _State) -> list[Turn]:
    assert state.topic is not None, "only drawn when there is a topic to follow"
    asked, target = rng.choice(state.topic.follows)
    return _say(TOPICS[target], expand(asked, rng, WORDING), rng, state)


def _tell(rng: random.Random, state: _State) -> list[Turn]:
    slot = _slot(rng)
    value = _value(slot.value, rng)
    state.told[slot.name], state.topic = value, None
    answer = rng.choice(slot.acknowledgements).replace(_VALUE, value)
    return [
        _user(rng.choice(slot.tells), value, rng),
        Turn("assistant", answer, f"tell-{slot.name}", value),
    ]


def _ask(rng: random.Random, state: _State) -> list[Turn]:
    told = [slot for slot in SLOTS if slot.name in state.told]
    slot = rng.choice(told) if told and rng.random() < 0.85 else _slot(rng)
    state.topic = None
    value = state.told.get(slot.name)
    answer = slot.unknown if value is None else rng.choice(slot.recalls).replace(_VALUE, value)
    asked = Turn("user", untidy(expand(rng.choice(slot.asks), rng), rng))
    return [asked, Turn("assistant", answer, f"ask-{slot.name}", value or answer)]


def _echo(rng: random.Random, state: _State) -> list[Turn]:
    state.topic = None
    value = _value(lessons_recall.ECHO_VALUE, rng)
    return [
        _user(rng.choice(lessons_recall.ECHO), value, rng),
        Turn("assistant", value, "echo", value),
    ]


_EXCHANGES = {
    "known": _known,
    "follow": _follow,
    "unknown": _unknown,
    "tell": _tell,
    "ask": _ask,
    "echo": _echo,
}


def _slot(rng: random.Random) -> Slot:
    return rng.choices(SLOTS, (4, 1, 1, 2))[0]


def _value(pattern: str, rng: random.Random, words: Mapping[str, str] = VALUES) -> str:
    """A value to copy: sometimes all lower case, and then it is copied that way."""
    value = expand(pattern, rng, words)
    return value.lower() if rng.random() < 0.3 else value


def _user(pattern: str, value: str, rng: random.Random) -> Turn:
    """The pattern becomes untidy, the value stays as it is: it is what has to be copied."""
    before, after = expand(pattern, rng).split(_VALUE)
    if before.strip() and rng.random() < 0.7:
        before = (
            untidy(before.strip(" :'"), rng).rstrip("?!. ") + before[len(before.rstrip(" :'")) :]
        )
    return Turn(
        "user", f"{before}{value}{after}{rng.choice(('', '', '.', '!')) if not after else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Print some of the text that the model learns.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    console = Console()
    for _ in range(options.count):
        for turn in conversation(rng):
            console.print(f"[bold]{turn.role}[/]: ", end="")
            console.print(turn.content, markup=False, highlight=False)
        console.print()


if __name__ == "__main__":
    main()

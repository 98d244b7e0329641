"""What conversations about Anzoth, and about what was said before, does the bundled model have?

One to some forty exchanges, each of some kind: a question about a topic, one that follows from the
last topic, one that lies outside of what the model knows, something to remember, something to be
asked back. What people say is made untidy on purpose; what the model answers is always clean.

Does not know: tokens, passages, tools.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anzoth.demo import lessons_recall
from anzoth.demo.conversation import Conversation, Turn
from anzoth.demo.draw import Draw
from anzoth.demo.lessons_api import CALLING
from anzoth.demo.lessons_errors import ERRORS
from anzoth.demo.lessons_keys import KEYS
from anzoth.demo.lessons_models import MODELS
from anzoth.demo.lessons_recall import SLOTS, VALUES, Slot
from anzoth.demo.lessons_self import ITSELF, MANNERS
from anzoth.demo.lessons_serving import ANZOTH, OPERATING
from anzoth.demo.lessons_tasks import TASKS
from anzoth.demo.lessons_unknown import UNKNOWN, WORLD
from anzoth.demo.topic import CARRIERS, WORDS, Topic, expand, table
from anzoth.demo.untidy import untidy

TOPICS = table(CALLING, KEYS, ERRORS, ANZOTH, MODELS, OPERATING, TASKS, ITSELF, MANNERS, UNKNOWN)
_KNOWN = tuple(topic for topic in TOPICS.values() if topic not in UNKNOWN and topic.opens)
WORDING = {**WORDS, **WORLD}
_VALUE = "<value>"


@dataclass(slots=True, frozen=True)
class Mix:
    """How often each kind of exchange is drawn (weights, not probabilities)."""

    known: float = 50
    follow: float = 22
    unknown: float = 20
    tell: float = 9
    ask: float = 9
    echo: float = 4


STANDARD = Mix()
# Copying is taught first and nearly alone: among everything else it is slow to emerge.
COPYING = Mix(known=6, follow=0, unknown=4, tell=20, ask=20, echo=50)


@dataclass(slots=True)
class _State:
    """What has been said so far, as far as it matters for what may come next."""

    told: dict[str, str] = field(default_factory=dict)
    topic: Topic | None = None


def chat(draw: Draw, mix: Mix = STANDARD) -> Conversation:
    """Sometimes a system message, then one to some forty exchanges."""
    turns: list[Turn] = []
    if draw.chance(0.2):
        system = expand(draw.rng.choice(lessons_recall.SYSTEM), draw.rng, VALUES)
        turns.append(Turn("system", system))
    state = _State()
    for _ in range(_num_exchanges(draw)):
        turns += _EXCHANGES[_kind(draw, state, mix)](draw, state)
    return Conversation(tuple(turns))


def copying(draw: Draw) -> Conversation:
    """The lessons in copying, nearly alone."""
    return chat(draw, COPYING)


def _num_exchanges(draw: Draw) -> int:
    """Mostly short; a few long enough to fill the context, so that far positions are trained."""
    share = draw.rng.random()
    if share < 0.003:
        return draw.rng.randint(16, 34)
    if share < 0.02:
        return draw.rng.randint(6, 14)
    return draw.rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4))


def _kind(draw: Draw, state: _State, mix: Mix) -> str:
    weights = {
        "known": mix.known,
        "follow": mix.follow if state.topic and state.topic.follows else 0.0,
        "unknown": mix.unknown,
        "tell": mix.tell,
        # Asking back is likelier once there is something to ask for.
        "ask": mix.ask * 3 if state.told else mix.ask / 3,
        "echo": mix.echo,
    }
    return draw.rng.choices(list(weights), list(weights.values()))[0]


def _say(topic: Topic, asked: str, draw: Draw, state: _State) -> list[Turn]:
    state.topic = topic
    answer = Turn("assistant", draw.rng.choice(topic.answers), topic.name, topic.key)
    return [Turn("user", untidy(asked, draw.rng)), answer]


def question(topic: Topic, draw: Draw) -> str:
    """One way to ask for `topic`."""
    pattern = draw.rng.choice(topic.asks)
    if topic.about and draw.rng.random() < 0.3:
        pattern = draw.rng.choice(CARRIERS).replace("{about}", topic.about)
    return expand(pattern, draw.rng, WORDING)


def _known(draw: Draw, state: _State) -> list[Turn]:
    topic = draw.rng.choice(_KNOWN)
    return _say(topic, question(topic, draw), draw, state)


def _unknown(draw: Draw, state: _State) -> list[Turn]:
    topic = draw.rng.choices(UNKNOWN, (6, 2, 2, 1))[0]
    return _say(topic, question(topic, draw), draw, state)


def _follow(draw: Draw, state: _State) -> list[Turn]:
    assert state.topic is not None, "only drawn when there is a topic to follow"
    asked, target = draw.rng.choice(state.topic.follows)
    return _say(TOPICS[target], expand(asked, draw.rng, WORDING), draw, state)


def _tell(draw: Draw, state: _State) -> list[Turn]:
    slot = _slot(draw)
    value = _value(slot.value, draw)
    state.told[slot.name], state.topic = value, None
    answer = draw.rng.choice(slot.acknowledgements).replace(_VALUE, value)
    return [
        _user(draw.rng.choice(slot.tells), value, draw),
        Turn("assistant", answer, f"tell-{slot.name}", value),
    ]


def _ask(draw: Draw, state: _State) -> list[Turn]:
    told = [slot for slot in SLOTS if slot.name in state.told]
    slot = draw.rng.choice(told) if told and draw.rng.random() < 0.85 else _slot(draw)
    state.topic = None
    value = state.told.get(slot.name)
    answer = slot.unknown if value is None else draw.rng.choice(slot.recalls).replace(_VALUE, value)
    asked = Turn("user", untidy(expand(draw.rng.choice(slot.asks), draw.rng), draw.rng))
    return [asked, Turn("assistant", answer, f"ask-{slot.name}", value or answer)]


def _echo(draw: Draw, state: _State) -> list[Turn]:
    state.topic = None
    value = _value(lessons_recall.ECHO_VALUE, draw)
    return [
        _user(draw.rng.choice(lessons_recall.ECHO), value, draw),
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


def _slot(draw: Draw) -> Slot:
    return draw.rng.choices(SLOTS, (4, 1, 1, 2))[0]


def _value(pattern: str, draw: Draw) -> str:
    """A value to copy: sometimes all lower case, and then it is copied that way."""
    value = draw.value(lambda rng: expand(pattern, rng, VALUES))
    return value.lower() if draw.chance(0.3) else value


def _user(pattern: str, value: str, draw: Draw) -> Turn:
    """The pattern becomes untidy, the value stays as it is: it is what has to be copied."""
    before, after = expand(pattern, draw.rng).split(_VALUE)
    if before.strip() and draw.rng.random() < 0.7:
        before = (
            untidy(before.strip(" :'"), draw.rng).rstrip("?!. ")
            + before[len(before.rstrip(" :'")) :]
        )
    return Turn(
        "user", f"{before}{value}{after}{draw.rng.choice(('', '', '.', '!')) if not after else ''}"
    )

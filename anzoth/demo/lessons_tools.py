"""How does the bundled model learn to call the tools that it is given?

Half of the tools have a meaning (the weather, an email), half are put together from words. Every
value in a call stands in the question as it is: choosing the tool and copying the values is the
whole skill. Where no tool fits the model says so, and what it knows itself it just answers.

Does not know: how conversations are mixed, or tokens.
"""

# ruff: noqa: E501  (one pattern a line reads better than wrapped strings)

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from anzoth.demo import tool_synthetic
from anzoth.demo.conversation import Conversation, Json, ToolCall, Turn
from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.lessons_api import CALLING
from anzoth.demo.lessons_errors import ERRORS
from anzoth.demo.lessons_keys import KEYS
from anzoth.demo.lessons_models import MODELS
from anzoth.demo.lessons_self import ITSELF, MANNERS
from anzoth.demo.lessons_serving import ANZOTH, OPERATING
from anzoth.demo.lessons_unknown import UNKNOWN, WORLD
from anzoth.demo.tool_catalogue import EVERYDAY
from anzoth.demo.tool_catalogue_work import WORK
from anzoth.demo.tool_family import Family, Offer
from anzoth.demo.tool_family import offer as offer_of
from anzoth.demo.tool_results import draw_result
from anzoth.demo.tool_values import CASELESS, Value
from anzoth.demo.topic import CARRIERS, WORDS, Topic, expand
from anzoth.demo.wording import capitalized

NO_TOOL = "None of my tools can do that."
NO_TOOL_KEY = "none of my tools"
FAMILIES = EVERYDAY + WORK

# Tools for the first lessons: at most two parameters that must be given, all of them copied strings.
_PLAIN = tuple(
    family
    for family in FAMILIES
    if 1 <= sum(not parameter.tail for parameter in family.parameters) <= 2
    and all(
        parameter.tail or (parameter.type == "string" and not parameter.choices)
        for parameter in family.parameters
    )
)
# Topics whose questions a tool could answer are left out.
_TOPICS = tuple(
    topic
    for topic in (*CALLING, *KEYS, *ERRORS, *ANZOTH, *MODELS, *OPERATING, *ITSELF, *MANNERS)
    if topic.opens and topic.name not in ("offline", "limits", "languages", "test", "unclear")
)
_SMALL_TALK = tuple(topic for topic in (*ITSELF, *MANNERS) if topic in _TOPICS)
_WORLD_WORDS = {**WORDS, **WORLD}
_FACTS = next(topic for topic in UNKNOWN if topic.name == "unknown-fact")
# Words that some tool of the catalogue might claim.
_CLAIMED = re.compile(
    r"weather|temperature|time|stock|price|news|movie|film|song|book|hotel|restaurant|currency"
    r"|rain|hot|cold|far|mean|recipe|phone|buy|game|send|bring|call|show|find|door|light|cook|make|tell|teach|explain|give|list",
    re.IGNORECASE,
)
_SYSTEM = Phrasings(
    train=(
        "You are a [helpful|friendly|concise|polite|useful] assistant.",
        "You are a helpful assistant. Use the tools [when they help|to answer].",
        "[Answer|Reply] [briefly|politely|in one sentence].",
        "You [help|work for] [the customers of|] {name}.",
        "Today is {date}.",
        "[Use|Call] a tool when one fits.",
    ),
    held_out=("You are {name}, an assistant with tools.", "Be brief. It is {date}."),
)
_POLITE = "[please|can you|could you|can you please|I want to|I need to|I'd like to|we need to|pls|go ahead and|||||||]"
_WORDS_OF_ASKING = {
    "pls": _POLITE,
    "q": "[what is|what's|whats|tell me|show me|give me|get me|I need|get|can you get|please get|do you know]",
    "show": "[show me|list|give me|I want to see|let me see|can I see|please show|show|find|get|display]",
}
_OPENERS = ("hi", "hello", "hey", "hi there", "ok", "so", "well", "now", "sorry", "thanks", "hmm")
_CLOSERS = ("please", "thanks", "thank you", "pls", "thx")
_SLOT = re.compile(r"<(\w+)>")
_NOISE = 0.4
"""How much of the untidiness remains at level 0."""
_ASKED_EACH = 3
"""Questions for each of the tools that share a context."""
_MOST_REQUESTS = 10
_REFUSAL = Turn("assistant", NO_TOOL, "no-tool", NO_TOOL_KEY)
_FOLLOW_UP = 0.4
"""Of the calls of tools that can be followed up, at high levels."""


class _Marks(dict[str, str]):
    """The words of patterns. What is not among them is a slot, and becomes `<slot>`."""

    def __missing__(self, slot: str) -> str:
        return f"<{slot}>"


_MARKS = _Marks(_WORDS_OF_ASKING)


def call(draw: Draw) -> Conversation:
    """Ends with the call of the one tool that answers the question."""
    offered, target = _offers(draw)
    if target.follows and draw.level > 0.6 and draw.chance(_FOLLOW_UP):
        return _followed(draw, offered, target)
    asked, calling, _ = _exchange(draw, target, target.ask(draw))
    return Conversation((*_system(draw), asked, calling), _schemas(offered))


def requests(draw: Draw) -> tuple[Conversation, ...]:
    """Each asks something else of the same tools; some ask for what none of them can do."""
    offered, target = _offers(draw)
    asked = [target, *(one for one in offered if one is not target and _is_clear(one, offered))]
    exchanges = [
        _exchange(draw, one, one.ask(draw))[:2] for one in asked for _ in range(_ASKED_EACH)
    ]
    if not any(one.is_general for one in offered):
        exchanges += [_small_talk(draw), *_unfitting(draw, offered)]
    # Two may have come out alike, where a tool takes few values.
    exchanges = [one for at, one in enumerate(exchanges) if one not in exchanges[:at]]
    draw.rng.shuffle(exchanges)
    system, schemas = _system(draw), _schemas(offered)
    return tuple(
        Conversation((*system, *exchange), schemas) for exchange in exchanges[:_MOST_REQUESTS]
    )


def no_tool(draw: Draw) -> Conversation:
    """Ends with an answer in words, as none of the tools fits."""
    if draw.chance(0.5):
        exchange = _small_talk(draw)
        offered, _ = _offers(draw)
        offered = [one for one in offered if not one.is_general] or [_specific(draw)]
    else:
        asked, offered = _unanswerable(draw)
        exchange = (Turn("user", asked), _REFUSAL)
    return Conversation((*_system(draw), *exchange), _schemas(offered))


def result(draw: Draw) -> Conversation:
    """Ends with a sentence that says what the tool has returned."""
    offered, target = _offers(draw)
    asked, calling, arguments = _exchange(draw, target, target.ask(draw))
    return Conversation(
        (*_system(draw), asked, calling, *_returned(draw, arguments)), _schemas(offered)
    )


def _followed(draw: Draw, offered: Sequence[Offer], target: Offer) -> Conversation:
    """Asks once more with another value, and everything else as it was."""
    asked, calling, arguments = _exchange(draw, target, target.ask(draw))
    again, calling_again, _ = _exchange(draw, target, draw.rng.choice(target.follows))
    changed = {**arguments, **calling_again.calls[0].arguments}
    last = Turn("assistant", "", "tool-call", calls=(ToolCall(target.name, changed),))
    return Conversation(
        (*_system(draw), asked, calling, *_returned(draw, arguments), again, last),
        _schemas(offered),
    )


def _exchange(draw: Draw, target: Offer, pattern: str) -> tuple[Turn, Turn, Json]:
    """The question, the call that answers it, and the arguments of the call."""
    text, arguments = _question(target, pattern, draw)
    calling = Turn("assistant", "", "tool-call", calls=(ToolCall(target.name, arguments),))
    return Turn("user", text), calling, arguments


def _small_talk(draw: Draw) -> tuple[Turn, Turn]:
    """What the model knows itself, and needs no tool for."""
    topic = draw.rng.choice(_SMALL_TALK if draw.chance(0.5) else _TOPICS)
    asked = _untidy([_topic_question(topic, draw)], draw)
    answer = Turn("assistant", draw.rng.choice(topic.answers), "no-tool", topic.key)
    return Turn("user", asked), answer


def _returned(draw: Draw, arguments: Json) -> tuple[Turn, Turn]:
    """What the tool says, and what the assistant says about that."""
    content, said = draw_result(draw, arguments)
    return Turn("tool", content), Turn("assistant", said, "tool-result", said.rstrip("."))


def _system(draw: Draw) -> tuple[Turn, ...]:
    if not draw.chance(0.15):
        return ()
    words = {"name": draw.name(), "date": draw.iso_date()}
    return (Turn("system", expand(draw.phrasing(_SYSTEM), draw.rng, words)),)


def _schemas(offered: Sequence[Offer]) -> tuple[Json, ...]:
    return tuple(one.schema for one in offered)


# --- tools ----------------------------------------------------------------------------------------


def _max_tools(level: float) -> int:
    return 1 if level < 0.3 else 2 if level < 0.6 else 3 if level < 0.85 else 4


def _offer(draw: Draw) -> Offer:
    """Any tool; in the first lessons a plain one."""
    if draw.chance(0.5):
        return tool_synthetic.offer(draw)
    families: Sequence[Family] = FAMILIES if draw.level >= 0.3 else _PLAIN
    return offer_of(draw.rng.choice(families), draw)


def _specific(draw: Draw) -> Offer:
    """A tool that cannot answer just any question."""
    while (one := _offer(draw)).is_general:
        pass
    return one


def _offers(draw: Draw) -> tuple[list[Offer], Offer]:
    """Some tools in any order, and one of them: the others could not answer its questions."""
    target = _offer(draw)
    others = _others(draw, target, draw.rng.randrange(_max_tools(draw.level)))
    offered = [target, *others]
    draw.rng.shuffle(offered)
    return offered, target


def _others(draw: Draw, target: Offer, count: int) -> list[Offer]:
    """Tools that cannot answer the questions of `target`; some are near it."""
    others: list[Offer] = []
    names = {target.name}
    while len(others) < count:
        near = target.near if draw.level > 0.6 and draw.chance(0.5) else None
        other = near(draw) if near else _offer(draw)
        if other.groups & target.groups or other.name in names:
            continue
        if other.is_general and target.near:
            continue
        names.add(other.name)
        others.append(other)
    return others


def _is_clear(one: Offer, offered: Sequence[Offer]) -> bool:
    """Could no other of these tools answer the questions of this one?"""
    return not any(
        other.groups & one.groups or (other.is_general and one.near is not None)
        for other in offered
        if other is not one
    )


def _unfitting(draw: Draw, offered: Sequence[Offer]) -> list[tuple[Turn, Turn]]:
    """Questions for a tool that is not among these; none where such a tool is hard to find."""
    near = offered[0].near
    for _ in range(5):
        absent = near(draw) if near and draw.chance(0.5) else _specific(draw)
        if absent.name not in {one.name for one in offered} and _is_clear(absent, offered):
            questions = {_question(absent, absent.ask(draw), draw)[0] for _ in range(2)}
            return [(Turn("user", text), _REFUSAL) for text in sorted(questions)]
    return []


def _unanswerable(draw: Draw) -> tuple[str, list[Offer]]:
    """A question, and tools of which none answers it."""
    count = draw.rng.randint(1, _max_tools(draw.level))
    if draw.chance(0.3):
        while _CLAIMED.search(text := expand(draw.rng.choice(_FACTS.asks), draw.rng, _WORLD_WORDS)):
            pass
        offered = [_specific(draw)]
        offered += [one for one in _others(draw, offered[0], count - 1) if not one.is_general]
        return _untidy([text], draw), offered
    absent = _specific(draw)
    text, _ = _question(absent, absent.ask(draw), draw)
    offered = [one for one in _others(draw, absent, count) if not one.is_general]
    return text, offered or _other_specific(draw, absent)


def _other_specific(draw: Draw, absent: Offer) -> list[Offer]:
    while (others := _others(draw, absent, 1))[0].is_general:
        pass
    return others


# --- questions ------------------------------------------------------------------------------------


def _topic_question(topic: Topic, draw: Draw) -> str:
    """What somebody asks who needs no tool."""
    pattern = draw.rng.choice(topic.asks)
    if topic.about and draw.chance(0.3):
        pattern = draw.rng.choice(CARRIERS).replace("{about}", topic.about)
    return expand(pattern, draw.rng, _WORLD_WORDS)


def _question(offer: Offer, pattern: str, draw: Draw) -> tuple[str, Json]:
    """What the user says, and the arguments that it gives, in the order of the schema."""
    parts = _SLOT.split(expand(pattern, draw.rng, _MARKS).replace(" ,", ","))
    values: dict[str, Value] = {}
    is_lower = draw.chance(0.35)
    for at in range(1, len(parts), 2):
        slot = parts[at]
        parameter = offer.parameters[slot]
        value, words = parameter.value(draw)
        while words in parts:
            value, words = parameter.value(draw)
        if is_lower and parameter.kind in CASELESS and isinstance(value, str):
            value = words = words.lower()
        values[slot], parts[at] = value, words
    arguments = {name: values[slot] for slot, name in offer.names.items() if slot in values}
    return _untidy(parts, draw, is_lower), arguments


def _untidy(parts: list[str], draw: Draw, is_lower: bool = False) -> str:
    """As people type it. Every second part, from the second on, is a value and stays as it is.

    `anzoth.demo.untidy` does this for texts in which nothing has to stay.
    """
    noise = _NOISE + (1 - _NOISE) * draw.level
    rng = draw.rng
    parts = [*parts]
    if rng.random() < 0.12 * noise:
        parts[0] = f"{rng.choice(_OPENERS)}{rng.choice((', ', ' ', '! '))}{parts[0]}"
    if rng.random() < 0.12 * noise:
        at = rng.randrange(0, len(parts), 2)
        parts[at] = _mistyped(parts[at], draw)
    if is_lower or rng.random() < 0.15:
        parts[::2] = [part.lower() for part in parts[::2]]
    elif rng.random() < 0.7:
        parts[0] = capitalized(parts[0])
    if rng.random() < 0.08 * noise:
        parts[-1] = f"{parts[-1]} {rng.choice(_CLOSERS)}"
    text = "".join(parts).strip()
    return text + rng.choice(("", "", "", "?", "?", ".", "!")) if text[-1:].isalnum() else text


def _mistyped(text: str, draw: Draw) -> str:
    """Two letters swapped, or one dropped or doubled, in a word of at least four."""
    letters = [
        at
        for at in range(1, len(text) - 2)
        if all(letter in string.ascii_letters for letter in text[at - 1 : at + 3])
    ]
    if not letters:
        return text
    at = draw.rng.choice(letters)
    here, there = text[at], text[at + 1]
    return text[:at] + draw.rng.choice((there + here, there, here + here + there)) + text[at + 2 :]

"""What do tools answer, and how is that said in a sentence?

The sentence is a function of the result alone, one rule for each shape of JSON: something that a
small model can learn for any tool. Results are drawn without regard to the tool, for that reason.

Does not know: which tool was called.
"""

# ruff: noqa: SIM905  (lists of words are read, and changed, more easily without quotes)

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from anzoth.demo.conversation import Json
from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.tool_values import KINDS, Value
from anzoth.demo.topic import expand
from anzoth.demo.wording import capitalized, enumerated

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_END_OF_SENTENCE = (".", "!", "?")

# Names of fields, and the kind of their values: one of KINDS or _STATES, or "boolean".
_FIELDS = (
    ("temperature humidity wind_speed stock level available rating score points".split(), "small"),
    ("price total amount balance fee cost tax discount weight distance rate".split(), "decimal"),
    ("count quantity size total_count pages duration visits votes results".split(), "integer"),
    ("id order_id reference booking_number ticket_id confirmation code invoiceId".split(), "code"),
    ("name customer owner assignee author contact manager driver createdBy".split(), "person"),
    ("city location destination origin warehouse branch place".split(), "city"),
    ("date due_date delivery_date created_at arrival deadline startDate".split(), "date"),
    ("time start_time departure local_time opens_at".split(), "time"),
    ("email contact_email".split(), "email"),
    ("color".split(), "color"),
    ("title subject summary event".split(), "title"),
    ("item product category type material model label department".split(), "word"),
    ("message text note answer".split(), "text"),
    ("url website link".split(), "site"),
    ("language".split(), "language"),
    ("currency".split(), "currency"),
    ("status state".split(), "status"),
    ("condition weather forecast".split(), "condition"),
    ("ok success available paid urgent active confirmed inStock sent".split(), "boolean"),
)
_LISTED = ("code", "person", "city", "word", "title")
"""The kinds that lists are made of, or that tell the objects in a list apart."""
_STATES = {
    "status": (
        "ok open closed pending shipped delivered cancelled active done failed paid sent booked "
        "approved rejected running stopped on off created updated queued".split()
    ),
    "condition": "sunny cloudy rainy windy snowy foggy clear stormy overcast".split(),
}
"""Values of kinds that only results have. They are not split: a tool says them, not a user."""

_TEXTS = Phrasings(
    train=(
        *("{word} is {status}", "{small} degrees and {condition}", "{city}: {small} degrees"),
        *("Done", "OK", "Message sent to {person}", "The {word} costs {decimal} {currency}"),
        *("Sent.", "{person} lives in {city}", "No {word} left", "{integer} {word}s", "{word}"),
        *("{name}", "{city}", "{date}", "{time}", "It is {time} in {city}", "Code {code}"),
        *("{phrase}",),
        *("Booked: {code}", "Order {code} is {status}", "{condition}, {small}°C", "{title}"),
        *("{person} will call at {time}.", "{color}", "{date} at {time}", "{amount}"),
    ),
    held_out=(
        *("The {word} of {person} is {status}", "{integer} {currency}", "Created {code}"),
        *("{small}% {condition} in {city}", "Next on {date}", "{name} says hello"),
    ),
)
_ERRORS = Phrasings(
    train=(
        *("not found", "{word} not found", "unknown city {city}", "timeout", "no such {word}"),
        *("{code} does not exist", "permission denied", "service unavailable", "invalid date"),
        *("{person} has no {word}", "quota exceeded", "The {word} is locked.", "HTTP {integer}"),
        *("missing {word}", "already {status}"),
    ),
    held_out=("cannot reach {name}", "{word} {code} is broken", "rate limit reached"),
)
_ERROR_KEYS = ("error", "error_message")


def sentence(result: Any) -> str:  # Any: JSON
    """What the assistant says when a tool has returned `result`. Deterministic."""
    if isinstance(result, dict):
        return _of_object(result)
    if isinstance(result, list):
        return _of_list(result)
    if isinstance(result, bool):
        return f"The answer is {_spoken(result)}."
    if isinstance(result, (int, float)):
        return f"The result is {_spoken(result)}."
    return _ended(f"The tool says: {_spoken(result)}")


def _of_object(result: Json) -> str:
    if not result:
        return "The tool says nothing."
    for key, value in result.items():
        if key in _ERROR_KEYS and value:
            return _ended(f"That did not work: {_spoken(value)}")
    parts = [f"the {_words(key)} is {_spoken(value)}" for key, value in result.items()]
    return _ended(capitalized(enumerated(parts)))


def _of_list(result: Sequence[Any]) -> str:  # Any: JSON
    """Of objects, the first value stands for the whole."""
    if not result:
        return "I found nothing."
    items = [
        _spoken(next(iter(item.values()), None) if isinstance(item, dict) else item)
        for item in result
    ]
    return _ended(f"I found {len(items)}: {enumerated(items)}")


def _words(key: str) -> str:
    """`deliveryDate`, `delivery_date` -> `delivery date`. Capitals stay where they join nothing."""
    words = _CAMEL.sub(" ", key)
    return (words if words == key else words.lower()).replace("_", " ")


def _spoken(value: Any) -> str:  # Any: JSON
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ended(text: str) -> str:
    return text if text.endswith(_END_OF_SENTENCE) else f"{text}."


def draw_result(draw: Draw, arguments: Json) -> tuple[str, str]:
    """What a tool answers, as the content of its message, and the sentence for it."""
    kind = draw.rng.random()
    if kind < 0.55:
        result: Any = _object(draw, arguments)  # Any: JSON
    elif kind < 0.72:
        text = _text(draw, _TEXTS)
        # A bare text is the usual thing; some wrap it.
        return (json.dumps(text, ensure_ascii=False) if draw.chance(0.2) else text), sentence(text)
    elif kind < 0.8:
        key = _ERROR_KEYS[0] if draw.chance(0.9) else _ERROR_KEYS[1]
        result = {key: _text(draw, _ERRORS)}
    elif kind < 0.88:
        result = KINDS["decimal" if draw.chance(0.5) else "integer"](draw)
    elif kind < 0.9:
        result = draw.chance(0.5)
    else:
        result = _list(draw)
    return _encode(result, draw), sentence(result)


def _encode(result: Any, draw: Draw) -> str:  # Any: JSON
    """As the JSON libraries of different languages write it."""
    style = draw.rng.random()
    if style < 0.6:
        return json.dumps(result, ensure_ascii=False)
    if style < 0.95:
        return json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(result, ensure_ascii=False, indent=2)


def _object(draw: Draw, arguments: Json) -> Json:
    """One to five fields; some tools repeat what they were asked."""
    most = 2 if draw.level < 0.3 else 3 if draw.level < 0.7 else 5
    count = min(draw.rng.randint(1, most), draw.rng.randint(1, most))
    result: Json = {}
    if arguments and draw.chance(0.35):
        key = draw.rng.choice(tuple(arguments))
        result[key] = arguments[key]
    while len(result) < count:
        names, kind = draw.rng.choice(_FIELDS)
        name = draw.rng.choice(names)
        if draw.chance(0.25):
            name = draw.word() if draw.chance(0.6) else f"{draw.word()}_{name}"
        if draw.chance(0.02):
            result[name] = None
        else:
            result[name] = _value(kind, draw)
    return result


def _list(draw: Draw) -> list[Any]:  # Any: JSON
    """Of plain values, or of objects with one or two fields."""
    count = draw.rng.choice((0, 1, 2, 2, 3, 3, 4))
    names, kind = draw.rng.choice([field for field in _FIELDS if field[1] in _LISTED])
    if draw.chance(0.6):
        return [_value(kind, draw) for _ in range(count)]
    first = draw.rng.choice(names)
    second_names, second = draw.rng.choice(_FIELDS)
    other = draw.rng.choice(second_names)
    if other == first or draw.chance(0.4):
        return [{first: _value(kind, draw)} for _ in range(count)]
    return [{first: _value(kind, draw), other: _value(second, draw)} for _ in range(count)]


def _value(kind: str, draw: Draw) -> Value:
    if kind == "boolean":
        return draw.chance(0.5)
    if kind in _STATES:
        return draw.rng.choice(_STATES[kind])
    value = KINDS[kind](draw)
    return -value if kind == "small" and draw.chance(0.05) and isinstance(value, int) else value


class _Texts(dict[str, str]):
    """Values for the words of a pattern, drawn when they are looked up."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw

    def __missing__(self, word: str) -> str:
        return self.draw.amount() if word == "amount" else str(_value(word, self.draw))


def _text(draw: Draw, texts: Phrasings) -> str:
    return expand(draw.phrasing(texts), draw.rng, _Texts(draw))

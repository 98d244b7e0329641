"""Which kinds of values do texts give, and what is a property that has one?

Every kind of value is a function of a `Draw`, so that the split of values holds for all of them,
and makes the words that stand in the text: the answer copies them, whatever their JSON type.

Does not know: which objects have which properties, or how texts and schemas name them.
"""

# ruff: noqa: SIM905  (lists of words are read best as text)

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anzoth.demo.conversation import Json
from anzoth.demo.draw import MONTHS, WEEKDAYS, Draw, Phrasings, made_up_word
from anzoth.demo.wording import enumerated


@dataclass(slots=True, frozen=True)
class Field:
    """A property that a schema may ask for."""

    kind: str
    """Of STRINGS, NUMBERS or LISTS; or "flag" or "choice", whose values are those of `says`."""
    names: tuple[str, ...]
    """What people call it; the first one is how the texts refer to it."""
    says: Mapping[Any, Phrasings] = field(default_factory=dict[Any, Phrasings])  # any JSON scalar
    """How a text says each value. Empty for values that are copied."""


@dataclass(slots=True, frozen=True)
class Property:
    """A field under the name that one schema has for it, with its value in the answer."""

    name: str
    kind: str
    """As in `Field`; or "null", or "object"."""
    schema: Json
    value: Any  # any JSON
    text: str
    """How the user's text says the value."""
    inner: tuple[Property, ...] = ()
    """The properties of an object."""


def verbatim(*options: str) -> Mapping[str, Phrasings]:
    """The values of an enum that stand in the text as they are."""
    return {option: Phrasings((option,), (option,)) for option in options}


_EVENTS = tuple(
    "workshop|meeting|party|concert|lecture|picnic|seminar|webinar|hackathon|conference|exhibition"
    "|training|review|dinner|science fair|team lunch|board meeting|book club|yoga class|art show"
    "|birthday party|job interview|film night|product launch|sprint planning|staff meeting|festival"
    "|farewell drinks|code review|city tour|open day|summer camp|chess club|dance class".split("|")
)
_PRODUCTS = tuple(
    "laptop|phone|chair|desk|lamp|backpack|headphones|keyboard|monitor|mouse|sofa|jacket|shoes|mug"
    "|tablet|printer|camera|watch|bicycle|tent|notebook|blender|toaster|kettle|speaker|charger|bag"
    "|umbrella|shelf|mattress|helmet|scarf|vase|router|microphone|drill|socks|hat|shirt".split("|")
)
_FOODS = tuple(
    "pizza|soup|salad|pasta|rice|bread|cheese|apples|coffee|tea|milk|eggs|butter|flour|sugar|salt"
    "|tomatoes|onions|garlic|chicken|beans|yogurt|honey|olives|bananas|noodles|cake|juice|carrots"
    "|potatoes|lemons|spinach|cream|pepper|rosemary|basil|lentils|tofu|mushrooms|walnuts".split("|")
)
_JOBS = tuple(
    "teacher|engineer|nurse|designer|lawyer|baker|plumber|architect|analyst|manager|pilot|chef"
    "|developer|accountant|dentist|writer|electrician|gardener|translator|photographer|chemist"
    "|data scientist|project manager|product owner|sales manager|carpenter|librarian|driver|painter"
    "|lecturer|mechanic|surgeon|tailor|waiter|florist|jeweller|sculptor|barber|optician"
    "|actor".split("|")
)
_SKILLS = tuple(
    "Python|Java|SQL|Excel|Rust|cooking|painting|French|German|Spanish|Docker|Linux|writing|sales"
    "|marketing|statistics|swimming|chess|Kubernetes|Photoshop|accounting|English|Italian|Go|Ruby"
    "|JavaScript|teaching|welding|hiking|singing|running|tennis|guitar|reading|dancing".split("|")
)
_CURRENCIES = tuple(
    "EUR USD GBP CHF JPY SEK PLN CAD AUD NOK INR CZK DKK HUF MXN BRL ZAR KRW CNY NZD SGD"
    " TRY".split()
)
_COUNTRIES = tuple(
    "France|Spain|Italy|Germany|Japan|Brazil|Canada|Kenya|Norway|Poland|Greece|Egypt|Chile|India"
    "|Austria|Peru|Ireland|Mexico|Sweden|Portugal|Turkey|Finland|Ghana|Vietnam|Iceland".split("|")
)


def _day(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.choice(MONTHS), rng.randint(2019, 2032)
    iso = f"{year}-{MONTHS.index(month) + 1:02}-{day:02}"
    full = (f"{month} {day}, {year}", f"{day} {month} {year}")
    return rng.choice((rng.choice(WEEKDAYS), f"{month} {day}", f"{day} {month}", iso, iso, *full))


def _street(rng: random.Random) -> str:
    kind = rng.choice(("Street", "Road", "Lane", "Avenue", "Way", "Street"))
    return f"{rng.randint(1, 220)} {made_up_word(rng).capitalize()} {kind}"


def _firm(rng: random.Random) -> str:
    return f"{made_up_word(rng).capitalize()} {rng.choice(('Inc', 'Ltd', 'Labs', 'Corp', 'AG'))}"


def _phone(rng: random.Random) -> str:
    a, b, c = rng.randint(100, 999), rng.randint(100, 999), rng.randint(1000, 9999)
    return rng.choice((f"{a}-{b}-{c}", f"+{rng.randint(1, 99)} {a} {c}", f"0{a} {c}"))


def _flight(rng: random.Random) -> str:
    letters = rng.choice(string.ascii_uppercase) + rng.choice(string.ascii_uppercase)
    return f"{letters}{rng.randint(10, 9999)}"


def _price(rng: random.Random) -> str:
    """As JSON writes it: never a last zero after the point."""
    whole = rng.randint(1, rng.choice((20, 200, 2000)))
    cents = f"{rng.randint(0, 9)}{rng.randint(1, 9)}"
    return rng.choice((f"{whole}.{cents}", f"{whole}.{rng.randint(1, 9)}", str(whole)))


def _book(draw: Draw) -> str:
    words = [draw.word().capitalize() for _ in range(draw.rng.choice((1, 2, 2)))]
    return " ".join(["The", *words] if draw.chance(0.5) else words)


def _product(draw: Draw) -> str:
    product = draw.one_of(_PRODUCTS)
    return f"{draw.name()} {product}" if draw.chance(0.4) else product


def _event(draw: Draw) -> str:
    event = draw.one_of(_EVENTS)
    return f"{draw.word()} {event}" if draw.chance(0.4) else event


def _between(low: int, high: int) -> Callable[[Draw], str]:
    return lambda draw: draw.value(lambda rng: str(rng.randint(low, high)))


STRINGS: Mapping[str, Callable[[Draw], str]] = {
    "person": Draw.person,
    "name": Draw.name,
    "word": Draw.word,
    "city": Draw.city,
    "color": Draw.color,
    "email": Draw.email,
    "code": Draw.code,
    "time": Draw.time,
    "phrase": Draw.phrase,
    "iso": Draw.iso_date,
    "digits": lambda draw: str(draw.number()),
    "day": lambda draw: draw.value(_day),
    "street": lambda draw: draw.value(_street),
    "company": lambda draw: draw.name() if draw.chance(0.5) else draw.value(_firm),
    "phone": lambda draw: draw.value(_phone),
    "book": _book,
    "zip": lambda draw: draw.value(lambda rng: f"{rng.randint(0, 99999):05}"),
    "product": _product,
    "event": _event,
    "flight": lambda draw: draw.value(_flight),
    "food": lambda draw: draw.one_of(_FOODS),
    "job": lambda draw: draw.one_of(_JOBS),
    "currency": lambda draw: draw.one_of(_CURRENCIES),
    "country": lambda draw: draw.one_of(_COUNTRIES),
}
# The type in JSON, and the words.
NUMBERS: Mapping[str, tuple[str, Callable[[Draw], str]]] = {
    "integer": ("integer", lambda draw: str(draw.number())),
    "age": ("integer", _between(18, 90)),
    "count": ("integer", _between(2, 40)),
    "year": ("integer", Draw.year),
    "price": ("number", lambda draw: draw.value(_price)),
}
# One item.
LISTS: Mapping[str, Callable[[Draw], str]] = {
    "people": Draw.person,
    "names": Draw.name,
    "words": Draw.word,
    "colors": Draw.color,
    "foods": STRINGS["food"],
    "products": lambda draw: draw.one_of(_PRODUCTS),
    "skills": lambda draw: draw.one_of(_SKILLS),
}


def draw_property(draw: Draw, asked: Field, name: str) -> Property:
    """A property with a value of the kind of `asked`."""
    kind = asked.kind
    if make := STRINGS.get(kind):
        text = make(draw)
        return Property(name, kind, {"type": "string"}, text, text)
    if kind in NUMBERS:
        json_type, make = NUMBERS[kind]
        text = make(draw)
        return Property(name, kind, {"type": json_type}, json.loads(text), text)
    if make := LISTS.get(kind):
        items = list(dict.fromkeys(make(draw) for _ in range(draw.rng.choice((1, 2, 2, 3)))))
        schema: Json = {"type": "array", "items": {"type": "string"}}
        return Property(name, kind, schema, items, enumerated(items))
    value = draw.rng.choice(list(asked.says))
    text = draw.phrasing(asked.says[value])
    if kind == "flag":
        return Property(name, kind, {"type": "boolean"}, value, text)
    schema = {"type": "string", "enum": _options(draw, asked, value)}
    return Property(name, kind, schema, value, text)


def _options(draw: Draw, asked: Field, value: str) -> list[str]:
    """The values of an enum: not always all of them, in any order."""
    others = [option for option in asked.says if option != value]
    if draw.chance(0.3) and others[1:]:
        others.remove(draw.rng.choice(others))
    options = [value, *others]
    draw.rng.shuffle(options)
    return options

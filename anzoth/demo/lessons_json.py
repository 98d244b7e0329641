"""How does the bundled model learn to answer in the JSON that a schema asks for?

The schema is in the system message, a text from the user, and the answer copies its values out of
the text. Half of the schemas are ones that people really bring (a person, an invoice, an event);
the other half has invented property names, so that only reading the schema helps.

Does not know: how a schema is enforced while answering, or other lessons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from anzoth.demo.conversation import Conversation, Turn
from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.json_invented import invented_fields
from anzoth.demo.json_schemas import draw_schema, grouped, in_camel_case, values, with_null
from anzoth.demo.json_texts import statements, with_aside, with_request
from anzoth.demo.json_things import THINGS, Thing
from anzoth.demo.json_values import LISTS, STRINGS, Field, Property, draw_property
from anzoth.demo.topic import expand
from anzoth.text.answer_format import with_schema

T = TypeVar("T")

_PLACE = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])(?= [aeiouAEIOU])")

# What people try first comes up twice as often.
_POOL = (
    *THINGS,
    *(one for one in THINGS if one.name in ("person", "event", "invoice", "review", "ticket")),
)
_SYSTEMS = Phrasings(
    (
        "Extract the {thing} information.",
        "You are a helpful assistant.",
        "Extract the [data|information|fields] from the text.",
        "You [extract|parse] [structured data|information|facts] from [texts|messages|documents].",
        "You are an expert at [structured data extraction|reading texts]. [Extract the {thing}.|]",
    ),
    (
        "Parse the {thing} from the message.",
        "You are a data extraction assistant. Extract the {thing}.",
    ),
)


def extract(draw: Draw) -> Conversation:
    """System message with a schema, a text, and the JSON that holds what the text says."""
    hard = draw.level
    if draw.chance(0.5):
        thing = draw.rng.choice(_POOL)
        # Told in the plain way ("the name is ..."), a kind of thing is as easy as an invented one.
        tell = _described if draw.chance(0.8 * hard) else _stated
        title, group = thing.name, thing.group
        text, properties = tell(draw, thing)
    else:
        title, group = draw.word(), ()
        text, properties = _stated(draw, None)
    if draw.chance(0.08 * hard):
        text, properties = text.lower(), [_lowered(one) for one in properties]
    properties = grouped(draw, properties, group)
    if draw.chance(0.15 * hard):
        properties = [in_camel_case(one) for one in properties]
    schema = draw_schema(draw, title, properties)
    answer = json.dumps(values(properties), ensure_ascii=False)
    messages = [{"role": "user", "content": with_request(draw, title, text, properties)}]
    if draw.chance(0.05 + 0.35 * hard):
        system = expand(draw.phrasing(_SYSTEMS), draw.rng, {"thing": title})
        messages.insert(0, {"role": "system", "content": system})
    turns = (Turn(one["role"], one["content"]) for one in with_schema(messages, schema))
    return Conversation((*turns, Turn("assistant", answer, "json", answer)))


def _described(draw: Draw, thing: Thing) -> tuple[str, list[Property]]:
    """One of the thing's own texts; the schema asks for some of what it says."""
    pattern = draw.phrasing(thing.texts)
    said = set(_PLACE.findall(pattern))
    fields = [one for one in thing.fields if one.names[0] in said]
    drawn = {one.names[0]: draw_property(draw, one, one.names[0]) for one in fields}
    text = expand(pattern, draw.rng, {name: one.text for name, one in drawn.items()})
    text = _ARTICLE.sub(r"\1n", text)
    if draw.chance(0.3 * draw.level):
        text = with_aside(draw, text, {one.kind for one in thing.fields})
    num = min(len(fields), _num_properties(draw) + draw.chance(0.6))
    chosen = _some(draw, fields, num)
    names = _names(draw, chosen)
    properties = [
        replace(drawn[one.names[0]], name=name) for one, name in zip(chosen, names, strict=True)
    ]
    unsaid = [one.names[0] for one in thing.fields if one.kind in STRINGS and one not in fields]
    return text, with_null(draw, properties, unsaid)


def _stated(draw: Draw, thing: Thing | None) -> tuple[str, list[Property]]:
    """Each property is named beside its value; sometimes more are told than asked for."""
    num = _num_properties(draw)
    num_extra = draw.rng.choice((1, 1, 2)) if draw.chance(0.4 * draw.level) else 0
    if thing is None:
        *fields, absent = invented_fields(draw, num + num_extra + 1)
        unsaid = [absent.names[0]]
    else:
        fields = [one for one in thing.fields if _is_plain(one, draw.level)]
        fields = _some(draw, fields, min(len(fields), num + num_extra))
        unsaid = []
    names = _names(draw, fields)
    told = [draw_property(draw, one, name) for one, name in zip(fields, names, strict=True)]
    properties = _some(draw, told, min(len(told), num))
    if draw.chance(0.6):
        draw.rng.shuffle(told)
    return statements(draw, told), with_null(draw, properties, unsaid)


def _num_properties(draw: Draw) -> int:
    """Mostly few, more as the level rises."""
    low, high = 1, 2 + round(3 * draw.level)
    return min(draw.rng.randint(low, high), draw.rng.randint(low, high) + 1)


def _some(draw: Draw, among: Sequence[T], num: int) -> list[T]:
    """`num` of them, mostly in the order in which they were."""
    places = draw.rng.sample(range(len(among)), num)
    if draw.chance(0.65):
        places.sort()
    return [among[place] for place in places]


def _is_plain(one: Field, level: float) -> bool:
    """Can its value be copied from beside its name? In the first lessons only strings are."""
    if level < 0.1:
        return one.kind in STRINGS
    return one.kind == "flag" or all(said.train == (value,) for value, said in one.says.items())


def _names(draw: Draw, fields: Sequence[Field]) -> list[str]:
    """What this schema calls its properties."""
    plain = [one.names[0] for one in fields]
    if draw.chance(0.7 - 0.3 * draw.level):
        return plain
    names = [draw.rng.choice(one.names) for one in fields]
    return names if len(set(names)) == len(names) else plain


def _lowered(one: Property) -> Property:
    """For a text that is all lower case: copied that way. Words of the schema stay."""
    value = one.value
    if one.kind in STRINGS:
        value = value.lower()
    elif one.kind in LISTS:
        value = [item.lower() for item in value]
    return replace(one, value=value)

"""In which forms do people ask for the same properties by a JSON schema?

Properties may be nullable, grouped in an object, in camel case; and the schema is written loosely
by hand, as strict mode demands it, or as pydantic makes it. The value of the answer follows.

Does not know: the text that the properties' values stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from anzoth.demo.conversation import Json
from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.json_values import NUMBERS, STRINGS, Property
from anzoth.demo.wording import camel_case, capitalized

_DESCRIPTIONS = Phrasings(
    (
        "The {name}",
        "{name} of the {thing}",
        "The {name} of the {thing}",
        "What the text says about the {name}",
        "{name}, as in the text",
        "the {name} that is mentioned",
    ),
    ("{name} from the text", "The {thing}'s {name}"),
)


def with_null(draw: Draw, properties: list[Property], unsaid: Sequence[str]) -> list[Property]:
    """Rarely: some may be null, and one of the names `unsaid` is null, as the text lacks it."""
    if not draw.chance(0.12 * draw.level):
        return properties
    properties = [
        replace(one, schema={"type": [one.schema["type"], "null"]})
        if (one.kind in STRINGS or one.kind in NUMBERS) and draw.chance(0.5)
        else one
        for one in properties
    ]
    names = [name for name in unsaid if all(name != one.name for one in properties)]
    if names and draw.chance(0.6):
        absent = Property(draw.rng.choice(names), "null", {"type": ["string", "null"]}, None, "")
        properties.insert(draw.rng.randint(0, len(properties)), absent)
    return properties


def grouped(draw: Draw, properties: list[Property], group: Sequence[str]) -> list[Property]:
    """Rarely: two or more, but not all, as an object. `group`: its name and theirs; or empty."""
    if len(properties) < 3 or not draw.chance(0.15 * draw.level):
        return properties
    if group:
        name, inner = group[0], [one for one in properties if one.name in group[1:]]
    else:
        name, inner = draw.rng.choice(("details", "data", "info", draw.word())), properties[-2:]
    if len(inner) < 2 or len(inner) == len(properties):
        return properties
    outer = [one for one in properties if one not in inner]
    if any(one.name == name for one in outer):
        return properties
    outer.insert(properties.index(inner[0]), Property(name, "object", {}, None, "", tuple(inner)))
    return outer


def in_camel_case(one: Property) -> Property:
    inner = tuple(in_camel_case(each) for each in one.inner)
    return replace(one, name=camel_case(one.name), inner=inner)


def values(properties: Sequence[Property]) -> Json:
    """The object that the schema of these properties asks for."""
    return {one.name: values(one.inner) if one.inner else one.value for one in properties}


def draw_schema(draw: Draw, title: str, properties: Sequence[Property]) -> Json:
    """In any of the forms. `title`: what the object is."""
    is_described = draw.chance(0.2 * draw.level)
    about = draw.phrasing(_DESCRIPTIONS).replace("{thing}", title) if is_described else ""
    if draw.chance(0.3 * draw.level):
        return _of_pydantic(draw, title, properties, about)
    is_strict = draw.chance(0.55)
    schema = _by_hand(properties, is_strict, is_strict or draw.chance(0.5), about)
    if draw.chance(0.05 * draw.level):
        schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    return schema


def _by_hand(
    properties: Sequence[Property], is_strict: bool, is_required: bool, about: str
) -> Json:
    entries: Json = {}
    for one in properties:
        if one.inner:
            entries[one.name] = _by_hand(one.inner, is_strict, is_required, about)
        else:
            entries[one.name] = dict(one.schema)
        if about:
            entries[one.name]["description"] = about.replace("{name}", one.name.replace("_", " "))
    schema: Json = {"type": "object", "properties": entries}
    if is_required:
        schema["required"] = list(entries)
    if is_strict:
        schema["additionalProperties"] = False
    return schema


def _of_pydantic(draw: Draw, title: str, properties: Sequence[Property], about: str) -> Json:
    """As `model_json_schema` writes it, or the strict form that client libraries make of that."""
    model = capitalized(title) + draw.rng.choice(("", "", "", "Info", "Data", "Model"))
    definitions: Json = {}
    schema = _model(model, properties, about, definitions)
    if draw.chance(0.6):
        for one in (*definitions.values(), schema):
            one["additionalProperties"] = False
    return {"$defs": definitions, **schema} if definitions else schema


def _model(title: str, properties: Sequence[Property], about: str, definitions: Json) -> Json:
    """One class. Those of objects in it are added to `definitions`."""
    entries: Json = {}
    for one in properties:
        if one.inner:
            model = capitalized(one.name)
            definitions[model] = _model(model, one.inner, about, definitions)
            entries[one.name] = {"$ref": f"#/$defs/{model}"}
            continue
        said = one.name.replace("_", " ")
        entry = {**one.schema, "title": said.title()}
        if isinstance(entry["type"], list):
            entry["anyOf"] = [{"type": json_type} for json_type in entry.pop("type")]
        if about:
            entry["description"] = about.replace("{name}", said)
        entries[one.name] = {key: entry[key] for key in sorted(entry)}
    return {"properties": entries, "required": list(entries), "title": title, "type": "object"}

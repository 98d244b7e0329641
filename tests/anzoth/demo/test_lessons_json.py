"""Lessons in JSON can be answered from their text, and the examination asks for new values."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from anzoth.demo import json_invented, json_schemas, json_texts, lessons_json
from anzoth.demo.conversation import Conversation, Json
from anzoth.demo.draw import Draw, Phrasings, is_held_out
from anzoth.demo.json_things import THINGS, Thing
from anzoth.demo.json_values import LISTS, NUMBERS, STRINGS
from anzoth.demo.lessons_json import extract
from anzoth.text.answer_format import INSTRUCTION

NUM_EXAMPLES = 400
# What a value is put together with, besides drawn words.
GLUE = re.compile(r"(the)?[ ]*", re.IGNORECASE)
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}


@dataclass(slots=True, frozen=True)
class RecordingDraw(Draw):
    """Remembers the values that went through the split."""

    drawn: list[str] = field(default_factory=list[str])

    def value(self, make: Callable[[random.Random], str]) -> str:
        value = Draw.value(self, make)
        self.drawn.append(value)
        return value


def examples(level: float = 1.0, seed: int = 0, num: int = NUM_EXAMPLES) -> list[Conversation]:
    draw = Draw(random.Random(seed), level=level)
    return [extract(draw) for _ in range(num)]


def schema_of(example: Conversation) -> Json:
    system = example.turns[0].content
    return json.loads(system.split(f"{INSTRUCTION} ")[1])


def answer_of(example: Conversation) -> Json:
    return json.loads(example.turns[-1].content)


def resolved(schema: Json, root: Json) -> Json:
    return root["$defs"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema


def mismatches(value: Any, schema: Json, root: Json) -> Iterator[str]:  # any JSON
    """Why `value` is not what `schema` asks for; order of properties counts."""
    schema = resolved(schema, root)
    if options := schema.get("anyOf"):
        if all(any(mismatches(value, option, root)) for option in options):
            yield f"{value!r} is none of {options}"
        return
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, TYPES[name]) for name in names):
        yield f"{value!r} is not {names}"
    if isinstance(value, bool) and "boolean" not in names:
        yield f"{value!r} is not {names}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is not one of {schema['enum']}"
    if isinstance(value, list):
        for item in value:
            yield from mismatches(item, schema["items"], root)
    if isinstance(value, dict):
        if list(value) != list(schema["properties"]):
            yield f"{list(value)} are not {list(schema['properties'])}"
        if "required" in schema and schema["required"] != list(value):
            yield f"{schema['required']} are required"
        for name, inner in schema["properties"].items():
            yield from mismatches(value[name], inner, root)


def leaves(value: Any, schema: Json, root: Json) -> Iterator[tuple[Any, Json]]:  # any JSON
    schema = resolved(schema, root)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, schema["properties"][name], root)
    elif isinstance(value, list):
        for item in value:
            yield item, schema["items"]
    else:
        yield value, schema


def copied(example: Conversation) -> list[str]:
    """The values that the answer takes from the text: not those of an enum, true, false or null."""
    schema = schema_of(example)
    return [
        value if isinstance(value, str) else json.dumps(value)
        for value, asked in leaves(answer_of(example), schema, schema)
        if value is not None and not isinstance(value, bool) and "enum" not in asked
    ]


def without(value: str, parts: list[str]) -> str:
    """What is left of `value` when the drawn parts are taken out, the longest first."""
    value = value.lower()
    for part in sorted({part.lower() for part in parts}, key=len, reverse=True):
        value = value.replace(part, "")
    return value


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_every_answer_satisfies_its_schema(level: float) -> None:
    for example in examples(level):
        schema = schema_of(example)
        assert not list(mismatches(answer_of(example), schema, schema)), example


def test_the_answer_is_written_as_json_dumps_writes_it() -> None:
    for example in examples():
        answer = example.turns[-1]
        assert answer.content == json.dumps(answer_of(example), ensure_ascii=False)
        assert (answer.topic, answer.key) == ("json", answer.content)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_copied_values_stand_in_the_text(level: float) -> None:
    for example in examples(level):
        text = example.turns[-2].content
        for value in copied(example):
            assert re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text), (value, text)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_copied_value_went_through_the_split(held_out: bool) -> None:
    draw = RecordingDraw(random.Random(3), held_out_values=held_out)
    for _ in range(NUM_EXAMPLES):
        draw.drawn.clear()
        example = extract(draw)
        assert all(is_held_out(value) is held_out for value in draw.drawn)
        for value in copied(example):
            assert GLUE.fullmatch(without(value, draw.drawn)), (value, draw.drawn)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", [*STRINGS, *NUMBERS, *LISTS])
def test_every_kind_of_value_has_both_sides(kind: str, held_out: bool) -> None:
    draw = Draw(random.Random(4), held_out_values=held_out)
    make = STRINGS.get(kind) or LISTS.get(kind) or NUMBERS[kind][1]
    assert len({make(draw) for _ in range(60)}) > 1


def all_phrasings() -> Iterator[Phrasings]:
    for thing in THINGS:
        yield thing.texts
        for asked in thing.fields:
            # A value that stands in the text as it is can only be said in one way.
            yield from (said for value, said in asked.says.items() if said.train != (value,))
    for module in (json_invented, json_schemas, json_texts, lessons_json):
        for value in vars(module).values():
            if isinstance(value, Phrasings):
                yield value
            elif isinstance(value, dict):
                yield from (one for one in value.values() if isinstance(one, Phrasings))


def test_phrasings_of_training_and_examination_are_disjoint() -> None:
    for phrasings in all_phrasings():
        assert phrasings.train
        assert phrasings.held_out
        assert not set(phrasings.train) & set(phrasings.held_out)


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.name)
def test_a_thing_has_texts_that_say_its_fields(thing: Thing) -> None:
    assert len(thing.texts.train) >= 6
    assert len(thing.texts.held_out) >= 2
    names = {one.names[0] for one in thing.fields}
    said: set[str] = set()
    for pattern in (*thing.texts.train, *thing.texts.held_out):
        fields = set(re.findall(r"\{(\w+)\}", pattern))
        assert fields, pattern
        assert fields <= names, pattern
        for choice in re.findall(r"\[[^\]]*\]", pattern):
            assert "{" not in choice, pattern
        said |= fields
    assert said == names


def test_a_seed_names_the_examples() -> None:
    assert examples(seed=5, num=50) == examples(seed=5, num=50)
    assert examples(seed=5, num=50) != examples(seed=6, num=50)


def test_the_first_lessons_are_one_or_two_strings_in_a_short_text() -> None:
    for example in examples(0.0):
        schema = schema_of(example)
        assert 1 <= len(schema["properties"]) <= 2
        assert all(one == {"type": "string"} for one in schema["properties"].values())
        assert len(example.turns[-2].content) < 200


def test_the_last_lessons_show_every_form_of_schema() -> None:
    schemas = [schema_of(example) for example in examples(num=1000)]
    seen = json.dumps(schemas)
    for form in ("integer", "number", "boolean", "array", "null", "object", "string"):
        assert f'"{form}"' in seen
    for key in ("enum", "title", "description", "additionalProperties", "$defs", "anyOf"):
        assert f'"{key}": ' in seen
    assert max(len(schema["properties"]) for schema in schemas) >= 5


def test_what_may_be_null_is_sometimes_given_and_sometimes_absent() -> None:
    values: list[Any] = []  # any JSON
    for example in examples(num=1000):
        schema = schema_of(example)
        values += [
            value
            for value, asked in leaves(answer_of(example), schema, schema)
            if "null" in json.dumps(asked)
        ]
    assert 0.1 < values.count(None) / len(values) < 0.9


def test_a_held_out_side_uses_held_out_texts_only() -> None:
    texts = {True: set[str](), False: set[str]()}
    for is_held_out_side, starts in texts.items():
        draw = Draw(random.Random(8), held_out_phrasings=is_held_out_side)
        starts.update(extract(draw).turns[-2].content.split(" ")[0] for _ in range(300))
    assert {"Convert", "Parse", "Fill"} <= texts[False]
    assert not {"Convert", "Parse", "Fill"} & texts[True]


def test_most_examples_are_short() -> None:
    lengths = sorted(sum(len(turn.content) for turn in one.turns) for one in examples())
    assert lengths[len(lengths) // 2] < 600
    assert lengths[-len(lengths) // 20] < 1000

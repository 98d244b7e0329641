"""JSON Schemas of every kind that a strict answer can be promised for, drawn from a seed.

Each has values. The keywords are those that the engine guarantees (`anzoth.scheduler.constraint`);
`UNSUPPORTED` has, for each of the others, a schema that needs it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

NAMES = (
    "name",
    "a",
    "b",
    'qu"ote',
    "back\\slash",
    "ünï",
    "x y",
    "日本",
    "🙂",
    "",
    "$ref",
    "line\n",
)
TEXTS = (
    "red",
    "grün",
    'say "no"',
    "back\\slash",
    "tab\tand\nline",
    "日本語",
    "🙂🙃",
    "",
    "\x7f",
    "</s>",
)
# With a value each: a pattern that is searched for, and one that is the whole text.
PATTERNS = (
    "^[a-z]{2}-[0-9]$",
    "[0-9]{3}",
    "^(ja|nein|ü+)$",
    r"^\d{1,3}(\.\d{1,3})?$",
    "^[^a-z]{2}$",
)
FORMATS = (
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
)

UNSUPPORTED: dict[str, Schema] = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "contains": {"type": "array", "contains": {"type": "integer"}},
    "not": {"not": {"type": "integer"}},
    "if": {"if": {"type": "integer"}, "then": {"minimum": 3}},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "^a"}},
    "unevaluatedProperties": {"type": "object", "unevaluatedProperties": False},
    "oneOf": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 5}]},
    "idn-email": {"type": "string", "format": "idn-email"},
}


class SchemaMaker:
    """Draws schemas; equal seeds, equal schemas."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._definitions: dict[str, Schema] = {}
        self._open: list[str] = []
        """Definitions that are being made: within them they may be referred to, if optional."""

    def schema(self) -> Schema:
        """A whole document, with the definitions it refers to."""
        root = self._any(self._random.randint(1, 4))
        if self._definitions:
            root["$defs"] = self._definitions
        return root

    def _any(self, depth: int) -> Schema:
        kinds = _SCALARS if depth == 0 else (*_SCALARS, *_NESTED * 2)
        return self._random.choice(kinds)(self, depth - 1)

    # --- scalars --------------------------------------------------------------------------------

    def _integer(self, _: int) -> Schema:
        low = self._random.randint(-1000, 1000)
        bounds = {"minimum": low, "maximum": low + self._random.choice([0, 1, 9, 100, 10**6])}
        if self._random.random() < 0.3:
            factor = self._random.randint(2, 12)
            bounds = {"minimum": low, "maximum": low + 5 * factor, "multipleOf": factor}
        return {"type": "integer", **self._some_of(bounds)}

    def _number(self, _: int) -> Schema:
        low = self._random.randint(-400, 400) / 8
        bounds = {"minimum": low, "maximum": low + 2.5}
        if self._random.random() < 0.5:
            # Further apart than 1: test_json_schemas.py says why.
            bounds = {"exclusiveMinimum": low, "exclusiveMaximum": low + 1.5}
        elif self._random.random() < 0.5:
            bounds["multipleOf"] = self._random.choice([0.25, 0.5, 2])
        return {"type": "number", **self._some_of(bounds)}

    def _string(self, _: int) -> Schema:
        low = self._random.randint(0, 4)
        bounds = {"minLength": low, "maxLength": low + self._random.randint(0, 6)}
        return {"type": "string", **self._some_of(bounds)}

    def _pattern(self, _: int) -> Schema:
        return {"type": "string", "pattern": self._random.choice(PATTERNS)}

    def _format(self, _: int) -> Schema:
        return {"type": "string", "format": self._random.choice(FORMATS)}

    def _word(self, _: int) -> Schema:
        return {"type": self._random.choice(["boolean", "null"])}

    def _enum(self, _: int) -> Schema:
        if self._random.random() < 0.2:
            return {"enum": [f"entry {i * 7919 % 1000}" for i in range(500)]}
        values = [*TEXTS, 5, -0.5, None, True, {"a": [1, "ü"]}, []]
        return {"enum": self._random.sample(values, self._random.randint(1, 5))}

    def _const(self, _: int) -> Schema:
        texts = self._random.sample(TEXTS, 2)
        return {
            "const": self._random.choice([texts[0], {texts[0]: [1, texts[1]]}, 12, False, None])
        }

    def _several_types(self, _: int) -> Schema:
        return {"type": self._random.choice([["string", "null"], ["integer", "boolean"]])} | {
            "maxLength": 5,
            "minimum": 3,
        }

    # --- what holds others ----------------------------------------------------------------------

    def _array(self, depth: int) -> Schema:
        low = self._random.randint(0, 2)
        schema: Schema = {"type": "array", "minItems": low, "maxItems": low + 2}
        if self._random.random() < 0.3:
            schema |= {"prefixItems": [self._any(depth) for _ in range(2)], "minItems": 2}
            schema |= {"maxItems": 3, "items": self._random.choice([False, {"type": "integer"}])}
        else:
            schema["items"] = self._any(depth)
        return schema

    def _object(self, depth: int) -> Schema:
        names = self._random.sample(NAMES, self._random.randint(0, 5))
        return {
            "type": "object",
            "properties": {name: self._any(depth) for name in names},
            "required": [name for name in names if self._random.random() < 0.6],
            "additionalProperties": False,
        }

    def _open_object(self, depth: int) -> Schema:
        schema = self._object(depth)
        schema["additionalProperties"] = {"type": "integer", "minimum": 0, "maximum": 9}
        return schema

    def _map(self, depth: int) -> Schema:
        # Not 2: a grammar cannot tell two keys from one that comes twice.
        low = self._random.randint(0, 1)
        return {
            "type": "object",
            "patternProperties": {"^x-[a-z]{1,3}$": self._any(depth)},
            "additionalProperties": False,
            "minProperties": low,
            "maxProperties": low + 2,
        }

    def _any_of(self, depth: int) -> Schema:
        return {"anyOf": [self._any(depth) for _ in range(self._random.randint(1, 3))]}

    def _one_of(self, depth: int) -> Schema:
        return {"oneOf": [self._string(depth), self._array(depth), {"type": "null"}]}

    def _all_of(self, depth: int) -> Schema:
        first, second = (
            {"type": "object", "properties": {name: self._any(depth)}, "required": [name]}
            for name in self._random.sample(NAMES, 2)
        )
        return {"allOf": [first, second | {"maxProperties": 2}]}

    def _deep(self, _: int) -> Schema:
        schema = self._any(0)
        for level in range(self._random.randint(10, 25)):
            if level % 2:
                schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}
            else:
                schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
                schema["additionalProperties"] = False
        return schema

    def _reference(self, depth: int) -> Schema:
        """To a definition made before, or to a new one that may hold itself."""
        if self._definitions and self._random.random() < 0.3:
            return {"$ref": f"#/$defs/{self._random.choice(sorted(self._definitions))}"}
        name = f"def{len(self._definitions) + len(self._open)}"
        self._open.append(name)
        itself = {"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{name}"}]}
        definition = {
            "type": "object",
            "properties": {"value": self._any(depth), "next": itself},
            "required": ["next"],
            "additionalProperties": False,
        }
        self._open.remove(name)
        self._definitions[name] = definition
        return {"$ref": f"#/$defs/{name}"}

    def _some_of(self, keywords: Schema) -> Schema:
        return {key: value for key, value in keywords.items() if self._random.random() < 0.8}


Maker = Callable[[SchemaMaker, int], Schema]
_SCALARS: tuple[Maker, ...] = (
    SchemaMaker._integer,
    SchemaMaker._number,
    SchemaMaker._string,
    SchemaMaker._pattern,
    SchemaMaker._format,
    SchemaMaker._word,
    SchemaMaker._enum,
    SchemaMaker._const,
    SchemaMaker._several_types,
)
_NESTED: tuple[Maker, ...] = (
    SchemaMaker._array,
    SchemaMaker._object,
    SchemaMaker._open_object,
    SchemaMaker._map,
    SchemaMaker._any_of,
    SchemaMaker._one_of,
    SchemaMaker._all_of,
    SchemaMaker._deep,
    SchemaMaker._reference,
)

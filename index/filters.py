"""Which rows of a segment does an attribute filter allow?

The filters are OpenAI's: comparisons (`eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `nin`) of one
attribute with a value, and `and` / `or` of filters. Attributes belong to files: up to 16 keys with
a string, a number or a boolean each.

What they mean where OpenAI's description leaves it open, in three rules:
- Values of different types differ: `"1"`, `1` and `True` are three values; 1 and 1.0 are one.
- Order is between values of one type: numbers by size, strings by code points. Booleans have none,
  so `gt` and its like with a boolean are refused; a value of another type is simply not in range.
- A file without the key answers no comparison but the negative ones: `ne` is "not `eq`" and `nin`
  "not `in`", for every file.

Does not know: rows that are deleted, or how a filter came here.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from pyroaring import BitMap

from anzoth.index.rows import Rows, as_bitmap

Value = str | int | float | bool
Attributes = Mapping[str, Value]

MAX_KEYS = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512
MAX_DEPTH = 8
MAX_COMPARISONS = 256
"""Of one filter, each value of `in` and `nin` counted as one."""


class BadFilter(ValueError):
    """A filter that means nothing, or too much. The message names the place in it."""


class BadAttributes(ValueError):
    """Attributes that a file cannot have."""


@dataclass(slots=True, frozen=True)
class Comparison:
    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str
    values: tuple[Value, ...]
    """One, but for `in` and `nin`."""


@dataclass(slots=True, frozen=True)
class Compound:
    type: Literal["and", "or"]
    filters: tuple[Filter, ...]


Filter = Comparison | Compound


def parse_filter(data: object) -> Filter:
    """A filter in OpenAI's JSON form, checked. Raises BadFilter."""
    return _Parser().filter(data, "filters", 1)


def check_attributes(attributes: object) -> dict[str, Value]:
    """The attributes of a file, checked against OpenAI's limits. Raises BadAttributes."""
    if not isinstance(attributes, Mapping):
        raise BadAttributes("attributes must be an object")
    if len(attributes) > MAX_KEYS:
        raise BadAttributes(f"at most {MAX_KEYS} attributes, got {len(attributes)}")
    for key, value in attributes.items():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARACTERS:
            raise BadAttributes(f"names of attributes have 1 to {MAX_KEY_CHARACTERS} characters")
        if not _is_value(value):
            raise BadAttributes(
                f"attribute {key!r} must be a boolean, a finite number, or a string of at most "
                f"{MAX_VALUE_CHARACTERS} characters"
            )
    return dict(attributes)


class AttributeIndex:
    """The attributes of a segment's files, ready to answer filters. Immutable to its users.

    What a key needs is made when a filter first names it. Threads may share one: at worst two make
    the same.
    """

    def __init__(
        self,
        rows: Mapping[int, Rows],
        num_rows: int,
        attributes: Mapping[int, Attributes],
    ) -> None:
        """`rows`: file -> its rows, all of `num_rows` in one; `attributes`: of these files."""
        self._rows = rows
        self._num_rows = num_rows
        self._attributes = attributes
        self._columns: dict[str, _Column] = {}

    def attributes(self, file: int) -> Attributes:
        return self._attributes.get(file, {})

    def replaced(self, file: int, attributes: Attributes) -> AttributeIndex:
        """One in which this file has these attributes. What it does not change is shared."""
        before = self.attributes(file)
        changed = AttributeIndex(self._rows, self._num_rows, {**self._attributes, file: attributes})
        for key, column in list(self._columns.items()):
            if _identity(before.get(key)) == _identity(attributes.get(key)):
                changed._columns[key] = column
        return changed

    def rows(self, chosen: Filter) -> BitMap:
        """The rows whose file the filter allows, deleted ones included."""
        if isinstance(chosen, Compound):
            parts = [self.rows(part) for part in chosen.filters]
            combine = BitMap.intersection if chosen.type == "and" else BitMap.union
            return combine(*parts)
        column = self._columns.get(chosen.key)
        if column is None:
            column = self._columns[chosen.key] = self._column(chosen.key)
        if chosen.type in ("eq", "in"):
            return column.equal(chosen.values)
        if chosen.type in ("ne", "nin"):
            return BitMap(range(self._num_rows)) - column.equal(chosen.values)
        return column.ordered(chosen.type, chosen.values[0])

    def _column(self, key: str) -> _Column:
        rows: dict[tuple[type, Value], list[Rows]] = {}
        for file, of_file in self._rows.items():
            value = self.attributes(file).get(key)
            if value is not None:
                rows.setdefault(_identity(value), []).append(of_file)
        return _Column({value: np.concatenate(parts) for value, parts in rows.items()})


class _Column:
    """One key: which rows have which value."""

    def __init__(self, rows: Mapping[tuple[type, Value], Rows]) -> None:
        self._equal = {value: as_bitmap(found) for value, found in rows.items()}
        # In the order of their values, with the rows of all of them in one array beside it: a range
        # of values is a slice of that.
        self._ranges = {
            kind: _Range(sorted((value, found) for (k, value), found in rows.items() if k is kind))
            for kind in (str, float)
        }

    def equal(self, values: Sequence[Value]) -> BitMap:
        found = [self._equal[v] for v in map(_identity, values) if v in self._equal]
        return BitMap.union(*found) if found else BitMap()

    def ordered(self, comparison: str, value: Value) -> BitMap:
        kind, comparable = _identity(value)
        return self._ranges[kind].rows(comparison, comparable)


class _Range:
    def __init__(self, ordered: list[tuple[Any, Rows]]) -> None:
        self._values = [value for value, _ in ordered]
        self._starts = np.cumsum([0, *(len(rows) for _, rows in ordered)])
        self._rows = np.concatenate([np.empty(0, np.uint32), *(rows for _, rows in ordered)])

    def rows(self, comparison: str, value: Value) -> BitMap:
        bisect = bisect_right if comparison in ("gt", "lte") else bisect_left
        at = self._starts[bisect(self._values, value)]
        chosen = self._rows[at:] if comparison in ("gt", "gte") else self._rows[:at]
        return as_bitmap(np.sort(chosen))


def _identity(value: Value | None) -> tuple[type, Any]:
    """What makes two values equal: their type and, of numbers, their size."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float, value  # Python compares an int with a float exactly, however large
    return type(value), value


def _is_value(value: object) -> TypeGuard[Value]:
    if isinstance(value, str):
        return len(value) <= MAX_VALUE_CHARACTERS
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) < 2**63


class _Parser:
    def __init__(self) -> None:
        self._num_comparisons = 0

    def filter(self, data: object, place: str, depth: int) -> Filter:
        if not isinstance(data, Mapping):
            raise BadFilter(f"{place} must be an object")
        read = _READERS.get(_name(data.get("type")))
        if read is None:
            raise BadFilter(f"{place}.type must be one of {', '.join(_READERS)}")
        return read(self, data, place, depth)

    def compound(self, data: Mapping[Any, Any], place: str, depth: int) -> Filter:
        parts = data.get("filters")
        if not isinstance(parts, list) or not parts:
            raise BadFilter(f"{place}.filters must be a list of filters that is not empty")
        if depth >= MAX_DEPTH:
            raise BadFilter(f"{place}: filters may be nested {MAX_DEPTH} deep")
        self._only(data, {"type", "filters"}, place)
        return Compound(
            data["type"],
            tuple(
                self.filter(part, f"{place}.filters[{number}]", depth + 1)
                for number, part in enumerate(parts)
            ),
        )

    def comparison(self, data: Mapping[Any, Any], place: str, _depth: int) -> Filter:
        kind, key, value = data["type"], data.get("key"), data.get("value")
        self._only(data, {"type", "key", "value"}, place)
        if not isinstance(key, str):
            raise BadFilter(f"{place}.key must be a string")
        if kind in ("in", "nin"):
            if not isinstance(value, list):
                raise BadFilter(f"{place}.value must be a list for {kind}")
            values: list[Any] = value
        else:
            values = [value]
        self._num_comparisons += max(1, len(values))
        if self._num_comparisons > MAX_COMPARISONS:
            raise BadFilter(f"{place}: a filter may have {MAX_COMPARISONS} comparisons in all")
        if not all(map(_is_value, values)):
            raise BadFilter(
                f"{place}.value must be a boolean, a finite number, or a string of at most "
                f"{MAX_VALUE_CHARACTERS} characters"
            )
        if kind in ("gt", "gte", "lt", "lte") and isinstance(value, bool):
            raise BadFilter(f"{place}.value: booleans have no order; use eq or ne")
        return Comparison(kind, key, tuple(values))

    def _only(self, data: Mapping[Any, Any], known: set[str], place: str) -> None:
        unknown = sorted(str(key)[:MAX_KEY_CHARACTERS] for key in data if key not in known)
        if unknown:
            raise BadFilter(f"{place} has unknown fields: {', '.join(unknown[:5])}")


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


_READERS: dict[str, Callable[[_Parser, Mapping[Any, Any], str, int], Filter]] = {
    **dict.fromkeys(("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"), _Parser.comparison),
    **dict.fromkeys(("and", "or"), _Parser.compound),
}

"""Attribute filters against a plain evaluation in Python, file by file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.index.filters import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    AttributeIndex,
    BadAttributes,
    BadFilter,
    check_attributes,
    parse_filter,
)
from anzoth.index.rows import as_bitmap

KEYS = st.sampled_from(["colour", "year", "draft"])
VALUES = st.one_of(
    st.sampled_from(["", "1", "red", "Red", "é", "true"]),
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 1.0, 0.5, -0.0, 1e300, -1e300]),
    st.booleans(),
)
ORDERED = VALUES.filter(lambda value: not isinstance(value, bool))
ATTRIBUTES = st.dictionaries(KEYS, VALUES)
FILTERS = st.recursive(
    st.one_of(
        st.builds(comparison := lambda type, key, value: {"type": type, "key": key, "value": value},
                  st.sampled_from(["eq", "ne"]), KEYS, VALUES),
        st.builds(comparison, st.sampled_from(["gt", "gte", "lt", "lte"]), KEYS, ORDERED),
        st.builds(comparison, st.sampled_from(["in", "nin"]), KEYS, st.lists(VALUES, max_size=3)),
    ),
    lambda parts: st.builds(
        lambda type, filters: {"type": type, "filters": filters},
        st.sampled_from(["and", "or"]),
        st.lists(parts, min_size=1, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip


def kind(value: object) -> str:
    return "bool" if isinstance(value, bool) else "str" if isinstance(value, str) else "number"


def same(a: Any, b: Any) -> bool:
    return kind(a) == kind(b) and a == b


def plainly(chosen: dict[str, Any], attributes: dict[str, Any]) -> bool:
    """What filters.py says that filters mean, word for word."""
    match chosen["type"]:
        case "and":
            return all(plainly(part, attributes) for part in chosen["filters"])
        case "or":
            return any(plainly(part, attributes) for part in chosen["filters"])
        case "ne":
            return not plainly({**chosen, "type": "eq"}, attributes)
        case "nin":
            return not plainly({**chosen, "type": "in"}, attributes)
    if chosen["key"] not in attributes:
        return False
    has, value = attributes[chosen["key"]], chosen["value"]
    match chosen["type"]:
        case "eq":
            return same(has, value)
        case "in":
            return any(same(has, each) for each in value)
    if kind(has) != kind(value):
        return False
    return {
        "gt": has > value,
        "gte": has >= value,
        "lt": has < value,
        "lte": has <= value,
    }[chosen["type"]]


def index_of(files: list[dict[str, Any]]) -> tuple[AttributeIndex, dict[int, Any]]:
    """File number 10 · i has i % 3 + 1 rows, dealt out in turns."""
    owners = [10 * i for turn in range(3) for i in range(len(files)) if turn <= i % 3]
    rows = {
        10 * i: np.flatnonzero(np.array(owners) == 10 * i).astype(np.uint32)
        for i in range(len(files))
    }
    attributes = {10 * i: one for i, one in enumerate(files)}
    return AttributeIndex(rows, len(owners), attributes), rows


@pytest.mark.slow
@given(st.lists(ATTRIBUTES, max_size=6), FILTERS)
def test_a_filter_allows_the_rows_of_the_files_that_it_describes(
    files: list[dict[str, Any]], chosen: dict[str, Any]
) -> None:
    index, rows = index_of(files)
    expected = [rows[10 * i] for i, one in enumerate(files) if plainly(chosen, one)]
    allowed = as_bitmap(np.concatenate(expected)) if expected else as_bitmap(np.empty(0, np.uint32))
    assert index.rows(parse_filter(chosen)) == allowed


@pytest.mark.slow
@given(st.lists(ATTRIBUTES, min_size=1, max_size=4), ATTRIBUTES, st.lists(FILTERS, max_size=3))
def test_changed_attributes_answer_as_if_they_had_always_been_so(
    files: list[dict[str, Any]], new: dict[str, Any], filters: list[dict[str, Any]]
) -> None:
    before, _ = index_of(files)
    parsed = [parse_filter(one) for one in filters]
    answers = [before.rows(one) for one in parsed]
    changed = before.replaced(0, new)
    afresh, _ = index_of([new, *files[1:]])
    assert [changed.rows(one) for one in parsed] == [afresh.rows(one) for one in parsed]
    assert [before.rows(one) for one in parsed] == answers
    assert changed.attributes(0) == new


@pytest.mark.parametrize(("type", "expected"), [("eq", [1]), ("ne", [0, 2]), ("nin", [0, 2])])
def test_a_file_without_the_key_answers_only_negative_comparisons(
    type: str, expected: list[int]
) -> None:
    index = AttributeIndex(
        {i: np.array([i], np.uint32) for i in range(3)}, 3, {0: {"a": 1}, 1: {"a": "x"}}
    )
    value: object = ["x"] if type == "nin" else "x"
    chosen = parse_filter({"type": type, "key": "a", "value": value})
    assert list(index.rows(chosen)) == expected


EQ: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}


def nested(depth: int) -> dict[str, Any]:
    return EQ if depth == 1 else {"type": "and", "filters": [nested(depth - 1)]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "filters must be an object"),
        ([], "filters must be an object"),
        ({}, r"filters\.type"),
        ({"type": ["eq"]}, r"filters\.type"),
        ({"type": "like", "key": "a", "value": "b"}, "eq, ne"),
        ({"type": "and"}, "not empty"),
        ({"type": "or", "filters": []}, "not empty"),
        ({"type": "or", "filters": [EQ, {"type": "eq"}]}, r"filters\.filters\[1\]\.key"),
        ({**EQ, "key": 3}, "key must be a string"),
        ({**EQ, "value": None}, "value must be"),
        ({**EQ, "value": [1]}, "value must be"),
        ({**EQ, "value": float("nan")}, "finite"),
        ({**EQ, "value": 10**400}, "finite"),
        ({**EQ, "value": "x" * 513}, "512"),
        ({**EQ, "type": "in"}, "list"),
        ({**EQ, "type": "in", "value": [[]]}, "value must be"),
        ({**EQ, "type": "gt", "value": True}, "no order"),
        ({**EQ, "values": 1}, "unknown fields: values"),
        (nested(MAX_DEPTH + 1), "deep"),
        ({"type": "or", "filters": [EQ] * (MAX_COMPARISONS + 1)}, "comparisons"),
        ({"type": "in", "key": "a", "value": [1] * (MAX_COMPARISONS + 1)}, "comparisons"),
    ],
)
def test_a_filter_that_means_nothing_or_too_much_is_refused(data: object, message: str) -> None:
    with pytest.raises(BadFilter, match=message):
        parse_filter(data)


def test_the_deepest_and_largest_filters_are_taken() -> None:
    parse_filter(nested(MAX_DEPTH))
    parse_filter({"type": "or", "filters": [EQ] * MAX_COMPARISONS})


@pytest.mark.parametrize(
    "attributes",
    [
        [],
        {"": 1},
        {3: 1},
        {"k" * 65: 1},
        {"a": None},
        {"a": [1]},
        {"a": float("inf")},
        {"a": "x" * 513},
        {str(n): n for n in range(17)},
    ],
)
def test_attributes_keep_to_their_limits(attributes: object) -> None:
    with pytest.raises(BadAttributes):
        check_attributes(attributes)


def test_the_largest_attributes_are_taken() -> None:
    largest: dict[str, Any] = {f"{n:064d}": "x" * 512 for n in range(16)}
    assert check_attributes(largest) == largest

"""Are arguments checked, whatever a server's schema looks like, in bounded work and without a
fetch?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.gateway.tools import arguments
from anzoth.gateway.tools.arguments import MAX_BYTES, BadArguments

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
ORDER = {
    "type": "object",
    "properties": {
        "number": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
        "count": {"type": "integer", "minimum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "required": ["number"],
    "additionalProperties": False,
}


def problem(schema: dict[str, Any], value: object) -> str | None:
    try:
        arguments.parse(schema, value if isinstance(value, str) else json.dumps(value))
    except BadArguments as error:
        return str(error)
    return None


def of(schema: object) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"number": "QX-5150", "count": 2, "tags": ["a", "b"]}, None),
        ({"number": "QX-5150 "}, "$.number: 'QX-5150 ' does not match"),
        ({"count": 2}, "'number' is a required property"),
        ({"number": "QX-1", "count": 0}, "$.count: 0 is less than the minimum"),
        ({"number": "QX-1", "count": "2"}, "is not of type 'integer'"),
        ({"number": "QX-1", "cuont": 2}, "there is no property 'cuont'"),
        ({"number": "QX-1", "tags": ["a", "b", "a"]}, "the items are not unique"),
        ("not json", "are not JSON"),
        ("[1]", "are not a JSON object"),
        ('{"number": NaN}', "are not JSON"),
        ('{"number": "' + "x" * MAX_BYTES + '"}', "are more than 65536 bytes"),
        ('{"number": "' + "é" * (MAX_BYTES // 2) + '"}', "are more than 65536 bytes"),
    ],
)
def test_what_the_schema_does_not_allow_is_refused_with_a_reason(
    value: object, words: str | None
) -> None:
    found = problem(ORDER, value)
    assert found is None if words is None else words in str(found)


def test_a_tool_without_parameters_may_be_called_with_nothing() -> None:
    assert arguments.parse({"type": "object"}, "") == {}


def test_both_old_and_new_dialects_are_understood() -> None:
    pair = [{"type": "integer"}, {"type": "string"}]
    old = {"$schema": DRAFT_7, **of({"type": "array", "items": pair})}
    new = of({"type": "array", "prefixItems": pair})
    for schema in (old, new):
        assert problem(schema, {"x": [1, "a"]}) is None
        assert "$.x[0]" in str(problem(schema, {"x": ["a", "a"]}))


def test_references_within_the_schema_are_followed() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/tree"}}, "maxProperties": 1}
    schema = {"$defs": {"tree": tree}, "$ref": "#/$defs/tree"}
    assert problem(schema, {"next": {"next": {}}}) is None
    assert "$.next.next" in str(problem(schema, {"next": {"next": {"next": {}, "more": 1}}}))


def test_a_reference_out_of_the_schema_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: fetched.append(a))
    for target in ("http://127.0.0.1:9/schema", "file:///etc/passwd", "other.json"):
        schema = {"$id": "http://127.0.0.1:9/", **of({"$ref": target})}
        assert "not whole in itself" in str(problem(schema, {"x": 1}))
    assert problem(of({"$ref": "#/nowhere"}), {"x": 1}) == "the tool's schema cannot be used"
    assert fetched == []


def test_properties_may_have_the_names_of_keywords() -> None:
    names = ("$ref", "$id", "$schema", "pattern")
    schema = {"properties": {name: {"type": "string"} for name in names}, "required": list(names)}
    assert problem(schema, dict.fromkeys(names, "x")) is None
    assert "is not of type" in str(problem(schema, {**dict.fromkeys(names, "x"), "$ref": 1}))


HOSTILE: dict[str, Any] = {
    "circle": of({"$ref": "#/properties/x"}),
    "two circles": of({"anyOf": [{"$ref": "#/properties/x"}, {"$ref": "#/properties/x"}]}),
    "doubling": {
        "$defs": {
            str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} if n < 40 else {"type": "integer"}
            for n in range(41)
        },
        **of({"$ref": "#/$defs/0"}),
    },
    "many branches": of({"anyOf": [{"const": -n} for n in range(50_000)]}),
    "unknown type": of({"type": "strange"}),
    "no schema": of(5),
    "properties as a list": {"type": "object", "properties": ["x"]},
    "bounds of text": of({"minimum": "1"}),
    "an old dialect within": of({"$schema": DRAFT_7, "pattern": "^(a+)+$"}),
    "of a dialect itself": of({"$ref": DRAFT_7}),
    "at a dialect's address": of({"$id": DRAFT_7, "$ref": "#/definitions/nonNegativeInteger"}),
    "division by zero": of({"multipleOf": 0}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_rather_than_worked_through(name: str) -> None:
    assert str(problem(HOSTILE[name], {"x": 1})).startswith("the tool's schema")


def test_a_pattern_takes_linear_time() -> None:
    # Python's `re` would not come back from either.
    assert "does not match" in str(problem(of({"pattern": "^(a+)+$"}), {"x": "a" * 5000 + "!"}))
    by_name = {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}}}
    assert problem(by_name, {"a" * 5000 + "!": "x"}) is None
    assert "is not of type" in str(problem(by_name, {"a" * 50: "x"}))


def test_patterns_say_which_properties_are_no_extras() -> None:
    schema = {"patternProperties": {"^x-": {}}, "additionalProperties": False}
    assert problem(schema, {"x-one": 1}) is None
    assert "there is no property 'y-one'" in str(problem(schema, {"y-one": 1}))


@pytest.mark.parametrize("pattern", [r"^(?!foo).*$", "(", 5])
def test_a_pattern_that_is_not_known_is_left_to_the_server(pattern: object) -> None:
    assert problem(of({"pattern": pattern}), {"x": "foo"}) is None


def test_many_items_are_told_apart_quickly() -> None:
    schema = of({"uniqueItems": True})
    items: list[Any] = [{"n": n} for n in range(5000)]
    assert problem(schema, {"x": items}) is None
    assert "not unique" in str(problem(schema, {"x": [*items, {"n": 7.0}]}))
    assert problem(schema, {"x": [1, True, "1"]}) is None


KEYWORDS = (
    *("a", "x", "$ref", "$id", "$schema", "$defs", "$dynamicRef", "type", "properties", "items"),
    *("prefixItems", "anyOf", "allOf", "not", "if", "then", "contains", "minContains", "required"),
    *("pattern", "patternProperties", "additionalProperties", "dependentRequired", "dependencies"),
    *("enum", "multipleOf", "format", "unevaluatedProperties", "uniqueItems", "propertyNames"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.sampled_from("abx"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON.filter(lambda made: isinstance(made, dict)), JSON)
def test_no_schema_raises_anything_but_bad_arguments(schema: Any, value: Any) -> None:
    problem(schema, {"x": value, "a": value})

"""Is every statement named once, and is each one used?"""

from __future__ import annotations

import ast
import inspect

import pytest

from anzoth.db import pool, queries, store


def test_statements_are_split_at_their_names() -> None:
    text = "-- preamble\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2;\n"
    assert queries.parse(text) == {"one": "-- why\nSELECT 1;", "two": "SELECT 2;"}


@pytest.mark.parametrize(
    "text", ["-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "-- name: a\n-- name: b\nSELECT 1;"]
)
def test_a_name_twice_or_without_statement_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="quer"):
        queries.parse(text)


def test_every_statement_is_executed_somewhere_and_none_is_missing() -> None:
    used = {
        node.value
        for module in (store, pool)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = set(queries.load())
    assert named <= used
    assert len(named) > 5

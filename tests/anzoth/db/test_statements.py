"""Is every statement named once, and is each one used?"""

from __future__ import annotations

import ast
import inspect
from importlib import resources

import pytest

from anzoth.db import pool, statements, store


def test_statements_are_split_at_their_names() -> None:
    text = "-- preamble\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2;\n"
    assert statements.parse([text]) == {"one": "-- why\nSELECT 1;", "two": "SELECT 2;"}


@pytest.mark.parametrize(
    "text", ["-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "-- name: a\n-- name: b\nSELECT 1;"]
)
def test_a_name_twice_or_without_statement_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="quer"):
        statements.parse([text])


def test_every_statement_is_executed_somewhere_and_none_is_missing() -> None:
    files = [file for file in resources.files(store).iterdir() if file.name.endswith(".py")]
    used = {
        node.value
        for source in (inspect.getsource(pool), *(file.read_text() for file in files))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = set(statements.load())
    assert named <= used
    assert len(named) > 5

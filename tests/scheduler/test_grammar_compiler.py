"""A grammar that cannot be used is its sender's error; none ends the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grammar_kit import (
    END_ID,
    VOCAB_SIZE,
    allowed_tokens,
    compiler,
    lark_grammar,
    schema_grammar,
)

from anzoth.frames import MAX_GRAMMAR_BYTES
from anzoth.scheduler.constraint import (
    COMPILE_STACK_BYTES,
    MAX_MESSAGE_CHARACTERS,
    Constraint,
    GrammarCompiler,
    GrammarError,
)


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> GrammarCompiler:
    return compiler(tmp_path_factory.mktemp("tokenizer"))


OPTIONALS = {"type": "object", "properties": {f"p{i}": {} for i in range(1000)}}
UNUSABLE = [
    (schema_grammar({"type": "array", "uniqueItems": True}), "uniqueItems"),
    (schema_grammar({"not": {"type": "string"}}), "not"),
    (schema_grammar({"type": "string", "format": "bogus"}), "bogus"),
    (schema_grammar({"type": "string", "pattern": "(?=a)b"}), "look-around"),
    (schema_grammar({"type": "strng"}), "strng"),
    (schema_grammar({"$ref": "http://127.0.0.1:9/x"}), "not fetch"),
    (schema_grammar({"$ref": "#"}), "no output"),
    (schema_grammar(False), "nsatisfiable"),
    (schema_grammar(OPTIONALS), "max is 2000"),
    (lark_grammar("start: missing"), "missing"),
    (lark_grammar('start: start "a"'), "no output"),
    (lark_grammar("start: <|nobody|>"), "nobody"),
    ("", "cannot be used"),
    ("{", "cannot be used"),
    ('{"grammars": []}', "cannot be used"),
    ("[1]", "cannot be used"),
]


@pytest.mark.parametrize(("grammar", "named"), UNUSABLE, ids=lambda value: value[:40])
def test_an_unusable_grammar_says_why(grammars: GrammarCompiler, grammar: str, named: str) -> None:
    with pytest.raises(GrammarError, match=named) as caught:
        grammars.compile(grammar)
    assert 0 < len(str(caught.value)) < MAX_MESSAGE_CHARACTERS + 100
    assert "\n<" not in str(caught.value)


def _chain(link: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """As many definitions, each inside the one before, as a grammar has room for."""

    def made(length: int) -> str:
        links = {str(i): link({"$ref": f"#/$defs/{i + 1}"}) for i in range(length)}
        definitions = {**links, str(length): {"type": "null"}}
        schema = {"$ref": "#/$defs/0", "$defs": definitions}
        return json.dumps({"grammars": [{"json_schema": schema}]}, separators=(",", ":"))

    per_link = len(made(2000)) // 2000
    return made(MAX_GRAMMAR_BYTES // (per_link + 2))


def _nested(schema: dict[str, Any], times: int) -> dict[str, Any]:
    for _ in range(times):
        schema = {"items": schema}
    return schema


DEEPEST = {
    "ref": _chain(lambda next_: next_),
    "items": _chain(lambda next_: _nested(next_, 50)),
    "properties": _chain(lambda next_: {"properties": {"a": next_}}),
    "allOf": _chain(lambda next_: {"allOf": [{"allOf": [{"allOf": [next_]}]}]}),
    "anyOf": _chain(lambda next_: {"anyOf": [{"anyOf": [next_]}, {"type": "null"}]}),
    "lark": lark_grammar("start: " + "(" * 60_000 + '"a"' + ")" * 60_000),
    "regex": lark_grammar("start: /" + "(" * 60_000 + "a" + ")" * 60_000 + "/"),
    "brackets": '{"grammars":' + "[" * (MAX_GRAMMAR_BYTES - 12),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEPEST)
def test_the_deepest_grammars_neither_overflow_the_stack_nor_take_long(
    grammars: GrammarCompiler, name: str
) -> None:
    """A stack that overflows is not an exception: it ends the engine, and this test run."""
    assert len(DEEPEST[name]) <= MAX_GRAMMAR_BYTES
    found: list[Constraint | GrammarError] = []

    def compile_it() -> None:
        try:
            found.append(grammars.compile(DEEPEST[name]))
        except GrammarError as error:
            found.append(error)

    previous = threading.stack_size(COMPILE_STACK_BYTES)
    try:
        thread = threading.Thread(target=compile_it)
        thread.start()
    finally:
        threading.stack_size(previous)
    thread.join(20)
    (result,) = found
    if isinstance(result, Constraint):  # and what the engine's own thread does with it later
        assert allowed_tokens(result.copy())


@pytest.mark.parametrize(
    "content", [None, "", "{}", "not JSON", '{"model": {"type": "WordLevel"}}']
)
def test_without_a_usable_tokenizer_grammars_are_refused(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    broken = GrammarCompiler(file, VOCAB_SIZE, (END_ID,))  # not read before it is needed
    with pytest.raises(GrammarError, match="cannot follow") as caught:
        broken.compile(schema_grammar({}))
    assert str(tmp_path) not in str(caught.value)


def test_a_vocabulary_that_does_not_fit_the_tokenizer_is_refused(tmp_path: Path) -> None:
    compiler(tmp_path)
    for vocab_size, eos_token_ids in ((100, (END_ID,)), (VOCAB_SIZE, (VOCAB_SIZE,))):
        with pytest.raises(GrammarError, match="cannot follow"):
            GrammarCompiler(tmp_path / "tokenizer.json", vocab_size, eos_token_ids).compile("x")

"""Whatever a model would say, under a strict schema it says JSON that the schema allows.

The models here say anything at all: random logits. The schemas are random, too, and made into
grammars as the gateway makes them; the judge is the `jsonschema` package. What no grammar can say
is that a key which the schema does not name must not come twice: readers keep the last one.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import partial
from typing import Any

import grammar_kit
import jsonschema
import pytest
from random_schemas import UNSUPPORTED, SchemaMaker

from anzoth.frames import SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.constraint import GrammarCompiler, GrammarError
from anzoth.scheduler.engine import Engine
from anzoth.text.grammars import grammar, json_part

NUM_CHOICES = 3
MAX_TOKENS = 250


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> GrammarCompiler:
    return grammar_kit.compiler(tmp_path_factory.mktemp("tokenizer"))


def strict(schema: dict[str, Any]) -> str:
    return grammar(json_part(schema, is_strict=True))


# What the package checks with others that are not installed, or in another way than RFC 3339.
_PATTERNS = {
    "date-time": r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)",
    "time": r"[\d:.]+(Z|[+-]\d\d:\d\d)",
    "duration": r"P(\d+W|(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)",
    "hostname": r"(?=.{1,253}$)[a-z\d]([a-z\d-]{,61}[a-z\d])?(\.[a-z\d]([a-z\d-]{,61}[a-z\d])?)*",
    "uri": r"[a-z][a-z\d+.-]*:[^\s<>\"{}|\\^`]*",
}


def judge_of(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    formats = jsonschema.FormatChecker(["date", "email", "ipv4", "ipv6", "uuid"])
    for name in _PATTERNS:
        formats.checks(name, raises=ValueError)(partial(has_format, name))
    return jsonschema.Draft202012Validator(schema, format_checker=formats)


def has_format(name: str, text: Any) -> bool:
    if not isinstance(text, str):
        return True  # `format` is about strings only
    if not re.fullmatch(_PATTERNS[name], text, re.IGNORECASE):
        return False
    if "time" in name:  # raises for what no clock shows, but knows no leap seconds
        moment = text if name == "date-time" else f"2000-01-01T{text}"
        datetime.fromisoformat(re.sub(r":60(?=[.Z+-])", ":59", moment.upper()))
    return True


def outputs(constraints: dict[int, Any], **sampling: Any) -> dict[int, list[tuple[str, str]]]:
    """Text and ending of all choices for each schema, made in one batch."""
    ticks = iter(range(10**9))
    engine = Engine(
        grammar_kit.LogitsRunner(4096),
        EngineConfig(max_queued_requests=999),
        lambda: float(next(ticks)),
    )
    numbers: dict[int, int] = {}
    for seed, constraint in constraints.items():
        params = SamplingParams(seed=seed, grammar="kept by the caller", **sampling)
        message = Submit(0, "salt", "t", NUM_CHOICES, MAX_TOKENS, params)
        number = engine.submit(message, [5, 6, 7], constraint)
        assert isinstance(number, int)
        numbers[number] = seed
    tokens: dict[tuple[int, int], list[int]] = {}
    made: dict[int, list[tuple[str, str]]] = {seed: [] for seed in constraints}
    while engine.has_work:
        for row in engine.step():
            said = tokens.setdefault((row.request, row.choice), [])
            if row.token is not None:
                said.append(row.token)
            if row.finish is not None:
                made[numbers[row.request]].append((grammar_kit.text_of(said), row.finish))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 120, 20))
def test_every_finished_answer_is_valid_and_most_are_finished(
    first: int, grammars: GrammarCompiler
) -> None:
    schemas = {seed: SchemaMaker(seed).schema() for seed in range(first, first + 20)}
    # Nothing but a will of its own ends a string: a model that has none is given some.
    closing = [grammar_kit.tokenizer().token_to_id(mark) for mark in ('"', "}", "]", ",")]
    made = outputs(
        {seed: grammars.compile(strict(schema)) for seed, schema in schemas.items()},
        logit_bias=tuple((token, 6.0) for token in closing),
    )
    num_finished = 0
    for seed, schema in schemas.items():
        judge = judge_of(schema)
        assert len(made[seed]) == NUM_CHOICES
        for text, ending in made[seed]:
            assert ending in ("stop", "length"), (seed, text)
            if ending == "stop":
                num_finished += 1
                judge.validate(json.loads(text))
    assert num_finished > 0.9 * NUM_CHOICES * len(schemas)


def test_the_schemas_are_schemas_and_use_every_keyword_that_is_promised() -> None:
    schemas = [SchemaMaker(seed).schema() for seed in range(120)]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(schemas)
    keywords = (
        "$ref $defs enum const pattern format minimum maximum exclusiveMinimum exclusiveMaximum "
        "multipleOf minLength maxLength items prefixItems minItems maxItems properties required "
        "additionalProperties patternProperties minProperties maxProperties anyOf oneOf allOf"
    )
    assert [word for word in keywords.split() if f'"{word}": ' not in text] == []


@pytest.mark.parametrize("keyword", UNSUPPORTED)
def test_a_keyword_that_cannot_be_promised_is_named_under_strict(
    keyword: str, grammars: GrammarCompiler
) -> None:
    with pytest.raises(GrammarError, match=keyword):
        grammars.compile(strict(UNSUPPORTED[keyword]))
    deep = {"type": "array", "items": {"anyOf": [{"type": "null"}, UNSUPPORTED[keyword]]}}
    with pytest.raises(GrammarError, match=keyword):
        grammars.compile(strict(deep))
    grammars.compile(grammar(json_part({"type": "null"}, is_strict=False)))


@pytest.mark.xfail(strict=True, reason="llguidance 1.9.1 allows it")
@pytest.mark.parametrize(
    ("schema", "text"),
    [
        # An excluded bound, where the other bound has the same whole part.
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, "0"),
        ({"type": "number", "exclusiveMinimum": 50, "maximum": 50.5}, "50"),
        # A class of characters that leaves out the quotation mark.
        ({"type": "string", "pattern": '^[^"]$'}, r'"\""'),
    ],
)
def test_a_text_that_breaks_its_schema_cannot_be_written(
    schema: dict[str, Any], text: str, grammars: GrammarCompiler
) -> None:
    assert not judge_of(schema).is_valid(json.loads(text))
    constraint = grammars.compile(strict(schema))
    for token in grammar_kit.tokenizer().encode(text).ids:
        assert constraint.accept(token)
    assert not constraint.matcher.is_accepting()

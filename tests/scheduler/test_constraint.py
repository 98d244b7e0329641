"""Outputs follow their grammars, whatever the model wants and whatever happens to the sequence."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from grammar_kit import (
    END_ID,
    VOCAB_SIZE,
    LogitsRunner,
    allowed_tokens,
    compiler,
    fake_logits,
    lark_grammar,
    schema_grammar,
    text_of,
    tokenizer,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anzoth.frames import Row, SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.constraint import (
    Constraint,
    GrammarCompiler,
)
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.masks import MaskComputer
from anzoth.scheduler.sampler import sample
from anzoth.scheduler.sequence import RowFailure, SampledToken, Sequence
from fake_runner import FakeRunner, FakeSpec

PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> GrammarCompiler:
    return compiler(tmp_path_factory.mktemp("tokenizer"))


def engine_with(runner: FakeRunner | None = None, **config: Any) -> Engine:
    ticks = iter(range(10**9))
    return Engine(runner or LogitsRunner(), EngineConfig(**config), lambda: float(next(ticks)))


def submit(
    engine: Engine,
    constraint: Constraint | None,
    max_tokens: int = 300,
    num_choices: int = 1,
    prompt: list[int] = PROMPT,
    **sampling: Any,
) -> int:
    grammar = None if constraint is None else "kept by the caller"
    params = SamplingParams(grammar=grammar, **sampling)
    message = Submit(0, "salt", "t", num_choices, max_tokens, params)
    number = engine.submit(message, prompt, constraint)
    assert isinstance(number, int), number
    return number


Outputs = dict[tuple[int, int], list[Row]]


def run(engine: Engine) -> Outputs:
    """The rows of each choice."""
    outputs: Outputs = {}
    while engine.has_work:
        for row in engine.step():
            outputs.setdefault((row.request, row.choice), []).append(row)
    engine.check_integrity()
    engine.check_idle()
    return outputs


def text(rows: list[Row]) -> str:
    return text_of([row.token for row in rows if row.token is not None])


# --- the form of outputs --------------------------------------------------------------------------

SCALARS = st.sampled_from(
    [
        {"type": "integer", "minimum": -99, "maximum": 99},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "string", "maxLength": 6},
        {"type": "string", "pattern": "^[a-z]{2}-[0-9]$"},
        {"enum": ["red", 5, None, "grün"]},
        {"const": {"a": [1]}},
        {"type": ["boolean", "null"]},
    ]
)


def _array(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 3}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[::2],
        "additionalProperties": False,
    }


NAMES = st.sampled_from(["name", "a", 'qu"ote', "ünï", "x y"])
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        inner.map(_array),
        st.dictionaries(NAMES, inner, max_size=4).map(_object),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    ),
    max_leaves=6,
)


def follows(value: Any, schema: dict[str, Any]) -> bool:
    """The keywords of SCHEMAS, checked the plain way."""
    match schema:
        case {"anyOf": choices}:
            return any(follows(value, choice) for choice in choices)
        case {"enum": values}:
            return any(type(value) is type(one) and value == one for one in values)
        case {"const": one}:
            return value == one
        case {"type": "array"}:
            return (
                isinstance(value, list)
                and schema["minItems"] <= len(value) <= schema["maxItems"]
                and all(follows(item, schema["items"]) for item in value)
            )
        case {"type": "object"}:
            return (
                isinstance(value, dict)
                and set(schema["required"]) <= value.keys() <= schema["properties"].keys()
                and all(follows(value[key], schema["properties"][key]) for key in value)
                # In the order of the schema.
                and list(value) == [key for key in schema["properties"] if key in value]
            )
        case {"type": "string", "pattern": _}:
            return isinstance(value, str) and len(value) == 4 and value[2] == "-"
        case {"type": "string"}:
            return isinstance(value, str) and len(value) <= schema["maxLength"]
        case {"type": "integer"}:
            return type(value) is int and -99 <= value <= 99
        case {"type": list()}:
            return value is None or isinstance(value, bool)
        case {"type": "boolean"}:
            return isinstance(value, bool)
    return value is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    schema=SCHEMAS,
    seed=st.integers(0, 2**32),
    how=st.sampled_from(
        [
            {"temperature": 0.0},
            {"temperature": 1.0},
            {"temperature": 5.0, "top_p": 0.9},
            {"temperature": 1.0, "top_k": 3, "repetition_penalty": 1.5},
            {"temperature": 1.0, "logit_bias": ((END_ID, 100.0), (40, 100.0))},
        ]
    ),
)
@pytest.mark.slow
def test_every_output_parses_and_follows_its_schema(
    grammars: GrammarCompiler, schema: dict[str, Any], seed: int, how: dict[str, Any]
) -> None:
    engine = engine_with()
    constraint = grammars.compile(schema_grammar(schema))
    submit(engine, constraint, num_choices=2, seed=seed, **how)
    for rows in run(engine).values():
        assert rows[-1].finish in ("stop", "length")
        if rows[-1].finish == "stop":
            assert follows(json.loads(text(rows)), schema), text(rows)
        else:  # penalties may drive a model round in a list for ever; it is cut, not broken
            assert len(rows) == 300


def test_json_is_spaced_as_python_writes_it_and_in_the_order_of_the_schema(
    grammars: GrammarCompiler,
) -> None:
    small = {"type": "integer", "minimum": 0, "maximum": 9}
    pair = {"type": "array", "items": small, "minItems": 2, "maxItems": 2}
    schema = {**_object({"z": pair, "a": small, "m": _object({})}), "required": ["a", "z", "m"]}
    engine = engine_with()
    submit(engine, grammars.compile(schema_grammar(schema)), num_choices=4)
    for rows in run(engine).values():
        value = json.loads(text(rows))
        assert list(value) == ["z", "a", "m"]
        assert text(rows) == json.dumps(value)


def test_greedy_takes_the_best_token_that_is_allowed(grammars: GrammarCompiler) -> None:
    constraint = grammars.compile(schema_grammar({"type": "array", "items": {"type": "string"}}))
    own = constraint.copy()
    sequence = sequence_with(constraint)
    for seed in range(40):
        logits = fake_logits(seed)
        best = max(allowed_tokens(own), key=lambda token, z=logits: float(z[token]))
        (answer,) = sampled([sequence], [logits])
        assert isinstance(answer, SampledToken)
        assert answer.token_id == best
        if best == END_ID:
            break
        assert own.accept(best)
        assert constraint.accept(best)


def test_logprobs_are_those_of_what_is_allowed(grammars: GrammarCompiler) -> None:
    constraint = grammars.compile(lark_grammar('start: "a" | "b"'))
    params = SamplingParams(temperature=0.0, num_logprobs=20)
    (answer,) = sampled([sequence_with(constraint, params)], [fake_logits(3)])
    assert isinstance(answer, SampledToken)
    assert answer.top_logprobs is not None
    assert {text_of([token]) for token, _ in answer.top_logprobs} == {"a", "b"}
    total = sum(torch.tensor([logprob for _, logprob in answer.top_logprobs]).exp())
    assert float(total) == pytest.approx(1.0)


def sequence_with(constraint: Constraint | None, params: SamplingParams | None = None) -> Sequence:
    params = params or SamplingParams(temperature=0.0)
    return Sequence(
        0, 0, "t", "s", list(PROMPT), len(PROMPT), 50, params, 0.0, constraint=constraint
    )


def sampled(
    sequences: list[Sequence], logits: list[torch.Tensor]
) -> list[SampledToken | RowFailure]:
    masks = MaskComputer().compute(sequences, VOCAB_SIZE)
    return sample(torch.stack(logits), sequences, (END_ID,), masks)


# --- endings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [{}, {"max_tokens": 3}, {"ignore_eos": True}, {"min_tokens": 20}, {"num_logprobs": 2}],
    ids=str,
)
def test_a_complete_output_stops_with_its_last_token(
    grammars: GrammarCompiler, how: dict[str, Any]
) -> None:
    engine = engine_with()
    submit(engine, grammars.compile(lark_grammar('start: "x" "y" "z"')), **how)
    *tokens, last = run(engine)[0, 0]
    assert text(tokens) == "xyz"
    assert [row.finish for row in tokens] == [None] * 3
    assert (last.token, last.finish) == (None, "stop")
    assert [row.cached_tokens for row in [*tokens, last]] == [0, None, None, None]


def test_an_output_that_is_cut_says_length(grammars: GrammarCompiler) -> None:
    engine = engine_with()
    submit(engine, grammars.compile(lark_grammar("start: /x{9}/")), max_tokens=4)
    rows = run(engine)[0, 0]
    assert text(rows) == "xxxx"
    assert rows[-1].finish == "length"


def test_the_end_is_allowed_exactly_where_the_grammar_accepts(grammars: GrammarCompiler) -> None:
    constraint = grammars.compile(lark_grammar('start: "x" ("yx")*'))
    for letter, may_end in (("x", True), ("y", False), ("x", True)):
        assert constraint.accept(tokenizer().encode(letter).ids[0])
        assert (END_ID in allowed_tokens(constraint)) is may_end
        eager = fake_logits(0)
        eager[END_ID] = 1000.0
        (answer,) = sampled([sequence_with(constraint)], [eager])
        assert isinstance(answer, SampledToken)
        assert (answer.token_id == END_ID) is may_end


def test_an_end_that_the_model_chose_is_a_token_like_any(grammars: GrammarCompiler) -> None:
    engine = engine_with()
    submit(engine, grammars.compile(lark_grammar('start: "x"*')), logit_bias=((END_ID, 100.0),))
    (row,) = run(engine)[0, 0]
    assert (row.token, row.finish) == (END_ID, "stop")


def test_min_tokens_holds_the_end_back_where_something_else_may_follow(
    grammars: GrammarCompiler,
) -> None:
    engine = engine_with()
    constraint = grammars.compile(lark_grammar('start: "x"*'))
    submit(engine, constraint, logit_bias=((END_ID, 100.0),), min_tokens=5)
    rows = run(engine)[0, 0]
    assert text(rows) == "xxxxx"
    assert rows[-1].finish == "stop"


def test_min_tokens_does_not_forbid_the_only_way_out(grammars: GrammarCompiler) -> None:
    """Should a grammar notice its end only when it is asked for the next token."""
    constraint = grammars.compile(lark_grammar('start: "x"'))
    assert constraint.accept(tokenizer().encode("x").ids[0])
    assert constraint.is_over
    params = SamplingParams(temperature=0.0, min_tokens=5)
    assert sampled([sequence_with(constraint, params)], [fake_logits(0)]) == [SampledToken(END_ID)]


def test_a_stop_token_ends_it_as_it_ends_any_text(grammars: GrammarCompiler) -> None:
    engine = engine_with()
    (y,) = tokenizer().encode("y").ids
    submit(engine, grammars.compile(lark_grammar('start: "xyz"')), stop_token_ids=(y,))
    rows = run(engine)[0, 0]
    assert [row.finish for row in rows] == [None, "stop"]


# --- company --------------------------------------------------------------------------------------

PEOPLE = _array(_object({"name": {"type": "string", "maxLength": 8}, "a": {"type": "boolean"}}))


def test_preempted_outputs_are_the_same_and_their_grammars_go_on(grammars: GrammarCompiler) -> None:
    def outputs(num_blocks: int) -> tuple[list[str], int]:
        engine = engine_with(LogitsRunner(num_blocks=num_blocks, max_model_tokens=120))
        constraint = grammars.compile(schema_grammar(PEOPLE))
        for seed in range(6):
            copy = constraint.copy() if seed % 3 else None
            submit(engine, copy, max_tokens=60, seed=seed, prompt=[seed + 5] * 7)
        return [text(rows) for rows in run(engine).values()], engine.stats().preemptions

    roomy, none = outputs(512)
    tight, some = outputs(20)
    assert none == 0
    assert some > 0
    assert sorted(tight) == sorted(roomy)


def test_choices_go_their_own_ways(grammars: GrammarCompiler) -> None:
    engine = engine_with()
    submit(engine, grammars.compile(schema_grammar(PEOPLE)), num_choices=5, seed=3)
    texts = [text(rows) for rows in run(engine).values()]
    assert len(set(texts)) > 1
    assert all(follows(json.loads(one), PEOPLE) for one in texts)


def test_unconstrained_rows_are_drawn_as_if_they_were_alone(grammars: GrammarCompiler) -> None:
    free = [sequence_with(None), sequence_with(None)]
    logits = [fake_logits(1), fake_logits(2), fake_logits(3)]
    bound = sequence_with(grammars.compile(lark_grammar('start: "x"')))
    together = sampled([free[0], bound, free[1]], [x.clone() for x in logits])
    assert [together[0], together[2]] == sampled(free, [logits[0].clone(), logits[2].clone()])
    assert MaskComputer().compute(free, VOCAB_SIZE) is None


def test_a_grammar_that_cannot_go_on_ends_its_own_sequence(grammars: GrammarCompiler) -> None:
    """Here the runner knows no masks, so it draws what is forbidden."""
    engine = engine_with(FakeRunner(spec=FakeSpec(VOCAB_SIZE, (END_ID,))))
    bound = submit(engine, grammars.compile(lark_grammar('start: "q"*')), max_tokens=8)
    free = submit(engine, None, max_tokens=8, ignore_eos=True)
    outputs = run(engine)
    assert outputs[bound, 0][-1].finish == "error"
    assert outputs[bound, 0][-1].token is None
    assert outputs[free, 0][-1].finish == "length"


@pytest.mark.parametrize("num_broken", [1, 2])
def test_a_grammar_beyond_a_limit_fails_its_own_row(
    grammars: GrammarCompiler, num_broken: int
) -> None:
    broken = [grammars.compile(lark_grammar('start: "x"*')) for _ in range(num_broken)]
    for constraint in broken:
        assert not constraint.accept(END_ID + 1)
        assert not constraint.is_over
    others = [None, grammars.compile(lark_grammar('start: "x"'))]
    sequences = [sequence_with(constraint) for constraint in (*broken, *others)]
    answers = sampled(sequences, [fake_logits(i) for i in range(len(sequences))])
    assert all(isinstance(a, RowFailure) and a.is_callers for a in answers[:num_broken])
    assert all(isinstance(answer, SampledToken) for answer in answers[num_broken:])


def test_a_request_whose_grammar_was_not_compiled_is_refused() -> None:
    message = Submit(0, "salt", "t", 1, 5, SamplingParams(grammar="x"))
    refusal = engine_with().submit(message, PROMPT)
    assert not isinstance(refusal, int)
    assert refusal.code == "invalid"

"""Drafts save steps and change nothing else: tokens, endings, blocks, other sequences."""

from __future__ import annotations

import random
from typing import Any

import pytest
from grammar_kit import LogitsRunner, compiler, lark_grammar, schema_grammar, text_of

from anzoth.frames import Row, SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.constraint import Constraint, GrammarCompiler
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.sequence import Place, RowFailure, SampledToken, ScheduledSequence
from fake_runner import EOS, FakeRunner

ENDLESS = SamplingParams(ignore_eos=True)


class RepetitiveRunner(FakeRunner):
    """Writes passages over and over, and leaves them now and then: drafts are right, then wrong.

    Where it is in a passage follows from the last tokens, and whether it leaves it from the number
    that the fake computes through the block table; so a wrong block still changes the text.
    """

    def _answer(self, place: Place, total: int) -> SampledToken | RowFailure:
        answer = super()._answer(place, total)
        if isinstance(answer, RowFailure) or total % 7 == 0:
            return answer
        last = min(place.token_ids[-1], 89)
        return SampledToken(last // 9 * 9 + (last + 1) % 9, -0.5, answer.top_logprobs)


def make_engine(runner: FakeRunner, **config: Any) -> Engine:
    ticks = iter(range(10**9))
    return Engine(runner, EngineConfig(**config), lambda: float(next(ticks)))


def submit(
    engine: Engine,
    prompt: list[int],
    max_tokens: int = 40,
    sampling: SamplingParams = ENDLESS,
    constraint: Constraint | None = None,
    **fields: Any,
) -> int:
    settings = {"cache_salt": "salt", "tenant": "t", "num_choices": 1, **fields}
    number = engine.submit(
        Submit(request=0, max_tokens=max_tokens, sampling=sampling, **settings), prompt, constraint
    )
    assert isinstance(number, int), number
    return number


Outputs = dict[tuple[int, int], list[Row]]


def run(engine: Engine, outputs: Outputs | None = None) -> Outputs:
    """The rows of each choice, none behind its end."""
    outputs = {} if outputs is None else outputs
    while engine.has_work:
        for row in engine.step():
            rows = outputs.setdefault((row.request, row.choice), [])
            assert not rows or rows[-1].finish is None, "a row after the end"
            assert (row.cached_tokens is None) == bool(rows), "only on the first row"
            rows.append(row)
        engine.check_integrity()
    engine.check_idle()
    return outputs


def without_hits(outputs: Outputs) -> dict[tuple[int, int], list[tuple[Any, ...]]]:
    """Everything but what the prefix cache saved: that depends on when others ran."""
    return {key: [row[2:6] for row in rows] for key, rows in outputs.items()}


# --- results --------------------------------------------------------------------------------------


def test_right_drafts_save_steps_and_the_tokens_are_the_same() -> None:
    def steps(speculative_tokens: int) -> tuple[Outputs, int, int]:
        engine = make_engine(RepetitiveRunner(), speculative_tokens=speculative_tokens)
        submit(engine, [10, 11, 12, 13], 100)
        outputs, stats = run(engine), engine.stats()
        return outputs, stats.step, stats.accepted_tokens

    plain, num_plain_steps, none = steps(0)
    fast, num_fast_steps, num_accepted = steps(8)
    assert fast == plain
    assert (num_plain_steps, none) == (100, 0)
    assert num_accepted > 20
    assert num_fast_steps == num_plain_steps - num_accepted


@pytest.mark.parametrize("speculative_tokens", [1, 3, 16])
@pytest.mark.parametrize("num_blocks", [24, 400])
def test_no_draft_is_ever_seen_in_the_results(num_blocks: int, speculative_tokens: int) -> None:
    """Random requests of several tenants, with company, chunks, preemption and prefix hits."""
    rng = random.Random(num_blocks + speculative_tokens)
    passages = [[9 * n + i for i in range(9)] for n in range(1, 9)]
    requests: list[tuple[list[int], int, SamplingParams, dict[str, Any]]] = []
    for _ in range(50):
        prompt = [token for _ in range(rng.randint(1, 4)) for token in rng.choice(passages)]
        max_tokens = rng.randint(1, 40)
        sampling = SamplingParams(
            seed=rng.randrange(3),
            ignore_eos=rng.random() < 0.7,
            min_tokens=rng.randrange(max_tokens),
            stop_token_ids=(rng.choice(passages)[4],) if rng.random() < 0.3 else (),
        )
        tenant = rng.choice("ab")
        fields = {"tenant": tenant, "cache_salt": tenant, "num_choices": rng.randint(1, 3)}
        requests.append((prompt, max_tokens, sampling, fields))

    def outcome(num_blocks: int, **config: Any) -> tuple[Outputs, Engine]:
        engine = make_engine(RepetitiveRunner(num_blocks=num_blocks, max_model_tokens=90), **config)
        outputs: Outputs = {}
        for prompt, max_tokens, sampling, fields in requests:
            submit(engine, prompt, max_tokens, sampling, **fields)
            if rng.random() < 0.6:
                for row in engine.step():
                    outputs.setdefault((row.request, row.choice), []).append(row)
        return run(engine, outputs), engine

    plain, _ = outcome(4000, speculative_tokens=0)
    fast, engine = outcome(
        num_blocks,
        speculative_tokens=speculative_tokens,
        max_batch_tokens=48,
        max_running_sequences=8,
    )
    assert without_hits(fast) == without_hits(plain)
    stats = engine.stats()
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    assert stats.preemptions > 9 or num_blocks == 400


def accepting_engine(**config: Any) -> tuple[Engine, FakeRunner]:
    """An engine whose next step verifies drafts that are right, and its runner."""

    class Obvious(FakeRunner):
        def _answer(self, place: Place, total: int) -> SampledToken | RowFailure:
            last = place.token_ids[-1]
            answer = super()._answer(place, total)
            return SampledToken(last % 90 + 1) if isinstance(answer, SampledToken) else answer

    runner = Obvious(**config)
    return make_engine(runner, speculative_tokens=8), runner


COUNTING = [*range(60, 80), *range(60, 66)]


@pytest.mark.parametrize(
    ("max_tokens", "sampling", "expected", "finish"),
    [
        (9, ENDLESS, list(range(66, 75)), "length"),
        (30, SamplingParams(ignore_eos=True, stop_token_ids=(70,)), list(range(66, 71)), "stop"),
        (
            9,
            SamplingParams(ignore_eos=True, stop_token_ids=(68,), min_tokens=4),
            list(range(66, 75)),
            "length",
        ),
        (40, SamplingParams(), [*range(66, 91), EOS], "stop"),
    ],
)
def test_an_ending_among_drafts_ends_the_sequence_there(
    max_tokens: int, sampling: SamplingParams, expected: list[int], finish: str
) -> None:
    engine, runner = accepting_engine()
    submit(engine, COUNTING, max_tokens, sampling)
    (rows,) = run(engine).values()
    assert [row.token for row in rows] == expected
    assert [row.finish for row in rows] == [None] * (len(expected) - 1) + [finish]
    assert len(runner.batches) < len(expected)


def test_a_sequence_that_fills_the_cache_alone_is_drafted_for_to_its_last_slot() -> None:
    engine, _ = accepting_engine(num_blocks=10, max_model_tokens=40)
    submit(engine, COUNTING, 40 - len(COUNTING))
    (rows,) = run(engine).values()
    assert [row.token for row in rows] == [(65 + i) % 90 + 1 for i in range(14)]
    assert engine.stats().accepted_tokens > 0


def test_an_abort_after_drafts_were_accepted_frees_every_block() -> None:
    engine, _ = accepting_engine()
    request = submit(engine, COUNTING, 60)
    while engine.stats().accepted_tokens == 0:
        engine.step()
    engine.abort(request)
    engine.check_idle()
    engine.check_integrity()


def test_blocks_that_drafts_filled_are_reused_only_as_far_as_the_drafts_were_right() -> None:
    """The fake runner's numbers would differ if a rejected draft were part of a reused block."""
    engine = make_engine(RepetitiveRunner(num_blocks=400, max_model_tokens=300))
    prompt = [*range(18, 27)] * 3
    submit(engine, prompt, 120)
    (first,) = run(engine).values()
    known = [*prompt, *(row.token for row in first if row.token is not None)]
    stats = engine.stats()
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    again = submit(engine, known, 40)
    rows = run(engine)[again, 0]
    assert rows[0].cached_tokens == (len(known) - 1) // 4 * 4
    fresh = make_engine(RepetitiveRunner(num_blocks=400, max_model_tokens=300))
    submit(fresh, known, 40)
    assert without_hits(run(fresh))[0, 0] == [row[2:6] for row in rows]


def test_a_failure_behind_a_draft_counts_when_the_sequence_has_come_there() -> None:
    engine, runner = accepting_engine()
    runner.fails = lambda place: place.num_output_tokens == 7
    submit(engine, COUNTING, 30)
    (rows,) = run(engine).values()
    assert [row.token for row in rows] == [*range(66, 73), None]
    assert rows[-1].finish == "error"
    assert engine.stats().accepted_tokens > 0
    # Behind a draft that is wrong, nothing happens at all.
    engine, runner = accepting_engine()
    runner.fails = lambda place: place.token_ids[-2:] == [79, 60]
    submit(engine, [*range(60, 80), *range(60, 80)], 30)
    (rows,) = run(engine).values()
    assert (len(rows), rows[-1].finish) == (30, "length")


# --- company --------------------------------------------------------------------------------------


def test_drafts_take_no_budget_from_prompts_and_no_block_that_others_need() -> None:
    class Watching(RepetitiveRunner):
        def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
            owed = sum(item.num_tokens for item in batch)
            drafts = sum(len(item.drafts) for item in batch)
            assert owed + drafts <= 32
            num_left = sum(
                item.sequence.num_owed_tokens - item.num_tokens
                for item in batch
                if not item.samples
            )
            assert not (drafts and num_left), "a prompt was cut and drafts were computed"
            return super().execute(batch)

    def preemptions(speculative_tokens: int) -> tuple[int, int]:
        engine = make_engine(
            Watching(num_blocks=40),
            speculative_tokens=speculative_tokens,
            max_batch_tokens=32,
            max_running_sequences=6,
        )
        for first in range(12):
            submit(engine, [9 * (first % 5) + 9 + i for i in range(9)] * 3, 40)
        run(engine)
        return engine.stats().preemptions, engine.stats().accepted_tokens

    without, _ = preemptions(0)
    with_drafts, accepted = preemptions(8)
    assert accepted > 50
    assert with_drafts <= without


def test_tenants_pay_for_drafts_as_for_tokens_of_a_prompt() -> None:
    engine, _ = accepting_engine()
    submit(engine, COUNTING, 60)
    fairness = engine._scheduler.fairness
    engine.step()
    before = fairness.counter("t")
    engine.step()
    num_drafts = engine.stats().drafted_tokens
    assert num_drafts > 0
    assert fairness.counter("t") - before == 2.0 + num_drafts


# --- grammars and penalties -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> GrammarCompiler:
    return compiler(tmp_path_factory.mktemp("tokenizer"))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
        "other": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "list", "other"],
    "additionalProperties": False,
}
WAYS = [
    {"temperature": 0.0},
    {"temperature": 1.0, "seed": 4},
    {"temperature": 1.5, "top_p": 0.9, "seed": 5, "num_logprobs": 3},
    {"temperature": 0.0, "repetition_penalty": 1.3, "num_logprobs": 1},
    {"temperature": 1.0, "presence_penalty": 1.0, "frequency_penalty": 0.5, "seed": 6},
    {"temperature": 0.7, "seed": 7, "min_tokens": 12, "logit_bias": ((0, 5.0), (70, 3.0))},
]


@pytest.mark.slow
def test_grammars_penalties_and_logprobs_see_exactly_the_tokens_before_them(
    grammars: GrammarCompiler,
) -> None:
    def outcome(speculative_tokens: int) -> tuple[Outputs, int, int]:
        engine = make_engine(LogitsRunner(), speculative_tokens=speculative_tokens)
        for way in WAYS:
            for grammar in (
                schema_grammar(PERSON),
                lark_grammar('start: ("abc" | "abd"){6}'),
                None,
            ):
                constraint = None if grammar is None else grammars.compile(grammar)
                params = SamplingParams(grammar=grammar, **way)
                submit(engine, [5, 6, 7] * 3, 60, params, constraint, num_choices=2)
        return run(engine), engine.stats().step, engine.stats().accepted_tokens

    plain, num_plain_steps, _ = outcome(0)
    fast, num_fast_steps, num_accepted = outcome(6)
    assert without_hits(fast) == without_hits(plain)
    assert num_accepted > 50
    assert num_fast_steps <= num_plain_steps


def test_what_a_grammar_forces_is_drafted(grammars: GrammarCompiler) -> None:
    engine = make_engine(LogitsRunner())
    grammar = lark_grammar('start: "the list of names is complete" ("x" | "y")')
    submit(engine, [5], 60, SamplingParams(grammar=grammar), grammars.compile(grammar))
    (rows,) = run(engine).values()
    text = text_of([row.token for row in rows if row.token is not None])
    assert text[:-1] == "the list of names is complete"
    assert len(rows) - 1 > 16
    assert engine.stats().step <= 3
    assert engine.stats().accepted_tokens == engine.stats().drafted_tokens

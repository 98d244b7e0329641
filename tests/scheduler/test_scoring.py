"""How likely a prompt is, whatever becomes of the sequence on the way."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from anzoth.frames import PromptRow, Row, SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence, Sequence
from fake_runner import FakeRunner

NUM_TOP = 3


def make_engine(runner: Any, **config: Any) -> Engine:
    return Engine(runner, EngineConfig(**config), time.monotonic)


def submit(
    engine: Engine, prompt: list[int], max_tokens: int = 0, num_choices: int = 1, **sampling: Any
) -> int:
    params = SamplingParams(**{"num_prompt_logprobs": NUM_TOP, "ignore_eos": True} | sampling)
    number = engine.submit(Submit(0, "salt", "t", num_choices, max_tokens, params), prompt)
    assert isinstance(number, int), number
    return number


Scores = dict[tuple[int, int], list[tuple[float, list[tuple[int, float]]]]]


def run(engine: Engine) -> tuple[Scores, dict[tuple[int, int], list[Row]]]:
    scores: Scores = {}
    rows: dict[tuple[int, int], list[Row]] = {}
    while engine.has_work:
        new_rows = engine.step()
        for row in engine.take_prompt_rows():
            assert isinstance(row, PromptRow)
            key = (row.request, row.choice)
            assert key not in rows, "scores come before tokens"
            scores.setdefault(key, []).extend(zip(row.logprobs, row.top_logprobs, strict=True))
        for row in new_rows:
            rows.setdefault((row.request, row.choice), []).append(row)
        engine.check_integrity()
    engine.check_idle()
    assert engine.take_prompt_rows() == []
    return scores, rows


def test_a_prompt_that_is_only_scored_ends_without_a_token() -> None:
    runner = FakeRunner()
    engine = make_engine(runner)
    request = submit(engine, list(range(20)))
    scores, rows = run(engine)
    assert len(scores[request, 0]) == 19
    assert rows == {(request, 0): [Row(request, 0, None, "length", None, None, 0)]}
    assert len(runner.batches) == 1


def test_a_prompt_of_one_token_has_no_scores() -> None:
    engine = make_engine(FakeRunner())
    request = submit(engine, [5])
    scores, rows = run(engine)
    assert scores == {}
    assert rows[request, 0][0].finish == "length"


def test_without_scores_at_least_one_token_must_be_asked_for() -> None:
    engine = make_engine(FakeRunner(num_blocks=5))
    params = SamplingParams()
    answer = engine.submit(Submit(0, "salt", "t", 1, 0, params), [5])
    assert isinstance(answer, Refusal)
    # Admission gives every sequence room for one more token.
    params = SamplingParams(num_prompt_logprobs=0)
    answer = engine.submit(Submit(0, "salt", "t", 1, 0, params), [5] * 20)
    assert isinstance(answer, Refusal)
    assert answer.code == "too_long"
    submit(engine, [5] * 19)
    run(engine)


@pytest.mark.parametrize("num_blocks", [18, 400])
def test_scores_are_those_of_the_prompt_alone_across_chunks_hits_and_preemption(
    num_blocks: int,
) -> None:
    rng = random.Random(num_blocks)
    shared = [rng.randrange(2, 97) for _ in range(24)]
    prompts = [
        shared[: rng.randrange(24)] + [rng.randrange(2, 97) for _ in range(rng.randint(1, 20))]
        for _ in range(24)
    ]
    alone: list[Any] = []
    for prompt in prompts:
        engine = make_engine(FakeRunner())
        submit(engine, prompt)
        alone.append(run(engine)[0].get((0, 0), []))

    engine = make_engine(
        FakeRunner(num_blocks=num_blocks), max_batch_tokens=16, max_running_sequences=8
    )
    for prompt in prompts:
        submit(engine, prompt, rng.choice([0, 6, 20]), num_choices=rng.choice([1, 1, 2]))
        submit(engine, prompt, 12, num_prompt_logprobs=None)
    scores, rows = run(engine)
    for (request, choice), row in rows.items():
        expected = alone[request // 2] if request % 2 == 0 else []
        assert scores.get((request, choice), []) == expected
        assert row[-1].finish == "length"
    assert any(row[0].cached_tokens for row in rows.values())
    assert (engine.stats().preemptions > 0) == (num_blocks == 18)


def test_a_scored_prompt_is_computed_whole_and_leaves_its_blocks_for_others() -> None:
    engine = make_engine(FakeRunner())
    prompt = list(range(30))
    cached = []
    for scored in (False, True, False):
        number = submit(engine, prompt, 2, num_prompt_logprobs=0 if scored else None)
        cached.append(run(engine)[1][number, 0][0].cached_tokens)
    assert cached == [0, 0, 28]


def test_choices_have_the_scores_of_one_computation() -> None:
    runner = FakeRunner()
    engine = make_engine(runner, max_batch_tokens=16)
    for max_tokens in (0, 2):
        del runner.batches[:]
        request = submit(engine, list(range(30, 60)), max_tokens, num_choices=3)
        scores, rows = run(engine)
        assert len(scores[request, 0]) == 29
        assert scores[request, 1] == scores[request, 2] == scores[request, 0]
        assert [rows[request, choice][-1].finish for choice in range(3)] == ["length"] * 3
        # Who is only scored ends at once: its last block, with two tokens, is not there to copy.
        num_computed = sum(num for batch in runner.batches for *_, num in batch)
        assert num_computed == 30 + (2 * 2 if max_tokens == 0 else 2 + 3)


def test_what_was_scored_is_not_scored_again_after_a_preemption() -> None:
    def sequence(num_scored: int) -> Sequence:
        params = SamplingParams(num_prompt_logprobs=0)
        return Sequence(0, 0, "t", "s", [7] * 20, 20, 5, params, 0.0, num_scored_tokens=num_scored)

    assert [sequence(num).num_skippable_tokens for num in (0, 8, 18, 19)] == [0, 8, 18, 20]


@pytest.mark.slow
def test_scores_equal_transformers_and_wishes_do_not_touch_them(
    make_checkpoint, load_runner, prompts
) -> None:
    import torch

    checkpoint = make_checkpoint("qwen3")
    texts = [text for text in prompts(8, seed=12) if len(text) > 1]
    runner = load_runner(checkpoint.path, num_blocks=400)
    engine = make_engine(runner, max_batch_tokens=24)
    for text in texts:
        submit(engine, text, 3, repetition_penalty=2.0, logit_bias=((7, 50.0),), min_tokens=2)
    scores, _ = run(engine)
    for number, text in enumerate(texts):
        logprobs = checkpoint.logits(text).log_softmax(dim=-1)[:-1]
        chosen = logprobs.gather(1, torch.tensor(text[1:])[:, None])[:, 0]
        found = torch.tensor([logprob for logprob, _ in scores[number, 0]])
        torch.testing.assert_close(found, chosen, rtol=0, atol=2e-5)
        best = logprobs.topk(NUM_TOP)
        tops = [top for _, top in scores[number, 0]]
        assert [[token for token, _ in top] for top in tops] == best.indices.tolist()
        values = torch.tensor([[value for _, value in top] for top in tops])
        torch.testing.assert_close(values, best.values, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_a_prompt_longer_than_what_is_scored_at_once_has_the_scores_of_its_chunks(
    make_checkpoint, load_runner
) -> None:
    checkpoint = make_checkpoint("qwen2")
    prompt = [3 + i * 7 % 200 for i in range(150)]
    found = []
    for budget in (512, 32):
        engine = make_engine(load_runner(checkpoint.path), max_batch_tokens=budget)
        submit(engine, prompt)
        found.append(run(engine)[0][0, 0])
    assert len(found[0]) == 149
    assert found[0] == found[1]


def test_a_score_that_is_no_number_fails_its_own_sequence() -> None:
    class Broken(FakeRunner):
        def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
            answers = super().execute(batch)
            for item, own in zip(batch, answers, strict=True):
                if item.num_scored and item.sequence.request == 1:
                    own[item.num_scored - 1] = RowFailure("not a number")
            return answers

    engine = make_engine(Broken())
    for first in range(3):
        submit(engine, list(range(first, first + 9)), 4)
    scores, rows = run(engine)
    assert {key: row[-1].finish for key, row in rows.items()} == {
        (0, 0): "length",
        (1, 0): "error",
        (2, 0): "length",
    }
    assert set(scores) == {(0, 0), (2, 0)}

"""Whatever the company, a sequence gives the tokens that it gives alone, and leaves no trace."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from anzoth.config import ConfigError
from anzoth.frames import Row, SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.sequence import RowFailure
from fake_runner import EOS, FakeRunner, continuation

ENDLESS = SamplingParams(ignore_eos=True)


@dataclass
class Clock:
    """Advances by a hundredth of a second each time it is read."""

    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += 0.01
        return self.now_s


def make_engine(runner: FakeRunner | None = None, **config: Any) -> Engine:
    settings = {"max_batch_tokens": 16, **config}
    return Engine(runner or FakeRunner(), EngineConfig(**settings), Clock())


def make_submit(
    max_tokens: int = 10,
    sampling: SamplingParams = ENDLESS,
    num_choices: int = 1,
    salt: str = "salt",
    tenant: str = "t",
    priority: int = 0,
    timeout_ms: int | None = None,
) -> Submit:
    return Submit(
        0,
        salt,
        tenant,
        num_choices,
        max_tokens,
        sampling,
        priority=priority,
        timeout_ms=timeout_ms,
    )


def submitted(engine: Engine, submit: Submit, prompt: list[int]) -> int:
    answer = engine.submit(submit, prompt)
    assert isinstance(answer, int), answer
    return answer


def refused(engine: Engine, submit: Submit, prompt: list[int]) -> Refusal:
    answer = engine.submit(submit, prompt)
    assert isinstance(answer, Refusal)
    return answer


@dataclass
class Outputs:
    """All rows so far, by request and choice, as a gateway would collect them."""

    tokens: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    finish: dict[tuple[int, int], str] = field(default_factory=dict)
    cached_tokens: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            key = (row.request, row.choice)
            assert key not in self.finish, "a row after the end"
            assert (row.cached_tokens is None) == (key in self.tokens) or (
                row.finish == "deadline"
            ), "only on the first row"
            if row.cached_tokens is not None:
                self.cached_tokens[key] = row.cached_tokens
            self.tokens.setdefault(key, [])
            if row.token is not None:
                self.tokens[key].append(row.token)
            if row.finish is not None:
                self.finish[key] = row.finish


def run_to_end(engine: Engine, outputs: Outputs | None = None) -> Outputs:
    outputs = outputs or Outputs()
    while engine.has_work:
        outputs.add(engine.step())
        engine.check_integrity()
    engine.check_idle()
    return outputs


def all_blocks_are_back(engine: Engine) -> bool:
    stats = engine.stats()
    return stats.free_blocks + stats.cached_blocks == stats.total_blocks


# --- one request ------------------------------------------------------------------------------


def test_tokens_equal_the_model_alone_across_chunks_and_blocks() -> None:
    engine = make_engine()
    prompt = list(range(40))
    request = submitted(engine, make_submit(30), prompt)
    outputs = run_to_end(engine)
    assert outputs.tokens == {(request, 0): continuation(prompt, 30, ENDLESS)}
    assert outputs.finish == {(request, 0): "length"}
    assert all_blocks_are_back(engine)


def prompt_that_ends_early() -> tuple[list[int], list[int]]:
    """A prompt whose continuation meets the end-of-sequence token after a few tokens."""
    for first in range(97):
        output = continuation([first, 2, 3], 40)
        if output[-1] == EOS and 4 <= len(output) < 40:
            return [first, 2, 3], output
    raise AssertionError("the fake model never stops")


def test_eos_ends_a_choice_and_is_its_last_token() -> None:
    engine = make_engine()
    prompt, expected = prompt_that_ends_early()
    request = submitted(engine, make_submit(40, SamplingParams()), prompt)
    outputs = run_to_end(engine)
    assert outputs.tokens[request, 0] == expected
    assert expected[-1] == EOS
    assert outputs.finish[request, 0] == "stop"


def test_ignored_eos_and_eos_below_min_tokens_do_not_end_a_choice() -> None:
    prompt, expected = prompt_that_ends_early()
    for sampling in (ENDLESS, SamplingParams(min_tokens=len(expected) + 1)):
        engine = make_engine()
        request = submitted(engine, make_submit(40, sampling), prompt)
        tokens = run_to_end(engine).tokens[request, 0]
        assert tokens[: len(expected)] == expected
        assert len(tokens) > len(expected)


def test_eos_as_token_number_min_tokens_ends_a_choice() -> None:
    prompt, expected = prompt_that_ends_early()
    engine = make_engine()
    sampling = SamplingParams(min_tokens=len(expected))
    request = submitted(engine, make_submit(40, sampling), prompt)
    assert run_to_end(engine).tokens[request, 0] == expected


def test_stop_token_ids_end_a_choice_even_if_eos_is_ignored() -> None:
    free_running = continuation([5, 6], 10, ENDLESS)
    stop = free_running[3]
    sampling = replace(ENDLESS, stop_token_ids=(stop,))
    engine = make_engine()
    request = submitted(engine, make_submit(10, sampling), [5, 6])
    outputs = run_to_end(engine)
    assert outputs.tokens[request, 0] == free_running[: free_running.index(stop) + 1]
    assert outputs.finish[request, 0] == "stop"


def test_token_that_stops_at_the_length_limit_counts_as_stop() -> None:
    prompt, expected = prompt_that_ends_early()
    engine = make_engine()
    request = submitted(engine, make_submit(len(expected), SamplingParams()), prompt)
    assert run_to_end(engine).finish[request, 0] == "stop"


def test_logprobs_reach_the_row() -> None:
    engine = make_engine()
    submitted(engine, make_submit(1, replace(ENDLESS, num_logprobs=1)), [5])
    (row,) = engine.step()
    assert row.logprob == -0.5
    assert row.top_logprobs == [(row.token, -0.5)]


def test_cached_tokens_are_reported_once_per_choice_and_per_tenant() -> None:
    engine = make_engine(max_batch_tokens=64)
    prompt = list(range(22))
    first = submitted(engine, make_submit(3), prompt)
    assert run_to_end(engine).cached_tokens == {(first, 0): 0}
    again = submitted(engine, make_submit(3, num_choices=2), prompt)
    other = submitted(engine, make_submit(3, salt="other"), prompt)
    outputs = run_to_end(engine)
    assert outputs.cached_tokens == {(again, 0): 20, (again, 1): 21, (other, 0): 0}
    assert outputs.tokens[again, 0] == outputs.tokens[other, 0] == continuation(prompt, 3, ENDLESS)


def test_choices_differ_only_by_their_number_and_share_the_prompt() -> None:
    runner = FakeRunner()
    engine = make_engine(runner, max_batch_tokens=64)
    prompt = list(range(22))
    request = submitted(engine, make_submit(8, num_choices=3), prompt)
    outputs = run_to_end(engine)
    for choice in range(3):
        expected = continuation(prompt, 8, ENDLESS, choice)
        assert outputs.tokens[request, choice] == expected
    assert sum(n for batch in runner.batches[:2] for *_, n in batch) == 22 + 1 + 1 + 1


@pytest.mark.parametrize("num_prompt_tokens", [1, 2, 3, 4, 5, 30, 32, 33, 50])
@pytest.mark.parametrize("num_cached_tokens", [0, 16])
def test_eight_choices_compute_their_prompt_once_and_its_last_token_each(
    num_prompt_tokens: int, num_cached_tokens: int
) -> None:
    """Whatever part of the last block the prompt fills, in one chunk or in several."""
    runner = FakeRunner()
    engine = make_engine(runner, max_batch_tokens=20)
    prompt = list(range(num_prompt_tokens))
    num_hit = 0
    if prompt[:num_cached_tokens]:
        submitted(engine, make_submit(1), prompt[:num_cached_tokens])
        run_to_end(engine)
        num_hit = min(num_cached_tokens, num_prompt_tokens - 1) // 4 * 4
    del runner.batches[:]
    request = submitted(engine, make_submit(5, num_choices=8), prompt)
    outputs = run_to_end(engine)
    # The other four tokens of each choice are decoded; drafts, if any, are not counted here.
    num_computed = sum(num for batch in runner.batches for *_, num in batch) - 8 * 4
    assert num_computed == num_prompt_tokens - num_hit + 7
    for choice in range(8):
        assert outputs.tokens[request, choice] == continuation(prompt, 5, ENDLESS, choice)
    assert outputs.cached_tokens[request, 0] == num_hit


def test_choices_that_end_with_their_first_token_are_not_waited_for() -> None:
    runner = FakeRunner()
    engine = make_engine(runner, max_batch_tokens=64)
    submitted(engine, make_submit(1, num_choices=8), list(range(22)))
    run_to_end(engine)
    assert [sum(num for *_, num in batch) for batch in runner.batches] == [22, 7 * 2]


def test_follow_up_turn_reuses_the_blocks_of_the_answer() -> None:
    engine = make_engine(max_batch_tokens=64)
    prompt = list(range(10))
    first = submitted(engine, make_submit(11), prompt)
    answer = run_to_end(engine).tokens[first, 0]
    follow_up = submitted(engine, make_submit(1), [*prompt, *answer, 50, 51])
    # 21 tokens were known, the last of them never computed: five full blocks.
    assert run_to_end(engine).cached_tokens[follow_up, 0] == 20


# --- company ----------------------------------------------------------------------------------


def random_request(random_: random.Random) -> tuple[Submit, list[int]]:
    stem = [3, 1, 4, 1, 5, 9, 2, 6][: random_.randint(0, 8)] * random_.randint(1, 3)
    prompt = [*stem, *(random_.randrange(2, 97) for _ in range(random_.randint(1, 12)))]
    sampling = SamplingParams(seed=random_.randrange(3), ignore_eos=random_.random() < 0.5)
    tenant = random_.choice("abc")
    return make_submit(random_.randint(1, 25), sampling, tenant=tenant, salt=tenant), prompt


@pytest.mark.parametrize(("num_blocks", "budget"), [(16, 16), (16, 200), (24, 6)])
def test_preemption_by_a_tiny_pool_changes_no_token(num_blocks: int, budget: int) -> None:
    random_ = random.Random(num_blocks + budget)
    runner = FakeRunner(num_blocks=num_blocks, max_model_tokens=64)
    engine = make_engine(runner, max_batch_tokens=budget)
    requests = [random_request(random_) for _ in range(40)]
    numbers = [submitted(engine, *request) for request in requests]
    outputs = run_to_end(engine)
    assert engine.stats().preemptions > 2
    for number, (submit, prompt) in zip(numbers, requests, strict=True):
        expected = continuation(prompt, submit.max_tokens, submit.sampling)
        assert outputs.tokens[number, 0] == expected
    assert all_blocks_are_back(engine)


@pytest.mark.parametrize("seed", range(3))
def test_survivors_of_64_streams_with_random_aborts_equal_their_solo_run(seed: int) -> None:
    random_ = random.Random(seed)
    engine = make_engine(
        FakeRunner(num_blocks=90, max_model_tokens=64), max_batch_tokens=48, max_queued_requests=99
    )
    requests = [random_request(random_) for _ in range(64)]
    alive = {submitted(engine, *request): request for request in requests}
    aborted: set[int] = set()
    outputs = Outputs()
    most_running = 0
    while engine.has_work:
        if random_.random() < 0.4:
            victim = random_.choice(list(alive))
            engine.abort(victim)
            aborted.add(victim)
            engine.check_integrity()
            if not engine.has_work:
                break
        rows = engine.step()
        assert not any(row.request in aborted for row in rows)
        outputs.add(rows)
        most_running = max(most_running, engine.stats().running)
    engine.check_idle()
    engine.check_integrity()
    assert all_blocks_are_back(engine)
    assert most_running > 10
    survivors = [n for n in alive if (n, 0) in outputs.finish]
    assert len(survivors) > 20
    for number, (submit, prompt) in alive.items():
        expected = continuation(prompt, submit.max_tokens, submit.sampling)
        tokens = outputs.tokens.get((number, 0), [])
        assert tokens == expected[: len(tokens)]
        if number in survivors:
            assert tokens == expected
        else:
            assert number in aborted


def test_aborting_one_choice_leaves_the_others() -> None:
    engine = make_engine()
    request = submitted(engine, make_submit(6, num_choices=3), [5, 6, 7])
    outputs = Outputs()
    outputs.add(engine.step())
    engine.abort(request, 1)
    engine.abort(request, 9)
    run_to_end(engine, outputs)
    assert set(outputs.finish) == {(request, 0), (request, 2)}
    assert outputs.tokens[request, 2] == continuation([5, 6, 7], 6, ENDLESS, 2)


def test_abort_frees_blocks_at_once_and_of_the_unknown_does_nothing() -> None:
    engine = make_engine()
    request = submitted(engine, make_submit(50), list(range(30)))
    engine.step()
    assert not all_blocks_are_back(engine)
    engine.abort(request)
    engine.abort(request)
    engine.abort(12345)
    assert not engine.has_work
    assert all_blocks_are_back(engine)
    engine.check_idle()


def test_idle_check_notices_blocks_that_are_still_held() -> None:
    engine = make_engine()
    submitted(engine, make_submit(50), [5])
    engine.step()
    with pytest.raises(IntegrityError, match="1 KV blocks and 1 key chains"):
        engine.check_idle()


def test_failed_row_ends_its_own_sequence_and_its_blocks_are_not_reused() -> None:
    runner = FakeRunner(fails=lambda sequence: sequence.request == 1 and sequence.choice == 0)
    engine = make_engine(runner, max_batch_tokens=200)
    prompts = [list(range(n, n + 9)) for n in (10, 30, 50)]
    for prompt in prompts:
        submitted(engine, make_submit(8), prompt)
    outputs = run_to_end(engine)
    assert outputs.finish == {(0, 0): "length", (1, 0): "error", (2, 0): "length"}
    assert outputs.tokens[1, 0] == []
    for request in (0, 2):
        assert outputs.tokens[request, 0] == continuation(prompts[request], 8, ENDLESS)
    runner.fails = lambda _: False
    again = [submitted(engine, make_submit(2), prompt) for prompt in prompts]
    cached = run_to_end(engine).cached_tokens
    assert [cached[number, 0] for number in again] == [8, 0, 8]


def test_row_that_fails_late_takes_its_cached_prefix_along() -> None:
    runner = FakeRunner(fails=lambda sequence: sequence.num_output_tokens == 3)
    engine = make_engine(runner)
    prompt = list(range(9))
    request = submitted(engine, make_submit(8), prompt)
    outputs = run_to_end(engine)
    assert outputs.tokens[request, 0] == continuation(prompt, 3, ENDLESS)
    assert outputs.finish[request, 0] == "error"
    assert engine.stats().cached_blocks == 0


def test_failure_of_a_whole_step_reaches_the_caller() -> None:
    def explode(step: int) -> None:
        if step == 2:
            raise RuntimeError("device lost")

    engine = make_engine(FakeRunner(before_step=explode))
    submitted(engine, make_submit(9), [5])
    engine.step()
    engine.step()
    with pytest.raises(RuntimeError, match="device lost"):
        engine.step()


def test_runner_that_forgets_a_row_is_noticed() -> None:
    class Forgetful(FakeRunner):
        def execute(self, batch: Any) -> Any:
            return super().execute(batch)[:-1]

    engine = make_engine(Forgetful())
    submitted(engine, make_submit(9), [5])
    with pytest.raises(IntegrityError, match="0 answers for 1 rows"):
        engine.step()


def test_who_is_to_blame_for_a_failed_row_decides_what_the_client_reads() -> None:
    class Forbidding(FakeRunner):
        def execute(self, batch: Any) -> Any:
            return [[RowFailure("no token is left", is_callers=True)] for _ in batch]

    for runner, message in (
        (FakeRunner(fails=lambda _: True), None),
        (Forbidding(), "no token is left"),
    ):
        engine = make_engine(runner)
        submitted(engine, make_submit(), [5])
        (row,) = engine.step()
        assert (row.finish, row.message) == ("error", message)


# --- priorities and deadlines -----------------------------------------------------------------


def test_a_tenants_priority_request_starts_first_and_its_flex_request_last() -> None:
    engine = make_engine(max_running_sequences=1)
    tiers = {submitted(engine, make_submit(3, priority=p), [5]): p for p in (-1, 0, 1)}
    outputs = run_to_end(engine)
    assert [tiers[request] for request, _ in outputs.finish] == [1, 0, -1]


def test_a_deadline_ends_waiting_and_running_choices_and_frees_their_blocks() -> None:
    engine = make_engine(max_running_sequences=2)
    slow = submitted(engine, make_submit(100, num_choices=3, timeout_ms=300), [5])
    other = submitted(engine, make_submit(40), [8])
    outputs = run_to_end(engine)
    assert all_blocks_are_back(engine)
    assert [outputs.finish[slow, choice] for choice in range(3)] == ["deadline"] * 3
    for choice in range(2):
        tokens = outputs.tokens[slow, choice]
        assert 5 < len(tokens) < 100
        assert tokens == continuation([5], 100, ENDLESS, choice)[: len(tokens)]
    assert outputs.tokens[slow, 2] == []
    assert (slow, 2) not in outputs.cached_tokens  # nothing was computed for it
    assert outputs.tokens[other, 0] == continuation([8], 40, ENDLESS)


def test_a_deadline_that_passes_in_the_midst_of_a_prompt_tells_that_it_was_begun() -> None:
    engine = make_engine(max_batch_tokens=4)
    request = submitted(engine, make_submit(timeout_ms=45), list(range(60)))
    outputs = run_to_end(engine)
    assert outputs.finish[request, 0] == "deadline"
    assert outputs.cached_tokens[request, 0] == 0


def test_a_step_in_which_everybody_is_late_computes_nothing() -> None:
    runner = FakeRunner()
    engine = make_engine(runner)
    request = submitted(engine, make_submit(timeout_ms=1), [5])
    (row,) = engine.step()
    assert (row.request, row.finish, row.token) == (request, "deadline", None)
    assert not engine.has_work
    assert runner.batches == []
    engine.check_idle()


def test_the_time_before_a_request_was_queued_counts() -> None:
    engine = make_engine()
    answer = engine.submit(make_submit(timeout_ms=1000), [5], waited_s=0.98)
    assert isinstance(answer, int)
    engine.step()
    (row,) = engine.step()
    assert row.finish == "deadline"
    late = engine.submit(make_submit(timeout_ms=1000), [5], waited_s=1.0)
    assert isinstance(late, Refusal)


@pytest.mark.parametrize("seed", range(3))
def test_random_deadlines_leave_the_others_alone_and_no_trace(seed: int) -> None:
    random_ = random.Random(seed)
    engine = make_engine(FakeRunner(num_blocks=40, max_model_tokens=64), max_batch_tokens=24)
    requests = {}
    for _ in range(50):
        submit, prompt = random_request(random_)
        timeout_ms = random_.choice([None, random_.randint(1, 1500)])
        submit = replace(submit, timeout_ms=timeout_ms, priority=random_.randint(-1, 1))
        requests[submitted(engine, submit, prompt)] = submit, prompt
    outputs = run_to_end(engine)
    assert all_blocks_are_back(engine)
    late = [number for number, _ in outputs.finish if outputs.finish[number, 0] == "deadline"]
    assert 5 < len(late) < 30
    for number, (submit, prompt) in requests.items():
        expected = continuation(prompt, submit.max_tokens, submit.sampling)
        tokens = outputs.tokens[number, 0]
        assert tokens == expected[: len(tokens)]
        assert number in late or tokens == expected
        assert submit.timeout_ms is not None or number not in late


def test_who_could_not_start_in_time_is_refused_at_once_and_others_are_not() -> None:
    engine = make_engine(max_running_sequences=1, max_queued_requests=99)
    hurried = make_submit(20, timeout_ms=2000)
    for _ in range(30):
        submitted(engine, hurried, [5])  # nothing is measured yet
    outputs = Outputs()
    for _ in range(50):
        outputs.add(engine.step())
    refusal = refused(engine, hurried, [5])
    assert refusal.code == "late"
    # 20 steps of 0.01 s each, and 27 of its own requests are ahead; one more start is counted.
    assert refusal.retry_after_ms == pytest.approx(27 * 200 * 3 / 4, rel=0.3)
    submitted(engine, replace(hurried, timeout_ms=20_000), [5])
    submitted(engine, replace(hurried, tenant="u"), [5])  # its own queue is empty
    submitted(engine, replace(hurried, timeout_ms=None), [5])
    submitted(engine, replace(hurried, timeout_ms=300), [5])  # goes ahead of all
    run_to_end(engine, outputs)
    assert all_blocks_are_back(engine)


# --- statistics -------------------------------------------------------------------------------


def test_stats_describe_the_latest_step() -> None:
    engine = make_engine(max_running_sequences=2)
    for _ in range(3):
        submitted(engine, make_submit(5), [5, 6, 7])
    outputs = Outputs()
    outputs.add(engine.step())
    stats = engine.stats()
    assert (stats.step, stats.running, stats.waiting, stats.batch_tokens) == (1, 2, 1, 6)
    assert stats.step_s > 0
    assert stats.oldest_running_s > 0
    assert stats.free_blocks + stats.cached_blocks + 2 == stats.total_blocks
    run_to_end(engine, outputs)
    idle = engine.stats(idle=True)
    assert (idle.running, idle.waiting, idle.batch_tokens, idle.oldest_running_s) == (0, 0, 0, 0.0)


def test_hello_never_promises_more_than_the_cache_can_hold() -> None:
    hello = make_engine(FakeRunner(num_blocks=5, max_model_tokens=1000)).hello("m")
    assert (hello.model, hello.max_model_tokens, hello.eos_token_ids) == ("m", 20, (EOS,))


@pytest.mark.parametrize("name", ["max_batch_tokens", "max_running_sequences"])
def test_settings_with_which_nothing_could_run_stop_the_start(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError, match=name):
        make_engine(None, **settings)


# --- admission --------------------------------------------------------------------------------


def test_request_that_fills_the_cache_alone_runs_and_one_token_more_is_refused() -> None:
    engine = make_engine(FakeRunner(num_blocks=5, max_model_tokens=1000))
    prompt = list(range(13))
    refusal = refused(engine, make_submit(8), prompt)
    assert refusal.code == "too_long"
    assert "20" in refusal.message
    request = submitted(engine, make_submit(7), prompt)
    assert run_to_end(engine).tokens[request, 0] == continuation(prompt, 7, ENDLESS)


def test_impossible_request_is_refused_and_leaves_no_work() -> None:
    engine = make_engine()
    assert refused(engine, make_submit(max_tokens=0), [5]).code == "invalid"
    assert refused(engine, make_submit(), [97]).code == "invalid"
    assert not engine.has_work


def test_full_queue_refuses_with_a_time_and_takes_again_when_there_is_room() -> None:
    engine = make_engine(max_queued_requests=2, max_running_sequences=1)
    for _ in range(2):
        submitted(engine, make_submit(3), [5])
    refusal = refused(engine, make_submit(3), [5])
    assert refusal.code == "capacity"
    assert refusal.retry_after_ms == 1000
    outputs = Outputs()
    outputs.add(engine.step())
    submitted(engine, make_submit(3), [5])
    assert refused(engine, make_submit(3), [5]).code == "capacity"
    run_to_end(engine, outputs)
    submitted(engine, make_submit(3), [5])


def test_queue_is_bounded_in_prompt_tokens_but_an_empty_one_takes_any_request() -> None:
    engine = make_engine(max_queued_tokens=20)
    large = list(range(40))
    submitted(engine, make_submit(3), large)
    assert refused(engine, make_submit(3), [5]).code == "capacity"
    run_to_end(engine)
    submitted(engine, make_submit(3), [5] * 15)
    assert refused(engine, make_submit(3), [5] * 6).code == "capacity"
    submitted(engine, make_submit(3), [5] * 5)

"""Whose texts are computed when: fair turns, bounded batches, and nothing lost or made twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fake_embedding_runner import FakeEmbeddingRunner, spelled

from anzoth.config import ConfigError
from anzoth.frames import Embed
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.embedding_engine import EmbeddingEngine, Vectors


def make(runner: FakeEmbeddingRunner | None = None, **settings: Any) -> EmbeddingEngine:
    clock = iter(range(10**9))
    defaults: dict[str, Any] = {"max_batch_tokens": 10}
    config = EngineConfig(**(defaults | settings))
    return EmbeddingEngine(runner or FakeEmbeddingRunner(), config, lambda: float(next(clock)))


def submit(engine: EmbeddingEngine, *texts: list[int], **how: Any) -> int:
    answer = try_submit(engine, *texts, **how)
    assert isinstance(answer, int)
    return answer


def try_submit(
    engine: EmbeddingEngine,
    *texts: list[int],
    tenant: str = "t",
    size: int | None = None,
    background: bool = False,
) -> int | Refusal:
    embed = Embed(1, tenant, tuple(map(len, texts)), size, background=background)
    return engine.submit(embed, [token for text in texts for token in text])


def steps(engine: EmbeddingEngine) -> list[list[Vectors]]:
    made = []
    while engine.has_work:
        made.append(engine.step())
    return made


def test_every_text_gets_its_own_vector_and_the_request_ends() -> None:
    engine = make()
    texts = [[5, 6], [7], [8] * 9, [9, 9, 9]]
    number = submit(engine, *texts, size=3)
    got: dict[int, bytes] = {}
    for (vectors,) in steps(engine):
        assert vectors.request == number
        assert vectors.vectors is not None
        got |= dict(zip(vectors.inputs, vectors.vectors, strict=True))
    assert got == {index: spelled(text, 3) for index, text in enumerate(texts)}
    assert not engine.has_request(number)


def test_a_batch_stays_within_the_budget_and_a_longer_text_goes_alone() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, [1] * 6, [2] * 4, [3], [4] * 15, [5])
    steps(engine)
    assert [list(map(len, batch)) for batch in runner.batches] == [[6, 4], [1], [15], [1]]


def test_a_query_does_not_wait_for_another_tenants_passages() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 5] * 100), tenant="bulk")
    engine.step()
    submit(engine, [2, 2], tenant="interactive")
    engine.step()
    assert [2, 2] in runner.batches[1]


def test_a_query_does_not_wait_for_passages_of_its_own_tenant_either() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 5] * 100))
    engine.step()
    submit(engine, [2, 2])
    engine.step()
    assert [2, 2] in runner.batches[1]


def test_tenants_share_by_tokens_not_by_texts() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 8] * 50), tenant="long")
    submit(engine, *([[2] * 2] * 200), tenant="short")
    for _ in range(40):
        engine.step()
    computed = [text for batch in runner.batches for text in batch]
    tokens = [sum(len(text) for text in computed if text[0] == tenant) for tenant in (1, 2)]
    assert abs(tokens[0] - tokens[1]) <= 10


def test_a_tenant_that_was_away_is_not_served_alone() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 5] * 100), tenant="a")
    for _ in range(20):
        engine.step()
    submit(engine, *([[2] * 5] * 100), tenant="b")
    for _ in range(10):
        engine.step()
    assert sum([1] * 5 in batch for batch in runner.batches[20:]) == 10


def test_background_texts_get_what_interactive_ones_leave() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 3] * 9), background=True)
    engine.step()
    submit(engine, [2] * 4, [2] * 3)
    submit(engine, *([[3] * 5] * 2), tenant="other")
    steps(engine)
    assert [[text[0] for text in batch] for batch in runner.batches] == [
        [1, 1, 1],
        [2, 3],
        [2, 3],
        [1, 1, 1],
        [1, 1, 1],
    ]


def test_a_background_text_that_never_fits_goes_along_with_every_sixteenth_step() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 7] * 3), background=True)
    for _ in range(48):
        submit(engine, [2] * 6)  # leaves four tokens, in each step
        engine.step()
    assert [step for step, batch in enumerate(runner.batches, 1) if [1] * 7 in batch] == [
        *(16, 32, 48)
    ]
    assert all([2] * 6 in batch for batch in runner.batches)
    assert not engine.has_work


def test_background_texts_of_all_tenants_share_by_tokens() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    submit(engine, *([[1] * 8] * 50), tenant="long", background=True)
    submit(engine, *([[2] * 2] * 200), tenant="short", background=True)
    for _ in range(40):
        submit(engine, [3])
        engine.step()
    computed = [text for batch in runner.batches for text in batch]
    tokens = [sum(len(text) for text in computed if text[0] == tenant) for tenant in (1, 2)]
    assert abs(tokens[0] - tokens[1]) <= 10


def test_background_work_refuses_nobody_in_front() -> None:
    engine = make(max_queued_tokens=30, max_queued_requests=3)
    for _ in range(3):
        submit(engine, [1] * 10, background=True)
    refused = try_submit(engine, [1], background=True)
    assert isinstance(refused, Refusal)
    assert refused.code == "capacity"
    for _ in range(3):
        submit(engine, [2] * 10)
    assert isinstance(try_submit(engine, [2]), Refusal)


def test_an_aborted_background_request_makes_room() -> None:
    engine = make(max_queued_requests=1)
    number = submit(engine, [1], background=True)
    engine.abort(number)
    submit(engine, [1], background=True)


def test_each_pair_keeps_the_place_where_its_second_text_begins() -> None:
    engine = make()
    embed = Embed(1, "t", (4, 3), second_at=(2, 3))
    assert isinstance(engine.submit(embed, [5, 6, 7, 8, 9, 9, 9]), int)
    ((vectors,),) = steps(engine)
    assert vectors.vectors == (spelled([5, 6, 7, 8], None, 2), spelled([9, 9, 9], None, 3))


def test_a_model_with_one_token_type_takes_no_second() -> None:
    engine = make(FakeEmbeddingRunner(num_token_types=1))
    answer = engine.submit(Embed(1, "t", (2,), second_at=(1,)), [5, 6])
    assert isinstance(answer, Refusal)
    assert answer.code == "invalid"


def test_an_aborted_request_is_forgotten() -> None:
    runner = FakeEmbeddingRunner()
    engine = make(runner)
    first = submit(engine, [1] * 9, [1] * 9)
    second = submit(engine, [2] * 9)
    engine.abort(first)
    engine.abort(first)
    engine.abort(99)
    assert [vectors.request for made in steps(engine) for vectors in made] == [second]
    assert runner.batches == [[[2] * 9]]
    assert engine.stats().waiting == 0


def test_a_text_that_cannot_be_computed_ends_its_own_request_only() -> None:
    engine = make(FakeEmbeddingRunner(fails=lambda text: text[0] == 66))
    bad = submit(engine, [66], [1] * 9, [1] * 9)
    good = submit(engine, [2])
    made = {vectors.request: vectors.vectors for step in steps(engine) for vectors in step}
    assert made == {bad: None, good: (spelled([2]),)}


@pytest.mark.parametrize(
    ("embed", "token_ids", "code"),
    [
        (Embed(1, "t", ()), [], "invalid"),
        (Embed(1, "t", (1,) * 2049), [1] * 2049, "invalid"),
        (Embed(1, "t", (0, 1)), [1], "invalid"),
        (Embed(1, "t", (2,)), [1], "invalid"),
        (Embed(1, "t", (-1, 2)), [1], "invalid"),
        (Embed(1, "t", (True,)), [1], "invalid"),
        (Embed(1, "t", (1,)), [100], "invalid"),
        (Embed(1, "t", (1,)), [-1], "invalid"),
        (Embed(1, "t", (1,), 0), [1], "invalid"),
        (Embed(1, "t", (1,), 9), [1], "invalid"),
        (Embed(1, "t", (3,), second_at=(4,)), [1] * 3, "invalid"),
        (Embed(1, "t", (3,), second_at=(-1,)), [1] * 3, "invalid"),
        (Embed(1, "t", (3,), second_at=(True,)), [1] * 3, "invalid"),
        (Embed(1, "t", (3,), second_at=(1, 1)), [1] * 3, "invalid"),
        (Embed(1, "t", (1,), background=1), [1], "invalid"),  # type: ignore[arg-type]  # on the wire
        (Embed(1, "t", (1, 21)), [1] * 22, "too_long"),
    ],
)
def test_an_impossible_request_is_refused(embed: Embed, token_ids, code: str) -> None:
    engine = make()
    answer = engine.submit(embed, token_ids)
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert not engine.has_work


def test_the_queue_is_bounded_in_requests_and_tokens_but_an_empty_one_takes_any() -> None:
    engine = make(max_queued_tokens=30, max_queued_requests=3)
    submit(engine, [1] * 20, [1] * 20)
    refused = try_submit(engine, [1])
    assert isinstance(refused, Refusal)
    assert refused.code == "capacity"
    assert refused.retry_after_ms
    steps(engine)
    for _ in range(3):
        submit(engine, [1])
    assert isinstance(try_submit(engine, [1]), Refusal)


def test_hello_says_that_and_how_large_vectors_are() -> None:
    hello = make().hello("m")
    assert (hello.model, hello.dimensions, hello.max_model_tokens) == ("m", 8, 20)


def test_a_budget_of_nothing_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="max_batch_tokens"):
        make(max_batch_tokens=0)


@pytest.mark.parametrize("seed", range(5))
def test_random_work_makes_each_vector_once_and_leaves_nothing(seed: int) -> None:
    rng = random.Random(seed)
    engine = make(max_queued_tokens=10**6, max_queued_requests=1000)
    expected: dict[int, list[bytes]] = {}
    got: dict[int, dict[int, bytes]] = {}
    aborted: set[int] = set()
    for _ in range(200):
        action = rng.random()
        if action < 0.4:
            texts = [
                [rng.randrange(100) for _ in range(rng.randint(1, 20))]
                for _ in range(rng.randint(1, 9))
            ]
            how = {"tenant": rng.choice("abc"), "background": rng.random() < 0.5}
            number = submit(engine, *texts, **how)
            expected[number], got[number] = [spelled(text) for text in texts], {}
        elif action < 0.5 and expected:
            number = rng.choice(list(expected))
            engine.abort(number)
            aborted.add(number)
        elif engine.has_work:
            collect(engine.step(), got)
    while engine.has_work:
        collect(engine.step(), got)
    for number, vectors in expected.items():
        if number not in aborted:
            assert [got[number][index] for index in range(len(vectors))] == vectors
    for queue in (engine._interactive, engine._background):
        assert (queue._tenants, queue.num_requests, queue.num_tokens) == ({}, 0, 0)


def collect(made: list[Vectors], got: dict[int, dict[int, bytes]]) -> None:
    for vectors in made:
        assert vectors.vectors is not None
        for index, vector in zip(vectors.inputs, vectors.vectors, strict=True):
            assert index not in got[vectors.request]
            got[vectors.request][index] = vector

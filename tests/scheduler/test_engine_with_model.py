"""The whole engine, scheduler and model together, against transformers on the same checkpoint.

Everything that may change how a sequence is computed happens here at once: company, chunks,
preemption, recomputation, prefix hits, drafts. None of it may change a token.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from anzoth.frames import SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.drafts import Drafter
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.origin import Deletion
from anzoth.scheduler.sequence import Sequence

GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
NUM_TOKENS = 24
FAMILIES = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "phi3",
    "gemma2",
    "gemma3",
    "smollm3",
    "olmo2",
    "granite",
    "mixtral",
    "qwen3-moe",
]


def run(engine: Engine, prompts: list[list[int]]) -> tuple[list[list[int]], int]:
    """Greedy outputs of all prompts together, and how many prompt tokens a prefix hit saved."""
    numbers = []
    for prompt in prompts:
        submit = Submit(0, "ab" * 32, "tenant", 1, NUM_TOKENS, GREEDY)
        number = engine.submit(submit, prompt)
        assert isinstance(number, int), number
        numbers.append(number)
    outputs: dict[int, list[int]] = {number: [] for number in numbers}
    cached = 0
    while engine.has_work:
        for row in engine.step():
            assert row.token is not None, row
            outputs[row.request].append(row.token)
            cached += row.cached_tokens or 0
        engine.check_integrity()
    engine.check_idle()
    return [outputs[number] for number in numbers], cached


class Informed(Drafter):
    """Knows how the sequences go on, and is wrong in a fifth of all places.

    Random models repeat themselves too seldom for honest guesses to be tested with.
    """

    def __init__(self, texts: list[list[int]], seed: int = 0) -> None:
        super().__init__(5, break_even_rows=10**9)
        self._texts = texts
        self._rng = random.Random(seed)

    def _guess(self, sequence: Sequence) -> tuple[float, list[int]]:
        known = sequence.token_ids
        for text in self._texts:
            if text[: len(known)] == known:
                guess = text[len(known) : len(known) + self._rng.randint(0, 5)]
                return 0.5, [3 if self._rng.random() < 0.2 else token for token in guess]
        return super()._guess(sequence)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_batched_chunked_preempted_cached_and_drafted_tokens_equal_transformers(
    make_checkpoint, load_runner, prompts, name
) -> None:
    checkpoint = make_checkpoint(name)
    mixed = prompts(16, seed=5)
    roomy = Engine(load_runner(checkpoint.path, num_blocks=400), EngineConfig(), time.monotonic)
    roomy._scheduler._drafter = None
    expected, _ = run(roomy, mixed)
    for prompt, output in zip(mixed, expected, strict=True):
        assert len(output) == NUM_TOKENS
        assert checkpoint.greedy_after(prompt, output) == output
    texts = [prompt + output for prompt, output in zip(mixed, expected, strict=True)]

    # 34 blocks of 4 tokens hold one and a half of the longest; a step computes at most 24 tokens.
    runner = load_runner(checkpoint.path, num_blocks=34)
    tight = Engine(runner, EngineConfig(max_batch_tokens=24), time.monotonic)
    tight._scheduler._drafter = Informed(texts[::2])
    outputs, _ = run(tight, mixed)
    assert outputs == expected
    assert tight.stats().preemptions > 0
    assert 0 < tight.stats().accepted_tokens < tight.stats().drafted_tokens
    assert max(map(len, mixed)) > 24

    roomy._scheduler._drafter = Informed(texts)
    again, cached = run(roomy, mixed)
    assert again == expected
    assert cached > 0
    assert roomy.stats().preemptions == 0
    assert roomy.stats().accepted_tokens > len(mixed) * NUM_TOKENS // 2


@pytest.mark.slow
def test_a_seed_draws_the_same_text_alone_in_a_crowd_after_preemption_and_from_drafts(
    make_checkpoint, load_runner, prompts
) -> None:
    checkpoint = make_checkpoint("qwen3")
    prompt = [5, 6, 7, 8, 9]

    def drawn(company: int, num_blocks: int, drafter: Drafter | None) -> tuple[list, Engine]:
        runner = load_runner(checkpoint.path, num_blocks=num_blocks)
        engine = Engine(runner, EngineConfig(), time.monotonic)
        engine._scheduler._drafter = drafter
        wanted = SamplingParams(temperature=1.0, top_p=0.9, seed=42, ignore_eos=True)
        number = engine.submit(Submit(0, "ab", "t", 2, 20, wanted), prompt)
        for index, other_prompt in enumerate(prompts(company, seed=6)):
            other = SamplingParams(temperature=0.7, seed=index, ignore_eos=True)
            engine.submit(Submit(1 + index, "cd", "u", 1, 20, other), other_prompt)
        texts: list[list[int]] = [[], []]
        while engine.has_work:
            for row in engine.step():
                if row.request == number and row.token is not None:
                    texts[row.choice].append(row.token)
        return texts, engine

    alone, _ = drawn(0, 160, None)
    crowded, engine = drawn(14, 30, None)
    assert engine.stats().preemptions > 0
    assert crowded == alone
    assert alone[0] != alone[1]
    for company, num_blocks in ((0, 160), (14, 30)):
        informed = Informed([prompt + text for text in alone])
        drafted, engine = drawn(company, num_blocks, informed)
        assert drafted == alone
        assert engine.stats().accepted_tokens > 10


@pytest.mark.parametrize("block_size_tokens", [4, 16])
def test_a_choice_behind_a_copied_block_draws_what_it_would_draw_behind_its_own(
    make_checkpoint, load_runner, block_size_tokens
) -> None:
    """Blocks of 16 are those whose keys the compiled kernels interleave."""
    path = make_checkpoint("qwen3").path
    prompt = list(range(20, 46))

    def drawn(*, with_copies: bool) -> tuple[list[list[int]], list[int]]:
        runner = load_runner(path, block_size_tokens=block_size_tokens)
        engine = Engine(runner, EngineConfig(speculative_tokens=0), time.monotonic)
        wanted = SamplingParams(seed=3, ignore_eos=True)
        number = engine.submit(Submit(0, "ab", "t", 4, 12, wanted), prompt)
        assert isinstance(number, int)
        if not with_copies:
            for sequence in engine._requests[number]:
                sequence.siblings = []
        texts: list[list[int]] = [[] for _ in range(4)]
        work: list[int] = []
        while engine.has_work:
            for row in engine.step():
                assert row.token is not None
                texts[row.choice].append(row.token)
            work.append(engine.stats().batch_tokens)
        return texts, work

    copied, work = drawn(with_copies=True)
    assert work[:2] == [26, 4]
    assert copied == drawn(with_copies=False)[0]
    assert len({tuple(text) for text in copied}) == 4


# --- one seed, a thousand batches -----------------------------------------------------------------

NUM_COMPOSITIONS = 1000
NUM_WATCHED = 12
WAYS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.2, "top_k": 20, "repetition_penalty": 1.1},
)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_text_in_a_thousand_batch_compositions(
    make_checkpoint, load_runner
) -> None:
    """Four requests are sent again and again into random company: others come, go and are aborted,
    prompts are cut, blocks run out, prefixes are found or evicted, drafts are right, wrong or not
    made at all. Float32."""
    rng = random.Random(7)
    runner = load_runner(make_checkpoint("qwen2").path, num_blocks=72)
    watched = [[rng.randrange(3, 211) for _ in range(length)] for length in (1, 6, 13, 30)]

    def send(engine: Engine, index: int, salt: str) -> int:
        params = SamplingParams(seed=11, num_logprobs=2, ignore_eos=True, **WAYS[index])
        number = engine.submit(Submit(0, salt, "t", 1, 8, params), watched[index])
        assert isinstance(number, int)
        return number

    expected: list[list[int]] = []
    for index in range(len(watched)):
        engine = Engine(runner, EngineConfig(speculative_tokens=0), time.monotonic)
        send(engine, index, "ab")
        expected.append([])
        while engine.has_work:
            expected[-1] += [row.token for row in engine.step() if row.token is not None]
    informed = Informed([a + b for a, b in zip(watched, expected, strict=True)])

    engine = Engine(runner, EngineConfig(max_batch_tokens=48), time.monotonic)
    compositions: set[tuple[int, ...]] = set()
    live: dict[int, tuple[int, list[int], list[int]]] = {}
    """Number of the request: which one it is, its tokens, the steps that it was part of."""
    company: list[int] = []
    while len(compositions) < NUM_COMPOSITIONS:
        while len(live) < NUM_WATCHED:
            index = rng.randrange(4)
            # A new salt now and then: its prefixes are not cached.
            salt = rng.choice(["ab", "cd", str(rng.random())])
            live[send(engine, index, salt)] = index, [], []
        while len(company) < rng.randrange(8):
            prompt = [rng.randrange(3, 211) for _ in range(rng.randint(1, 40))]
            other = SamplingParams(seed=rng.randrange(99), temperature=rng.choice([0.0, 1.0]))
            number = engine.submit(Submit(0, "ef", "u", 1, rng.randint(1, 12), other), prompt)
            assert isinstance(number, int)
            company.append(number)
        if company and rng.random() < 0.1:
            engine.abort(company.pop(rng.randrange(len(company))))
        engine._scheduler._drafter = informed if rng.random() < 0.5 else None
        state = [
            (live[s.request][0] if s.request in live else -1, s.num_tokens, s.num_computed_tokens)
            for s in engine._scheduler.running
        ]
        for _, _, steps in live.values():
            steps.append(hash(tuple(state)))
        for row in engine.step():
            if row.request not in live:
                if row.finish is not None:
                    company.remove(row.request)
                continue
            index, tokens, steps = live[row.request]
            assert row.token is not None
            tokens.append(row.token)
            if row.finish is not None:
                assert tokens == expected[index]
                compositions.add((index, *steps))
                del live[row.request]
    stats = engine.stats()
    assert stats.preemptions > 20
    assert 500 < stats.accepted_tokens < stats.drafted_tokens


def test_no_number_of_a_deleted_tenant_is_left_in_the_tensors(
    make_checkpoint, load_runner, prompts
) -> None:
    runner = load_runner(make_checkpoint("qwen3").path)
    engine = Engine(runner, EngineConfig(), time.monotonic)
    run(engine, prompts(3, seed=7))
    layers = runner.kv_cache.layers
    assert all(layer.k_SKD.any() and layer.v_SKD.any() for layer in layers)
    engine.delete(Deletion(frozenset({"ab" * 32})))
    assert not any(layer.k_SKD.any() or layer.v_SKD.any() for layer in layers)

"""The whole engine, scheduler and model together, against transformers on the same checkpoint.

Everything that may change how a sequence is computed happens here at once: company, chunks,
preemption, recomputation, prefix hits. None of it may change a token.
"""

from __future__ import annotations

import time

import pytest

from anzoth.config import EngineConfig
from anzoth.frames import SamplingParams, Submit
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.origin import Deletion

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


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_batched_chunked_preempted_and_cached_tokens_equal_transformers(
    make_checkpoint, load_runner, prompts, name
) -> None:
    checkpoint = make_checkpoint(name)
    mixed = prompts(16, seed=5)
    expected = [checkpoint.greedy(prompt, NUM_TOKENS) for prompt in mixed]

    # 34 blocks of 4 tokens hold one and a half of the longest; a step computes at most 24 tokens.
    runner = load_runner(checkpoint.path, num_blocks=34)
    engine = Engine(runner, EngineConfig(max_batch_tokens=24), time.monotonic)
    outputs, _ = run(engine, mixed)
    assert outputs == expected
    assert engine.stats().preemptions > 0
    assert max(map(len, mixed)) > 24

    roomy = Engine(load_runner(checkpoint.path, num_blocks=400), EngineConfig(), time.monotonic)
    assert run(roomy, mixed)[0] == expected
    again, cached = run(roomy, mixed)
    assert again == expected
    assert cached > 0
    assert roomy.stats().preemptions == 0


@pytest.mark.slow
def test_a_seed_draws_the_same_text_alone_in_a_crowd_and_after_preemption(
    make_checkpoint, load_runner, prompts
) -> None:
    checkpoint = make_checkpoint("qwen3")

    def drawn(company: int, num_blocks: int) -> tuple[list[list[int]], int]:
        runner = load_runner(checkpoint.path, num_blocks=num_blocks)
        engine = Engine(runner, EngineConfig(), time.monotonic)
        wanted = SamplingParams(temperature=1.0, top_p=0.9, seed=42, ignore_eos=True)
        number = engine.submit(Submit(0, "ab", "t", 2, 20, wanted), [5, 6, 7, 8, 9])
        for index, prompt in enumerate(prompts(company, seed=6)):
            other = SamplingParams(temperature=0.7, seed=index, ignore_eos=True)
            engine.submit(Submit(1 + index, "cd", "u", 1, 20, other), prompt)
        texts: list[list[int]] = [[], []]
        while engine.has_work:
            for row in engine.step():
                if row.request == number and row.token is not None:
                    texts[row.choice].append(row.token)
        return texts, engine.stats().preemptions

    alone, _ = drawn(company=0, num_blocks=160)
    crowded, preemptions = drawn(company=14, num_blocks=30)
    assert preemptions > 0
    assert crowded == alone
    assert alone[0] != alone[1]


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

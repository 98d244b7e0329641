"""Whatever shares a step, wherever blocks lie, however a prompt is cut: the same answers."""

import copy
import dataclasses
import shutil
import threading
from array import array
from types import SimpleNamespace

import numpy as np
import pytest

import same_bits
from anzoth.config import ConfigError
from anzoth.frames import SamplingParams
from anzoth.scheduler.masks import MaskComputer, TokenMasks
from anzoth.scheduler.model_runner import fingerprint
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence

pytestmark = pytest.mark.slow

NUM_OUTPUT = 12
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


@pytest.fixture(params=FAMILIES)
def checkpoint(request, make_checkpoint):
    return make_checkpoint(request.param)


@pytest.fixture
def batch_of_16(checkpoint, prompts):
    """Prompts of mixed lengths and what transformers answers to each alone."""
    texts = prompts(16, seed=4)
    return texts, [checkpoint.greedy(prompt, NUM_OUTPUT) for prompt in texts]


@pytest.mark.parametrize("block_size_tokens", [4, 16])
def test_a_batch_of_16_mixed_lengths_gives_each_its_solo_answer(
    checkpoint, load_runner, driver_class, batch_of_16, block_size_tokens
):
    """Blocks of 16 are read by the compiled attention, smaller ones by torch's."""
    texts, expected = batch_of_16
    runner = load_runner(checkpoint.path, num_blocks=400, block_size_tokens=block_size_tokens)
    together = driver_class(runner)
    for prompt in texts:
        together.add(prompt, NUM_OUTPUT)
    assert together.run() == expected
    # 23 tokens a step: prompts are cut, and decodes share steps with prompt chunks.
    chunked = driver_class(runner, budget=23)
    for prompt in texts:
        chunked.add(prompt, NUM_OUTPUT)
    assert chunked.run() == expected
    assert any(1 in step and max(step) > 1 for step in chunked.steps)
    assert max(len(prompt) for prompt in texts) > 23


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks(
    checkpoint, load_runner, driver_class
):
    prompt = [3 + i * 7 % 200 for i in range(130)]
    driver = driver_class(load_runner(checkpoint.path), budget=32)
    driver.add(prompt, 8)
    assert driver.run() == [checkpoint.greedy(prompt, 8)]
    assert driver.steps[:5] == [[32], [32], [32], [32], [2]]


def test_a_sequence_that_lost_its_blocks_is_recomputed_elsewhere_to_the_same_end(
    checkpoint, load_runner, driver_class, prompts
):
    prompt = prompts(1, seed=5)[0] + [4, 5, 6]
    runner = load_runner(checkpoint.path)
    driver = driver_class(runner, budget=20)
    sequence = driver.add(prompt, 30)
    while sequence.num_output_tokens < 13:
        driver.step()
    lost = sequence.block_table
    sequence.block_table = array("q", [driver.free.pop() for _ in lost])
    sequence.num_computed_tokens = 0
    for layer in runner.kv_cache.layers:
        for block in lost:
            layer.k_SKD[block * 4 : block * 4 + 4] = float("nan")
            layer.v_SKD[block * 4 : block * 4 + 4] = float("nan")
    assert driver.run() == [checkpoint.greedy(prompt, 30)]


@pytest.mark.parametrize("block_size_tokens", [4, 16])
def test_every_slot_that_nobody_wrote_may_hold_anything(
    checkpoint, load_runner, driver_class, batch_of_16, block_size_tokens
):
    texts, expected = batch_of_16
    runner = load_runner(checkpoint.path, num_blocks=400, block_size_tokens=block_size_tokens)
    for layer in runner.kv_cache.layers:
        layer.k_SKD.fill_(float("nan"))
        layer.v_SKD.fill_(float("nan"))
    driver = driver_class(runner, budget=40)
    for prompt in texts:
        driver.add(prompt, NUM_OUTPUT)
    assert driver.run() == expected


@same_bits.promised
def test_in_bfloat16_logprobs_are_equal_to_the_bit_alone_in_a_batch_chunked_and_recomputed(
    checkpoint, load_runner, driver_class, prompts
):
    runner = load_runner(checkpoint.path, dtype="bfloat16", num_blocks=400, block_size_tokens=16)
    texts = prompts(10, seed=6)
    params = SamplingParams(temperature=0.7, seed=11, num_logprobs=5)

    def answers(driver):
        driver.run()
        return [[(a.token_id, a.logprob, a.top_logprobs) for a in row] for row in driver.answers]

    alone = []
    for prompt in texts:
        driver = driver_class(runner)
        driver.add(prompt, NUM_OUTPUT, params)
        alone += answers(driver)
    for budget in (10_000, 17):
        driver = driver_class(runner, budget=budget)
        for prompt in texts:
            driver.add(prompt, NUM_OUTPUT, params)
        assert answers(driver) == alone
    driver = driver_class(runner, budget=17)
    sequences = [driver.add(prompt, NUM_OUTPUT, params) for prompt in texts]
    for _ in range(12):
        driver.step()
    for sequence in sequences[::2]:
        sequence.num_computed_tokens = 0
    assert answers(driver) == alone


def test_a_row_that_is_not_finite_fails_alone(make_checkpoint, load_runner, driver_class, prompts):
    checkpoint = make_checkpoint("qwen3")
    runner = load_runner(checkpoint.path)
    driver = driver_class(runner)
    texts = prompts(3, seed=7)
    sequences = [driver.add(prompt, 6) for prompt in texts]
    driver.step()
    first_slot = sequences[1].block_table[0] * 4
    runner.kv_cache.layers[1].v_SKD[first_slot] = float("nan")
    outputs = driver.run()
    assert isinstance(driver.answers[1][-1], RowFailure)
    assert len(driver.answers[1]) == 2
    for i in (0, 2):
        assert outputs[i] == checkpoint.greedy(texts[i], 6)


def test_executing_changes_no_sequence(make_checkpoint, load_runner, driver_class):
    runner = load_runner(make_checkpoint("qwen2").path)
    driver = driver_class(runner)
    driver.add([5, 6, 7, 8], 4)
    partly = driver.add([9, 10, 11], 4)
    before = copy.deepcopy([dataclasses.asdict(s) for s in driver.sequences])
    items = [ScheduledSequence(driver.sequences[0], 4), ScheduledSequence(partly, 2)]
    answers = runner.execute(items)
    assert isinstance(answers[0][0], SampledToken)
    assert answers[1] == []
    assert [dataclasses.asdict(s) for s in driver.sequences] == before
    assert runner.execute([]) == []


def test_masks_are_computed_while_the_forward_pass_runs(
    make_checkpoint, load_runner, driver_class, monkeypatch
):
    """Each waits for the other: one after the other could not end."""
    masks_began, forward_ended = threading.Event(), threading.Event()
    runner = load_runner(make_checkpoint("qwen2").path)
    forward = runner._decoder.forward

    def compute(computer, places, vocab_size):
        masks_began.set()
        assert forward_ended.wait(60)
        allowed_MW = np.zeros((1, -(-vocab_size // 32)), dtype=np.int32)
        allowed_MW[0, 77 // 32] = 1 << 77 % 32
        return TokenMasks([0], allowed_MW, frozenset())

    def forward_beside(*inputs):
        assert masks_began.wait(60)
        logits_RV = forward(*inputs)
        forward_ended.set()
        return logits_RV

    monkeypatch.setattr(MaskComputer, "compute", compute)
    monkeypatch.setattr(runner._decoder, "forward", forward_beside)
    driver = driver_class(runner)
    driver.add([5, 6, 7], 1).constraint = SimpleNamespace(is_over=False)
    assert driver.run() == [[77]]


def test_choices_of_one_request_draw_differently_and_repeatably(
    make_checkpoint, load_runner, driver_class
):
    runner = load_runner(make_checkpoint("qwen2").path)
    params = SamplingParams(temperature=2.0, seed=3)

    def outputs():
        driver = driver_class(runner)
        for choice in range(3):
            driver.add([5, 6, 7], 10, params, choice=choice)
        return driver.run()

    first = outputs()
    assert outputs() == first
    assert len({tuple(output) for output in first}) == 3


# --- what the runner says about itself ---------------------------------------------------------


def test_a_runner_says_what_the_engine_must_know(make_checkpoint, load_runner):
    runner = load_runner(make_checkpoint("llama").path, num_blocks=20)
    assert (runner.num_blocks, runner.block_size_tokens) == (20, 4)
    assert runner.max_model_tokens == 80
    assert (runner.dtype, runner.device) == ("float32", "cpu")
    assert runner.spec.vocab_size == 211
    assert runner.spec.eos_token_ids == (2,)


def test_a_gpu_that_is_not_there_is_a_settings_error(make_checkpoint, load_runner):
    with pytest.raises(ConfigError, match="'cuda' is not one of: cpu"):
        load_runner(make_checkpoint("llama").path, device="cuda")


def test_the_fingerprint_follows_weights_config_and_number_type(make_checkpoint, tmp_path):
    path = make_checkpoint("mistral").path
    original = fingerprint(path, "bfloat16")
    assert fingerprint(path, "bfloat16") == original
    assert fingerprint(path, "float32") != original

    copied = tmp_path / "copy"
    shutil.copytree(path, copied)
    assert fingerprint(copied, "bfloat16") == original
    weights = copied / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[len(changed) // 2] ^= 1
    weights.write_bytes(changed)
    assert fingerprint(copied, "bfloat16") != original
    weights.write_bytes((path / "model.safetensors").read_bytes())
    with (copied / "config.json").open("a") as stream:
        stream.write("\n")
    assert fingerprint(copied, "bfloat16") != original

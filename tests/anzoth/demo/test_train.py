"""Training learns, is deterministic, and goes on after a stop as if there had been none."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from anzoth.demo.batches import Batches
from anzoth.demo.checkpoint import export
from anzoth.demo.decoder import Decoder, Shape
from anzoth.demo.evaluate import load
from anzoth.demo.generate import Turn, conversation
from anzoth.demo.train import Settings, Trainer, learn_tokenizer, rate_factor, run
from anzoth.demo.vocabulary import encode

CPU = torch.device("cpu")
TINY = Settings(
    num_steps=20,
    tokens_per_step=512,
    warmup_steps=3,
    copying_fraction=0.0,
    tokenizer_conversations=200,
    shape=Shape(vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64),
)


@pytest.fixture(scope="module")
def whole_run() -> tuple[Trainer, list[float]]:
    trainer = Trainer(TINY, CPU)
    return trainer, [trainer.train_step() for _ in range(TINY.num_steps)]


@pytest.mark.slow
def test_twenty_steps_lower_the_loss(whole_run: tuple[Trainer, list[float]]) -> None:
    _, losses = whole_run
    assert sum(losses[-5:]) / 5 < 0.95 * losses[0]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(
    whole_run: tuple[Trainer, list[float]], tmp_path: Path
) -> None:
    uninterrupted, losses = whole_run
    first = Trainer(TINY, CPU)
    repeated = [first.train_step() for _ in range(9)]
    first.save(tmp_path)
    second = Trainer.resume(tmp_path, CPU)
    assert second.settings == TINY
    repeated += [second.train_step() for _ in range(TINY.num_steps - 9)]
    assert repeated == losses
    for name, expected in uninterrupted.master.items():
        assert torch.equal(second.master[name], expected), name


@pytest.mark.slow
def test_a_run_saves_its_state_and_reports_its_loss(tmp_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(TINY, num_steps=2), CPU)
    loss = run(trainer, tmp_path, save_every=100)
    resumed = Trainer.resume(tmp_path, CPU)
    assert resumed.step == 2
    assert resumed.facts(loss)["training_tokens"] == trainer.totals["tokens"] > 500


@pytest.mark.slow
def test_an_export_is_what_transformers_reads(
    whole_run: tuple[Trainer, list[float]], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer, _ = whole_run
    export(trainer.model, trainer.tokenizer, tmp_path, trainer.facts(1.0))
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    turns = [Turn("user", "How do I create a key?"), Turn("assistant", "Ça va 🙂")]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    ids, _ = encode(trainer.tokenizer, turns)
    assert tokenizer.apply_chat_template(messages, return_dict=False) == ids
    ids_BT = torch.tensor([ids])
    ours = load(tmp_path).decoder.float()
    with torch.inference_mode():
        expected_BTV = model(ids_BT).logits
        logits_NV = ours(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
    torch.testing.assert_close(logits_NV, expected_BTV[0], rtol=1e-4, atol=1e-4)  # fp32


def test_a_position_sees_nothing_behind_it() -> None:
    decoder = Decoder(TINY.shape, torch.Generator().manual_seed(0))
    ids_BT = torch.randint(0, 400, (1, 12), generator=torch.Generator().manual_seed(1))
    changed_BT = ids_BT.clone()
    changed_BT[0, 8:] = 7
    every = torch.ones_like(ids_BT, dtype=torch.bool)
    before, after = decoder(ids_BT, every)[:8], decoder(changed_BT, every)[:8]
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)  # fp32


def test_batches_hold_every_conversation_of_their_group_once() -> None:
    tokenizer = learn_tokenizer(TINY)
    batches = Batches(tokenizer, seed=3, tokens_per_step=512, max_tokens=2048, copying_steps=0)
    rng = random.Random("3/0")
    some = [batches[step] for step in range(16)]
    num_tokens = 0
    expected: list[tuple[int, ...]] = []
    while num_tokens < 16 * 512 or len(expected) < 16:
        ids, _ = encode(tokenizer, conversation(rng))
        expected.append(tuple(ids[:2048][:-1]))
        num_tokens += len(expected[-1]) + 1
    rows = [row for batch in some for row in batch.ids_BT.tolist()]
    assert len(rows) == len(expected)
    assert sum(batch.num_tokens for batch in some) == sum(map(len, expected))
    padded = sorted(tuple(row) for row in rows)
    for ids in expected:
        assert any(row[: len(ids)] == ids for row in padded)


def test_targets_are_the_assistants_next_tokens() -> None:
    tokenizer = learn_tokenizer(TINY)
    batch = Batches(tokenizer, seed=3, tokens_per_step=512, max_tokens=2048, copying_steps=0)[0]
    assistant = tokenizer.token_to_id("<|assistant|>")
    for ids, targets in zip(batch.ids_BT.tolist(), batch.targets_BT.tolist(), strict=True):
        for at, target in enumerate(targets):
            if target >= 0 and at + 1 < len(ids):
                assert ids[at + 1] == target
            if ids[at] == assistant:
                assert target >= 0


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    settings = dataclasses.replace(TINY, num_steps=103, warmup_steps=3)
    factors = [rate_factor(step, settings) for step in range(104)]
    assert factors[2] == 1.0
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert factors[53] == pytest.approx((1 + settings.final_rate) / 2)
    assert factors[103] == pytest.approx(settings.final_rate)

"""Training learns, is deterministic, and goes on after a stop as if there had been none."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from anzoth.demo import train
from anzoth.demo.batches import IGNORED, Batch, Batches, Plan, width_for
from anzoth.demo.checkpoint import export
from anzoth.demo.conversation import Conversation, Turn
from anzoth.demo.curriculum import example
from anzoth.demo.decoder import Decoder, Shape
from anzoth.demo.draw import Draw
from anzoth.demo.lessons_passages import questions
from anzoth.demo.train import Settings, Trainer, learn_tokenizer, rate_factor, run
from anzoth.demo.vocabulary import Encoder, token_id

CPU = torch.device("cpu")
TINY = Settings(
    num_steps=20,
    tokens_per_step=512,
    warmup_steps=3,
    tokens_per_batch=512,
    tokenizer_conversations=200,
    dtype="float32",
    shape=Shape(vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64),
)


@pytest.fixture(scope="module")
def whole_run() -> tuple[Trainer, list[float]]:
    trainer = Trainer(TINY, CPU)
    return trainer, [trainer.train_step().item() for _ in range(TINY.num_steps)]


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
    repeated = [first.train_step().item() for _ in range(9)]
    first.save(tmp_path)
    second = Trainer.resume(tmp_path, CPU)
    assert second.settings == TINY
    repeated += [second.train_step().item() for _ in range(TINY.num_steps - 9)]
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
def test_a_run_stops_at_its_deadline_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_STEPS_PER_LOOK", 1)
    trainer = Trainer(TINY, CPU)
    take_step = trainer.train_step

    def take_step_past_the_deadline() -> torch.Tensor:
        monkeypatch.setattr(train, "monotonic", lambda: 100.0)
        return take_step()

    monkeypatch.setattr(train, "monotonic", lambda: 0.0)
    monkeypatch.setattr(trainer, "train_step", take_step_past_the_deadline)
    run(trainer, tmp_path, save_every=100, deadline_s=50.0)
    assert Trainer.resume(tmp_path, CPU).step == trainer.step == 1


@pytest.mark.slow
def test_the_number_of_steps_follows_from_the_time(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_WARM_S", 0)
    monkeypatch.setattr(train, "_MEASURED_S", 0)
    assert train.steps_within(0.0, TINY, CPU, tokenizer, 0) == 1
    assert train.steps_within(1e6, TINY, CPU, tokenizer, 0) > 1000


def test_the_default_shape_is_the_one_of_its_width() -> None:
    assert Shape.of(256, 4) == Shape()
    with pytest.raises(ValueError, match="multiple of 128"):
        Shape.of(200, 4)


@pytest.mark.slow
def test_an_export_is_what_transformers_reads(
    whole_run: tuple[Trainer, list[float]], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer, _ = whole_run
    export(trainer.model, trainer.tokenizer, tmp_path, trainer.facts(1.0))
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    turns = (Turn("user", "How do I create a key?"), Turn("assistant", "Ça va 🙂 [1]"))
    ids, _ = Encoder(trainer.tokenizer).example(Conversation(turns))
    messages = Conversation(turns).messages()
    assert tokenizer.apply_chat_template(messages, return_dict=False) == ids
    ids_BT = torch.tensor([ids])
    ours = Decoder(trainer.model.shape, torch.Generator())
    ours.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.inference_mode():
        expected_BTV = model(ids_BT).logits
        logits_NV = ours.float()(ids_BT, torch.zeros_like(ids_BT), torch.arange(len(ids)))
    torch.testing.assert_close(logits_NV, expected_BTV[0], rtol=1e-4, atol=1e-4)  # fp32


def test_a_position_sees_nothing_behind_it() -> None:
    decoder = Decoder(TINY.shape, torch.Generator().manual_seed(0))
    ids_BT = torch.randint(0, 400, (1, 12), generator=torch.Generator().manual_seed(1))
    changed_BT = ids_BT.clone()
    changed_BT[0, 8:] = 7
    every = torch.arange(12)
    alone_BT = torch.zeros_like(ids_BT)
    before, after = (decoder(ids, alone_BT, every)[:8] for ids in (ids_BT, changed_BT))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)  # fp32


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokenizer(TINY)


def make_batches(tokenizer: Tokenizer, tokens_per_step: int = 512) -> Batches:
    plan = Plan(3, 100, tokens_per_step, tokens_per_batch=512, max_tokens=2048)
    return Batches(tokenizer, example, plan)


def test_a_step_does_not_depend_on_the_order_in_which_steps_are_asked_for(
    tokenizer: Tokenizer,
) -> None:
    forward, backward = make_batches(tokenizer), make_batches(tokenizer)
    expected = [forward[step] for step in range(34)]
    for step in reversed(range(34)):
        assert backward[step] == expected[step]


def test_every_step_learns_something_however_few_its_tokens(tokenizer: Tokenizer) -> None:
    batches = make_batches(tokenizer, tokens_per_step=1)
    for step in range(48):
        assert sum(batch.num_targets for batch in batches[step]) > 0


def test_steps_have_about_as_many_tokens_as_asked_for(tokenizer: Tokenizer) -> None:
    batches = make_batches(tokenizer, tokens_per_step=4096)
    mean = sum(batch.num_tokens for step in range(64) for batch in batches[step]) / 64
    assert 3000 < mean < 4100  # the rest is padding


def test_batches_have_few_shapes(tokenizer: Tokenizer) -> None:
    batches = make_batches(tokenizer, tokens_per_step=4096)
    shapes = {(batch.num_rows, batch.width) for step in range(64) for batch in batches[step]}
    assert len(shapes) <= 11
    assert all(width == width_for(width) for _, width in shapes)


def parts(batch: Batch) -> list[list[int]]:
    """Ids, branches, places and targets."""
    found: list[list[int]] = []
    at = 0
    for size in batch.sizes:
        found.append(batch.words[at : at + size].tolist())
        at += size
    assert at == len(batch.words)
    return found


def test_many_long_answers_are_cut_but_not_all(tokenizer: Tokenizer) -> None:
    assistant, end = (token_id(tokenizer, text) for text in ("<|assistant|>", "<|end|>"))
    batches = make_batches(tokenizer)
    num_answers = num_whole = 0
    for step in range(32):
        for batch in batches[step]:
            ids, _, _, targets = parts(batch)
            num_answers += ids.count(assistant)
            num_whole += targets.count(end)
    assert 0.3 < num_whole / num_answers < 0.8


def test_targets_are_the_assistants_next_tokens(tokenizer: Tokenizer) -> None:
    assistant = tokenizer.token_to_id("<|assistant|>")
    for batch in make_batches(tokenizer)[0]:
        ids, branches, places, targets = parts(batch)
        learnt = {
            place: target
            for place, target in zip(places, targets, strict=True)
            if target != IGNORED
        }
        assert len(learnt) == batch.num_targets
        for place, target in learnt.items():
            if place + 1 in learnt and branches[place + 1] == branches[place]:
                assert ids[place + 1] == target
        for place, id_ in enumerate(ids):
            if id_ == assistant:
                assert place in learnt


def test_questions_about_the_same_passages_share_a_row(tokenizer: Tokenizer) -> None:
    """Whatever is drawn: the branches, put behind the context, are the conversations themselves."""
    drawn: list[tuple[Conversation, ...]] = []

    def draw(rng: random.Random, _progress: float) -> tuple[tuple[Conversation, ...], bool]:
        drawn.append(questions(Draw(rng)))
        return drawn[-1], False

    plan = Plan(1, 1, tokens_per_step=1, tokens_per_batch=1, max_tokens=2048, tokens_per_group=1)
    ((batch,),) = Batches(tokenizer, draw, plan).group(0)
    ids, branches, places, targets = parts(batch)
    next_id = dict(zip(places, targets, strict=True))
    context = [id_ for id_, branch in zip(ids, branches, strict=True) if not branch]
    expected = [Encoder(tokenizer).example(conversation)[0] for conversation in drawn[0]]
    for number, whole in enumerate(expected, 1):
        mine = [place for place, branch in enumerate(branches) if branch == number]
        begins = len(whole) - len(mine) - 1
        assert context[:begins] + [ids[place] for place in mine] == whole[:-1]
        assert next_id[mine[-1]] == whole[-1]
    assert len(ids) < 0.5 * sum(len(whole) for whole in expected)


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    settings = dataclasses.replace(TINY, num_steps=103, warmup_steps=3)
    factors = [rate_factor(step, settings) for step in range(104)]
    assert factors[2] == 1.0
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert factors[53] == pytest.approx((1 + settings.final_rate) / 2)
    assert factors[103] == pytest.approx(settings.final_rate)

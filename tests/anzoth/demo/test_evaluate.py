"""The shipped weights are what they claim to be, and answer as well as the README says."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from safetensors import safe_open

from anzoth.demo.checkpoint import MODEL_DIR
from anzoth.demo.evaluate import (
    Model,
    Result,
    answer,
    examine_by_hand,
    examine_held_out,
    greedy,
    held_out,
    load,
    scores,
)
from anzoth.demo.examination import EXAMINATION
from anzoth.demo.generate import Turn, conversation
from anzoth.demo.vocabulary import END, prompt_ids, token_id


@pytest.fixture(scope="module")
def model() -> Model:
    return load(MODEL_DIR)


def test_the_weights_are_small_bf16_and_complete(model: Model) -> None:
    path = MODEL_DIR / "model.safetensors"
    assert path.stat().st_size <= 8 * 1024 * 1024
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        dtypes = {file.get_slice(name).get_dtype() for name in names}
    assert names == {name for name, _ in model.decoder.named_parameters()}
    assert dtypes == {"BF16"}


def test_the_configuration_fits_the_tokenizer(model: Model) -> None:
    config = json.loads((MODEL_DIR / "config.json").read_text())
    assert config["vocab_size"] == model.tokenizer.get_vocab_size()
    assert config["eos_token_id"] == token_id(model.tokenizer, END)
    assert config["max_position_embeddings"] == 2048
    generation = json.loads((MODEL_DIR / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"]


def test_the_record_of_the_training_is_complete(model: Model) -> None:
    facts = json.loads((MODEL_DIR / "training.json").read_text())
    assert facts["parameters"] == sum(tensor.numel() for tensor in model.decoder.parameters())
    assert facts["steps"] == facts["settings"]["num_steps"]
    assert 0 < facts["loss"] < 1


@pytest.mark.slow
def test_transformers_gives_the_same_greedy_answer(model: Model) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Any: the annotations of `generate` do not accept the class that defines it.
    theirs: Any = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ours = Model(load(MODEL_DIR).decoder.float(), model.tokenizer)
    for text in ("hello", "How do I create a key?", "what is the capital of Peru"):
        encoded = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        ids_BT = theirs.generate(**encoded, max_new_tokens=60, do_sample=False)
        said = tokenizer.decode(
            ids_BT[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True
        )
        prompt = prompt_ids(model.tokenizer, [Turn("user", text)])
        assert greedy(ours, [prompt], max_tokens=60) == [said]


@pytest.mark.slow
def test_an_answer_does_not_depend_on_the_rows_beside_it(model: Model) -> None:
    exact = Model(load(MODEL_DIR).decoder.float(), model.tokenizer)
    prompts = [[Turn("user", "hi")], [Turn("user", "what does error 429 mean and what do I do?")]]
    alone = [answer(exact, [prompt])[0] for prompt in prompts]
    assert answer(exact, prompts) == alone


# What `python -m anzoth.demo.evaluate` measured (94, 96, 93 and 98 of a hundred), less three
# standard errors of a sample of 24.
HELD_OUT_FLOOR = {"topics": 0.79, "follow-ups": 0.83, "copying": 0.77, "refusals": 0.89}
# 9 of 15, 24 of 35, 9 of 10, 4 of 12, 19 of 20, less one or two questions that may flip where
# another processor rounds differently.
BY_HAND_FLOOR = {
    "greeting and identity": 0.5,
    "documentation": 0.6,
    "follow-up questions": 0.7,
    "recall": 0.2,
    "outside of its knowledge": 0.85,
}


@pytest.mark.slow
def test_held_out_conversations_are_mostly_answered_rightly(model: Model) -> None:
    found = scores(list(examine_held_out(model, count=24)))
    shares = {category: right / asked for category, (right, asked) in found.items()}
    assert set(shares) == set(HELD_OUT_FLOOR)
    assert all(shares[category] >= floor for category, floor in HELD_OUT_FLOOR.items()), shares


@pytest.mark.slow
def test_questions_written_by_hand_are_answered_as_often_as_stated(model: Model) -> None:
    found = scores(list(examine_by_hand(model)))
    shares = {category: right / asked for category, (right, asked) in found.items()}
    assert set(shares) == set(EXAMINATION)
    assert all(shares[category] >= floor for category, floor in BY_HAND_FLOOR.items()), shares


def test_the_examination_was_not_taught() -> None:
    rng = random.Random(0)
    taught = {turn.content.lower() for _ in range(5000) for turn in conversation(rng)}
    asked = [
        question.says[-1].lower()
        for questions in EXAMINATION.values()
        for question in questions
        if len(question.says[-1].split()) > 5
    ]
    assert not taught & set(asked)


def test_held_out_cases_are_as_many_as_asked_for_and_end_with_a_user() -> None:
    cases = held_out(10)
    assert len(cases) == 40
    assert all(turns[-1].role == "user" and all(accepts) for _, turns, accepts in cases)


def test_a_result_is_right_when_a_phrase_occurs_whatever_its_case() -> None:
    right = Result("x", (), "Run `MAKE serve`.", ("nothing", "make SERVE"))
    wrong = Result("x", (), "I do not know.", ("make serve",))
    assert right.is_right
    assert not wrong.is_right
    assert scores([right, wrong]) == {"x": (1, 2)}

"""The shipped weights are what they claim to be, and answer as well as the README says."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from safetensors import safe_open

from anzoth.demo import lessons_tools
from anzoth.demo.answering import Answer, Answering
from anzoth.demo.checkpoint import MODEL_DIR
from anzoth.demo.conversation import Conversation, ToolCall, Turn
from anzoth.demo.curriculum import example
from anzoth.demo.evaluate import (
    BY_HAND,
    NEW_PHRASINGS,
    SAME_PHRASINGS,
    Result,
    calls,
    contains,
    drawn,
    equals,
    examine,
    examine_by_hand,
    is_json,
    scores,
)
from anzoth.demo.examination import EXAMINATION
from anzoth.demo.examination_tasks import cases as tasks
from anzoth.demo.vocabulary import END, Encoder, token_id
from anzoth.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model() -> Answering:
    return Answering(MODEL_DIR)


def test_the_checkpoint_is_small_bf16_and_complete() -> None:
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) <= 16 * 1024 * 1024
    with safe_open(MODEL_DIR / "model.safetensors", "pt") as file:
        dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # no dict
        num_parameters = sum(
            torch.Size(file.get_slice(name).get_shape()).numel()
            for name in file.keys()  # noqa: SIM118
        )
    assert dtypes == {"BF16"}
    facts = json.loads((MODEL_DIR / "training.json").read_text())
    assert facts["parameters"] == num_parameters
    assert facts["steps"] == facts["settings"]["num_steps"]
    assert 0 < facts["loss"] < 1
    assert list(facts["curve"].values())[-1] == facts["loss"]


def test_the_configuration_fits_the_tokenizer() -> None:
    config = json.loads((MODEL_DIR / "config.json").read_text())
    tokenizer = Tokenizer.load(MODEL_DIR)
    assert config["vocab_size"] == tokenizer.vocab_size
    assert tokenizer.decode([config["eos_token_id"]]) == ""
    assert tokenizer.token_bytes(config["eos_token_id"]) == END.encode()
    assert config["max_position_embeddings"] == 2048
    generation = json.loads((MODEL_DIR / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"]


def test_prompts_of_the_examination_are_prompts_of_the_training(model: Answering) -> None:
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    assert token_id(backend, END) == 0
    encoder = Encoder(backend)
    rng = random.Random(1)
    for _ in range(30):
        conversation = example(rng, 1.0)[0][0]
        before = conversation.up_to(len(conversation.turns) - 1)
        assert model.prompt(before) == encoder.prompt(before)


@pytest.mark.slow
def test_transformers_gives_the_same_greedy_answer(model: Answering) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Any: the annotations of `generate` do not accept the class that defines it.
    theirs: Any = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    for text in ("hello", "How do I create a key?", "what is the capital of Peru"):
        conversation = Conversation((Turn("user", text),))
        encoded = tokenizer.apply_chat_template(
            conversation.messages(),
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        ids_BT = theirs.generate(**encoded, max_new_tokens=60, do_sample=False)
        said = tokenizer.decode(
            ids_BT[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True
        )
        (answer,) = model.answers([conversation])
        assert answer.text.startswith(said)


# What `python -m anzoth.demo.evaluate` measured (README), less two and a half standard errors of a
# sample of 24, or less an eighth of the questions written by hand: another processor
# may round otherwise.
FLOORS: dict[tuple[str, str], float] = {
    ("about Anzoth", SAME_PHRASINGS): 0.84,
    ("about Anzoth", BY_HAND): 0.59,
    ("outside knowledge", SAME_PHRASINGS): 0.85,
    ("outside knowledge", BY_HAND): 0.78,
    ("recall", SAME_PHRASINGS): 0.79,
    ("recall", BY_HAND): 0.36,
    ("greeting, identity", SAME_PHRASINGS): 0.82,
    ("greeting, identity", BY_HAND): 0.78,
    ("follow-up", SAME_PHRASINGS): 0.78,
    ("follow-up", BY_HAND): 0.80,
    ("grounded answer", SAME_PHRASINGS): 0.23,
    ("unanswerable", SAME_PHRASINGS): 0.35,
    ("unanswerable", NEW_PHRASINGS): 0.43,
    ("unanswerable", BY_HAND): 0.48,
    ("tool choice", SAME_PHRASINGS): 0.51,
    ("tool choice", NEW_PHRASINGS): 0.25,
    ("tool choice", BY_HAND): 0.35,
    ("tool arguments", SAME_PHRASINGS): 0.19,
    ("tool arguments", NEW_PHRASINGS): 0.05,
    ("no tool", SAME_PHRASINGS): 0.46,
    ("no tool", NEW_PHRASINGS): 0.41,
    ("no tool", BY_HAND): 0.53,
    ("tool result", SAME_PHRASINGS): 0.42,
    ("tool result", NEW_PHRASINGS): 0.34,
    ("tool result", BY_HAND): 0.60,
    ("JSON answer", SAME_PHRASINGS): 0.18,
    ("JSON answer", NEW_PHRASINGS): 0.04,
    ("JSON answer", BY_HAND): 0.27,
}


@pytest.mark.slow
def test_answers_are_as_good_as_stated(model: Answering) -> None:
    found = scores([*examine(model, drawn(24)), *examine_by_hand(model)])
    shares = {
        (category, column): right / asked
        for category, row in found.items()
        for column, (right, asked) in row.items()
    }
    assert set(FLOORS) <= set(shares)
    assert not {cell: share for cell, share in shares.items() if share < FLOORS.get(cell, 0)}, (
        shares
    )


def test_the_examinations_were_not_taught() -> None:
    rng = random.Random(0)
    taught = {
        turn.content.lower()
        for _ in range(3000)
        for conversation in example(rng, 1.0)[0]
        for turn in conversation.turns
    }
    asked = {
        question.says[-1].lower()
        for questions in EXAMINATION.values()
        for question in questions
        if len(question.says[-1].split()) > 5
    }
    asked |= {case.conversation.turns[-1].content.lower() for case in tasks()}
    assert not taught & {text for text in asked if len(text.split()) > 5}


def test_drawn_cases_are_as_many_as_asked_for_and_end_before_the_assistant_speaks() -> None:
    cases = list(drawn(4))
    assert len(cases) == 4 * (5 + 2 * 6)
    assert {case.column for case in cases} == {SAME_PHRASINGS, NEW_PHRASINGS}
    assert all(case.conversation.turns[-1].role in ("user", "tool") for case in cases)


def test_drawn_cases_are_a_function_of_their_seed_and_never_accept_silence() -> None:
    cases = list(drawn(4))
    again = list(drawn(4))
    assert [case.conversation for case in cases] == [case.conversation for case in again]
    for case in cases:
        assert not any(is_right for _, is_right in case.judge(Answer("")))


def test_judges_know_right_from_wrong() -> None:
    assert contains("x", ("nothing", "make SERVE"))(Answer("Run `MAKE serve`.")) == [("x", True)]
    assert contains("x", ("make serve",))(Answer("I do not know.")) == [("x", False)]
    told = Turn("assistant", "It is 4 [1].")
    assert equals("x", told)(Answer("It is 4 [1].")) == [("x", True)]
    assert equals("x", told)(Answer("It is 4 [2].")) == [("x", False)]
    data = Turn("assistant", '{"a": 1}')
    assert is_json("x", data)(Answer('{"a":1}')) == [("x", True)]
    assert is_json("x", data)(Answer('{"a":1')) == [("x", False)]


def test_a_call_of_the_right_tool_with_wrong_arguments_is_half_right() -> None:
    expected = Turn("assistant", "", calls=(ToolCall("f", {"a": 1}),))
    half = calls(expected)(Answer("", (ToolCall("f", {"a": 2}),)))
    assert half == [("tool choice", True), ("tool arguments", False)]
    whole = calls(expected)(Answer("", expected.calls))
    assert whole == [("tool choice", True), ("tool arguments", True)]
    assert lessons_tools.NO_TOOL


def test_scores_are_counted_by_skill_and_column() -> None:
    conversation = Conversation((Turn("user", "hi"),))
    results = [
        Result(column, "x", conversation, Answer("y"), is_right)
        for column, is_right in ((BY_HAND, True), (BY_HAND, False), (NEW_PHRASINGS, True))
    ]
    assert scores(results) == {"x": {BY_HAND: (1, 2), NEW_PHRASINGS: (1, 1)}}

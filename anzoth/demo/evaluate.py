"""How good are the bundled model's answers? `python -m anzoth.demo.evaluate`.

Two examinations. One is drawn from the training patterns with a seed that training did not use: it
shows what was learnt. The other is written by hand (anzoth.demo.examination): it shows what carries
over to people. Answers are greedy, from the exported bf16 weights; an answer is right when it
contains the phrase that belongs to the question.

Does not know: how the model was trained.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file
from tokenizers import Tokenizer

from anzoth.demo.checkpoint import MODEL_DIR
from anzoth.demo.decoder import Decoder, Shape
from anzoth.demo.examination import EXAMINATION
from anzoth.demo.generate import TOPICS, Turn, conversation
from anzoth.demo.vocabulary import END, prompt_ids, token_id

HELD_OUT_SEED = 987_654_321


@dataclass(slots=True, frozen=True)
class Model:
    """An exported checkpoint, ready to answer."""

    decoder: Decoder
    tokenizer: Tokenizer


@dataclass(slots=True, frozen=True)
class Result:
    """One judged answer."""

    category: str
    prompt: tuple[Turn, ...]
    answer: str
    accepts: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        return any(phrase.lower() in self.answer.lower() for phrase in self.accepts)


def load(folder: Path) -> Model:
    """Reads `config.json`, `tokenizer.json` and `model.safetensors`."""
    config = json.loads((folder / "config.json").read_text())
    shape = Shape(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        intermediate_size=config["intermediate_size"],
        max_positions=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
        norm_eps=config["rms_norm_eps"],
    )
    decoder = Decoder(shape, torch.Generator())
    decoder.load_state_dict(load_file(folder / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Model(decoder.to(torch.bfloat16).eval(), tokenizer)


@torch.inference_mode()
def greedy(model: Model, prompts: Sequence[Sequence[int]], max_tokens: int = 160) -> list[str]:
    """The likeliest continuation of each prompt, up to <|end|> or `max_tokens`.

    Rows are padded behind their end, which a causal model cannot see, and computed anew for every
    token: slow, but there is nothing in it that could differ from the definition.
    """
    rows = [list(prompt) for prompt in prompts]
    end = token_id(model.tokenizer, END)
    open_rows = list(range(len(rows)))
    for _ in range(max_tokens):
        if not open_rows:
            break
        longest = max(len(rows[row]) for row in open_rows)
        ids_BT = torch.full((len(open_rows), longest), end)
        last_BT = torch.zeros(len(open_rows), longest, dtype=torch.bool)
        for place, row in enumerate(open_rows):
            ids_BT[place, : len(rows[row])] = torch.tensor(rows[row])
            last_BT[place, len(rows[row]) - 1] = True
        likeliest = model.decoder(ids_BT, last_BT).float().argmax(-1).tolist()
        for row, token in zip(open_rows, likeliest, strict=True):
            rows[row].append(token)
        open_rows = [row for row in open_rows if rows[row][-1] != end]
    answers = (row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True))
    return [model.tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]


def answer(model: Model, prompts: Sequence[Sequence[Turn]]) -> list[str]:
    return greedy(model, [prompt_ids(model.tokenizer, prompt) for prompt in prompts])


def held_out(
    count: int, seed: int = HELD_OUT_SEED
) -> list[tuple[str, tuple[Turn, ...], tuple[str, ...]]]:
    """`count` answers to give, per category: (category, conversation so far, accepted phrases)."""
    rng = random.Random(seed)
    categories = ("topics", "follow-ups", "copying", "refusals")
    wanted: dict[str, int] = dict.fromkeys(categories, count)
    cases = []
    while any(wanted.values()):
        turns = conversation(rng)
        for at, turn in enumerate(turns):
            if turn.role != "assistant" or turn.topic is None or at > 12:
                continue
            category = _category(turn.topic, first=turns[at - 2].role != "assistant" or at < 2)
            if wanted[category]:
                wanted[category] -= 1
                cases.append((category, tuple(turns[:at]), (turn.key,)))
    return cases


def _category(topic: str, *, first: bool) -> str:
    if topic not in TOPICS:
        return "copying"
    if topic.startswith("unknown"):
        return "refusals"
    return "topics" if first else "follow-ups"


def examine_held_out(model: Model, count: int, batch: int = 32) -> Iterator[Result]:
    cases = sorted(held_out(count), key=lambda case: sum(len(turn.content) for turn in case[1]))
    for start in range(0, len(cases), batch):
        some = cases[start : start + batch]
        for case, said in zip(some, answer(model, [case[1] for case in some]), strict=True):
            yield Result(case[0], case[1], said, case[2])


def examine_by_hand(model: Model) -> Iterator[Result]:
    """The hand-written questions, after the model's own answers to the earlier turns."""
    for category, questions in EXAMINATION.items():
        prompts: list[tuple[Turn, ...]] = [() for _ in questions]
        for exchange in range(max(len(question.says) for question in questions)):
            active = [i for i, question in enumerate(questions) if len(question.says) > exchange]
            for i in active:
                prompts[i] = (*prompts[i], Turn("user", questions[i].says[exchange]))
            said = answer(model, [prompts[i] for i in active])
            for i, text in zip(active, said, strict=True):
                if exchange + 1 == len(questions[i].says):
                    yield Result(category, prompts[i], text, questions[i].accepts)
                prompts[i] = (*prompts[i], Turn("assistant", text))


def scores(results: Sequence[Result]) -> dict[str, tuple[int, int]]:
    """category -> (right, asked)."""
    table: dict[str, tuple[int, int]] = {}
    for result in results:
        right, asked = table.get(result.category, (0, 0))
        table[result.category] = (right + result.is_right, asked + 1)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Examine the bundled model.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--count", type=int, default=200, help="held-out cases of each category")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mistakes", action="store_true", help="print what it got wrong")
    options = parser.parse_args()
    console = Console()
    model = load(options.model)
    by_hand = list(examine_by_hand(model))
    drawn = list(
        track(
            examine_held_out(model, options.count),
            "held-out conversations",
            total=4 * options.count,
            console=Console(stderr=True),
        )
    )
    found = {"written by hand": scores(by_hand), "same patterns, other seed": scores(drawn)}
    if options.json:
        print(json.dumps(found))
        return
    for title, table in found.items():
        view = Table("category", "right", "asked", "%", title=title)
        for category, (right, asked) in table.items():
            view.add_row(category, str(right), str(asked), f"{100 * right / asked:.0f}")
        console.print(view)
    if options.mistakes:
        for result in (*by_hand, *drawn):
            if not result.is_right:
                console.print(f"{result.category}: {_transcript(result)}", markup=False)


def _transcript(result: Result) -> str:
    return " / ".join([turn.content for turn in result.prompt][-3:]) + f"\n    -> {result.answer}"


if __name__ == "__main__":
    main()

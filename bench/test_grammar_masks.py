"""What does constrained decoding add to a token, with a vocabulary as large as real ones?

16 sequences write JSON under a schema each. One round is what the engine does for them beyond the
forward pass: masks, the draw, and the advance of each grammar; then the same rows are drawn without
grammars. Both in turns, so that a busy machine slows both. A benchmark's own figure is one
constrained step; `extra_info` has the difference, in microseconds per token (a step's difference
over its 16 tokens), and what a stream sees of it: a whole step's.
"""

from __future__ import annotations

import json
import statistics
import time
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tokenizers
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from tokenizers import decoders, models, pre_tokenizers

from anzoth.frames import SamplingParams
from anzoth.kernels.dispatch import select
from anzoth.scheduler.constraint import Constraint, GrammarCompiler
from anzoth.scheduler.masks import MaskComputer
from anzoth.scheduler.sampler import sample
from anzoth.scheduler.sequence import SampledToken, Sequence
from anzoth.text.grammars import grammar, json_part

NUM_ROWS = 16
VOCAB_SIZE = 131_072
END_ID = 0
WARM_UP = 20
NUM_STEPS = 200

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "count": {"type": "integer", "minimum": 1, "maximum": 99},
                    "state": {"enum": ["new", "paid", "sent", "returned"]},
                },
                "required": ["name", "count", "state"],
                "additionalProperties": False,
            },
        },
        "note": {"type": ["string", "null"]},
    },
    "required": ["id", "items", "note"],
    "additionalProperties": False,
}


@cache
def _words() -> list[str]:
    """Pieces as a byte-level tokenizer has them: bytes, words with and without a space, marks."""
    rng = Random(0)
    words = dict.fromkeys(["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())])
    for mark in ('{"', '":', '",', '"}', "}]", "[{", "],", "Ġ{", 'Ġ"', '"Ġ', "},", "Ċ"):
        words[mark] = None
    while len(words) < VOCAB_SIZE:
        word = "".join(rng.choices("etaoinshrdlucmfwypvbgkqjxz", k=rng.randint(2, 9)))
        words[rng.choice(["", "Ġ", "Ġ"]) + rng.choice([word, word.title(), word.upper()])] = None
    return list(words)


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> GrammarCompiler:
    backend = tokenizers.Tokenizer(
        models.BPE({word: token_id for token_id, word in enumerate(_words())}, [])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    backend.add_special_tokens(["<|end|>"])
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(file))
    return GrammarCompiler(Path(file), VOCAB_SIZE, (END_ID,))


def _sequence(row: int, constraint: Constraint | None) -> Sequence:
    # With a top-k the draw itself costs little, so that the difference is not lost in it.
    params = SamplingParams(temperature=0.8, top_k=20, seed=row)
    return Sequence(row, 0, "t", "s", [5], 1, 10**6, params, 0.0, constraint=constraint)


@pytest.mark.parametrize("what", ["schema", "any object"])
def test_masks(what: str, compiler: GrammarCompiler, benchmark: BenchmarkFixture) -> None:
    schema: dict[str, Any] = ORDER if what == "schema" else {"type": "object"}
    fresh = compiler.compile(grammar(json_part(schema, is_strict=True)))
    bound = [_sequence(row, fresh.copy()) for row in range(NUM_ROWS)]
    free = [_sequence(row, None) for row in range(NUM_ROWS)]
    logits_RV = torch.randn(NUM_ROWS, VOCAB_SIZE, generator=torch.Generator().manual_seed(0)) * 3
    computer = MaskComputer(select().forbid)
    torch.set_num_threads(1)  # spinning threads beside other work measure the other work

    def constrained(logits: torch.Tensor) -> None:
        masks = computer.compute(bound, VOCAB_SIZE)
        answers = sample(logits, bound, (END_ID,), masks)
        for sequence, answer in zip(bound, answers, strict=True):
            assert isinstance(answer, SampledToken)
            constraint = sequence.constraint
            assert constraint is not None
            if answer.token_id == END_ID or not constraint.accept(answer.token_id):
                raise AssertionError("the grammar ended")
            sequence.token_ids.append(answer.token_id)
            if constraint.is_over:
                sequence.constraint = fresh.copy()

    def unconstrained(logits: torch.Tensor) -> None:
        for sequence, answer in zip(free, sample(logits, free, (END_ID,)), strict=True):
            assert isinstance(answer, SampledToken)
            sequence.token_ids.append(answer.token_id)

    def seconds(step: Any) -> float:
        logits = logits_RV.clone()  # sampling overwrites them
        logits[:, END_ID] = -50.0
        started_s = time.perf_counter()
        step(logits)
        return time.perf_counter() - started_s

    pairs = [(seconds(constrained), seconds(unconstrained)) for _ in range(WARM_UP + NUM_STEPS)]
    del pairs[:WARM_UP]
    added_us = sorted((with_s - without_s) * 1e6 for with_s, without_s in pairs)
    cuts = statistics.quantiles(added_us, n=100, method="inclusive")
    benchmark.extra_info.update(
        added_us_per_token={
            "p50": round(cuts[49] / NUM_ROWS, 1),
            "p99": round(cuts[98] / NUM_ROWS, 1),
        },
        added_us_per_step={"p50": round(cuts[49]), "p99": round(cuts[98])},
        unconstrained_us_per_step=round(statistics.median(pair[1] for pair in pairs) * 1e6),
        vocab_size=VOCAB_SIZE,
        batch=NUM_ROWS,
    )
    print(json.dumps(benchmark.extra_info))
    benchmark.pedantic(lambda: seconds(constrained), rounds=50)

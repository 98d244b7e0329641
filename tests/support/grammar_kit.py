"""What tests of constrained decoding share: a tokenizer, grammars, and a runner with logits.

The runner is the fake one with logits instead of tokens: they follow from the number that the fake
computes through the block table, so a wrong block shows in the text here too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from anzoth.scheduler.constraint import Constraint, GrammarCompiler
from anzoth.scheduler.masks import MaskComputer
from anzoth.scheduler.sampler import sample
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence
from fake_runner import FakeRunner, FakeSpec

END_ID = 0
CORPUS = ['{"name": "value", "list": [1, 20, true, false, null], "other": {"a": "b"}}'] * 4


@cache
def tokenizer() -> tokenizers.Tokenizer:
    """Byte-level BPE whose tokens cut across the structure of JSON."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|user|>"],
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


VOCAB_SIZE = 320
"""Of the model: padded beyond the tokenizer, as real ones are."""


def compiler(directory: Path) -> GrammarCompiler:
    tokenizer().save(str(directory / "tokenizer.json"))
    return GrammarCompiler(directory / "tokenizer.json", VOCAB_SIZE, (END_ID, 10**6))


def schema_grammar(schema: dict[str, Any] | bool) -> str:
    """As the gateway writes it (anzoth.text.grammars, which the engine does not know)."""
    options = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    if isinstance(schema, dict):
        schema = {**schema, "x-guidance": options}
    return json.dumps({"grammars": [{"json_schema": schema}]})


def lark_grammar(rules: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": rules}]})


def text_of(token_ids: list[int]) -> str:
    return tokenizer().decode(token_ids, skip_special_tokens=True)


def allowed_tokens(constraint: Constraint) -> list[int]:
    """Straight from the grammar, by another way than masks take."""
    bias = constraint.matcher.compute_logit_bias()
    return [token for token, value in enumerate(bias) if value]


@dataclass
class LogitsRunner(FakeRunner):
    """See the module."""

    num_blocks: int = 512
    max_model_tokens: int = 600
    spec: FakeSpec = field(default_factory=lambda: FakeSpec(VOCAB_SIZE, (END_ID,)))
    masks: MaskComputer = field(default_factory=MaskComputer)

    def execute(self, batch: list[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
        answers = super().execute(batch)
        places = [place for item in batch for place in item.places]
        masks = self.masks.start(places, VOCAB_SIZE)
        seeds = [a.token_id for own in answers for a in own if isinstance(a, SampledToken)]
        if not places:
            return answers
        logits_RV = torch.stack([fake_logits(seed) for seed in seeds])
        sampled = iter(sample(logits_RV, places, self.spec.eos_token_ids, masks()))
        return [list(islice(sampled, len(own))) for own in answers]


@cache
def _logits(seed: int) -> torch.Tensor:
    return torch.randn(VOCAB_SIZE, generator=torch.Generator().manual_seed(seed)) * 3


def fake_logits(seed: int) -> torch.Tensor:
    return _logits(seed).clone()
